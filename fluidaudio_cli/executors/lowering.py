"""The lowered form of a package (ONNX), made once and shared by the executors off the Mac."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import fluidaudio_cli
from fluidaudio_cli.errors import ModelFormatError
from fluidaudio_cli.executors.cache import CacheKey, CompileCache

LOWERED_NAME = "model.onnx"

# Of ONNX Runtime's log: a refusal is in the exception already.
_FATAL = 4


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


def lower_package(
    package: Path, function: str | None = None, float_type: Literal["fp32", "fp16"] = "fp32"
) -> bytes:
    """Read a package and lower a function of it: a serialised ONNX model, its batch symbolic.

    Raises:
        ModelFormatError: an operator, an input or a state that cannot be lowered.
    """
    from fluidaudio_cli.coreml.lower import lower_to_onnx
    from fluidaudio_cli.coreml.package import read_program

    program = read_program(package, function)
    try:
        return serialised(lower_to_onnx(program, float_type))
    except ModelFormatError as error:
        raise ModelFormatError(f"{package}: {error.message}", error.remedy) from error


def serialised(model: Any) -> bytes:
    """The bytes of an ONNX model; ``MemoryError`` where there is no room for them."""
    from google.protobuf.message import EncodeError

    try:
        return bytes(model.SerializeToString())
    except EncodeError as error:  # it has no other reason: ONNX requires no field
        raise MemoryError from error


def lower_checked(
    package: Path, function: str | None = None, float_type: Literal["fp32", "fp16"] = "fp32"
) -> bytes:
    """Lower one function of a package to a model that ONNX Runtime loads.

    Raises:
        ModelFormatError: what cannot be lowered, or what ONNX Runtime says against the result.
    """
    from fluidaudio_cli.executors.onnxruntime import cpu_session, plain_options

    content = lower_package(package, function, float_type)
    # Types and operators are checked as well without optimisation; and ONNX Runtime 1.32 can crash
    # while it optimizes fp16 graphs for AVX-512.
    options = plain_options(_FATAL)
    try:
        cpu_session(content, options)
    except Exception as error:  # no common class, and none that is documented
        reason = " ".join(str(error).split())
        raise ModelFormatError(
            f"{package}: ONNX Runtime does not load the lowered model ({reason})",
            "run this package with Core ML on a Mac",
        ) from error
    return content


def lowered_model(package: Path, package_hash: str, cache: CompileCache) -> Path:
    """Path of the lowered model in the cache."""
    key = CacheKey(package_hash, "onnx", lowering_version())

    def build(folder: Path) -> Mapping[str, Any]:
        (folder / LOWERED_NAME).write_bytes(lower_package(package))
        return {}

    return cache.fetch(key, build).folder / LOWERED_NAME
