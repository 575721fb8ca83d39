"""``fluidaudio models build``: from the published weights to the bundled packages."""

from __future__ import annotations

import importlib.util
import shutil
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray

from fluidaudio_cli.audio.source import SAMPLE_RATE, open_audio
from fluidaudio_cli.errors import HostError, InputError, os_errors
from fluidaudio_cli.files import atomic_path, scratch_folder
from fluidaudio_cli.models.registry import MANIFEST_NAME, enter, entries_of
from fluidaudio_cli.resources import datasets_dir, packages_dir


def build_packages(weights: Path, output: Path | None) -> None:
    """Convert into ``output``, by default the folder of the bundled packages.

    Built in a folder of its own first, so that a failed parity check leaves everything as it
    was. Raises ``InputError`` without weights, ``HostError`` without PyTorch, or with the
    figures when a package does not agree with it.
    """
    if not weights.is_dir():
        raise InputError(f"there are no weights at {weights}", "run `make weights`")
    if importlib.util.find_spec("torch") is None:
        raise HostError(
            "converting the models needs PyTorch, which is not installed",
            "pip install 'fluidaudio[convert]'",
        )
    from fluidaudio_cli.models.build import build_models

    bundled = packages_dir()
    target = output or bundled
    with os_errors(f"cannot write to {target}", "check --output"):
        target.mkdir(parents=True, exist_ok=True)
        scratch = ExitStack()
        built = scratch.enter_context(scratch_folder(target))
    with scratch:
        build_models(weights, _speech(), built, lambda line: typer.echo(line, err=True))
        # The manifest goes on speaking of packages that are not made of the published weights.
        made = entries_of(built)
        enter(built, *(entry for name, entry in entries_of(target).items() if name not in made))
        for licence in bundled.glob("LICENSE.*"):
            shutil.copy(licence, built)
        # The manifest last: it must not speak of packages that are not there yet.
        for item in sorted(built.iterdir(), key=lambda path: (path.name == MANIFEST_NAME, path)):
            with atomic_path(target / item.name) as place:
                item.replace(place)
    typer.echo(f"wrote {target}", err=True)


def _speech() -> NDArray[np.float32]:
    """The bundled conversation, on which parity is measured: (480000,) at 16 kHz."""
    with open_audio(datasets_dir() / "sample" / "sample.wav") as stream:
        speech = np.empty(30 * SAMPLE_RATE, np.float32)
        return speech[: stream.read_into(speech)]
