"""The manifest beside the bundled packages, for the programs that make these."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fluidaudio_cli.files import write_text_atomic
from fluidaudio_cli.models.registry import MANIFEST_NAME, SCHEMA


def entries_of(folder: Path) -> dict[str, Any]:
    """What the manifest of ``folder`` says of each model, by name; nothing where there is none."""
    path = folder / MANIFEST_NAME
    if not path.is_file():
        return {}
    manifest = json.loads(path.read_text(encoding="utf-8"))
    return {entry["name"]: entry for entry in manifest["models"]}


def enter(folder: Path, *entries: Mapping[str, Any]) -> None:
    """Write ``entries`` into the manifest of ``folder``, each in the place of its namesake."""
    models = entries_of(folder) | {entry["name"]: entry for entry in entries}
    manifest = {"schema": SCHEMA, "models": list(models.values())}
    write_text_atomic(folder / MANIFEST_NAME, json.dumps(manifest, indent=2) + "\n")
