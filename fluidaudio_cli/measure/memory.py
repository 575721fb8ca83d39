"""Peak resident memory of a worker process: the kernel's high-water mark, and a sampled curve.

The curve is sampled from outside the measured process, so that the sampler shares neither its
interpreter lock nor its memory. Peaks come from the kernel wherever it keeps them; a sampled
peak may miss what is shorter than the sampling period and is labelled so.

Linux: ``VmHWM`` of ``/proc/PID/status``, reset per file through ``/proc/PID/clear_refs``
(proc(5)); ``ru_maxrss`` is not used there because it survives ``execve`` and would report a
larger parent. macOS: ``ru_maxrss`` of the worker itself. Windows: the peak working set.
Resident memory counts shared pages (libraries, memory-mapped weights) in full.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import psutil

SAMPLING_PERIOD = 0.010  # seconds; one reading costs about 20 µs
CURVE_POINTS = 200  # enough for a chart; a 10 hour run must not fill the result file


def resident_bytes() -> int:
    """Resident memory of this process now."""
    return int(psutil.Process().memory_info().rss)


def peak_bytes(proc: Path = Path("/proc/self")) -> int | None:
    """High-water mark of this process's resident memory, or ``None`` if the kernel has none."""
    if sys.platform == "darwin":
        import resource

        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # bytes on macOS
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    try:
        lines = (proc / "status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def reset_peak(proc: Path = Path("/proc/self")) -> bool:
    """Start a new high-water mark at the present size; false where that is not possible."""
    try:
        (proc / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


class RssSampler:
    """Context manager: sample a process's resident memory from a thread until the block ends.

    ``curve``: (seconds since start, bytes), at most twice ``CURVE_POINTS`` long. When full,
    neighbours are merged into the higher of the two, so that no peak is lost by thinning.
    """

    def __init__(self, pid: int, period: float = SAMPLING_PERIOD) -> None:
        self.period = period
        self.curve: list[tuple[float, int]] = []
        self._per_entry, self._in_last = 1, 0
        self._process = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rss-sampler", daemon=True)

    @property
    def peak(self) -> int:
        """Highest reading so far, in bytes; 0 before the first."""
        return max((size for _, size in self.curve), default=0)

    def __enter__(self) -> RssSampler:
        """Start sampling."""
        self._started = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop sampling."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                size = int(self._process.memory_info().rss)
            except psutil.Error:
                return
            self.add((time.perf_counter() - self._started, size))
            if self._stop.wait(self.period):
                return

    def add(self, reading: tuple[float, int]) -> None:
        """Append a reading; each entry of the curve is the highest of as many."""
        curve = self.curve
        if self._in_last in (0, self._per_entry):
            curve.append(reading)
            self._in_last = 1
        else:
            curve[-1] = max(curve[-1], reading, key=lambda entry: entry[1])
            self._in_last += 1
        if len(curve) >= 2 * CURVE_POINTS:
            pairs = zip(curve[::2], curve[1::2], strict=True)
            curve[:] = [max(pair, key=lambda entry: entry[1]) for pair in pairs]
            self._per_entry *= 2
            self._in_last = self._per_entry
