"""Core ML's protobuf messages without the ten seconds that importing coremltools takes.

The generated message modules in ``coremltools/proto`` depend on protobuf alone and import each
other relatively, so they are loaded here as a package of their own, under a private name;
protobuf's registry makes a later real ``import coremltools`` share the same classes. Should a
future coremltools rearrange its files, the fallback is the ordinary import.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from types import ModuleType

_PRIVATE_NAME = "_fluidaudio_coreml_proto"


@cache
def model_messages() -> ModuleType:
    """The module of ``Model.proto`` (class ``Model``)."""
    return _load("Model_pb2")


@cache
def mil_messages() -> ModuleType:
    """The module of ``MIL.proto`` (classes ``Program``, ``Value``, enum ``DataType``)."""
    return _load("MIL_pb2")


def _load(name: str) -> ModuleType:
    if "coremltools" not in sys.modules:
        with contextlib.suppress(ImportError, AttributeError, OSError):
            return importlib.import_module(f"{_message_package().__name__}.{name}")
    with quiet_coremltools():
        return importlib.import_module(f"coremltools.proto.{name}")


def _message_package() -> ModuleType:
    if _PRIVATE_NAME in sys.modules:
        return sys.modules[_PRIVATE_NAME]
    # find_spec of a top-level package locates it without running its __init__.
    outer = importlib.util.find_spec("coremltools")
    if outer is None or not outer.submodule_search_locations:
        raise ImportError("coremltools is not installed")
    folder = f"{outer.submodule_search_locations[0]}/proto"
    package = ModuleType(_PRIVATE_NAME)
    package.__path__ = [folder]
    sys.modules[_PRIVATE_NAME] = package
    return package


@contextlib.contextmanager
def quiet_coremltools() -> Iterator[None]:
    """Keep coremltools' version warnings and missing-proxy notices from the user's terminal."""
    previous = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
