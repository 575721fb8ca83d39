"""Building the package: the compiled kernel where there is a compiler, and a wheel without."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("hatchling", reason="hatchling is not installed (make setup-dev)")
REPOSITORY = Path(__file__).resolve().parent.parent
FOLDER = Path("fluidaudio_cli/executors/lstm")
LIBRARY = FOLDER / "libfluidaudio_lstm.so"

IS_BUILT = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")

needs_compiler = pytest.mark.skipif(
    not IS_BUILT or shutil.which("cc") is None,
    reason="the kernel is built on Linux on x86-64 and 64-bit ARM, with a C compiler",
)
on_linux = pytest.mark.skipif(
    not IS_BUILT, reason="the kernel is built on Linux on x86-64 and 64-bit ARM"
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """As much of the repository as a wheel of this package needs, without its models."""
    root = tmp_path / "tree"
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "fluidaudio_cli/__init__.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, root / name)
    (root / FOLDER).mkdir(parents=True)
    for source in (REPOSITORY / FOLDER).glob("*.[pch]*"):
        if source.is_file():
            shutil.copy(source, root / FOLDER)
    for name in ("LICENSE", "THIRD_PARTY_NOTICES.md", "configs/one", "datasets/sample/LICENSE"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def built(tree: Path, compiler: str) -> tuple[zipfile.ZipFile, str]:
    """The wheel, and what building said on stderr; ``compiler`` as in ``CC``."""
    target = tree.parent / "wheels"
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)],
        cwd=tree,
        env={**os.environ, "CC": compiler},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = target.iterdir()
    return zipfile.ZipFile(wheel), done.stderr


def facts(wheel: zipfile.ZipFile) -> dict[str, str]:
    """What the wheel says of itself in its ``WHEEL`` file."""
    (name,) = (each for each in wheel.namelist() if each.endswith(".dist-info/WHEEL"))
    lines = wheel.read(name).decode().strip().splitlines()
    return dict(line.split(": ", 1) for line in lines)


@needs_compiler
def test_wheel_holds_the_kernel_and_is_for_one_platform(tree: Path, tmp_path: Path) -> None:
    wheel, said = built(tree, "")
    assert "not built" not in said
    assert wheel.filename is not None
    tag = f"py3-none-linux_{platform.machine()}"
    assert wheel.filename.endswith(f"-{tag}.whl")
    assert facts(wheel)["Tag"] == tag
    assert facts(wheel)["Root-Is-Purelib"] == "false"
    library = ctypes.CDLL(wheel.extract(LIBRARY.as_posix(), tmp_path))
    assert library.fluidaudio_int8_lstm_portable
    if platform.machine() == "x86_64":
        # 32 tiles of 64 rows of 16 gates, and 16 rows of 128 cells.
        assert library.fluidaudio_lstm_scratch_floats() == 32 * 64 * 16 + 16 * 128
    assert [path.name for path in (tree / FOLDER).glob("tmp*")] == []


@on_linux
@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("/nonexistent/cc", "No such file or directory: '/nonexistent/cc'"),
        # A compiler that fails, saying nothing; one that says why.
        ("false", "returned non-zero exit status 1"),
        ("sh -c 'echo tiles are not known >&2; exit 1'", "tiles are not known"),
    ],
)
def test_wheel_without_a_compiler_is_for_every_platform(
    tree: Path, compiler: str, reason: str
) -> None:
    # Left by an earlier build: it must not go into a wheel that does not say so.
    (tree / LIBRARY).write_bytes(b"old")
    wheel, said = built(tree, compiler)
    assert said.startswith("the LSTM kernel was not built: ")
    assert reason in said
    assert wheel.filename is not None
    assert wheel.filename.endswith("-py3-none-any.whl")
    assert facts(wheel)["Tag"] == "py3-none-any"
    assert facts(wheel)["Root-Is-Purelib"] == "true"
    assert LIBRARY.as_posix() not in wheel.namelist()
    assert (FOLDER / "tiles.c").as_posix() in wheel.namelist()
    assert not (tree / LIBRARY).exists()


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", REPOSITORY / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def initialized(hook: ModuleType, tree: Path, target: str, version: str) -> dict[str, Any]:
    """What the hook asks hatchling to do."""
    asked: dict[str, Any] = {"force_include": {}, "pure_python": True}
    hook.KernelBuildHook(str(tree), {}, None, None, "", target).initialize(version, asked)
    return asked


@needs_compiler
def test_editable_install_has_the_kernel_beside_its_source(
    hook: ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CC", raising=False)
    asked = initialized(hook, tree, "wheel", "editable")
    assert asked == {"force_include": {}, "pure_python": True}
    assert (tree / LIBRARY).read_bytes()[:4] == b"\x7fELF"


@pytest.mark.parametrize(("target", "here"), [("sdist", True), ("wheel", False)])
def test_nothing_is_built_for_a_source_archive_or_another_processor(
    hook: ModuleType, tree: Path, target: str, here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook, "_has_processors_for_it", lambda: here)
    asked = initialized(hook, tree, target, "standard")
    assert asked == {"force_include": {}, "pure_python": True}
    assert not (tree / LIBRARY).exists()
