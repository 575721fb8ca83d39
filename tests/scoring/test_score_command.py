"""``fluidaudio score`` through the real command; the recording of ``test_score_metrics``."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests import forked

TRUTH = [(0, 10, "A"), (8, 14, "B"), (16, 20, "A")]
ANSWER = [(1, 9, "x"), (9, 15, "y"), (15, 16, "x"), (16, 17, "y"), (17, 19, "x"), (22, 23, "z")]
Row = tuple[float, float, str]


def rttm(path: Path, uri: str, rows: list[Row], newline: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"SPEAKER {uri} 1 {a} {b - a} <NA> <NA> {name} <NA> <NA>" for a, b, name in rows]
    path.write_bytes("".join(line + newline for line in lines).encode())
    return path


def fluidaudio(*arguments: object) -> forked.Done:
    return forked.run("score", *arguments)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Reference, hypothesis and UEM of two recordings, one with an accent in its name."""
    rttm(tmp_path / "ref" / "one.rttm", "réunion", list(TRUTH))
    rttm(tmp_path / "ref" / "two.rttm", "two", [(0, 80, "A")], "\r\n")
    rttm(tmp_path / "hyp.rttm", "réunion", list(ANSWER))
    with (tmp_path / "hyp.rttm").open("a", encoding="utf-8") as stream:
        stream.write("SPEAKER two 1 0 80 <NA> <NA> q <NA> <NA>\n")
    uem = tmp_path / "all.uem"
    uem.write_text("réunion 1 0 24\ntwo 1 0 80\nunused 1 0 1\n", encoding="utf-8")
    return tmp_path / "ref", tmp_path / "hyp.rttm", uem


def test_table_shows_strict_and_lenient_per_file_and_pooled(
    folders: tuple[Path, Path, Path],
) -> None:
    reference, hypothesis, uem = folders
    run = fluidaudio(reference, hypothesis, "--uem", uem)
    assert (run.returncode, run.stderr) == (0, "")
    rows = [line.split() for line in run.stdout.splitlines()]
    # DER miss FA conf JER, strict then lenient: 8/20, 4/20 …; 4.75/14.5, 1.5/14.5 …
    strict, lenient = "40.0 20.0 15.0 5.0 35.4", "32.8 10.3 17.2 5.2 27.8"
    assert ["réunion", *strict.split(), *lenient.split()] in rows
    assert ["two", *["0.0"] * 10] in rows
    assert [
        "pooled",
        "8.0",
        "4.0",
        "3.0",
        "1.0",
        "23.6",
        "5.1",
        "1.6",
        "2.7",
        "0.8",
        "18.5",
    ] in rows
    assert "strict: collar ±0 s, overlap scored" in run.stdout
    assert "lenient: collar ±0.25 s, overlap skipped" in run.stdout
    assert "scored time: the UEM given, 104.0 s in all" in run.stdout
    assert "\x1b" not in run.stdout


def test_json(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    reference, hypothesis, uem = folders
    target = tmp_path / "out" / "scores.json"
    run = fluidaudio(reference, hypothesis, "--uem", uem, "--tolerance", "1", "--output", target)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    found = json.loads(target.read_text(encoding="utf-8"))
    assert found["schema"] == "fluidaudio.score/1"
    assert found["scorer"]["name"] == "pyannote.metrics"
    assert found["conditions"] == {
        "strict": {"collar_per_side_seconds": 0.0, "skip_overlap": False},
        "lenient": {"collar_per_side_seconds": 0.25, "skip_overlap": True},
    }
    first, second = found["files"]
    assert (first["uri"], second["uri"]) == ("réunion", "two")
    assert first["uem"] == {"source": "given", "intervals": [[0.0, 24.0]]}
    assert first["conditions"]["strict"]["der"] == pytest.approx(
        {"rate": 0.4, "missed_detection": 4, "false_alarm": 3, "confusion": 1, "total": 20}
    )
    assert first["overlap"] == {"missed": 2.0, "false_alarm": 0.0, "total": 2.0}
    assert first["boundaries"]["matched"] == 6
    assert found["pooled"]["conditions"]["strict"]["der"]["rate"] == pytest.approx(0.08)
    assert found["pooled"]["speakers"] == {
        "reference": 3,
        "hypothesis": 4,
        "absolute_error": 1,
        "correct_files": 1,
        "files": 2,
    }


def test_csv_with_one_condition_and_a_region(folders: tuple[Path, Path, Path]) -> None:
    reference, hypothesis, uem = folders
    run = fluidaudio(
        reference, hypothesis, "--uem", uem, "--collar-per-side", "0", "--format", "csv",
        "--regions", "overlap",
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
    rows = list(csv.DictReader(run.stdout.splitlines()))
    assert [row["uri"] for row in rows] == ["réunion", "two", "POOLED"]
    assert [row["strict.der.rate"] for row in rows] == ["0.5", "", "0.5"]
    assert not any(name.startswith("lenient") for name in rows[0])


def test_without_uem_the_extent_is_said_and_silence_is_noted(tmp_path: Path) -> None:
    reference = rttm(tmp_path / "call.rttm", "call", [(0, 4, "A")])
    hypothesis = tmp_path / "hyp" / "call.rttm"
    rttm(hypothesis, "call", [])
    run = fluidaudio(reference, hypothesis)
    assert run.returncode == 0
    assert run.stderr == f"note: {hypothesis} holds no turns: read as 'call' with nobody speaking\n"
    assert "from the first to the last boundary of reference and hypothesis" in run.stdout
    assert ["call", "100.0", "100.0", "0.0", "0.0", "100.0"] in [
        line.split()[:6] for line in run.stdout.splitlines()
    ]


def failing(tmp_path: Path, case: str) -> tuple[list[object], int, str]:
    good = rttm(tmp_path / "good.rttm", "call", [(0, 4, "A")])
    other = rttm(tmp_path / "other.rttm", "talk", [(0, 4, "A")])
    bad = tmp_path / "bad.rttm"
    bad.write_text("SPEAKER call 1 0 1 <NA> <NA> A <NA> <NA>\nSPEAKER call 1 0 x\n")
    uem = tmp_path / "talk.uem"
    uem.write_text("talk 1 0 9\n")
    empty = rttm(tmp_path / "empty" / "call.rttm", "call", [])
    (tmp_path / "none").mkdir()
    rttm(tmp_path / "twice" / "a.rttm", "call", [(0, 1, "A")])
    rttm(tmp_path / "twice" / "b.rttm", "call", [(0, 1, "A")])
    cases: dict[str, tuple[list[object], int, str]] = {
        "line": ([bad, good], 3, f"{bad}, line 2: SPEAKER needs 9 or 10 fields and has 5"),
        "missing": ([good, tmp_path / "no.rttm"], 3, "cannot read"),
        "uri": (
            [good, other],
            3,
            "not of the same recordings (in the reference only: 'call'; in the hypothesis only: "
            "'talk')",
        ),
        "uem": ([good, good, "--uem", uem], 3, "the UEM does not mention 'call'"),
        "empty reference": ([empty, good], 3, "the reference of 'call' has no speech"),
        "folder": ([tmp_path / "none", good], 3, "has no .rttm or .lab file"),
        "twice": ([tmp_path / "twice", good], 3, "'call' is in both"),
        "collar": ([good, good, "--collar-per-side", "-1"], 2, "a collar of -1.0 s per side"),
        "tolerance": ([good, good, "--tolerance", "0"], 2, "a boundary tolerance of 0.0 s"),
        "nothing": ([good, good, "--skip-overlap", "--regions", "overlap"], 2, "leaves nothing"),
        "output": ([good, good, "--output", good / "x.csv"], 4, "cannot write"),
    }
    return cases[case]


@pytest.mark.parametrize(
    "case",
    [
        "line", "missing", "uri", "uem", "empty reference", "folder", "twice", "collar",
        "tolerance", "nothing", "output",
    ],
)  # fmt: skip
def test_failures_are_one_line_with_their_exit_code(tmp_path: Path, case: str) -> None:
    arguments, code, reason = failing(tmp_path, case)
    run = fluidaudio(*arguments)
    lines = [line for line in run.stderr.splitlines() if not line.startswith("note: ")]
    assert (run.returncode, run.stdout, len(lines)) == (code, "", 1), run.stderr
    assert lines[0].startswith("fluidaudio: ")
    assert reason in lines[0]


def test_what_is_read_is_never_written_over(folders: tuple[Path, Path, Path]) -> None:
    reference, hypothesis, uem = folders
    for path in (reference / "one.rttm", hypothesis, uem):
        before = path.read_text(encoding="utf-8")
        arguments = ("--uem", uem, "--format", "json", "--output", path)
        done = fluidaudio(reference, hypothesis, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        taken = f"fluidaudio: --output {path} is given for something else too: "
        assert done.stderr == f"{taken}write to another file\n"
        assert path.read_text(encoding="utf-8") == before
