"""Interleaved runs: the judgement on made-up pairs, and each kind of other side for real."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from benchmarking import STUB, stub_command, tiny_dataset

from fluidaudio_cli.benchmark import against
from fluidaudio_cli.benchmark.accuracy import assess
from fluidaudio_cli.benchmark.against import Base, judge, open_base, run_pairs
from fluidaudio_cli.benchmark.results import PairedRecord
from fluidaudio_cli.benchmark.workers import PipelineOptions, Worker, WorkerCommand
from fluidaudio_cli.errors import HostError, UsageError


def pairs(ratios: list[float]) -> PairedRecord:
    return PairedRecord(
        variant="fast",
        base="main",
        kind="worker",
        base_seconds=(1.0,) * len(ratios),
        head_seconds=tuple(ratios),
        rounds=1,
    )


def test_a_steady_slowdown_is_a_regression() -> None:
    judgement = judge(pairs([1.08, 1.09, 1.10, 1.11, 1.12, 1.10, 1.10, 1.09]))
    assert judgement.regression
    assert judgement.wall.ratio == pytest.approx(1.10, abs=0.005)


def test_more_cpu_time_is_a_regression_where_wall_times_are_a_blur() -> None:
    noisy = pairs([0.7, 1.4, 0.8, 1.5, 0.9, 1.3, 1.2, 0.75])
    cpu = {"base_cpu_seconds": (1.0,) * 8, "head_cpu_seconds": (1.08,) * 8}
    assert judge(noisy.model_copy(update=cpu)).slower == ("cpu",)
    same = {"base_cpu_seconds": (1.0,) * 8, "head_cpu_seconds": (1.0,) * 8}
    assert judge(noisy.model_copy(update=same)).slower == ()


def test_a_slowdown_within_the_limit_passes() -> None:
    assert not judge(pairs([1.04] * 8)).regression
    assert judge(pairs([1.04] * 8), max_slowdown=0.03).regression


def test_noise_passes_but_says_that_it_hides_much() -> None:
    judgement = judge(pairs([0.7, 1.4, 0.8, 1.5, 0.9, 1.3, 1.2, 0.75]))
    assert not judgement.regression
    assert judgement.blurred
    assert not judge(pairs([0.99, 1.0, 1.01, 1.0, 1.0, 1.0, 1.0, 1.0])).blurred


def test_a_stored_tuning_is_seen_by_neither_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(against, "_SECONDS_PER_SIDE", 0.0)
    stored = tmp_path / "tuning.json"
    stored.write_text("{}")
    monkeypatch.setenv("FLUIDAUDIO_TUNING", str(stored))
    code = "import os; assert not os.path.exists(os.environ['FLUIDAUDIO_TUNING']); "
    stub = f"{code}import runpy; runpy.run_path({str(STUB)!r}, run_name='__main__')"
    worker = WorkerCommand((sys.executable, "-c", stub))
    process = WorkerCommand((sys.executable, "-c", code))
    monkeypatch.setattr(against, "_own_diarize", lambda *_: process)
    items = tiny_dataset(tmp_path, "one")
    options = PipelineOptions()
    for base in (Base("other", "worker", worker), Base("other", "process", process)):
        record = run_pairs(
            base, items, mode="fast", options=options, name="fast", pairs=6, head=worker
        )
        assert len(record.head_seconds) == 6
    with pytest.raises(HostError, match="AssertionError"), Worker(worker):
        pass


def test_two_workers_are_timed_in_turn_and_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(against, "_SECONDS_PER_SIDE", 0.0)
    items = tiny_dataset(tmp_path, "one", "two")
    base = Base("other", "worker", stub_command(tmp_path / "base", STUB_SLEEP="0.001"))
    record = run_pairs(
        base,
        items,
        mode="fast",
        options=PipelineOptions(),
        name="fast",
        pairs=6,
        assess=assess,
        head=stub_command(tmp_path / "head", STUB_SLEEP="0.05"),
    )
    assert (record.kind, len(record.base_seconds), len(record.head_seconds)) == ("worker", 6, 6)
    assert (record.rounds, len(record.head_cpu_seconds)) == (3, 6)
    assert min(record.head_seconds) >= 0.1  # two files of at least 0.05 s, wholly counted
    assert record.base_strict is not None
    assert record.head_strict == record.base_strict
    assert record.base_strict.total == pytest.approx(20.0)


def test_too_few_pairs_are_refused(tmp_path: Path) -> None:
    base = Base("x", "process", WorkerCommand(("true",)))
    with pytest.raises(UsageError, match="--pairs 3: give at least 6"):
        run_pairs(base, (), mode="fast", options=PipelineOptions(), name="fast", pairs=3)


def test_a_command_is_told_apart_by_what_it_prints(tmp_path: Path) -> None:
    (item,) = tiny_dataset(tmp_path, "one")
    speaking = f"{sys.executable} {STUB}"
    with open_base(speaking, tmp_path, item, "fast") as base:
        assert (base.kind, base.description) == ("worker", speaking)
    with open_base("test -f {audio}", tmp_path, item, "fast") as base:
        assert base.kind == "process"


def test_a_command_that_prints_a_result_gives_its_time(tmp_path: Path) -> None:
    from benchmarking import file_record, result, variant

    from fluidaudio_cli.benchmark.against import _printed_cost
    from fluidaudio_cli.benchmark.results import write_result

    (item,) = tiny_dataset(tmp_path, "one")
    document = result(variant("fast", file_record(walls=(1.0, 3.0, 2.0))))
    write_result(document, tmp_path / "r.json")
    with open_base(f"cat {tmp_path / 'r.json'}", tmp_path, item, "fast") as base:
        assert base.kind == "benchmark"
    assert _printed_cost((tmp_path / "r.json").read_text()) == (2.0, 4.0)


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
        open_base(text, tmp_path, item, "fast"),
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
    with open_base("HEAD", repository, item, "fast") as base:
        assert base.kind == "worker"
        assert base.description.startswith("HEAD (")
        tree = base.command.cwd
        assert tree is not None
        assert (tree / "fluidaudio_cli" / "benchmark" / "worker.py").is_file()
    assert not tree.exists()


def test_whole_processes_are_timed_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(against, "_SECONDS_PER_SIDE", 0.0)
    monkeypatch.setattr(against, "_own_diarize", lambda *_: WorkerCommand(("true",)))
    items = tiny_dataset(tmp_path, "one")
    base = Base("sleep", "process", WorkerCommand(("sleep", "0.02")))
    record = run_pairs(base, items, mode="fast", options=PipelineOptions(), name="fast", pairs=6)
    assert (record.kind, record.rounds) == ("process", 3)
    assert min(record.base_seconds) >= 0.02
    assert (record.base_strict, record.head_strict) == (None, None)
