"""Conversations made of what ships with the program: made once, kept in the cache, hashed."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from fluidaudio_cli.corpora.dataset import Dataset, open_dataset
from fluidaudio_cli.files import file_sha256
from fluidaudio_cli.progress import ProgressCallback, no_progress
from fluidaudio_cli.resources import datasets_dir
from fluidaudio_cli.simulate.batch import RECIPE_FILE, Sources, simulate
from fluidaudio_cli.simulate.recipe import Recipe, format_recipe, parse_recipe, read_recipe
from fluidaudio_cli.simulate.voices import Voice

SIMULATOR = 2
"""Raised with any change of what a recipe sounds like: older conversations are made again."""

CONVERSATIONS = "conversations"
"""The dataset of 10 minutes that is measured unasked."""


def bundled_voices() -> Path:
    """24 readers of LibriSpeech, 15 s each."""
    return datasets_dir() / "voices"


def bundled_recipe(name: str) -> Recipe:
    """A recipe of ``datasets/recipes``."""
    path = datasets_dir() / "recipes" / f"{name}.yaml"
    return parse_recipe(read_recipe(path), str(path))


def made_dataset(
    recipe: Recipe,
    cache_folder: Path,
    *,
    voices: tuple[Voice, ...] | None = None,
    jobs: int = 1,
    progress: ProgressCallback = no_progress,
) -> Dataset:
    """The conversations of ``recipe`` by bundled voices, made now unless ``cache_folder`` has them.

    ``voices``: the bundled ones, where they are read already.
    Its fingerprint is that of recipe, sounds and simulator, not of the files: another machine's
    arithmetic may differ in a last bit, and that is the same data.
    """
    identity = made_identity(recipe)
    folder = cache_folder / f"{recipe.name}-{identity[:16]}"
    if not (folder / RECIPE_FILE).is_file():
        sources = Sources(bundled_voices())
        simulate(recipe, sources, folder, voices=voices, jobs=jobs, progress=progress)
    found = open_dataset(folder)
    title = "conversations made of bundled voices, exact references"
    return Dataset(recipe.name, title, None, folder, found.items, identity=identity)


def made_identity(recipe: Recipe) -> str:
    """SHA-256 of all that decides what the recipe sounds like."""
    parts = (str(SIMULATOR), format_recipe(recipe), *_sounds())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@cache
def _sounds() -> tuple[str, ...]:
    files = sorted([*bundled_voices().iterdir(), *(datasets_dir() / "noise").iterdir()])
    return tuple(f"{path.name} {file_sha256(path)}" for path in files)
