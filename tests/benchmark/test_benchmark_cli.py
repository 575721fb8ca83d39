"""The commands as users run them: real processes, real models, the bundled sample."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_type_hints
from xml.etree import ElementTree

import pytest
from benchmarking import cell, file_record, result, walled

from fluidaudio_cli import files
from fluidaudio_cli.benchmark.results import FileRecord, ProcessRecord, read_result, write_result
from fluidaudio_cli.cli.process import main
from fluidaudio_cli.errors import HostError
from tests import forked

QUICK = ["--performance-mode", "fast", "--iterations", "1", "--warmup", "0"]
QUICK += ["--latency-windows", "3", "--dataset", "sample"]
# Compiled anew for each cold load, in a third of the time.
SOON_COMPILED = ["--executor", "onnxruntime"]


def run(*arguments: str | Path, **env: str) -> forked.Done:
    return forked.run(*arguments, env=env)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str, int]:
    """One real run on the sample: its folder, stdout, stderr and exit code."""
    folder = tmp_path_factory.mktemp("benchmark")
    options = [
        "--measure-memory",
        "--measure-power",
        "--output-format",
        "detailed",
        "--performance-mode",
        "balanced",
    ]
    for name in ("r.json", "r.csv", "r.md", "r.xml", "r.html"):
        options += ["--output", str(folder / name)]
    options += ["--gate", "configs/roadmap-gates.yaml"]
    done = run(
        "diarization-benchmark",
        *QUICK,
        *options,
        GITHUB_STEP_SUMMARY=str(folder / "summary.md"),
        GITHUB_ACTIONS="true",
    )
    return folder, done.stdout, done.stderr, done.returncode


def test_the_bundled_sample_is_measured(measured: tuple[Path, str, str, int]) -> None:
    folder, stdout, stderr, _ = measured
    assert "no --dataset given" not in stderr
    fast, balanced = read_result(folder / "r.json").cells
    assert balanced.cell.mode == "balanced"
    (record,) = fast.finished
    assert record.uri == "sample"
    assert record.audio_seconds == pytest.approx(30.0, abs=0.1)
    assert {model.name for model in fast.models} == {"segmentation", "fbank", "embedding"}
    assert record.memory is not None
    assert record.memory.peak_rss_bytes > record.memory.baseline_rss_bytes
    assert len(record.latency_seconds) == 3
    assert record.accuracy is not None
    assert (record.accuracy.speakers_found, record.accuracy.speakers_true) == (2, 2)
    assert record.accuracy.budget.oracle is not None
    assert record.accuracy.budget.oracle.rate == pytest.approx(0.12, abs=0.02)
    (difference,) = read_result(folder / "r.json").findings.differences
    assert (difference.cell, difference.base) == ("balanced", "fast")
    titles = ("fast: all files", "fast: files", "Performance modes", "Gates", "Error budget")
    for title in titles:
        assert title in stdout
    assert "energy: " in stdout


def test_the_stages_of_a_serial_run_sum_to_its_time(measured: tuple[Path, str, str, int]) -> None:
    folder, *_ = measured
    for sample in read_result(folder / "r.json").cells[0].finished[0].iterations:
        if not sample.overlapped:
            busy = sum(stage.busy_seconds for stage in sample.stages)
            assert busy == pytest.approx(sample.wall_seconds, rel=0.02)
        assert {stage.concurrent for stage in sample.stages} == {sample.overlapped}


def test_a_missed_gate_is_exit_code_1_with_value_and_limit(
    measured: tuple[Path, str, str, int],
) -> None:
    _, stdout, stderr, code = measured
    assert code == 1
    last = stderr.strip().splitlines()[-1]
    assert last.startswith("fluidaudio: ")
    assert " of 4 gates failed: " in last
    assert "any dataset fast peak_memory" in last
    assert "≤ 40 MB" in stdout


def test_every_output_is_written_in_its_format(measured: tuple[Path, str, str, int]) -> None:
    folder, _, stderr, _ = measured
    assert json.loads((folder / "r.json").read_text())["schema"] == "fluidaudio.benchmark/2"
    assert (folder / "r.csv").read_text().startswith("dataset,study,mode,models,executor,")
    assert (folder / "r.md").read_text().startswith("# fluidaudio benchmark\n")
    root = ElementTree.parse(folder / "r.xml").getroot()
    assert [suite.get("name") for suite in root] == ["fast", "balanced", "gates", "findings"]
    assert "<h2>Differences: Performance modes</h2>" in (folder / "r.html").read_text()
    assert (folder / "summary.md").read_text() == (folder / "r.md").read_text()
    assert "::error title=Performance gate::any dataset fast peak_memory" in stderr


def test_resuming_a_complete_run_measures_nothing_again(
    measured: tuple[Path, str, str, int],
) -> None:
    folder, *_ = measured
    before = read_result(folder / "r.json").cells
    options = ["--measure-memory", "--measure-power", "--performance-mode", "balanced"]
    options += ["--resume", "--output"]
    done = run("benchmark", *QUICK, *options, folder / "r.json")
    assert done.returncode == 0, done.stderr
    assert read_result(folder / "r.json").cells == before


def test_a_report_that_cannot_be_written_loses_no_results(
    measured: tuple[Path, str, str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = shutil.copy(measured[0] / "r.json", tmp_path / "r.json")
    write = files.write_text_atomic

    def full(target: Path, text: str) -> None:
        if target.suffix == ".md":
            raise HostError(f"cannot write {target}", "free space")
        write(target, text)

    options = ["--measure-memory", "--measure-power", "--performance-mode", "balanced", "--resume"]
    options += ["--output", str(result), "--output", str(tmp_path / "r.md")]
    monkeypatch.setattr(sys, "argv", ["fluidaudio", "benchmark", *QUICK, *options])
    told = f"all results are kept in {result}; go on with --resume"
    for writes, code in ((full, 4), (write, 0)):
        monkeypatch.setattr(files, "write_text_atomic", writes)
        with pytest.raises(SystemExit) as ended:
            main()
        assert int(ended.value.code or 0) == code
        assert (told in capsys.readouterr().err.splitlines()) == (code == 4)
        assert (tmp_path / "r.md").exists() == (code == 0)


def test_resuming_other_work_is_refused(measured: tuple[Path, str, str, int]) -> None:
    folder, *_ = measured
    options = ["--measure-memory", "--measure-power", "--performance-mode", "balanced"]
    options += ["--resume", "--output"]
    done = run("benchmark", *QUICK, *options, folder / "r.json", "--seed", "5")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1] == (
        "fluidaudio: cannot resume: plan seed was 0, now it is 5: "
        "run again without --resume, or with the same options"
    )


def test_a_broken_file_is_exit_code_3_and_the_rest_is_measured(
    tmp_path: Path, sample_wav: Path
) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    shutil.copy(sample_wav, corpus / "good.wav")
    (corpus / "bad.wav").write_text("this is not audio")
    turns = sample_wav.with_suffix(".rttm").read_text()
    for uri in ("good", "bad"):
        (corpus / f"{uri}.rttm").write_text(turns.replace(" sample ", f" {uri} "))
    output = tmp_path / "r.json"
    done = run("benchmark", *QUICK, *SOON_COMPILED, "--dataset", corpus, "--output", output)
    assert done.returncode == 3
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("fluidaudio: 1 files failed: fast/onnxruntime: ")
    assert "failed: fast/onnxruntime: bad: " in done.stdout
    bad, good = read_result(output).cells[0].files
    assert (bad.uri, good.uri, good.error) == ("bad", "good", None)
    assert bad.error is not None
    assert "bad.wav" in bad.error


def test_an_interruption_promises_no_file_that_is_not_finished(tmp_path: Path) -> None:
    output = tmp_path / "r.json"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "fluidaudio_cli", "benchmark", "--performance-mode", "fast"),
            *("--dataset", "sample", "--iterations", "100000", "--output", str(output)),
            *SOON_COMPILED,
        ],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (output.exists() and read_result(output).cells):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=180)
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "fluidaudio: interrupted"
    assert "finished files are kept" not in stderr
    assert "Traceback" not in stderr
    assert read_result(output).complete is False


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (
            ["--performance-mode", "quick"],
            2,
            "--performance-mode quick: choose all, reference, accurate, balanced, fast, "
            "turbo, or a mode file",
        ),
        (["--output", "r.docx"], 2, "--output r.docx has no known ending: use .json, "),
        (["--baseline", "absent.json"], 3, "cannot read absent.json: "),
        (["--gate", "absent/gates.yaml"], 3, "cannot read the gates absent/gates.yaml: "),
        (["--condition", "noisy"], 2, "--condition noisy: give NAME=DATASET"),
        (
            ["--condition", "a=sample", "--condition", "a=sample"],
            2,
            "two conditions are called a: give each --condition its name",
        ),
        (
            ["--peer", "senko", "--peer-threshold", "0.5"],
            2,
            "--peer-threshold is sherpa-onnx's: add --peer sherpa-onnx",
        ),
        (["--single-file", "nobody"], 2, "dataset sample has no recording 'nobody': it has sample"),
        (["--resume", "--output", "absent.json"], 2, "nothing to resume: absent.json does not"),
    ],
)
def test_what_cannot_be_done_is_said_before_measuring(
    arguments: list[str], code: int, line: str
) -> None:
    done = run("benchmark", "--dataset", "sample", *arguments)
    assert done.returncode == code
    assert done.stderr.strip().splitlines()[-1].startswith(f"fluidaudio: {line}")
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ([], "the results are not comparable: cpu_model was Made-up CPU and is "),
        (["--allow-different", "machine,dataset"], "--baseline has none of the cells asked for: "),
    ],
)
def test_a_baseline_that_will_not_do_is_refused_before_measuring(
    tmp_path: Path, more: list[str], line: str
) -> None:
    base, output = tmp_path / "base.json", tmp_path / "r.json"
    write_result(result(cell("slow")), base)
    done = run("benchmark", *QUICK, "--baseline", base, *more, "--output", output)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith(f"fluidaudio: {line}")
    assert not output.exists()


def test_what_was_measured_is_written_though_the_baseline_ran_other_models(
    measured: tuple[Path, str, str, int], tmp_path: Path
) -> None:
    base = read_result(measured[0] / "r.json")
    cells = tuple(each.model_copy(update={"models": ()}) for each in base.cells)
    write_result(base.model_copy(update={"cells": cells}), tmp_path / "base.json")
    files = [tmp_path / name for name in ("r.json", "r.csv")]
    outputs = [text for path in ("-", *files) for text in ("--output", str(path))]
    more = ["--baseline", str(tmp_path / "base.json"), "--format", "json"]
    done = run("benchmark", *QUICK, *more, *outputs)
    assert done.returncode == 2
    assert "the results are not comparable: fast ran other models: " in done.stderr
    assert all(path.exists() for path in files)
    # "-" was asked for, too.
    assert done.stdout == files[0].read_text()


def test_compare_shows_a_regression_and_fails_if_told(tmp_path: Path) -> None:
    steady, slow = (1.0, 1.01, 1.02, 1.03, 1.04), (1.2, 1.21, 1.22, 1.23, 1.24)
    base, head = tmp_path / "base.json", tmp_path / "head.json"
    write_result(result(walled("fast", *steady)), base)
    write_result(result(walled("fast", *slow)), head)
    shown = run("compare", base, head)
    assert shown.returncode == 0
    (row,) = [line.split() for line in shown.stdout.splitlines() if "fast wall " in line]
    assert row[:2] == ["fast", "wall"]
    assert row[2:7] == ["1.02", "s", "1.22", "s", "1.196"]
    assert row[-2:] == ["0.00794", "regression"]
    document = json.loads(run("compare", base, head, "--format", "json").stdout)
    assert document["schema"] == "fluidaudio.compare/1"
    (found,) = (each for each in document["changes"] if each["verdict"] == "regression")
    assert f"{found['cell']} {found['metric']}" in shown.stdout
    failed = run("compare", base, head, "--fail-on-regression")
    assert failed.returncode == 1
    assert failed.stderr == "fluidaudio: 1 regressions: fast wall\n"
    assert run("compare", head, base, "--fail-on-regression").returncode == 0


def test_what_is_worse_to_compare_is_in_percent_and_points(tmp_path: Path) -> None:
    steady = (1.0, 1.01, 1.02, 1.03, 1.04)
    base, head = tmp_path / "base.json", tmp_path / "head.json"
    write_result(result(walled("fast", *steady)), base)
    # 10 % slower (9.8 by medians), 1 point more error, 20 % more memory.
    slow = (wall + 0.1 for wall in steady)
    write_result(result(walled("fast", *slow, error_seconds=10.5, peak=60_000_000)), head)
    options = ("--max-slowdown", "--max-error-increase", "--max-memory-increase")
    for limits, code in ((("10", "1.01", "20.1"), 0), (("9.5", "0.99", "19.9"), 1)):
        given = [text for pair in zip(options, limits, strict=True) for text in pair]
        done = run("compare", base, head, "--fail-on-regression", *given)
        assert (done.returncode, done.stdout.count("regression")) == (code, 3 * code)


@pytest.mark.parametrize("command", [["benchmark"], ["compare", "a.json", "b.json"]])
def test_a_seed_that_nothing_can_be_drawn_with_is_refused(command: list[str]) -> None:
    done = run(*command, "--seed", "-1")
    assert done.returncode == 2
    assert "'--seed': -1 is not in the range x>=0" in done.stderr


def test_compare_never_writes_over_what_it_reads(tmp_path: Path) -> None:
    base, head = tmp_path / "base.json", tmp_path / "head.json"
    write_result(result(), base)
    write_result(result(), head)
    for path in (base, head):
        shown = run("compare", base, head, "--output", path)
        taken = f"fluidaudio: --output {path} is given for something else too: "
        assert (shown.returncode, shown.stderr) == (2, f"{taken}write to another file\n")
        assert read_result(path) == result()


def test_compare_names_the_cells_that_one_side_lacks(tmp_path: Path) -> None:
    base, head = tmp_path / "base.json", tmp_path / "head.json"
    write_result(result(cell("fast"), cell("balanced"), cell("accurate")), base)
    write_result(result(cell("fast"), cell("turbo")), head)
    shown = run("compare", base, head)
    assert shown.stderr.splitlines() == [
        "warning: in BASE only, not compared: balanced, accurate",
        "warning: in HEAD only, not compared: turbo",
    ]
    assert "fast wall" in shown.stdout


def test_compare_names_the_figures_that_one_side_lacks(tmp_path: Path) -> None:
    base, head = tmp_path / "base.json", tmp_path / "head.json"
    write_result(result(), base)
    write_result(result(cell("fast", file_record(peak=None)), complete=False), head)
    shown = run("compare", base, head, "--fail-on-regression")
    assert shown.returncode == 0
    assert shown.stderr.splitlines() == [
        "warning: in BASE only, not compared: fast peak_memory",
        "warning: HEAD is incomplete: its run was interrupted",
    ]


def test_compare_tells_what_failed_from_what_was_not_measured(tmp_path: Path) -> None:
    """A cell that failed is a regression; one that cannot be had here, or not yet, is not."""
    base, head = tmp_path / "base.json", tmp_path / "head.json"
    both = file_record("one"), file_record("two")
    modes = ("fast", "balanced", "accurate", "turbo")
    write_result(result(*(cell(mode, *both) for mode in modes)), base)
    broken = cell("fast", *(FileRecord(uri=uri, error="cut off") for uri in ("one", "two")))
    unloaded = cell("balanced").model_copy(update={"processes": (ProcessRecord(error="no"),)})
    absent = cell("accurate").model_copy(update={"processes": (), "unavailable": "no compiler"})
    begun = cell("turbo", both[0])
    later = result(broken, unloaded, absent, begun, datasets=result(cell("x", *both)).datasets)
    write_result(later.model_copy(update={"complete": False}), head)
    shown = run("compare", base, head, "--fail-on-regression")
    assert shown.returncode == 1
    assert shown.stderr.splitlines() == [
        "warning: in BASE only, not compared: accurate, turbo two",
        "warning: HEAD is incomplete: its run was interrupted",
        "fluidaudio: 2 regressions: fast files, balanced files",
    ]


def test_compare_of_nothing_in_common_is_no_success(tmp_path: Path) -> None:
    base, head = tmp_path / "base.json", tmp_path / "head.json"
    write_result(result(cell("fast", FileRecord(uri="one", error="cut off"))), base)
    write_result(result(), head)
    shown = run("compare", base, head)
    assert (shown.returncode, shown.stdout) == (2, "")
    last = "fluidaudio: the results have no figure in common: measure the same recordings"
    assert shown.stderr.splitlines() == ["warning: in HEAD only, not compared: fast", last]


def test_compare_refuses_another_dataset_unless_told(tmp_path: Path) -> None:
    base, head = tmp_path / "base.json", tmp_path / "head.json"
    write_result(result(), base)
    other = result()
    dataset = other.dataset.model_copy(update={"fingerprint": "0" * 64})
    write_result(other.model_copy(update={"datasets": {"": dataset}}), head)
    refused = run("compare", base, head)
    assert refused.returncode == 2
    assert "give --allow-different dataset" in refused.stderr
    allowed = run("compare", base, head, "--allow-different", "dataset,machine")
    assert allowed.returncode == 0
    assert "warning: compared although dataset was tiny and is tiny (by content)" in allowed.stderr
    quiet = run("compare", base, head, "--allow-different", "dataset,machine", "-q")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, allowed.stdout, "")


def test_stdout_is_one_document_whatever_is_asked(tmp_path: Path) -> None:
    more = ["--latency-windows", "0", "--roofline", "--format", "json"]
    done = run("benchmark", *QUICK, *SOON_COMPILED, *more)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert {each["stage"] for each in document["findings"]["roofline"]} == {
        "segmentation",
        "fbank",
        "embedding",
    }


def test_every_option_is_in_a_panel_of_the_help() -> None:
    from fluidaudio_cli.cli.benchmark import benchmark

    hints = get_type_hints(benchmark, include_extras=True)
    panels = {
        name: option.rich_help_panel
        for name, hint in hints.items()
        for option in getattr(hint, "__metadata__", ())
    }
    shared = {"memory_limit", "no_tuning"}  # of several commands
    assert {name for name, panel in panels.items() if panel is None} <= shared
    found = {panel for panel in panels.values() if panel is not None}
    assert found == {"What is measured", "How", "Further questions", "Results"}
