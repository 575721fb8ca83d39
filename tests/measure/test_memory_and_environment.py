"""Memory readings and host facts against made-up files of /proc and known allocations."""

from __future__ import annotations

import mmap
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from fluidaudio_cli.measure import environment, memory

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads the Linux /proc tree")


@linux_only
def test_kernel_peak_is_read_from_its_line(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t   12345 kB\nVmRSS:\t 1 kB\n")
    assert memory.peak_bytes(tmp_path) == 12_345 * 1024
    assert memory.peak_bytes(tmp_path / "absent") is None


@linux_only
def test_a_peak_that_cannot_be_reset_is_said(tmp_path: Path) -> None:
    assert memory.reset_peak(tmp_path / "absent") is False


@linux_only
def test_the_reset_peak_covers_a_later_allocation_only() -> None:
    if not memory.reset_peak():
        pytest.skip("this kernel does not let the high-water mark be reset")
    before = memory.peak_bytes()
    # Pages of its own: an allocator may keep what is freed, and then no peak goes down.
    with mmap.mmap(-1, 64_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        block.write(b"x" * len(block))
        after = memory.peak_bytes()
    assert before is not None
    assert after is not None
    assert after - before >= 60_000_000
    assert memory.reset_peak()
    assert (memory.peak_bytes() or 0) <= after - 60_000_000


def test_the_sampler_sees_a_held_allocation() -> None:
    with memory.RssSampler(os.getpid(), period=0.001) as sampler:
        start = memory.resident_bytes()
        block = bytearray(b"x" * 64_000_000)
        while sampler.peak < start + 60_000_000:
            pass  # the sampler's thread runs between these readings
        del block
    assert sampler.curve[0][0] < 1.0
    assert sampler.peak == max(size for _, size in sampler.curve)


def test_a_long_curve_is_thinned_and_keeps_its_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CURVE_POINTS", 4)
    sampler = memory.RssSampler(os.getpid())
    for index in range(1000):
        sampler.add((float(index), 5000 if index == 357 else index))
    curve = sampler.curve
    assert len(curve) < 8
    assert (357.0, 5000) in curve
    assert curve == sorted(curve)
    assert curve[-1] == (999.0, 999)


def test_cpu_model_from_cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Made-up CPU @ 3 GHz\n")
    assert environment.cpu_model(cpuinfo) == "Made-up CPU @ 3 GHz"


def test_a_busy_machine_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pressure = tmp_path / "cpu"
    pressure.write_text("some avg10=35.20 avg60=1.00 avg300=0.00 total=5\nfull avg10=0.00\n")
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(environment, "load_average", lambda: (1.5, 0.2, 0.1))
    load, waiting = environment.busy_before(pressure)
    assert load.startswith("the machine is busy: load average 1.50 on 2 cores;")
    assert waiting == "the machine is busy: tasks waited for a core 35 % of the last 10 s"


def test_an_idle_machine_is_not_complained_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "load_average", lambda: None)
    assert environment.busy_before(tmp_path / "absent") == ()


def test_stolen_time_is_said() -> None:
    before = environment.CpuSnapshot(total=100.0, steal=1.0)
    assert environment.busy_during(before, environment.CpuSnapshot(200.0, 2.0)) == ()
    assert environment.busy_during(before, environment.CpuSnapshot(200.0, 6.0)) == (
        "the host of this virtual machine took 5% of its CPU time during the run",
    )


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path) -> None:
    assert environment.git_state(tmp_path) == (None, None)


def test_a_commit_and_whether_its_files_were_changed(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        named = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
        done = subprocess.run(
            ["git", "-C", tmp_path, *named, *words], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    (tmp_path / "code.py").write_text("print(1)\n")
    git("init", "--quiet")
    git("add", "code.py")
    git("commit", "--quiet", "--message", "first")
    (tmp_path / "untracked.py").touch()
    commit = git("rev-parse", "HEAD")
    assert environment.git_state(tmp_path) == (commit, False)
    (tmp_path / "code.py").write_text("print(2)\n")
    assert environment.git_state(tmp_path) == (commit, True)


def test_the_digest_follows_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_PACKAGE", tmp_path)
    monkeypatch.setattr(environment, "configs_dir", lambda: tmp_path / "modes")
    (tmp_path / "modes").mkdir()

    def digest() -> str:
        return environment.source_digest.__wrapped__()

    found = [digest()]
    for path, text in (("a.py", "1"), ("a.py", "2"), ("modes/fast.yaml", "2"), ("b.so", "2")):
        (tmp_path / path).write_text(text)
        found.append(digest())
    (tmp_path / "b.so").rename(tmp_path / "c.so")
    found.append(digest())
    assert len(set(found)) == 6
    (tmp_path / "a.pyc").write_text("compiled")
    assert digest() == found[-1]


class Times(NamedTuple):
    """As psutil gives them on Linux: guests' are in ``user``, too."""

    user: float
    idle: float
    steal: float
    guest: float
    guest_nice: float


def test_guests_time_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    times = Times(50.0, 40.0, 3.0, 7.0, 1.0)
    monkeypatch.setattr(psutil, "cpu_times", lambda: times)
    assert environment.cpu_snapshot() == environment.CpuSnapshot(total=93.0, steal=3.0)


def test_the_description_holds_what_a_comparison_needs() -> None:
    record = environment.describe()
    assert record.machine.logical_cores == os.cpu_count()
    assert record.machine.memory_bytes > 100_000_000
    assert record.packages["numpy"]
    assert record.python == ".".join(str(part) for part in sys.version_info[:3])
