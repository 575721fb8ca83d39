"""How much processor time Linux grants this process: the quota of its control groups, v1 and v2.

A container limited to two processors (``docker run --cpus 2``) sees all of the machine's; threads
beyond its quota only wait for the next period. Formats: cgroups(7), proc(5), and the kernel's
``cgroup-v2.rst`` (``cpu.max``) and ``sched-bwc.rst`` (``cpu.cfs_quota_us``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def cpu_quota(process: Path = Path("/proc/self"), root: Path = Path("/")) -> float | None:
    """Processors' worth of time granted, the least of all groups the process is in.

    ``None`` where nothing is limited, or the system has no control groups. ``root`` is put
    before the mount points that ``process`` names.
    """
    quotas = []
    for folder, version in _groups(process, root):
        names = ("cpu.max",) if version == 2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        words = [word for name in names for word in _words(folder / name)]
        # Without a limit the first is "max" (v2) or -1 (v1).
        if len(words) == 2 and words[0].isdecimal() and int(words[0]) > 0:
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def _groups(process: Path, root: Path) -> Iterator[tuple[Path, int]]:
    """Folders of the groups with a say in processor time, each with those above it."""
    try:
        memberships = (process / "cgroup").read_text(encoding="utf-8").splitlines()
        mounts = (process / "mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    of_v1, of_v2 = "", ""
    for line in memberships:
        hierarchy, controllers, group = line.split(":", 2)
        if hierarchy == "0":
            of_v2 = group
        elif "cpu" in controllers.split(","):
            of_v1 = group
    for line in mounts:
        own, _, of_system = line.partition(" - ")
        kind, _, options = of_system.split(" ", 2)
        inside, point = own.split(" ")[3:5]
        if kind == "cgroup2" and of_v2:
            group, version = of_v2, 2
        elif kind == "cgroup" and of_v1 and "cpu" in options.split(" ")[-1].split(","):
            group, version = of_v1, 1
        else:
            continue
        top = root / point.lstrip("/")
        # A container's mount shows its own group as the topmost.
        place = PurePosixPath(group)
        below = place.relative_to(inside) if place.is_relative_to(inside) else PurePosixPath()
        for part in (below, *below.parents):
            yield top / str(part).lstrip("/"), version


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except OSError:
        return []
