"""What all commands have in common: names of options, endings, quiet and verbose, help."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.main import get_command

from fluidaudio_cli.cli.app import app
from fluidaudio_cli.cli.conventions import EXAMPLES
from fluidaudio_cli.cli.option_rules import APART, HEARING, NEEDS
from fluidaudio_cli.diarization.tuning import (
    NetworkTuning,
    Tuning,
    machine_identity,
    save_tuning,
)

Command = Callable[..., tuple[int, str, str]]


def commands() -> Iterator[tuple[str, Any]]:
    for name, found in get_command(app).commands.items():  # type: ignore[attr-defined]
        if hasattr(found, "commands"):
            yield from ((f"{name} {inner}", each) for inner, each in found.commands.items())
        else:
            yield name, found


def test_every_command_is_quiet_or_verbose_and_has_examples_that_parse() -> None:
    known = dict(commands())
    assert set(EXAMPLES) <= set(known)
    for name, command in known.items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"--quiet", "-q", "--verbose", "-v"} <= options
        assert name == "benchmark" or EXAMPLES.get(name), f"{name} has no example"
        for line, _ in EXAMPLES.get(name, ()):
            for part in line.split(" | "):
                words = part.removeprefix("fluidaudio ")
                called = max((each for each in known if words.startswith(each)), key=len)
                given = set(re.findall(r"(?<=\s)--?[a-z][a-z-]*", words))
                opts = {opt for each in known[called].params for opt in each.opts}
                assert given <= opts, f"{line}: {called} has no {given - opts}"


def test_rules_are_of_options_that_there_are() -> None:
    known = {name: {each.name for each in command.params} for name, command in commands()}
    for name, needs in NEEDS.items():
        assert {*needs, *needs.values()} <= known[name]
    for name, apart in APART.items():
        assert {*apart, *(other for _, others in apart.values() for other in others)} <= known[name]
    assert set(HEARING) <= known["diarize"]


@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        ("benchmark --pairs 9", "--pairs is of --against: add --against"),
        ("benchmark --max-slowdown 9", "--max-slowdown is of --against: add --against"),
        (
            "benchmark --single-file a --max-files 2",
            "--single-file is one recording, without --max-files: give one without the other",
        ),
        ("benchmark --quick", "--quick is of --robustness: add --robustness"),
        ("benchmark mine.yaml", "mine.yaml is of --robustness: add --robustness"),
        ("benchmark --latency 1", "--latency is of --streaming: add --streaming"),
        ("benchmark --voices x", "--voices is of --identify: add --identify"),
        (
            "benchmark --robustness --dataset sample",
            "--robustness has recordings and passes of its own, without --dataset: "
            "give one without the other",
        ),
        (
            "benchmark --identify --iterations 2",
            "--identify measures voices alone, without --iterations: give one without the other",
        ),
        (
            "benchmark --streaming --identify",
            "--streaming measures streams alone, without --identify: give one without the other",
        ),
        (
            "benchmark --workers 2 --measure-memory",
            "--workers finds errors only, without --measure-memory: give one without the other",
        ),
        (
            "benchmark --cluster auto --threads 2",
            "--cluster finds errors only, without --threads: give one without the other",
        ),
        (
            "benchmark --memory-limit 1GB --roofline",
            "--memory-limit does not reach what --roofline runs: give one without the other",
        ),
        ("speakers enrol A a.wav --start nan", "--start nan: give a number"),
        ("benchmark --peer x --peer-threshold inf", "--peer-threshold inf: give a number"),
        ("diarize a.wav --uem a.uem", "--uem is of --reference: add --reference"),
        ("diarize a.wav --max-false-accept 2%", "--max-false-accept is of --known: add --known"),
        ("models check a.yaml --search 5", "--search is of --calibrate: add --calibrate"),
        (
            "tune --show --forget",
            "--show measures nothing, without --forget: give one without the other",
        ),
    ],
)
def test_nothing_that_is_asked_for_is_left_out(command: Command, line: str, refusal: str) -> None:
    assert command(*line.split()) == (2, "", f"fluidaudio: {refusal}\n")


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (["diarize", "a.wav", "--output-dir", ""], "--output-dir is empty"),
        (["diarize", "a.wav", "--models="], "--models is empty"),
        (["score", "", "hyp.rttm"], "REF is empty"),
        (["speakers", "enrol", "Ada", "a.wav", ""], "FILE… is empty"),
        (["benchmark", "--output", "a.json", "--output", ""], "--output is empty"),
    ],
)
def test_an_empty_value_is_not_the_folder_one_is_in(
    command: Command, words: list[str], refusal: str
) -> None:
    assert command(*words) == (2, "", f"fluidaudio: {refusal}: give a value, or leave it out\n")


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("diarize a.wav -o a.rttm --output a.json", "--output"),
        ("diarize a.wav --known Ada --known Bob", "--known"),
        ("diarize a.wav --reference a.rttm --reference b.rttm", "--reference"),
        ("score a.rttm b.rttm --uem a.uem --uem b.uem", "--uem"),
    ],
)
def test_of_two_places_none_is_dropped(command: Command, line: str, option: str) -> None:
    assert command(*line.split()) == (2, "", f"fluidaudio: {option} is given twice: give it once\n")


def test_what_may_be_said_twice_or_be_empty_may_be(command: Command, tmp_path: Path) -> None:
    settings = ("--format", "json", "--format", "table", "-v", "-v", "-q")
    assert command("modes", "list", *settings)[1].startswith("reference ")
    missing = str(tmp_path / "no.json")
    code, _, err = command("compare", missing, missing, "--allow-different", "")
    assert (code, missing in err) == (3, True)


def test_links_that_lead_in_a_circle_are_one_line(
    command: Command, tmp_path: Path, sample_wav: Path
) -> None:
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    for words in (
        ["diarize", circle],
        ["diarize", sample_wav, "--format", "rttm", "--output", circle],
        ["plan", "--format", "json", "--output", circle],
        ["profile", sample_wav, "--format", "json", "--output", circle],
        ["stream", circle],
        ["stream", sample_wav, "--format", "rttm", "--output", circle],
        ["simulate", "--output", circle],
    ):
        code, out, err = command(*words)
        assert (code, out, err.count("\n")) == (3 if words[1] == circle else 4, "", 1), err
        assert "Too many levels of symbolic links" in err
    assert circle.is_symlink()


def test_formats_and_outputs_have_the_same_names_everywhere() -> None:
    for name, command in commands():
        if "benchmark" in name:
            continue  # its files are many, and their formats its own
        decided = [set(each.opts) for each in command.params]
        for both in ({"--format", "--output-format"}, {"--output", "-o"}):
            assert all(both <= names or not names & both for names in decided), name


def test_help_in_a_pipe_is_plain_and_ends_in_examples(command: Command) -> None:
    code, out, err = command("plan", "--help")
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert "─" not in out
    assert out.endswith(
        "  fluidaudio plan --no-tuning --format json\n      as stored in every result\n"
    )


def test_benchmark_says_under_its_short_name_what_it_does(command: Command) -> None:
    _, out, _ = command("benchmark", "--help")
    assert "Alias of diarization-benchmark.\n\n  Measure speed, accuracy, " in out
    assert "Exit code 1: a gate failed, " in out
    assert "  benchmark              Alias of diarization-benchmark.\n" in command("--help")[1]


def test_help_of_a_group_ends_in_the_first_example_of_each_of_its_commands(
    command: Command,
) -> None:
    _, out, _ = command("cache", "--help")
    firsts = [EXAMPLES[f"cache {name}"][0] for name in ("info", "clear")]
    shown = "".join(f"  {line}\n      {what}\n" for line, what in firsts)
    assert out.endswith(f"\nExamples:\n{shown}")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux: all that was shown is read, and nobody is at the other end
        return b""


@pytest.mark.skipif(sys.platform == "win32", reason="terminals of POSIX")
def test_help_on_a_terminal_is_drawn_in_panels() -> None:
    import pty

    ours, theirs = pty.openpty()
    subprocess.run(
        [sys.executable, "-m", "fluidaudio_cli", "plan", "--help"],
        stdin=theirs,
        stdout=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "90"},
        check=True,
    )
    os.close(theirs)
    shown = b"".join(iter(lambda: _read(ours), b"")).decode()
    os.close(ours)
    for title in ("Options", "Examples"):
        assert re.search(rf"╭─\S* {title} ", shown), title
    assert max(len(re.sub("\x1b\\[[0-9;]*m", "", line)) for line in shown.split("\r\n")) <= 90


@pytest.mark.parametrize(
    "arguments",
    [
        ("score", "a.rttm", "b.rttm"),
        ("profile", "a.wav"),
        ("plan",),
        ("doctor",),
        ("tune", "--show"),
        ("modes", "list"),
        ("cache", "info"),
        ("models", "list"),
        ("datasets", "list"),
    ],
)
def test_an_unknown_ending_is_refused(
    command: Command, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    target = tmp_path / "report.yaml"
    code, out, err = command(*arguments, "-o", target)
    assert (code, out) == (2, "")
    assert err.startswith(
        f"fluidaudio: the name of --output {target} does not tell the format: add --format, or "
        "end it in "
    )
    assert not target.exists()


def test_a_report_goes_where_it_is_sent(command: Command, tmp_path: Path) -> None:
    _, shown, _ = command("modes", "list")
    assert command("modes", "list", "-o", tmp_path / "m.txt") == (0, "", "")
    assert (tmp_path / "m.txt").read_text(encoding="utf-8") == shown
    assert command("modes", "list", "--output", tmp_path / "m.json") == (0, "", "")
    _, printed, _ = command("modes", "list", "--output-format", "json")
    assert (tmp_path / "m.json").read_text(encoding="utf-8") == printed


def test_turns_are_piped_into_the_score(
    command: Command, sample_wav: Path, monkeypatch: pytest.MonkeyPatch, models_loaded_once: None
) -> None:
    code, turns, err = command("diarize", sample_wav)
    assert (code, err) == (0, "")
    assert {line.split()[0] for line in turns.splitlines()} == {"SPEAKER"}
    reference = sample_wav.with_suffix(".rttm")
    piped = SimpleNamespace(buffer=io.BytesIO(turns.encode()))
    monkeypatch.setattr(sys, "stdin", piped)
    code, out, err = command("score", reference, "-", "--format", "json")
    assert (code, err) == (0, "")
    assert json.loads(out)["files"][0]["uri"] == "sample"
    code, out, err = command("score", "-", "-")
    assert (code, out) == (2, "")
    assert err == (
        "fluidaudio: two of REF, HYP and --uem are -: give all but one of them as a file\n"
    )


def test_quiet_says_errors_and_verbose_how_it_runs(
    command: Command, sample_wav: Path, tmp_path: Path, models_loaded_once: None
) -> None:
    target = tmp_path / "turns.rttm"
    code, out, err = command("diarize", sample_wav, "-o", target)
    assert (code, out, err) == (0, "", f"wrote {target}\n")
    assert command("diarize", sample_wav, "-o", target, "-q") == (0, "", "")
    code, _, err = command("diarize", tmp_path / "none.wav", "-q")
    assert code == 3
    assert err.startswith("fluidaudio: ")
    code, _, err = command("diarize", sample_wav, "-o", target, "-v")
    lines = err.splitlines()
    assert code == 0
    assert lines[0].startswith("fluidaudio ")
    assert "mode: balanced" in lines
    assert lines[-1] == f"wrote {target}"


def test_a_stored_tuning_as_json(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tuning.json"
    monkeypatch.setenv("FLUIDAUDIO_TUNING", str(path))
    _, out, _ = command("tune", "--show", "--format", "json")
    assert json.loads(out)["chosen"] is None
    network = NetworkTuning("fp32", 4)
    save_tuning(Tuning("onnxruntime", "all", 2, network, network, machine_identity()))
    _, out, _ = command("tune", "--show", "--format", "json")
    stored = json.loads(out)
    assert (stored["stored_in"], stored["chosen"]["workers"]) == (str(path), 2)
    assert stored["chosen"]["embedding"] == {"precision": "fp32", "batch": 4}
