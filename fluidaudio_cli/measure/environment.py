"""Facts about the host, and signs that it is too busy for timings to be trusted."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import ClassVar

import psutil

from fluidaudio_cli.executors.machine import processors
from fluidaudio_cli.resources import configs_dir

_PACKAGES = (
    "fluidaudio",
    "numpy",
    "scipy",
    "coremltools",
    "onnxruntime",
    "openvino",
    "av",
    "pyannote.metrics",
)
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "ORT_NUM_THREADS",
    "OV_NUM_STREAMS",
)
_PACKAGE = Path(__file__).resolve().parents[1]
# What a run is made of: code, kernels in source and compiled, modes, model packages' programs.
_SOURCE_SUFFIXES = frozenset({".py", ".c", ".so", ".dylib", ".yaml", ".json"})
# Above these, other work takes a share of the machine that shows in a median of few runs.
_BUSY_LOAD_PER_CORE = 0.5
_BUSY_PRESSURE_PERCENT = 20.0
_BUSY_STEAL_SHARE = 0.02


@dataclass(frozen=True)
class Machine:
    """What must be equal for two absolute timings to be comparable.

    ``usable_cores``: those that affinity and quota leave to this process.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    cpu_model: str
    logical_cores: int
    usable_cores: int
    memory_bytes: int
    system: str
    architecture: str


@dataclass(frozen=True)
class Environment:
    """The host as it was when a run started. ``source``: see :func:`source_digest`."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    machine: Machine
    system_release: str
    python: str
    packages: dict[str, str]
    git_commit: str | None
    git_dirty: bool | None
    source: str
    load_average: tuple[float, float, float] | None
    thread_settings: dict[str, str]

    def commit(self, digits: int = 40) -> str:
        """The commit that ran, and whether with changes; empty outside a checkout."""
        changes = " with local changes" if self.git_dirty else ""
        return f"{self.git_commit[:digits]}{changes}" if self.git_commit else ""


def describe(checkout: Path | None = None) -> Environment:
    """The host's facts; ``checkout`` is the source tree whose commit is recorded."""
    commit, dirty = git_state(checkout or _PACKAGE.parent)
    return Environment(
        machine=Machine(
            cpu_model=cpu_model(),
            logical_cores=os.cpu_count() or 1,
            usable_cores=processors(),
            memory_bytes=psutil.virtual_memory().total,
            system=platform.system(),
            architecture=platform.machine(),
        ),
        system_release=platform.platform(),
        python=platform.python_version(),
        packages=package_versions(_PACKAGES),
        git_commit=commit,
        git_dirty=dirty,
        source=source_digest(),
        load_average=load_average(),
        thread_settings={
            name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ
        },
    )


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's marketing name, as its system tells it."""
    if platform.system() == "Darwin":
        return _output(["sysctl", "-n", "machdep.cpu.brand_string"]) or "unknown Apple processor"
    try:
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model") and value.strip():
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def load_average() -> tuple[float, float, float] | None:
    """Runnable tasks over 1, 5 and 15 minutes; ``None`` where the system has no such figure."""
    try:
        one, five, fifteen = os.getloadavg()
    except (AttributeError, OSError):
        return None
    return round(one, 2), round(five, 2), round(fifteen, 2)


def git_state(checkout: Path) -> tuple[str | None, bool | None]:
    """Commit of the tree and whether tracked files differ from it; ``None`` outside git."""
    commit = _output(["git", "-C", str(checkout), "rev-parse", "HEAD"])
    if not commit:
        return None, None
    status = _output(["git", "-C", str(checkout), "status", "--porcelain", "-uno"])
    return commit, bool(status)


@lru_cache(maxsize=1)
def source_digest() -> str:
    """SHA-256 of the program as it lies on the disk, changes that git has not seen included."""
    digest = hashlib.sha256()
    for root in (_PACKAGE, configs_dir()):
        for path in sorted(root.rglob("*")):
            if path.suffix in _SOURCE_SUFFIXES and path.is_file():
                digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@dataclass(frozen=True)
class CpuSnapshot:
    """Cumulated CPU seconds of the whole machine, and the share stolen by its hypervisor."""

    total: float
    steal: float


def cpu_snapshot() -> CpuSnapshot:
    """Read the counters now; two readings bracket a run."""
    times = psutil.cpu_times()
    # guest time is already inside user time (proc(5)); adding it would count it twice.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return CpuSnapshot(total, getattr(times, "steal", 0.0))


def busy_before(pressure: Path = Path("/proc/pressure/cpu")) -> tuple[str, ...]:
    """One line for each sign that other work is running; call before measuring."""
    warnings = []
    load = load_average()
    cores = os.cpu_count() or 1
    if load is not None and load[0] > _BUSY_LOAD_PER_CORE * cores:
        warnings.append(
            f"the machine is busy: load average {load[0]:.2f} on {cores} cores; "
            "timings will spread, close other programs or compare with --against"
        )
    waiting = _pressure_percent(pressure)
    if waiting is not None and waiting > _BUSY_PRESSURE_PERCENT:
        warnings.append(
            f"the machine is busy: tasks waited for a core {waiting:.0f} % of the last 10 s"
        )
    return tuple(warnings)


def busy_during(before: CpuSnapshot, after: CpuSnapshot) -> tuple[str, ...]:
    """One line if the hypervisor gave this machine's CPU time to others during the run."""
    elapsed = after.total - before.total
    share = (after.steal - before.steal) / elapsed if elapsed > 0 else 0.0
    if share <= _BUSY_STEAL_SHARE:
        return ()
    return (f"the host of this virtual machine took {share:.0%} of its CPU time during the run",)


def _pressure_percent(path: Path) -> float | None:
    # Linux PSI: "some avg10=1.23 avg60=… avg300=… total=…"
    try:
        first = path.read_text(encoding="utf-8").splitlines()[0]
        return float(first.split("avg10=")[1].split()[0])
    except (OSError, IndexError, ValueError):
        return None


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of those distributions that are installed."""
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
