"""The compile cache: built once, verified, rebuilt when damaged, optional, safe among processes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fluidaudio_cli.errors import HostError, ModelFormatError
from fluidaudio_cli.executors import cache as cache_module
from fluidaudio_cli.executors import lowering
from fluidaudio_cli.executors.base import ExecutorOptions
from fluidaudio_cli.executors.cache import (
    CacheKey,
    CacheWarning,
    CompileCache,
    cache_dir,
    shared_cache,
)
from fluidaudio_cli.executors.select import executor

KEY = CacheKey("ab" * 32, "engine", "engine 1.0", {"precision": "fp32"})


class Builder:
    """Writes two files and counts how often it was called."""

    def __init__(self, text: str = "compiled") -> None:
        self.calls = 0
        self.text = text

    def __call__(self, folder: Path) -> Mapping[str, Any]:
        self.calls += 1
        (folder / "weights").mkdir()
        (folder / "weights" / "blob").write_text(self.text)
        (folder / "graph").write_text("graph")
        return {"note": self.text}


def test_entry_is_built_once_and_then_found(cache: CompileCache) -> None:
    build = Builder()
    first = cache.fetch(KEY, build)
    second = CompileCache(cache.root).fetch(KEY, build)
    assert (first.hit, second.hit, build.calls) == (False, True, 1)
    assert first.folder == second.folder
    assert (second.folder / "weights" / "blob").read_text() == "compiled"
    assert second.details == {"note": "compiled"}


def test_key_separates_entries(cache: CompileCache) -> None:
    keys = [
        KEY,
        CacheKey("cd" * 32, "engine", "engine 1.0", {"precision": "fp32"}),
        CacheKey("ab" * 32, "other", "engine 1.0", {"precision": "fp32"}),
        CacheKey("ab" * 32, "engine", "engine 1.1", {"precision": "fp32"}),
        CacheKey("ab" * 32, "engine", "engine 1.0", {"precision": "bf16"}),
    ]
    for number, key in enumerate(keys):
        cache.fetch(key, Builder(str(number)))
    build = Builder()
    texts = [(cache.fetch(key, build).folder / "weights" / "blob").read_text() for key in keys]
    assert texts == ["0", "1", "2", "3", "4"]
    assert build.calls == 0


def _flip_a_byte(folder: Path) -> None:
    blob = folder / "weights" / "blob"
    blob.write_bytes(bytes([blob.read_bytes()[0] ^ 1]) + blob.read_bytes()[1:])


def _truncate(folder: Path) -> None:
    (folder / "weights" / "blob").write_text("comp")


def _remove_file(folder: Path) -> None:
    (folder / "graph").unlink()


def _remove_meta(folder: Path) -> None:
    (folder / "entry.json").unlink()


def _garble_meta(folder: Path) -> None:
    (folder / "entry.json").write_text('{"schema": ')


def _meta_of_another_kind(folder: Path) -> None:
    (folder / "entry.json").write_text("[]")


def _meta_without_facts(folder: Path) -> None:
    meta = json.loads((folder / "entry.json").read_text())
    meta["files"]["graph"] = {}
    (folder / "entry.json").write_text(json.dumps(meta))


def _meta_of_another_version(folder: Path) -> None:
    meta = json.loads((folder / "entry.json").read_text())
    meta["key"]["version"] = "engine 0.9"
    (folder / "entry.json").write_text(json.dumps(meta))


def _meta_of_another_schema(folder: Path) -> None:
    meta = json.loads((folder / "entry.json").read_text())
    meta["schema"] = "fluidaudio.compile-cache/0"
    (folder / "entry.json").write_text(json.dumps(meta))


@pytest.mark.parametrize(
    "damage",
    [
        _flip_a_byte,
        _truncate,
        _remove_file,
        _remove_meta,
        _garble_meta,
        _meta_of_another_kind,
        _meta_without_facts,
        _meta_of_another_version,
        _meta_of_another_schema,
    ],
)
def test_damaged_or_foreign_entry_is_rebuilt(
    cache: CompileCache, damage: Callable[[Path], None]
) -> None:
    build = Builder()
    folder = cache.fetch(KEY, build).folder
    damage(folder)
    again = cache.fetch(KEY, build)
    assert (again.hit, build.calls) == (False, 2)
    assert (folder / "weights" / "blob").read_text() == "compiled"
    assert cache.fetch(KEY, build).hit


def test_failed_build_leaves_nothing(cache: CompileCache) -> None:
    def fail(folder: Path) -> Mapping[str, Any]:
        (folder / "half").write_text("half")
        raise ModelFormatError("op x is not known", "none")

    with pytest.raises(ModelFormatError, match="op x is not known"):
        cache.fetch(KEY, fail)
    assert list((cache.root / "models").iterdir()) == []
    assert not cache.fetch(KEY, Builder()).hit


def test_folder_that_cannot_be_written_warns_once_and_works(tmp_path: Path) -> None:
    """A file where the folder should be: unwritable for every user, root too."""
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    cache = CompileCache(blocked / "cache")
    build = Builder()
    with pytest.warns(CacheWarning) as caught:
        entry, again = (cache.fetch(KEY, build) for _ in range(2))
    assert (entry.folder / "graph").read_text() == "graph"
    assert (entry.hit, again.hit, build.calls) == (False, True, 1)
    assert [str(warning.message) for warning in caught] == [
        f"the cache {blocked / 'cache'} cannot be written (Not a directory), so models are "
        "compiled again at each start: set FLUIDAUDIO_CACHE_DIR to a folder that can"
    ]
    temporary = entry.folder.parent
    del cache
    assert not temporary.exists()


def test_no_space_while_building_falls_back(cache: CompileCache) -> None:
    attempts = []

    def build(folder: Path) -> Mapping[str, Any]:
        attempts.append(folder)
        if len(attempts) == 1:
            raise OSError(28, "No space left on device")
        (folder / "graph").write_text("graph")
        return {}

    with pytest.warns(CacheWarning, match="No space left on device"):
        entry = cache.fetch(KEY, build)
    assert not entry.folder.is_relative_to(cache.root)
    assert (entry.folder / "graph").read_text() == "graph"


def test_no_space_anywhere_is_one_line(cache: CompileCache) -> None:
    def build(_: Path) -> Mapping[str, Any]:
        raise OSError(28, "No space left on device")

    with pytest.warns(CacheWarning), pytest.raises(HostError) as caught:
        cache.fetch(KEY, build)
    assert "cannot write the compiled model to" in str(caught.value)
    assert str(caught.value).endswith("or set FLUIDAUDIO_CACHE_DIR to a folder with space")


def test_read_only_cache_is_still_used(
    cache: CompileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    old = time.time() - 40 * 86400
    meta = cache.fetch(KEY, Builder()).folder / "entry.json"
    os.utime(meta, (old, old))
    monkeypatch.setattr(os, "utime", refuse)  # root's rights are not those of the folder
    folders = [cache.root, cache.root / "models", meta.parent]
    for folder in folders:
        folder.chmod(0o555)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert cache.fetch(KEY, Builder()).hit
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_entries_unused_for_months_are_dropped(cache: CompileCache) -> None:
    other = CacheKey("ef" * 32, "engine", "engine 1.0")
    stale = cache.fetch(KEY, Builder()).folder
    recent = cache.fetch(other, Builder()).folder
    old = time.time() - cache_module.UNUSED_AFTER_SECONDS - 60
    os.utime(stale / "entry.json", (old, old))
    # Seen, and gone when looked at, as a lock that another process drops.
    (cache.root / "locks" / "gone.lock").symlink_to("nowhere")
    cache.fetch(CacheKey("01" * 32, "engine", "engine 1.0"), Builder())
    assert not stale.exists()
    assert recent.exists()


def test_use_keeps_an_entry_alive(cache: CompileCache) -> None:
    meta = cache.fetch(KEY, Builder()).folder / "entry.json"
    old = time.time() - cache_module.UNUSED_AFTER_SECONDS - 60
    os.utime(meta, (old, old))
    cache.fetch(KEY, Builder())
    assert time.time() - meta.stat().st_mtime < 3600


def test_place_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLUIDAUDIO_CACHE_DIR", str(tmp_path / "here"))
    assert cache_dir() == tmp_path / "here"
    assert shared_cache() is shared_cache()
    assert shared_cache().root == tmp_path / "here"
    monkeypatch.delenv("FLUIDAUDIO_CACHE_DIR")
    assert cache_dir().name == "fluidaudio" or "fluidaudio" in cache_dir().parts


PROCESS = """
import sys, time
from pathlib import Path
from fluidaudio_cli.executors.cache import CacheKey, CompileCache

def build(folder):
    with open(sys.argv[2], "a") as log:
        log.write("built\\n")
    time.sleep(0.3)
    (folder / "graph").write_text("graph")
    return {}

entry = CompileCache(Path(sys.argv[1])).fetch(CacheKey("ab" * 32, "engine", "1"), build)
print((entry.folder / "graph").read_text(), entry.hit)
"""


def test_of_concurrent_processes_one_builds(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", PROCESS, str(tmp_path / "cache"), str(log)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = sorted(process.communicate(timeout=180)[0].strip() for process in running)
    assert answers == ["graph False", "graph True", "graph True", "graph True"]
    assert log.read_text() == "built\n"


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_executor_survives_a_damaged_compiled_model(
    runtime: str, package: Callable[[str], Path], cache: CompileCache
) -> None:
    """Random bytes in a blob could crash the runtime: they never reach it."""
    folder, options = package("affine"), ExecutorOptions(precision="fp32", threads=1)
    engine = executor(runtime, cache)
    assert not engine.load(folder, options).cache_hit
    assert engine.load(folder, options).cache_hit
    for path in (cache.root / "models").glob(f"{runtime}-*/*"):
        if path.suffix in (".blob", ".onnx"):
            path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))
    model = engine.load(folder, options)
    assert not model.cache_hit
    x = np.array([[1.0, 2.0, 3.0]], dtype=np.float32)
    assert model.request().run({"x": x})["y"].tolist() == [[5.0, 0.0]]


def test_new_lowering_or_new_package_is_compiled_again(
    package: Callable[[str], Path], cache: CompileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, options = package("affine"), ExecutorOptions(precision="fp32", threads=1)
    engine = executor("onnxruntime", cache)
    engine.load(folder, options)
    (folder / "Data" / "extra").write_text("changed")
    assert not engine.load(folder, options).cache_hit
    monkeypatch.setattr(
        "fluidaudio_cli.executors.onnxruntime.lowering_version", lambda: "lowering 2"
    )
    assert not engine.load(folder, options).cache_hit


def test_an_entry_that_cannot_be_listed_is_no_fault_of_the_program(
    package: Callable[[str], Path], cache: CompileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its compiled models were none, and the first of none was asked for."""
    folder, options = package("affine"), ExecutorOptions("fp32", threads=1)
    executor("openvino", cache).load(folder, options)
    scan = os.scandir

    def scandir(path: Any = ".") -> Any:
        if "openvino-" in os.fspath(path):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(OSError, match=r"Permission denied: '.*openvino-"):
        executor("openvino", CompileCache(cache.root)).load(folder, options)


def test_lowering_version_needs_no_import_of_the_lowering() -> None:
    code = (
        "import sys; from fluidaudio_cli.executors.lowering import lowering_version;"
        "print(lowering_version()); print([m for m in sys.modules if 'coreml.' in m])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert output == [lowering.lowering_version(), "[]"]


WARM_START = """
import sys, warnings
from pathlib import Path
import numpy as np
warnings.simplefilter("error")
from fluidaudio_cli.executors.base import ExecutorOptions
from fluidaudio_cli.executors.select import executor
options = ExecutorOptions(precision="fp32", threads=1)
model = executor(sys.argv[1]).load(Path(sys.argv[2]), options)
x = np.array([[1.0, 2.0, 3.0]], dtype=np.float32)
print(model.cache_hit, model.request().run({"x": x})["y"].tolist())
heavy = ("onnx", "coremltools", "openvino_telemetry", "filelock", "torch", "urllib.request")
print([name for name in heavy if name in sys.modules])
"""


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_warm_start_imports_nothing_it_does_not_need(
    runtime: str, package: Callable[[str], Path], cache: CompileCache
) -> None:
    """Nor may OpenVINO's usage report be sent: the module that sends it is not imported."""
    folder = package("affine")
    executor(runtime, cache).load(folder, ExecutorOptions(precision="fp32", threads=1))
    result = subprocess.run(
        [sys.executable, "-c", WARM_START, runtime, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "FLUIDAUDIO_CACHE_DIR": str(cache.root)},
    )
    assert result.stdout.splitlines() == ["True [[5.0, 0.0]]", "[]"]
    assert result.stderr == ""


def test_onnxruntime_neither_reports_nor_leaves_anything(tmp_path: Path) -> None:
    """Since 1.29 it gave the machine an identity, in the user's home, and told what it ran."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("CI", "ORT_DISABLE_TELEMETRY", "PYTEST_CURRENT_TEST")
    } | {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    code = "from fluidaudio_cli.executors.onnxruntime import runtime; runtime().SessionOptions()"
    subprocess.run([sys.executable, "-B", "-c", code], check=True, env=environment)
    assert list(tmp_path.rglob("*")) == []


def test_threads_streams_and_profiling_share_a_compiled_model(
    package: Callable[[str], Path], cache: CompileCache
) -> None:
    folder, engine = package("affine"), executor("openvino", cache)
    engine.load(folder, ExecutorOptions("fp32", threads=1))
    model = engine.load(folder, ExecutorOptions("fp32", threads=2, streams=2, profile=True))
    assert (model.cache_hit, model.ran.threads, model.ran.streams) == (True, 2, 2)
    model.request().run({"x": np.ones((4000, 3), np.float32)})
    assert model.operator_times()
    assert not engine.load(folder, ExecutorOptions("fp32", batch=2)).cache_hit


def test_entry_that_neither_loads_nor_goes_is_built_beside_the_cache(
    cache: CompileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = Builder("old")
    kept = cache.fetch(KEY, build).folder
    build.text = "new"
    # As in a folder that is read only.
    monkeypatch.setattr("fluidaudio_cli.executors.cache.shutil.rmtree", lambda *_, **__: None)

    def load(folder: Path) -> str:
        if folder == kept:
            raise HostError("blob of another build")
        return (folder / "weights" / "blob").read_text()

    loaded, entry = cache.load(KEY, build, load)
    assert (loaded, entry.hit, build.calls) == ("new", False, 2)


def test_whole_entry_that_does_not_load_is_built_anew_once(cache: CompileCache) -> None:
    build = Builder("old")
    cache.fetch(KEY, build)
    build.text = "new"

    def load(folder: Path) -> str:
        text = (folder / "weights" / "blob").read_text()
        if text == "old":
            raise HostError("blob of another build")
        return text

    loaded, entry = cache.load(KEY, build, load)
    assert (loaded, entry.hit, build.calls) == ("new", False, 2)
    build.text = "old"
    with pytest.raises(HostError, match="blob of another build"):
        cache.load(CacheKey("01" * 32, "engine", "1"), build, load)
    assert build.calls == 3
