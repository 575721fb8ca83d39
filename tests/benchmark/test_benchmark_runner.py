"""The runner against real worker processes with a stand-in pipeline of known behaviour."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from benchmarking import TinyRecordings, file_record, stub_grid, stub_run, tiny_dataset

from fluidaudio_cli.benchmark import side_by_side
from fluidaudio_cli.benchmark.findings import conclude
from fluidaudio_cli.benchmark.grid import Condition, Effort, Study, contrasts_over, crossed
from fluidaudio_cli.benchmark.kept_result import Hooks, KeptResult, Settings
from fluidaudio_cli.benchmark.metrics import METRICS
from fluidaudio_cli.benchmark.passes import iteration_sample
from fluidaudio_cli.benchmark.results import BenchmarkResult, ProcessRecord
from fluidaudio_cli.benchmark.studies import scaling_study
from fluidaudio_cli.benchmark.workers import Worker, WorkerCommand
from fluidaudio_cli.diarization.tuning import (
    NetworkTuning,
    Tuning,
    machine_identity,
    save_tuning,
)
from fluidaudio_cli.errors import ExecutorUnavailableError, HostError, UsageError
from fluidaudio_cli.jobs.pool import Inline


def test_everything_asked_for_is_measured(tmp_path: Path) -> None:
    saved: list[BenchmarkResult] = []
    run = stub_run(tmp_path, uris=("b", "a"), save=saved.append, memory=True)
    result = run.run()
    (cell,) = result.cells
    assert result.complete
    assert [record.uri for record in cell.files] == ["b", "a"]
    for record in cell.files:
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
    assert cell.executors == {
        "segmentation": {
            "asked": {"executor": "auto"},
            "ran": {"executor": "stub", "precision": "fp32"},
        }
    }
    assert cell.models[0].sha256 == "a" * 64
    assert cell.cold_seconds is not None
    assert cell.processes[0].load_seconds is not None
    assert METRICS["speaker_count"].samples(cell) == (100.0,)
    # Once before anything ran, then at least once per file, the last one complete.
    assert [len(r.cells[0].files) for r in saved if r.cells][-1] == 2
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
    fixed = stub_run(tmp_path, uris=("a",), precision=("fp32",)).run()
    assert line not in fixed.warnings


def test_a_failed_file_is_recorded_and_the_rest_is_done(tmp_path: Path) -> None:
    warnings: list[str] = []
    run = stub_run(
        tmp_path, uris=("bad", "good"), variables={"STUB_FAIL": "bad"}, warn=warnings.append
    )
    result = run.run()
    bad, good = result.cells[0].files
    assert bad.error == f"{tmp_path}/bad.wav is cut off: copy it again"
    assert good.error is None
    assert result.failures == (("fast", "bad", bad.error),)
    assert f"fast: bad failed: {bad.error}" in warnings


def test_a_crash_costs_one_file_and_its_last_words_are_kept(tmp_path: Path) -> None:
    result = stub_run(tmp_path, uris=("bad", "good", "fine"), variables={"STUB_CRASH": "bad"}).run()
    bad, good, fine = result.cells[0].files
    assert bad.error == (
        "the benchmark's worker process ended (9), its last words: stub crashed on purpose"
    )
    assert (good.error, fine.error) == (None, None)


@pytest.fixture(scope="module")
def half_done(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkResult:
    """Of two recordings the second failed."""
    folder = tmp_path_factory.mktemp("half")
    return stub_run(folder, uris=("a", "b"), variables={"STUB_FAIL": "b"}).run()


def test_resume_measures_only_what_is_missing(tmp_path: Path, half_done: BenchmarkResult) -> None:
    second = stub_run(tmp_path, uris=("a", "b"), previous=half_done).run()
    assert second.cells[0].files[0] == half_done.cells[0].files[0]
    assert second.cells[0].files[1].error is None
    assert second.complete
    # What was said of its failure is no longer so.
    assert any("b failed" in line for line in half_done.warnings)
    assert not any("b failed" in line for line in second.warnings)


def test_what_cannot_be_loaded_any_more_loses_nothing(
    tmp_path: Path, half_done: BenchmarkResult
) -> None:
    run = stub_run(tmp_path, uris=("a", "b"), previous=half_done)
    run.command = WorkerCommand(("/bin/echo", "hello"))
    (process,) = run.run().cells[0].processes
    assert process.error == "the benchmark's worker process ended (0)"
    assert process.files == half_done.cells[0].processes[0].files
    assert process.load_seconds == half_done.cells[0].processes[0].load_seconds


def test_an_interruption_keeps_the_finished_files(tmp_path: Path) -> None:
    saved: list[BenchmarkResult] = []

    def interrupt_after_one(result: BenchmarkResult) -> None:
        saved.append(result)
        if result.cells and len(result.cells[0].files) == 1:
            raise KeyboardInterrupt

    run = stub_run(tmp_path, uris=("a", "b"), save=interrupt_after_one)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert not saved[-1].complete
    resumed = stub_run(tmp_path, uris=("a", "b"), previous=saved[-1]).run()
    assert [record.error for record in resumed.cells[0].files] == [None, None]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iterations": 3}, "cannot resume: modes iterations was 2, now it is 3: "),
        ({"mode": ("slow",)}, "cannot resume: modes cells was 'fast', now it is 'slow': "),
        ({"settings": Settings(seed=4)}, "cannot resume: plan seed was 0, now it is 4"),
        ({"uris": ("a",)}, "cannot resume: dataset uris was 'a', 'b', now it is 'a': "),
    ],
)
def test_resume_refuses_another_plan(
    tmp_path: Path, half_done: BenchmarkResult, changes: dict[str, object], message: str
) -> None:
    arguments = {"uris": ("a", "b"), **changes}
    with pytest.raises(UsageError, match=message):
        stub_run(tmp_path, previous=half_done, **arguments).run()  # type: ignore[arg-type]


def test_resume_refuses_other_models(tmp_path: Path, half_done: BenchmarkResult) -> None:
    other = {"STUB_MODEL": "b"}
    with pytest.raises(UsageError, match="cannot resume fast: its models changed"):
        stub_run(tmp_path, uris=("a", "b"), previous=half_done, variables=other).run()


def test_an_executor_asked_for_by_name_must_be_there(tmp_path: Path) -> None:
    run = stub_run(tmp_path, executor=("coreml",), variables={"STUB_NO_EXECUTOR": "coreml"})
    with pytest.raises(ExecutorUnavailableError, match="coreml is not installed: pip install"):
        run.run()


def test_of_all_executors_the_absent_one_is_said(tmp_path: Path) -> None:
    run = stub_run(
        tmp_path, executor=("coreml", "openvino"), variables={"STUB_NO_EXECUTOR": "coreml"}
    )
    absent, present = run.run().cells
    assert (absent.name, absent.unavailable) == (
        "fast/coreml",
        "coreml is not installed: pip install coreml",
    )
    assert (present.name, len(present.finished)) == ("fast/openvino", 1)


def test_a_hung_worker_is_an_error_of_its_cell_and_the_rest_is_done(tmp_path: Path) -> None:
    run = stub_run(
        tmp_path,
        uris=("bad", "good"),
        variables={"STUB_HANG": "bad"},
        settings=Settings(timeout=3.0),
        cold=False,
        latency_windows=0,
    )
    bad, good = run.run().cells[0].files
    assert bad.error == (
        "the benchmark's worker process gave no answer within 3 s and was ended: "
        "allow more with --timeout"
    )
    assert good.error is None


def test_resume_notices_changes_that_git_has_not_seen(
    tmp_path: Path, half_done: BenchmarkResult
) -> None:
    environment = replace(half_done.environment, source="0" * 64)
    edited = half_done.model_copy(update={"environment": environment})
    with pytest.raises(UsageError, match="cannot resume: the program's source has changed"):
        stub_run(tmp_path, uris=("a", "b"), previous=edited).run()


def test_rounds_go_over_all_cells_and_each_has_its_processes(tmp_path: Path) -> None:
    order: list[tuple[str, int]] = []

    def note(result: BenchmarkResult) -> None:
        for cell in result.cells:
            files = [process.files for process in cell.processes if process.files]
            if files and (cell.name, len(files)) not in order:
                order.append((cell.name, len(files)))

    run = stub_run(
        tmp_path, mode=("fast", "slow"), processes=2, latency_windows=0, cold=False, save=note
    )
    result = run.run()
    assert order == [("fast", 1), ("slow", 1), ("fast", 2), ("slow", 2)]
    assert [len(METRICS["wall"].by_process(cell)) for cell in result.cells] == [2, 2]


def test_a_condition_has_recordings_of_its_own_paired_by_conversation(tmp_path: Path) -> None:
    noisy = tmp_path / "noisy"
    noisy.mkdir()
    uris = [f"talk{number}" for number in range(6)]
    babble = tiny_dataset(noisy, *(f"{uri}-babble" for uri in uris))
    cells = crossed(mode=("fast",), condition=("", "snr=10"))
    study = Study("robustness", cells, Effort(1, 0, 1), contrasts_over("condition", "", cells))
    conversations = {f"{uri}-babble": uri for uri in uris}
    grid = stub_grid(tmp_path, tuple(uris), studies=(study,))
    grid = replace(
        grid,
        conditions={
            **grid.conditions,
            "snr=10": Condition("snr=10", TinyRecordings(babble), conversations),
        },
    )
    run = stub_run(tmp_path, grid=grid)
    run.conclude = lambda result: conclude(result, None)
    (found,) = run.run().findings.differences
    assert (found.cell, found.base, found.recordings) == ("fast/snr=10", "fast", 6)
    assert found.der_points is not None
    assert (found.der_points.value, found.der_points.low) == (0.0, 0.0)
    assert found.accuracy == "no difference shown"


def test_lengths_are_fresh_processes_warmed_up_on_the_shortest(tmp_path: Path) -> None:
    study = scaling_study((2.0, 5.0), Effort(1, 1, 2), mode=("fast",), threads=(1, 3))
    result = stub_run(tmp_path, grid=stub_grid(tmp_path, studies=(study,))).run()
    levels = [(each.cell.length, each.cell.threads) for each in result.cells]
    assert levels == [(2.0, 1), (5.0, 1), (2.0, 3), (5.0, 3)]
    for record in result.cells:
        assert len(record.processes) == 2
        (file,) = record.finished
        assert (file.accuracy, len(file.iterations)) == (None, 2)
        assert file.memory is not None


def test_a_worker_that_cannot_start_is_an_error_of_the_run(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot start /nowhere/python"):
        Worker(WorkerCommand(("/nowhere/python",)))
    with pytest.raises(HostError, match=r"worker process ended \(0\)"):
        Worker(WorkerCommand(("/bin/echo", "hello")))


def test_processes_that_differ_in_their_error_are_named(tmp_path: Path) -> None:
    warnings: list[str] = []
    grid = stub_grid(tmp_path, ("one", "two"), Effort(processes=2))
    ((study, fast),) = grid.cells
    kept = KeptResult(grid, Settings(), Hooks(warn=warnings.append))
    for index, seconds in enumerate((10.0, 11.0)):
        kept.keep_process(study, fast, index, ProcessRecord())
        for record in (file_record("one"), file_record("two", error_seconds=seconds)):
            kept.keep_file(study, fast, index, record, grid.conditions[""].recordings.items)
    differ = "fast: two: processes differ in their error; the first's is shown"
    assert warnings == [differ]
    assert kept.result.warnings == (differ,)


def test_errors_are_found_side_by_side_as_one_after_the_other(tmp_path: Path) -> None:
    uris = ("one", "two", "three")
    once = stub_run(tmp_path, uris=uris, warmup=0, iterations=1, latency_windows=0).run()
    told: list[str] = []
    run = stub_run(
        tmp_path,
        uris=uris,
        warn=told.append,
        warmup=0,
        iterations=1,
        latency_windows=0,
        variables={"STUB_CRASH": "two"},
        mode=("fast", "balanced"),
    )
    run.pool = lambda work: Inline(work, 1)
    spread = run.run()
    assert told[-3] == side_by_side.NOTE
    for cell in spread.cells:
        files = {file.uri: file for file in cell.files}
        assert str(files.pop("two").error).startswith("the benchmark's worker process ended (9)")
        assert [file.iterations for file in files.values()] == [(), ()]
        expected = {file.uri: file.accuracy for file in once.cells[0].files}
        assert {uri: file.accuracy for uri, file in files.items()} == {
            uri: expected[uri] for uri in files
        }
        assert cell.config == {"name": cell.cell.mode, "step": 1.0}
        assert METRICS["der_strict"].measure(cell) is not None
        assert METRICS["rtfx"].measure(cell) is METRICS["load_warm"].measure(cell) is None
    # What is there is not done again.
    again = stub_run(
        tmp_path, uris=uris, warmup=0, iterations=1, latency_windows=0, mode=("fast", "balanced")
    )
    again.previous, again.pool = spread, run.pool
    assert [file.error for cell in again.run().cells for file in cell.files] == [None] * 6
