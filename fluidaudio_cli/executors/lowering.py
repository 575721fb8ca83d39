"""The lowered form of a package (ONNX), made once and shared by the executors off the Mac."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import fluidaudio_cli
from fluidaudio_cli.executors.cache import CacheKey, CompileCache

LOWERED_NAME = "model.onnx"


@lru_cache(maxsize=1)
def lowering_version() -> str:
    """Changes whenever the code that reads and lowers packages changes.

    Taken from that code's own text, without importing it: a warm start needs neither it nor
    the ``onnx`` package.
    """
    folder = Path(fluidaudio_cli.__file__).resolve().parent / "coreml"
    digest = hashlib.sha256(fluidaudio_cli.__version__.encode())
    for source in sorted(folder.rglob("*.py")):
        digest.update(source.relative_to(folder).as_posix().encode())
        digest.update(source.read_bytes())
    return f"lowering {digest.hexdigest()[:12]}"


def lower_package(package: Path) -> bytes:
    """Read a package and lower it: a serialised ONNX model, fp32, its batch symbolic.

    Raises:
        ModelFormatError: an operator, an input or a state that cannot be lowered.
    """
    from fluidaudio_cli.coreml.lower import lower_to_onnx
    from fluidaudio_cli.coreml.package import read_program

    serialised: bytes = lower_to_onnx(read_program(package)).SerializeToString()
    return serialised


def lowered_model(package: Path, package_hash: str, cache: CompileCache) -> Path:
    """Path of the lowered model in the cache."""
    key = CacheKey(package_hash, "onnx", lowering_version())

    def build(folder: Path) -> Mapping[str, Any]:
        (folder / LOWERED_NAME).write_bytes(lower_package(package))
        return {}

    return cache.fetch(key, build).folder / LOWERED_NAME
