"""Other programs in turn with this one: verdicts on made-up pairs, each kind of side for real."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarking import (
    STUB,
    cell,
    file_record,
    plan,
    result,
    stub_command,
    stub_grid,
    stub_run,
    tiny_dataset,
)

from fluidaudio_cli.benchmark.findings import conclude
from fluidaudio_cli.benchmark.grid import Cell, Contrast, Program
from fluidaudio_cli.benchmark.programs import (
    THIS_VERSION,
    _build_kernels,
    _printed_cost,
    open_other,
)
from fluidaudio_cli.benchmark.results import (
    BenchmarkResult,
    DifferenceRecord,
    FileRecord,
    IntervalRecord,
)
from fluidaudio_cli.benchmark.studies import AGAINST, against_study
from fluidaudio_cli.benchmark.workers import PipelineOptions, Worker, WorkerCommand
from fluidaudio_cli.errors import HostError, UsageError
from fluidaudio_cli.report.benchmark_report import BenchmarkReport, remarks

OURS, THEIRS = Cell(mode="fast", program=THIS_VERSION), Cell(mode="fast", program="main")


def timed(wall: float, cpu: float) -> tuple[FileRecord, ...]:
    record = file_record(walls=(wall,))
    sample = record.iterations[0].model_copy(update={"cpu_seconds": cpu})
    return (record.model_copy(update={"iterations": (sample,)}),)


def pairs(walls: list[float], cpu: float | None = None, limit: float = 0.05) -> BenchmarkResult:
    """Pairs of processes: theirs take a second, ours the given ones."""
    sides = (
        cell("fast", processes=processes, study=AGAINST, program=side.program)
        for side, processes in (
            (OURS, tuple(timed(wall, cpu or wall) for wall in walls)),
            (THEIRS, (timed(1.0, 1.0),) * len(walls)),
        )
    )
    asked = plan(OURS, THEIRS, name=AGAINST, contrasts=(Contrast(OURS, THEIRS),), in_turn=True)
    whole = result(*sides, plan=asked)
    return whole.model_copy(update={"findings": conclude(whole, max_slowdown=limit)})


def judged(*arguments: object, **options: object) -> DifferenceRecord:
    (found,) = pairs(*arguments, **options).findings.differences  # type: ignore[arg-type]
    return found


def test_a_steady_slowdown_is_worse() -> None:
    found = judged([1.08, 1.09, 1.10, 1.11, 1.12, 1.10, 1.10, 1.09])
    assert (found.speed, found.processes) == ("worse", 8)
    assert found.wall_ratio is not None
    assert found.wall_ratio.value == pytest.approx(1.10, abs=0.005)
    assert judged([0.9] * 8).speed == "better"
    likely = [0.7, 1.1, 0.8, 1.05, 0.9, 1.02, 0.85, 0.75]
    assert judged(likely, cpu=1.0).speed == "no difference shown"


def test_fewer_pairs_than_ranks_need_are_two_samples() -> None:
    assert judged([1.2] * 5).speed == "worse"
    found = judged([1.2] * 3)
    assert found.wall_ratio == IntervalRecord(value=1.2)
    assert found.speed == "inconclusive"


def test_more_cpu_time_is_enough_where_wall_times_are_a_blur() -> None:
    noisy = [0.7, 1.4, 0.8, 1.5, 0.9, 1.3, 1.2, 0.75]
    assert judged(noisy, cpu=1.08).speed == "worse"
    assert judged(noisy, cpu=1.0).speed == "no difference shown"
    (check,) = BenchmarkReport(pairs(noisy, cpu=1.08)).failed_checks
    assert check.name == "fast/this version slowdown against fast/main (CPU time)"


def test_the_clock_that_fails_is_the_one_shown() -> None:
    """CPU time is surely more, but within the limit; wall time spreads, and is above it."""
    spread = [0.99, 1.25, 1.0, 1.24, 1.02, 1.22, 1.02, 1.1]
    (check,) = BenchmarkReport(pairs(spread, cpu=1.04)).failed_checks
    assert check.name == "fast/this version slowdown against fast/main (wall time)"
    assert (check.limit[:5], check.measured) == ("≤ 5 %", "11.02 %")


def test_a_pair_is_two_processes_that_both_measured() -> None:
    """Each pair at its own pace, and one process on each side that failed in another pair."""
    paces = [1.0, 1.2, 1.5, 1.9, 2.4, 3.0, 3.7, 4.5]
    failed = (FileRecord(uri="one", error="hung"),)
    sides = []
    for side, lost, slower in ((OURS, 1, 1.1), (THEIRS, 5, 1.0)):
        processes = [timed(slower * pace, slower * pace) for pace in paces]
        processes[lost] = failed
        sides.append(cell("fast", processes=tuple(processes), study=AGAINST, program=side.program))
    asked = plan(OURS, THEIRS, name=AGAINST, contrasts=(Contrast(OURS, THEIRS),), in_turn=True)
    (found,) = conclude(result(*sides, plan=asked)).differences
    assert (found.speed, found.processes) == ("worse", 6)
    assert found.wall_ratio is not None
    assert found.wall_ratio.low == pytest.approx(1.1)
    assert found.wall_ratio.high == pytest.approx(1.1)
    # Processes that did not take turns are no pairs.
    apart = plan(OURS, THEIRS, name=AGAINST, contrasts=(Contrast(OURS, THEIRS),))
    (found,) = conclude(result(*sides, plan=apart)).differences
    assert (found.speed, found.processes) == ("no difference shown", 7)


def test_a_slowdown_within_the_limit_passes() -> None:
    assert judged([1.04] * 8).speed == "no difference shown"
    assert judged([0.97] * 8).speed == "no difference shown"
    assert judged([1.04] * 8, limit=0.03).speed == "worse"


def test_noise_passes_but_says_that_it_hides_much() -> None:
    blurred = "the pairs spread too much to exclude a slowdown of 10 %: give more --pairs"
    noisy = pairs([0.7, 1.4, 0.8, 1.5, 0.9, 1.3, 1.2, 0.75], cpu=1.0)
    assert blurred in remarks(BenchmarkReport(noisy))
    steady = pairs([0.99, 1.0, 1.01, 1.0, 1.0, 1.0, 1.0, 1.0])
    assert blurred not in remarks(BenchmarkReport(steady))
    absent = steady.cells[1].model_copy(update={"processes": (), "unavailable": "no compiler"})
    nothing = steady.model_copy(update={"cells": (steady.cells[0], absent)})
    nothing = nothing.model_copy(update={"findings": conclude(nothing)})
    assert blurred not in remarks(BenchmarkReport(nothing))


def run_against(
    folder: Path,
    other: Program,
    ours: Program,
    uris: tuple[str, ...] = ("one",),
    pairs: int = 6,
) -> BenchmarkResult:
    study = against_study((Cell(mode="fast"),), other, pairs)
    grid = stub_grid(folder, uris, studies=(study,), programs=(other, ours))
    run = stub_run(folder, grid=grid)
    run.conclude = lambda result: conclude(result)
    return run.run()


def stub_program(name: str, **variables: str) -> Program:
    command = WorkerCommand((sys.executable, str(STUB)), env=variables)
    return Program(name, command, own_cache=True)


def test_two_workers_are_timed_in_turn_and_scored(tmp_path: Path) -> None:
    slow = stub_program(THIS_VERSION, STUB_SLEEP="0.05")
    found = run_against(tmp_path, stub_program("main", STUB_SLEEP="0.001"), slow, ("one", "two"))
    ours, theirs = (found.record_of(each) for each in (OURS, THEIRS))
    assert ours is not None
    assert theirs is not None
    assert [len(each.processes) for each in (ours, theirs)] == [6, 6]
    for process in ours.processes:
        assert [len(file.iterations) for file in process.files] == [3, 3]
        assert min(s.wall_seconds for file in process.files for s in file.iterations) >= 0.05
    (difference,) = found.findings.differences
    assert (difference.speed, difference.recordings, difference.processes) == ("worse", 2, 6)
    assert difference.der_points is not None
    assert difference.der_points.value == 0.0


def test_a_stored_tuning_is_seen_by_neither_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = tmp_path / "tuning.json"
    stored.write_text("{}")
    code = "import os; assert not os.path.exists(os.environ['FLUIDAUDIO_TUNING']); "
    stub = f"{code}import runpy; runpy.run_path({str(STUB)!r}, run_name='__main__')"
    command = WorkerCommand((sys.executable, "-c", stub), env={"FLUIDAUDIO_TUNING": str(stored)})
    with pytest.raises(HostError, match="AssertionError"), Worker(command):
        pass
    other = Program("main", command, own_cache=True)
    found = run_against(tmp_path, other, replace(other, name=THIS_VERSION), pairs=1)
    assert [len(each.finished) for each in found.cells] == [1, 1]


def test_an_earlier_protocol_is_driven_and_what_it_lacks_is_refused(tmp_path: Path) -> None:
    earlier = STUB.read_text().replace("worker.serve(", "worker.PROTOCOL = 1\n    worker.serve(")
    (tmp_path / "earlier.py").write_text(earlier)
    command = stub_command(tmp_path / "cache")
    command = replace(command, argv=(sys.executable, str(tmp_path / "earlier.py")))
    (item,) = tiny_dataset(tmp_path, "one")
    with Worker(command) as worker:
        worker.load("fast", PipelineOptions())
        assert len(worker.diarize(item.audio)["turns"]) == 2
        assert worker.oracle(()) is None
        with pytest.raises(UsageError, match=r"does not know other models \(mine\)"):
            worker.load("fast", PipelineOptions(models="mine"))


def test_a_command_is_told_apart_by_what_it_prints(tmp_path: Path) -> None:
    (item,) = tiny_dataset(tmp_path, "one")
    speaking = f"{sys.executable} {STUB}"
    with open_other(speaking, tmp_path, item.audio, "fast") as (other, ours):
        assert (other.kind, other.name, ours.kind) == ("worker", speaking, "worker")
    with open_other("test -f {audio}", tmp_path, item.audio, "fast") as (other, ours):
        assert (other.kind, ours.kind) == ("process", "process")
        assert ours.command.argv[3:5] == ("diarize", "{audio}")


def test_a_command_that_prints_a_result_gives_its_time(tmp_path: Path) -> None:
    from fluidaudio_cli.benchmark.results import write_result

    (item,) = tiny_dataset(tmp_path, "one")
    write_result(result(cell("fast", file_record(walls=(1.0, 3.0, 2.0)))), tmp_path / "r.json")
    text = f"cat {tmp_path / 'r.json'}"
    with open_other(text, tmp_path, item.audio, "fast") as (other, ours):
        assert (other.kind, ours.kind) == ("benchmark", "worker")
    assert _printed_cost((tmp_path / "r.json").read_text()) == (2.0, 4.0)
    write_result(result(cell("fast", file_record(walls=()))), tmp_path / "r.json")
    with (
        pytest.raises(UsageError, match="command prints has no times: let it measure files"),
        open_other(text, tmp_path, item.audio, "fast"),
    ):
        pass


def test_what_stands_for_recording_and_mode_may_be_a_part_of_a_word(tmp_path: Path) -> None:
    (item,) = tiny_dataset(tmp_path, "{mode}")
    out = tmp_path / "out"
    text = f"sh -c 'echo $0 > {out}' --in={{audio}},{{mode}}"
    with open_other(text, tmp_path, item.audio, "fast"):
        assert out.read_text() == f"--in={item.audio},fast\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no-such-ref", "as a command: cannot start no-such-ref: No such file or directory"),
        ("false", "as a command: false failed with exit code 1: it printed no reason"),
        ("", "--against is empty: give a git ref or a command"),
        ("'", "cannot be split into words"),
    ],
)
def test_what_is_neither_ref_nor_command_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    (item,) = tiny_dataset(tmp_path, "one")
    with (
        pytest.raises(UsageError, match=message),
        open_other(text, tmp_path, item.audio, "fast"),
    ):
        pass


def test_a_git_ref_runs_from_a_checkout_of_its_own(tmp_path: Path) -> None:
    """A repository with two commits of a package that only says hello."""
    repository = tmp_path / "repository"
    package = repository / "fluidaudio_cli" / "benchmark"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").write_text("")
    (package / "worker.py").write_text(
        "import json, fluidaudio_cli, pathlib\n"
        "where = pathlib.Path(fluidaudio_cli.__file__).resolve().parent\n"
        "print(json.dumps({'hello': 'x', 'protocol': 1, 'package': str(where)}))\n"
    )

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", "-C", str(repository), *identity, *arguments], check=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    (item,) = tiny_dataset(tmp_path, "one")
    with open_other("HEAD", repository, item.audio, "fast") as (base, ours):
        assert (base.kind, ours.name) == ("worker", THIS_VERSION)
        assert base.name.startswith("HEAD (")
        tree = base.command.cwd
        assert tree is not None
        assert (tree / "fluidaudio_cli" / "benchmark" / "worker.py").is_file()
    assert not tree.exists()


def test_a_refs_kernels_are_built_or_it_is_refused(tmp_path: Path) -> None:
    hook = (
        "class KernelBuildHook:\n"
        "    def __init__(self, *arguments): self.app = arguments[-1]\n"
        "    def initialize(self, version, data):\n"
        "        open('built', 'w').write(version) if not open('fail').read() else "
        "self.app.display_warning('the kernel was not built: no compiler')\n"
    )
    kernel = tmp_path / "fluidaudio_cli" / "kernel.c"
    kernel.parent.mkdir()
    _build_kernels(tmp_path, "HEAD")  # no kernel, nothing to do
    kernel.write_text("")
    (tmp_path / "hatch_build.py").write_text(hook)
    (tmp_path / "fail").write_text("")
    _build_kernels(tmp_path, "HEAD")
    assert (tmp_path / "built").read_text() == "editable"
    (tmp_path / "fail").write_text("yes")
    message = "cannot build the kernels of HEAD: the kernel was not built: no compiler: install"
    with pytest.raises(HostError, match=message):
        _build_kernels(tmp_path, "HEAD")


def test_whole_processes_are_timed_in_turn(tmp_path: Path) -> None:
    other = Program("main", WorkerCommand(("sleep", "0.02")), "process")
    found = run_against(tmp_path, other, Program(THIS_VERSION, WorkerCommand(("true",)), "process"))
    theirs = found.record_of(THEIRS)
    assert theirs is not None
    walls = [s.wall_seconds for process in theirs.processes for s in process.files[0].iterations]
    assert (len(walls), theirs.finished[0].accuracy) == (18, None)
    assert min(walls) >= 0.02
    (difference,) = found.findings.differences
    assert (difference.speed, difference.der_points) == ("better", None)
