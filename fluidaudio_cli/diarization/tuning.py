"""What ``fluidaudio tune`` found best on this machine, for ``auto`` to use."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fluidaudio_cli.diarization.config import ModeConfig
from fluidaudio_cli.errors import HostError
from fluidaudio_cli.executors.machine import cpu_identity, processors
from fluidaudio_cli.files import write_text_atomic

SCHEMA = "fluidaudio.tuning/1"


@dataclass(frozen=True)
class Tuning:
    """The fastest setting whose error stays that of fp32 on the bundled check.

    ``window_batch`` and ``crop_batch``: items at a time; ``workers``: blocks at a time.
    ``machine`` says for which processor and how many of them it holds.
    """

    executor: str
    precision: str
    compute_units: str
    window_batch: int
    crop_batch: int
    workers: int
    machine: str

    def apply(self, mode: ModeConfig) -> ModeConfig:
        """``mode`` with this machine's setting, where the mode leaves it to ``auto``."""
        if mode.execution.executor != "auto":
            return mode
        return replace(
            mode,
            windows=replace(mode.windows, batch=self.window_batch),
            embedding=replace(mode.embedding, batch=self.crop_batch),
            execution=replace(
                mode.execution,
                executor=self.executor,
                precision=self.precision,
                workers=self.workers,
            ),
        )


def machine_identity() -> str:
    """Processor model and count: a choice made on another machine is not used."""
    return f"{cpu_identity()} x{processors()}"


def tuning_path() -> Path:
    """Where the choice is kept: per user, or where FLUIDAUDIO_TUNING says."""
    given = os.environ.get("FLUIDAUDIO_TUNING")
    if given:
        return Path(given)
    import platformdirs

    return Path(platformdirs.user_config_dir("fluidaudio")) / "tuning.json"


def load_tuning() -> Tuning | None:
    """The stored choice if it was made on this machine; None when there is none.

    Raises ``HostError`` for a file that is not one: silently ignoring it would change results.
    """
    path = tuning_path()
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("schema") != SCHEMA:
            raise ValueError("another schema")
        tuning = Tuning(**content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HostError(
            f"cannot read the tuning file {path}: {error}", "run fluidaudio tune, or delete it"
        ) from error
    return tuning if tuning.machine == machine_identity() else None


def save_tuning(tuning: Tuning) -> Path:
    """Store the choice; returns where."""
    path = tuning_path()
    write_text_atomic(path, json.dumps({"schema": SCHEMA, **asdict(tuning)}, indent=2) + "\n")
    return path
