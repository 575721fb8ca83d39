"""The Core ML packages that ship with the program, as their manifest describes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fluidaudio_cli.errors import ModelFormatError
from fluidaudio_cli.executors.cache import shared_cache
from fluidaudio_cli.executors.digest import package_digest
from fluidaudio_cli.executors.selftest import SelfTest, Tolerance, load_arrays
from fluidaudio_cli.models.card import ModelCard
from fluidaudio_cli.resources import packages_dir

MANIFEST_NAME = "manifest.json"
SCHEMA = "fluidaudio.models/1"


@dataclass(frozen=True)
class Model:
    """A package, of a user's model card unless it is bundled."""

    name: str
    package: Path
    sha256: str

    def selftest(self) -> SelfTest | None:
        """The numeric self-test that travels with the package; none with a user's."""
        return None


@dataclass(frozen=True)
class BundledModel(Model):
    """One package and what the manifest says of it.

    ``facts`` is the manifest's entry as it stands: licence, source, inputs and outputs with
    shapes and units, conversion settings, measured parity.
    """

    facts: Mapping[str, Any]

    def selftest(self) -> SelfTest:
        """The numeric self-test that travels with the package."""
        entry = self.facts["selftest"]
        inputs, outputs = load_arrays(self.package.parent / entry["file"])
        tolerances = {
            precision: Tolerance(**limits) for precision, limits in entry["tolerances"].items()
        }
        return SelfTest(self.name, inputs, outputs, tolerances)


def packages_of(card: ModelCard) -> dict[str, Model]:
    """The packages of a card by role; a bundled one, wherever it is named, is what it is."""
    bundled = {model.package: model for model in bundled_models().values()}
    return {
        role: bundled.get(package) or Model(role, package, package_digest(package, shared_cache()))
        for role, package in card.packages.items()
    }


@lru_cache(maxsize=1)
def bundled_models() -> Mapping[str, BundledModel]:
    """Every bundled model by name.

    Raises ``ModelFormatError`` when the manifest is missing or not one.
    """
    folder = packages_dir()
    path = folder / MANIFEST_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise ModelFormatError(f"{path} has schema {content['schema']!r}, not {SCHEMA}")
        return {
            entry["name"]: BundledModel(
                entry["name"], folder / entry["package"], entry["sha256"], entry
            )
            for entry in content["models"]
        }
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ModelFormatError(
            f"cannot read the model manifest {path}: {error!r}", "reinstall fluidaudio"
        ) from error


def package_of(name_or_path: str) -> Path:
    """The path as it is, or where nothing is there the package of a bundled model's name."""
    path = Path(name_or_path)
    known = None if path.exists() else bundled_models().get(name_or_path)
    return known.package if known else path
