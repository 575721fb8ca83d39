"""Energy meters against a made-up sysfs tree and a made-up Apple monitor."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fluidaudio_cli.measure import power


def zone(folder: Path, name: str, label: str, micro_joules: int, top: int = 1_000_000) -> Path:
    path = folder / name
    path.mkdir(parents=True)
    (path / "name").write_text(label + "\n")
    (path / "energy_uj").write_text(f"{micro_joules}\n")
    (path / "max_energy_range_uj").write_text(f"{top}\n")
    return path


def test_rapl_reads_joules_and_sums_outermost_domains(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 100_000)
    core = zone(tmp_path, "intel-rapl:0:0", "core", 50_000)
    dram = zone(tmp_path, "intel-rapl:0:1", "dram", 10_000)
    zone(tmp_path, "intel-rapl:1", "psys", 1)
    meter = power.open_meter("linux", tmp_path)
    assert not isinstance(meter, power.Unavailable)
    meter.start()
    (package / "energy_uj").write_text("600000\n")
    (core / "energy_uj").write_text("450000\n")
    (dram / "energy_uj").write_text("110000\n")
    domains = meter.stop()
    assert domains == pytest.approx(
        {"package-0": 0.5, "package-0/core": 0.4, "package-0 dram": 0.1}
    )
    assert power.total_joules(domains) == pytest.approx(0.6)


def test_rapl_counter_that_wraps(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 900_000, top=1_000_000)
    meter = power.open_meter("linux", tmp_path)
    assert not isinstance(meter, power.Unavailable)
    meter.start()
    (package / "energy_uj").write_text("200000\n")
    assert meter.stop() == {"package-0": pytest.approx(0.3)}


def test_rapl_without_permission_says_who_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    real = Path.read_text

    def guarded(self: Path, *arguments: str, **options: str) -> str:
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", guarded)
    meter = power.open_meter("linux", tmp_path)
    assert meter == power.Unavailable(
        f"{tmp_path}/intel-rapl:0/energy_uj is readable by root only (CVE-2020-8694)"
    )


def test_no_rapl_tree_and_empty_tree_and_other_systems(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    assert power.open_meter("linux", absent) == power.Unavailable(
        f"{absent} does not exist (virtual machine, or no RAPL driver)"
    )
    assert power.open_meter("linux", tmp_path) == power.Unavailable(
        f"no RAPL zone under {tmp_path}"
    )
    assert power.open_meter("win32") == power.Unavailable(
        "no energy counters are supported on win32"
    )


def test_a_damaged_counter_is_a_reason(tmp_path: Path) -> None:
    (zone(tmp_path, "intel-rapl:0", "package-0", 1) / "energy_uj").write_text("plenty\n")
    meter = power.open_meter("linux", tmp_path)
    assert isinstance(meter, power.Unavailable)
    assert meter.reason.startswith("RAPL counters cannot be read: invalid literal")


class FakeMonitor:
    """The two calls of zeus-apple-silicon's monitor, as its documentation gives them."""

    def __init__(self) -> None:
        self.open: set[str] = set()

    def begin_window(self, label: str, restart: bool = False) -> None:
        self.open.add(label)

    def end_window(self, label: str) -> SimpleNamespace:
        self.open.remove(label)
        return SimpleNamespace(
            cpu_total_mj=1500, performance_cores_mj=[700, 700], dram_mj=200, gpu_mj=0, ane_mj=300
        )


def test_apple_counters_are_millijoules(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(AppleEnergyMonitor=FakeMonitor)
    monkeypatch.setitem(sys.modules, "zeus_apple_silicon", module)
    meter = power.open_meter("darwin")
    assert not isinstance(meter, power.Unavailable)
    meter.start()
    domains = meter.stop()
    assert domains == {"cpu_total": 1.5, "dram": 0.2, "gpu": 0.0, "ane": 0.3}
    assert power.total_joules(domains) == pytest.approx(2.0)


def test_apple_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zeus_apple_silicon", None)
    assert power.open_meter("darwin") == power.Unavailable(
        "zeus-apple-silicon is not installed: pip install zeus-apple-silicon"
    )
