"""Compile the LSTM kernel when the package is built; go on without it where that cannot be done.

It has forms for Linux on x86-64 and on 64-bit ARM. Without a C compiler the networks' own runtime
does the kernel's work, more slowly, and ``fluidaudio doctor`` says so.
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_FOLDER = Path("fluidaudio_cli/executors/lstm")
_LIBRARY = "libfluidaudio_lstm.so"
_SOURCES = ("tiles.c", "int8.c", "int8_avx512.c", "int8_avx2.c", "int8_neon.c")
_FLAGS = ("-O2", "-std=c11", "-D_GNU_SOURCE", "-shared", "-fPIC", "-fvisibility=hidden")


class KernelBuildHook(BuildHookInterface):  # type: ignore[misc]
    """Adds the compiled kernel to a wheel, or puts it beside its source for an editable one."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects the files."""
        if self.target_name != "wheel" or not _has_processors_for_it():
            return
        folder = Path(self.root) / _FOLDER
        library = folder / _LIBRARY
        try:
            _compile([folder / name for name in _SOURCES], library)
        except (OSError, subprocess.CalledProcessError) as error:
            library.unlink(missing_ok=True)
            reason = getattr(error, "stderr", "") or error
            self.app.display_warning(f"the LSTM kernel was not built: {reason}")
            return
        if version != "editable":
            build_data["force_include"][str(library)] = (_FOLDER / _LIBRARY).as_posix()
            build_data["pure_python"] = False
            # Not tied to a Python: the library is called through ctypes.
            system = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"py3-none-{system}"


def _has_processors_for_it() -> bool:
    return sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")


def _compile(sources: list[Path], library: Path) -> None:
    """Raises ``OSError`` without a compiler, ``CalledProcessError`` when it refuses."""
    compiler = shlex.split(os.environ.get("CC") or "cc")
    with tempfile.TemporaryDirectory(dir=library.parent) as draft:
        built = Path(draft) / library.name
        subprocess.run(
            [*compiler, *_FLAGS, "-o", str(built), *map(str, sources), "-lm"],
            check=True,
            capture_output=True,
            text=True,
        )
        built.replace(library)
