"""The runner against real worker processes with a stand-in pipeline of known behaviour."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarking import stub_run

from fluidaudio_cli.benchmark.measure import iteration_sample
from fluidaudio_cli.benchmark.metrics import METRICS
from fluidaudio_cli.benchmark.results import BenchmarkResult
from fluidaudio_cli.diarization.tuning import (
    NetworkTuning,
    Tuning,
    machine_identity,
    save_tuning,
)
from fluidaudio_cli.errors import ExecutorUnavailableError, UsageError


def test_everything_asked_for_is_measured(tmp_path: Path) -> None:
    saved: list[BenchmarkResult] = []
    run = stub_run(tmp_path, uris=("b", "a"), save=saved.append, measure_memory=True)
    result = run.run()
    (variant,) = result.variants
    assert result.complete
    assert [record.uri for record in variant.files] == ["b", "a"]
    for record in variant.files:
        assert record.error is None
        assert record.audio_seconds == 10.0
        assert len(record.iterations) == 2
        assert len(record.latency_seconds) == 4
        assert record.repeatable
        assert record.memory is not None
        assert record.memory.peak_rss_bytes >= record.memory.curve[0][1]
        assert record.accuracy is not None
        assert record.accuracy.strict.rate == 0.0
        assert (record.accuracy.speakers_found, record.accuracy.speakers_true) == (2, 2)
    assert variant.executors == {
        "segmentation": {
            "asked": {"executor": "auto"},
            "ran": {"executor": "stub", "precision": "fp32"},
        }
    }
    assert variant.models[0].sha256 == "a" * 64
    assert variant.load.cold_seconds is not None
    assert variant.load.warm_seconds is not None
    assert METRICS["speaker_count"].samples(variant) == (100.0,)
    # Once before anything ran, then at least once per file, the last one complete.
    assert [len(r.variants[0].files) for r in saved if r.variants][-1] == 2
    assert not saved[0].complete


def test_serial_stages_sum_to_the_wall_time_through_a_measured_remainder() -> None:
    stage = {"name": "decode", "busy_seconds": 0.7, "calls": 1, "concurrent": False}
    reply = {"wall_seconds": 1.0, "cpu_seconds": 1.5, "windows": 3, "stages": [stage]}
    serial = iteration_sample({**reply, "overlapped": False})
    assert [stage.name for stage in serial.stages] == ["decode", "other"]
    assert [stage.busy_seconds for stage in serial.stages] == pytest.approx([0.7, 0.3])
    overlapped = iteration_sample({**reply, "overlapped": True})
    assert [s.name for s in overlapped.stages] == ["decode"]


def test_a_tuning_in_use_is_said_in_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = NetworkTuning("bf16", 16), NetworkTuning("fp32", 8)
    tuning = Tuning("openvino", "all", 2, *networks, machine_identity())
    monkeypatch.setenv("FLUIDAUDIO_TUNING", str(save_tuning(tuning, tmp_path / "tuning.json")))
    line = (
        "modes that leave it to auto run as tuned on this machine: openvino, 2 at a time; "
        "segmentation in bf16 by 16, embedding in fp32 by 8"
    )
    assert line in stub_run(tmp_path, uris=("a",)).run().warnings
    fixed = stub_run(tmp_path, uris=("a",), precisions=("fp32",)).run()
    assert line not in fixed.warnings


def test_a_failed_file_is_recorded_and_the_rest_is_done(tmp_path: Path) -> None:
    warnings: list[str] = []
    run = stub_run(
        tmp_path, uris=("bad", "good"), variables={"STUB_FAIL": "bad"}, warn=warnings.append
    )
    result = run.run()
    bad, good = result.variants[0].files
    assert bad.error == f"{tmp_path}/bad.wav is cut off: copy it again"
    assert good.error is None
    assert result.failures == (("fast", bad),)
    assert f"bad failed: {bad.error}" in warnings


def test_a_crash_costs_one_file_and_its_last_words_are_kept(tmp_path: Path) -> None:
    result = stub_run(tmp_path, uris=("bad", "good", "fine"), variables={"STUB_CRASH": "bad"}).run()
    bad, good, fine = result.variants[0].files
    assert bad.error == (
        "the benchmark's worker process ended (9), its last words: stub crashed on purpose"
    )
    assert (good.error, fine.error) == (None, None)


def test_resume_measures_only_what_is_missing(tmp_path: Path) -> None:
    first = stub_run(tmp_path, uris=("bad", "good"), variables={"STUB_FAIL": "bad"}).run()
    second = stub_run(tmp_path, uris=("bad", "good"), previous=first).run()
    assert second.variants[0].files[1] == first.variants[0].files[1]
    assert second.variants[0].files[0].error is None
    assert second.complete


def test_an_interruption_keeps_the_finished_files(tmp_path: Path) -> None:
    saved: list[BenchmarkResult] = []

    def interrupt_after_one(result: BenchmarkResult) -> None:
        saved.append(result)
        if result.variants and len(result.variants[0].files) == 1:
            raise KeyboardInterrupt

    run = stub_run(tmp_path, uris=("a", "b"), save=interrupt_after_one)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert not saved[-1].complete
    resumed = stub_run(tmp_path, uris=("a", "b"), previous=saved[-1]).run()
    assert [record.error for record in resumed.variants[0].files] == [None, None]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iterations": 3}, "cannot resume: plan iterations was 2, now it is 3"),
        ({"modes": ("slow",)}, r"cannot resume: plan modes was \('fast',\), now it is"),
        ({"uris": ("a",)}, "cannot resume: dataset uris was"),
    ],
)
def test_resume_refuses_another_plan(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    first = stub_run(tmp_path, uris=("a", "b"), variables={"STUB_FAIL": "b"}).run()
    arguments = {"uris": ("a", "b"), **changes}
    with pytest.raises(UsageError, match=message):
        stub_run(tmp_path, previous=first, **arguments).run()  # type: ignore[arg-type]


def test_resume_refuses_other_models(tmp_path: Path) -> None:
    first = stub_run(tmp_path, uris=("a", "b"), variables={"STUB_FAIL": "b"}).run()
    with pytest.raises(UsageError, match="cannot resume fast: its models changed"):
        stub_run(tmp_path, uris=("a", "b"), previous=first, variables={"STUB_MODEL": "b"}).run()


def test_an_executor_asked_for_by_name_must_be_there(tmp_path: Path) -> None:
    run = stub_run(tmp_path, executors=("coreml",), variables={"STUB_NO_EXECUTOR": "coreml"})
    with pytest.raises(ExecutorUnavailableError, match="coreml is not installed: pip install"):
        run.run()


def test_of_all_executors_the_absent_one_is_said(tmp_path: Path) -> None:
    run = stub_run(
        tmp_path, executors=("coreml", "openvino"), variables={"STUB_NO_EXECUTOR": "coreml"}
    )
    absent, present = run.run().variants
    assert (absent.name, absent.unavailable) == (
        "fast/coreml",
        "coreml is not installed: pip install coreml",
    )
    assert (present.name, len(present.finished)) == ("fast/openvino", 1)


def test_a_worker_that_cannot_start_is_an_error_of_the_run(tmp_path: Path) -> None:
    from fluidaudio_cli.benchmark.workers import Worker, WorkerCommand
    from fluidaudio_cli.errors import HostError

    with pytest.raises(HostError, match="cannot start /nowhere/python"):
        Worker(WorkerCommand(("/nowhere/python",)))
    with pytest.raises(HostError, match=r"worker process ended \(0\)"):
        Worker(WorkerCommand(("/bin/echo", "hello")))
