"""Reading the fixture bundles that ``generate_fixtures.py`` writes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "mil"
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


@cache
def fixtures() -> dict[str, Fixture]:
    """Every fixture by name."""
    found = {}
    for bundle in BUNDLES:
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
