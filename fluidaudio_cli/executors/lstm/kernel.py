"""The compiled kernel: where it lies, whether it can run here, and its functions.

It is built when the package is installed (``hatch_build.py``), because a host that runs the
program need not have a compiler.
"""

from __future__ import annotations

import ctypes
import hashlib
import platform
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from fluidaudio_cli.executors.machine import cpu_flags, has_amx_bf16

LIBRARY_NAME = "libfluidaudio_lstm.so"
# Windows of one call: the rows of a tile.
MAX_ROWS = 16
HIDDEN = 128
# Values along a tile's row; inputs are padded to a multiple.
DEPTH = 32
# Rows beyond the last that the kernel may read, whatever they hold.
SLACK_ROWS = 31

# Forms of the kernel in integers, the fastest first, and the flags that each needs, by machine.
FORMS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "x86_64": {
        "vnni": frozenset(("avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_vnni")),
        "avx2": frozenset(("avx2", "fma")),
    },
    "aarch64": {"neon": frozenset(("asimd", "asimddp"))},
}

NOT_BUILT = "it was not built: no fitting C compiler was found when fluidaudio was installed"

_NEEDED_FLAGS = frozenset(
    ("amx_tile", "amx_bf16", "avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_bf16")
)


def forms_here() -> Mapping[str, frozenset[str]]:
    """Those of :data:`FORMS` for this kind of machine; none for most."""
    return FORMS.get(platform.machine(), {})


def lacking(needed: frozenset[str]) -> str:
    """Why functions of the library that need these flags cannot run here; empty when they can."""
    missing = sorted(needed - cpu_flags())
    if missing:
        return f"the processor lacks {', '.join(missing)}"
    if not Path(__file__).with_name(LIBRARY_NAME).is_file():
        return NOT_BUILT
    try:
        kernel()
    except (OSError, AttributeError) as error:
        # Without a function: the library of another version.
        return f"it does not load: {error}"
    return ""


@lru_cache(maxsize=1)
def unavailable() -> str:
    """Why the kernel for tiles cannot run here; empty when it can."""
    if not has_amx_bf16():
        return "the processor has no AMX tiles for bf16"
    reason = lacking(_NEEDED_FLAGS)
    if reason:
        return reason
    granted = kernel().fluidaudio_request_tiles() == 0
    return "" if granted else "the system does not grant the use of AMX tiles"


@lru_cache(maxsize=1)
def kernel_version() -> str:
    """Changes with the compiled kernel and with what prepares its weights."""
    digest = hashlib.sha256()
    for name in (LIBRARY_NAME, "cut.py", "layers.py", "tiles.py", "int8.py"):
        digest.update(Path(__file__).with_name(name).read_bytes())
    return f"kernel {digest.hexdigest()[:8]}"


class Int8Layer(ctypes.Structure):
    """``layer`` of int8.h: one direction, its input, weights and output."""

    _fields_ = [
        ("bytes", ctypes.c_void_p),
        ("floats", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("width", "steps", "rows", "reverse")),
        *(
            (name, ctypes.c_void_p)
            for name in ("weights", "float_weights", "scale", "bias", "output", "exact", "cells")
        ),
    ]


@lru_cache(maxsize=1)
def kernel() -> ctypes.CDLL:
    """The library with its signatures declared. Calls release the interpreter's lock."""
    library = ctypes.CDLL(str(Path(__file__).with_name(LIBRARY_NAME)))
    for form in ("portable", *forms_here()):
        function = getattr(library, f"fluidaudio_int8_lstm_{form}")
        function.argtypes, function.restype = [ctypes.POINTER(Int8Layer)], None
    if platform.machine() == "x86_64":
        _declare_tiles(library)
    return library


def _declare_tiles(library: ctypes.CDLL) -> None:
    """The functions of tiles.c."""
    pointer, number = ctypes.c_void_p, ctypes.c_int
    library.fluidaudio_request_tiles.argtypes = []
    library.fluidaudio_request_tiles.restype = number
    library.fluidaudio_lstm_scratch_floats.argtypes = []
    library.fluidaudio_lstm_scratch_floats.restype = ctypes.c_size_t
    library.fluidaudio_lstm_direction.argtypes = [
        *(pointer, number, number, number, pointer, pointer, pointer, number, pointer, pointer)
    ]
    library.fluidaudio_lstm_direction.restype = None
    library.fluidaudio_lstm_pack_input.argtypes = [pointer, number, number, number, number, pointer]
    library.fluidaudio_lstm_pack_input.restype = None
    library.fluidaudio_lstm_unpack_output.argtypes = [pointer, number, number, pointer]
    library.fluidaudio_lstm_unpack_output.restype = None
