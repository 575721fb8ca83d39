"""Options that several commands share, defined once so that they read and behave the same.

The choices are spelt out here because importing the modules that define them would make
``--help`` slow; a test holds both together.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluidaudio_cli.errors import UsageError

if TYPE_CHECKING:
    from fluidaudio_cli.audio.container import TrackChoice


class ExecutorChoice(str, Enum):
    """What runs the networks."""

    auto = "auto"
    coreml = "coreml"
    openvino = "openvino"
    onnxruntime = "onnxruntime"
    cuda = "cuda"


class PrecisionChoice(str, Enum):
    """Arithmetic inside the networks."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class ComputeUnitsChoice(str, Enum):
    """Processors that Core ML may use."""

    all = "all"
    cpu_only = "cpu-only"
    cpu_and_gpu = "cpu-and-gpu"
    cpu_and_ne = "cpu-and-ne"


ModeOption = Annotated[
    str,
    typer.Option(
        "--performance-mode",
        metavar="NAME|PATH",
        help="reference, accurate, balanced, fast or turbo, or a mode file (.yaml).",
    ),
]
ExecutorOption = Annotated[
    ExecutorChoice,
    typer.Option("--executor", help="What runs the networks; auto: the fastest one here."),
]
PrecisionOption = Annotated[
    PrecisionChoice,
    typer.Option("--precision", help="Arithmetic inside the networks; auto: the fastest one here."),
]
ComputeUnitsOption = Annotated[
    ComputeUnitsChoice,
    typer.Option("--compute-units", help="Core ML only: processors it may use."),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", min=1, help="Processors to use. Default: all."),
]
ModelsOption = Annotated[
    str,
    typer.Option(
        "--models",
        metavar="NAME|PATH",
        help="bundled, published (the same, none adapted), or a model card (.yaml).",
    ),
]
NoTuningOption = Annotated[
    bool,
    typer.Option("--no-tuning", help="Leave out what `fluidaudio tune` stored for this machine."),
]
MemoryLimitOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE", help="Stay under this much memory, such as 500MB, if need be slower."
    ),
]
NumSpeakersOption = Annotated[
    int | None,
    typer.Option("--num-speakers", metavar="N", min=1, help="Exactly this many speakers."),
]
MinSpeakersOption = Annotated[
    int | None,
    typer.Option("--min-speakers", metavar="N", min=1, help="At least this many speakers."),
]
MaxSpeakersOption = Annotated[
    int | None,
    typer.Option("--max-speakers", metavar="N", min=1, help="At most this many speakers."),
]
TrackOption = Annotated[
    str | None,
    typer.Option(
        "--track",
        metavar="N|all",
        help="Audio track to read, from 1, or all of them mixed. Default: the file's own choice.",
    ),
]
SalvageOption = Annotated[
    bool,
    typer.Option(
        "--salvage", help="Diarize what can be decoded of a damaged file; the rest is silence."
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="Of a folder: processes, among which --threads are shared. Default: one.",
    ),
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="auto|ADDRESS",
        help="Of a folder: spread over a Ray cluster; --threads are then each worker's.",
    ),
]
ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume/--no-resume",
        help="Of a folder: leave what --output-dir has of the same plan, or begin anew.",
    ),
]
StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        metavar="FILE|DIR",
        help="Where known voices are. Default: your own, per user ($FLUIDAUDIO_VOICES).",
    ),
]
KnownOption = Annotated[
    str | None,
    typer.Option(
        "--known",
        metavar="[STORE|NAME,…]",
        help="Recognise known voices: all of your store, of another one, or some by name.",
    ),
]
MaxFalseAcceptOption = Annotated[
    str,
    typer.Option(
        "--max-false-accept",
        metavar="RATE",
        help="How often somebody unknown may be given a name, such as 1% or 0.01.",
    ),
]


def parse_rate(text: str) -> float:
    """A share as ``1%`` or ``0.01``. Raises ``UsageError``."""
    try:
        value = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 1.0:
        raise UsageError(f"--max-false-accept {text}", "give a rate such as 1% or 0.01")
    return value


def parse_track(text: str | None) -> TrackChoice:
    """The value of ``--track``. Raises ``UsageError``."""
    if text is None or text == "all":
        return text  # type: ignore[return-value]
    if text.isascii() and text.isdigit() and int(text) >= 1:
        return int(text)
    raise UsageError(f"--track {text}", "give a track's number from 1, or all")
