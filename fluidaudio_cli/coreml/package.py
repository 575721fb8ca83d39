"""Opening Core ML packages: ``.mlpackage`` (protobuf) and compiled ``.mlmodelc`` (text)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from fluidaudio_cli.coreml.ir import Function, Program
from fluidaudio_cli.errors import ModelFormatError, reason_of
from fluidaudio_cli.files import folder_files, hash_file

_REMEDY = "give the path of an .mlpackage or a compiled .mlmodelc folder"
COPY_AGAIN = "copy the whole package again"


def read_program(path: Path, function: str | None = None) -> Program:
    """The ML Program in the package at ``path``; ``function`` is its main one, or the default.

    Weights stay memory-mapped: the package must not change while the program is in use. Raises
    ``ModelFormatError`` naming the file and what is wrong with it, or its functions if it has no
    such one.
    """
    from fluidaudio_cli.coreml.mil_reader import read_compiled
    from fluidaudio_cli.coreml.spec_reader import read_spec

    if not path.exists():
        raise ModelFormatError(f"model package not found: {path}", _REMEDY)
    if not path.is_dir():
        raise ModelFormatError(f"{path} is a file, not a model package", _REMEDY)
    if (path / "model.mil").is_file():
        return read_compiled(path, function)
    if path.suffix == ".mlmodelc" or any(path.glob("*.espresso.*")):
        raise ModelFormatError(
            f"{path} has no model.mil: it is not a compiled ML Program",
            "only ML Programs (iOS 15 and later) can be read; convert the original again",
        )
    specification = _specification(path)
    return read_spec(specification, specification.parent, function)


def choose_function(
    place: Path, functions: Mapping[str, Function], asked: str | None, default: str
) -> Function:
    """The function asked for, else the package's default, else the only one.

    ``default`` is what the package names, or empty. Raises ``ModelFormatError``, naming those
    there are.
    """
    name = asked or default or ("main" if "main" in functions or len(functions) != 1 else "")
    if not name:
        return next(iter(functions.values()))
    if name not in functions:
        known = ", ".join(functions) or "none"
        raise ModelFormatError(
            f"{place} has no function '{name}'", f"choose one with --function: {known}"
        )
    return functions[name]


def package_sha256(path: Path) -> str:
    """Hash of what a package is: the relative names and the bytes of all its files.

    Independent of where the package lies, of timestamps and of the order of the file system.
    """
    if not path.is_dir():
        raise ModelFormatError(f"model package not found: {path}", _REMEDY)
    digest = hashlib.sha256()
    files = sorted((file.relative_to(path).as_posix(), file) for file in folder_files(path))
    for name, file in files:
        # Lengths in front keep name and content apart.
        digest.update(f"{len(name.encode())}:{name}:{file.stat().st_size}:".encode())
        hash_file(digest, file)
    return digest.hexdigest()


def read_json(path: Path) -> Any:
    """Content of a JSON file inside a package."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelFormatError(f"{path} is damaged ({reason_of(error)})", COPY_AGAIN) from error


def _specification(package: Path) -> Path:
    manifest = package / "Manifest.json"
    if not manifest.is_file():
        raise ModelFormatError(f"{package} has no Manifest.json: not a model package", _REMEDY)
    try:
        content = read_json(manifest)
        relative = PurePosixPath(content["itemInfoEntries"][content["rootModelIdentifier"]]["path"])
    except (KeyError, TypeError) as error:
        raise ModelFormatError(f"{manifest} names no root model", COPY_AGAIN) from error
    if relative.is_absolute() or ".." in relative.parts:
        raise ModelFormatError(f"{manifest} names a model outside the package: {relative}")
    path = package / "Data" / relative
    if not path.is_file():
        raise ModelFormatError(f"{package}: model file {path.name} is missing", COPY_AGAIN)
    return path
