"""What ``fluidaudio tune`` found best on this machine, for ``auto`` to use."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fluidaudio_cli.diarization.modes import ModeConfig
from fluidaudio_cli.errors import HostError, UsageError, os_errors
from fluidaudio_cli.executors.machine import cpu_identity, processors
from fluidaudio_cli.files import user_path, write_text_atomic

SCHEMA = "fluidaudio.tuning/2"
# Names another file for the choice; one that does not exist sets the tuning aside.
TUNING_VARIABLE = "FLUIDAUDIO_TUNING"
# A file that is not there, to programs that do not know this word.
_NONE = "none"


@dataclass(frozen=True)
class NetworkTuning:
    """One network's own part: ``batch`` items at a time, computed in ``precision``."""

    precision: str
    batch: int


@dataclass(frozen=True)
class Tuning:
    """The fastest setting whose error stays that of fp32 on the bundled check.

    Precision and batch are each network's own. Executor, compute units and ``workers`` (blocks
    at a time, and so streams of every network) are shared: a worker takes a block through all
    networks. ``machine`` says for which processor and how many of them it holds.
    """

    executor: str
    compute_units: str
    workers: int
    segmentation: NetworkTuning
    embedding: NetworkTuning
    machine: str

    def network(self, name: str) -> NetworkTuning:
        """The part of ``segmentation`` or ``embedding``."""
        found: NetworkTuning = getattr(self, name)
        return found

    def with_batch(self, name: str, batch: int) -> Tuning:
        """The same with another batch for ``segmentation`` or ``embedding``."""
        changed: dict[str, Any] = {name: replace(self.network(name), batch=batch)}
        return replace(self, **changed)

    def apply(self, mode: ModeConfig) -> ModeConfig:
        """``mode`` with the batches and workers found here; ``workers`` other than 0 are kept.

        Executor and precisions go into the plan (``diarization/plan.py``), which also knows
        whether the choice may be followed.
        """
        return replace(
            mode,
            windows=replace(mode.windows, batch=self.segmentation.batch),
            embedding=replace(mode.embedding, batch=self.embedding.batch),
            execution=replace(mode.execution, workers=mode.execution.workers or self.workers),
        )

    def __str__(self) -> str:
        """One line for people."""
        units = "" if self.compute_units == "all" else f" on {self.compute_units}"
        return (
            f"{self.executor}{units}, {self.workers} at a time; "
            f"segmentation in {self.segmentation.precision} by {self.segmentation.batch}, "
            f"embedding in {self.embedding.precision} by {self.embedding.batch}"
        )


def machine_identity() -> str:
    """Processor model and count: a choice made on another machine is not used."""
    return f"{cpu_identity()} x{processors()}"


def tuning_path() -> Path:
    """Where the choice is kept: per user, or where FLUIDAUDIO_TUNING says.

    Raises ``UsageError`` where that is nowhere.
    """
    if os.environ.get(TUNING_VARIABLE) == _NONE:
        raise UsageError(
            f"{TUNING_VARIABLE} is {_NONE}: what is stored is not followed",
            "unset it, or name a file",
        )
    return user_path(TUNING_VARIABLE, "config", "tuning.json", author=None)


def load_tuning() -> Tuning | None:
    """The stored choice if it was made on this machine; None when there is none.

    Raises ``HostError`` for a file that is not one: silently ignoring it would change results.
    """
    if os.environ.get(TUNING_VARIABLE) == _NONE:
        return None
    path = tuning_path()
    refused = f"cannot read the tuning file {path}", "run fluidaudio tune, or delete it", HostError
    with os_errors(*refused, ValueError, KeyError, TypeError, AttributeError):
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        content: dict[str, Any] = json.loads(text)
        if content.pop("schema") != SCHEMA:
            raise ValueError("another schema")
        for name in ("segmentation", "embedding"):
            content[name] = NetworkTuning(**content[name])
        tuning = Tuning(**content)
    return tuning if tuning.machine == machine_identity() else None


def leave_out_tuning() -> None:
    """Let no stored choice be followed by this process and those that it starts."""
    os.environ[TUNING_VARIABLE] = _NONE


def save_tuning(tuning: Tuning, path: Path | None = None) -> Path:
    """Store the choice at ``path``, by default where it is looked for; returns where."""
    path = path or tuning_path()
    write_text_atomic(path, json.dumps({"schema": SCHEMA, **asdict(tuning)}, indent=2) + "\n")
    return path
