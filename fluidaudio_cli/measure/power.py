"""Energy used while a block runs: Apple's counters, Linux RAPL, or a reason why neither.

Both count the whole chip, every process included, so an idle machine is assumed. RAPL is
read from the powercap tree in sysfs (kernel documentation, power/powercap): package and DRAM
domains; sub-domains of a package (core, uncore) are inside it and are shown, not summed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

POWERCAP = Path("/sys/class/powercap")


class EnergyMeter(Protocol):
    """Reads energy between two moments."""

    description: str

    def start(self) -> None:
        """Begin a window."""

    def stop(self) -> Mapping[str, float]:
        """Joules per domain since ``start``; domains containing ``/`` lie inside another."""


@dataclass(frozen=True)
class Unavailable:
    """Why energy cannot be measured here."""

    reason: str


def total_joules(domains: Mapping[str, float]) -> float:
    """Sum of the outermost domains."""
    return sum(joules for name, joules in domains.items() if "/" not in name)


def open_meter(system: str = sys.platform, powercap: Path = POWERCAP) -> EnergyMeter | Unavailable:
    """The meter of this machine, or the reason there is none."""
    if system == "darwin":
        return _open_apple()
    if system.startswith("linux"):
        return _open_rapl(powercap)
    return Unavailable(f"no energy counters are supported on {system}")


class RaplMeter:
    """Intel/AMD running average power limit counters."""

    description = "RAPL"

    def __init__(self, zones: Mapping[str, Path]) -> None:
        self._zones = dict(zones)
        self._range = {
            name: int((zone / "max_energy_range_uj").read_text()) for name, zone in zones.items()
        }
        self._before: dict[str, int] = {}

    def start(self) -> None:
        """Begin a window."""
        self._before = self._read()

    def stop(self) -> Mapping[str, float]:
        """Joules per zone; one wrap-around of the counter per window is allowed for.

        A package at 200 W wraps about every 20 minutes; a window longer than that is not
        measured by one pair of readings.
        """
        joules = {}
        for name, after in self._read().items():
            spent = after - self._before[name]
            if spent < 0:
                spent += self._range[name]
            joules[name] = spent / 1e6
        return joules

    def _read(self) -> dict[str, int]:
        return {
            name: int((zone / "energy_uj").read_text().strip())
            for name, zone in self._zones.items()
        }


class AppleMeter:
    """Apple silicon's energy model counters through ``zeus-apple-silicon``; millijoules in."""

    description = "Apple energy model (IOReport)"

    # The fields that do not contain one another; per-core and cluster figures are inside cpu.
    _FIELDS = ("cpu_total_mj", "dram_mj", "gpu_mj", "gpu_sram_mj", "ane_mj")

    def __init__(self, monitor: Any) -> None:
        self._monitor = monitor

    def start(self) -> None:
        """Begin a window."""
        self._monitor.begin_window("fluidaudio", restart=True)

    def stop(self) -> Mapping[str, float]:
        """Joules per domain the chip reports."""
        metrics = self._monitor.end_window("fluidaudio")
        readings = {field: getattr(metrics, field, None) for field in self._FIELDS}
        return {
            field.removesuffix("_mj"): value / 1e3
            for field, value in readings.items()
            if value is not None
        }


def _open_rapl(powercap: Path) -> EnergyMeter | Unavailable:
    if not powercap.is_dir():
        return Unavailable(f"{powercap} does not exist (virtual machine, or no RAPL driver)")
    zones: dict[str, Path] = {}
    # Top-level zones have one colon, sub-zones two; psys (the platform) contains the packages.
    for zone in sorted(powercap.glob("intel-rapl:*")):
        try:
            name = (zone / "name").read_text().strip()
        except OSError:
            continue
        parts = zone.name.split(":")
        if len(parts) == 2 and name != "psys":
            zones[name] = zone
        elif len(parts) == 3:
            package = (zone.parent / ":".join(parts[:2]) / "name").read_text().strip()
            # DRAM is listed under its package but metered apart from it.
            zones[f"{package} dram" if name == "dram" else f"{package}/{name}"] = zone
    if not zones:
        return Unavailable(f"no RAPL zone under {powercap}")
    meter: EnergyMeter
    try:
        meter = RaplMeter(zones)
        meter.start()
    except PermissionError as error:
        return Unavailable(f"{error.filename} is readable by root only (CVE-2020-8694)")
    except (OSError, ValueError) as error:
        return Unavailable(f"RAPL counters cannot be read: {error}")
    return meter


def _open_apple() -> EnergyMeter | Unavailable:
    try:
        from zeus_apple_silicon import AppleEnergyMonitor
    except ImportError:
        return Unavailable("zeus-apple-silicon is not installed: pip install zeus-apple-silicon")
    try:
        return AppleMeter(AppleEnergyMonitor())
    except RuntimeError as error:
        return Unavailable(f"Apple's energy counters cannot be opened: {error}")
