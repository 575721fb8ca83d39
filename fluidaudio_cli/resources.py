"""Where the files that ship with the program are: configs, datasets, model packages."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def configs_dir() -> Path:
    """Performance modes and gates (YAML)."""
    return _shipped("configs")


def datasets_dir() -> Path:
    """Corpus manifests and the bundled sample."""
    return _shipped("datasets")


def packages_dir() -> Path:
    """The bundled Core ML packages and their manifest."""
    return _PACKAGE / "models" / "packages"


def _shipped(name: str) -> Path:
    # An installed wheel carries the folder inside the package; a checkout has it at the top.
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name
