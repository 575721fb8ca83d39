"""A probe measures in a process of its own, and survives what kills or hangs that process."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from fluidaudio_cli.executors.probe import ProbeSetting, probe
from fluidaudio_cli.resources import packages_dir

SETTING = ProbeSetting(
    str(packages_dir() / "fbank.mlpackage"), "onnxruntime", "fp32", threads=1, streams=1, batch=2
)


def test_probe_measures_a_real_model() -> None:
    result = probe(SETTING)
    assert result.failure == ""
    assert result.items_per_second is not None
    assert result.items_per_second > 1


def test_probe_of_what_is_not_here_says_why() -> None:
    result = probe(replace(SETTING, precision="bf16"))
    assert result.items_per_second is None
    assert "bf16" in result.failure


def test_a_hang_is_a_failed_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.run

    def hang(command: object, **options: object) -> object:
        return real([sys.executable, "-c", "import time; time.sleep(60)"], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", hang)
    result = probe(SETTING, timeout=0.3)
    assert (result.items_per_second, result.failure) == (None, "no answer within 0.3 s")


def test_a_crash_is_a_failed_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.run

    def crash(command: object, **options: object) -> object:
        return real([sys.executable, "-c", "import os; os.abort()"], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", crash)
    result = probe(SETTING)
    assert result.items_per_second is None
    assert result.failure == "exit status -6"
