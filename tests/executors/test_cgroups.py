"""Processors granted by control groups, read from made-up /proc and /sys trees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fluidaudio_cli.executors import machine
from fluidaudio_cli.executors.cgroups import cpu_quota

V2_MOUNT = "30 23 0:26 {inside} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNT = "32 30 0:28 {inside} /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc").mkdir()
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def quota(root: Path) -> float | None:
    return cpu_quota(root / "proc", root)


def test_no_control_groups_is_no_limit(root: Path) -> None:
    assert quota(root) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("200000 100000\n", 2.0), ("150000 100000\n", 1.5), ("max 100000\n", None), ("", None)],
)
def test_v2_in_a_container_shows_its_own_group_on_top(
    root: Path, text: str, expected: float | None
) -> None:
    write(root, "proc/cgroup", "0::/\n")
    write(root, "proc/mountinfo", V2_MOUNT.format(inside="/"))
    write(root, "sys/fs/cgroup/cpu.max", text)
    assert quota(root) == expected


def test_v2_takes_the_least_of_a_group_and_those_above(root: Path) -> None:
    write(root, "proc/cgroup", "0::/system.slice/job.service\n")
    write(root, "proc/mountinfo", V2_MOUNT.format(inside="/"))
    write(root, "sys/fs/cgroup/system.slice/cpu.max", "300000 100000\n")
    write(root, "sys/fs/cgroup/system.slice/job.service/cpu.max", "max 100000\n")
    write(root, "sys/fs/cgroup/other.slice/cpu.max", "100000 100000\n")
    assert quota(root) == 3.0


def test_v1_reads_quota_and_period_of_the_cpu_controller(root: Path) -> None:
    write(root, "proc/cgroup", "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n")
    write(root, "proc/mountinfo", V1_MOUNT.format(inside="/docker/abc"))
    write(root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n")
    write(root, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert quota(root) == 0.5
    write(root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    assert quota(root) is None


@pytest.mark.parametrize(("granted", "count"), [(None, 8), (2.0, 2), (1.5, 2), (0.2, 1), (64.0, 8)])
def test_processors_are_affinity_and_quota(
    granted: float | None, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr(machine, "_quota", lambda: granted)
    assert machine.processors() == count
