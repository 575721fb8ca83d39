"""A probe measures in a process of its own, and survives what kills or hangs that process."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from fluidaudio_cli.executors.probe import ProbeSetting, probe
from fluidaudio_cli.resources import packages_dir

SETTING = ProbeSetting(
    str(packages_dir() / "fbank.mlpackage"), "onnxruntime", "fp32", threads=1, streams=1
)
ONE_ANSWER = """print('{"batch": 4, "items_per_second": 7.5}', flush=True); """


def test_probe_measures_a_real_model_at_each_batch() -> None:
    results = probe(SETTING, (2, 1))
    assert [(result.batch, result.failure) for result in results] == [(2, ""), (1, "")]
    for result in results:
        assert result.items_per_second is not None
        assert result.items_per_second > 1


def test_streams_are_counted_together() -> None:
    (result,) = probe(replace(SETTING, threads=2, streams=2), (1,))
    assert result.items_per_second is not None
    assert result.items_per_second > 1


def test_probe_of_what_is_not_here_says_why() -> None:
    (result,) = probe(replace(SETTING, precision="bf16"), (2,))
    assert result.items_per_second is None
    assert "bf16" in result.failure


def _instead(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    real = subprocess.run

    def run(command: object, **options: object) -> object:
        return real([sys.executable, "-c", code], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", run)


def test_a_hang_is_a_failed_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    _instead(monkeypatch, "import time; time.sleep(60)")
    (result,) = probe(SETTING, (2,), timeout=0.3)
    assert (result.items_per_second, result.failure) == (None, "no answer within 0.3 s")


def test_a_crash_costs_only_what_came_after(monkeypatch: pytest.MonkeyPatch) -> None:
    _instead(monkeypatch, ONE_ANSWER + "import os; os.abort()")
    results = probe(SETTING, (4, 8, 16))
    assert [(result.batch, result.items_per_second, result.failure) for result in results] == [
        (4, 7.5, ""),
        (8, None, "exit status -6"),
        (16, None, "exit status -6"),
    ]


def test_a_hang_costs_only_what_came_after(monkeypatch: pytest.MonkeyPatch) -> None:
    _instead(
        monkeypatch, ONE_ANSWER + "print('{\"bat', end='', flush=True); import time; time.sleep(60)"
    )
    results = probe(SETTING, (4, 8), timeout=2.0)
    assert [result.items_per_second for result in results] == [7.5, None]
    assert results[1].failure == "no answer within 2 s"


def test_an_error_between_batches_is_said_of_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    _instead(monkeypatch, ONE_ANSWER + """print('{"failure": "no memory"}')""")
    results = probe(SETTING, (4, 8))
    assert [(result.items_per_second, result.failure) for result in results] == [
        (7.5, ""),
        (None, "no memory"),
    ]
