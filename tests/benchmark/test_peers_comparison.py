"""Peers scored like our modes, and the table that shows both."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from benchmarking import tiny_dataset
from rich.console import Console

from fluidaudio_cli.benchmark.peers.comparison import (
    ComparedRun,
    best_by_error,
    our_row,
    peer_row,
    score_peer,
    speed_ratio,
)
from fluidaudio_cli.benchmark.peers.results import PeerFailure, PeerFile, PeerResult
from fluidaudio_cli.benchmark.results import VariantRecord
from fluidaudio_cli.cli.render.peers import render_peers
from fluidaudio_cli.errors import AnnotationError
from fluidaudio_cli.turns import Turn

RIGHT = (Turn(0.0, 4.0, "0"), Turn(4.0, 10.0, "1"))
ONE_SPEAKER = (Turn(0.0, 10.0, "0"),)


def peer(*files: PeerFile, threshold: float = 0.6) -> PeerResult:
    return PeerResult(
        "sherpa-onnx",
        version="2.0.1",
        threads=2,
        settings={"threshold": threshold},
        files=files,
        load_seconds=0.5,
        peak_rss_bytes=312_000_000,
        thread_trials={1: 4.0, 2: 3.0},
        differences=("its own clustering",),
    )


def diarized(path: Path, turns: tuple[Turn, ...], seconds: float) -> PeerFile:
    return PeerFile(path, 10.0, seconds, seconds, turns)


def test_a_peer_is_scored_per_file_and_pooled(tmp_path: Path) -> None:
    one, two = tiny_dataset(tmp_path, "one", "two")
    result = peer(diarized(one.audio, RIGHT, 1.0), diarized(two.audio, ONE_SPEAKER, 3.0))
    scores = score_peer(result, (one, two))
    assert scores["one"].strict.rate == 0.0
    # Of 10 s of speech, the 4 s of the shorter speaker are confused.
    assert scores["two"].strict.confusion == pytest.approx(4.0)
    assert scores["two"].strict.rate == pytest.approx(0.4)
    row = peer_row(result, scores)
    assert row.name == "sherpa-onnx 2.0.1"
    assert row.rtfx == 5.0
    assert row.strict == pytest.approx(0.2)
    # 0.25 s are left out at 0, 4 and 10 s, on each side where there is speech: 9 s remain, of
    # which 3.5 s are confused; twice 9 s are scored.
    assert row.lenient == pytest.approx(3.5 / 18.0)
    assert (row.speakers_right, row.files) == (1, 2)
    assert row.peak_rss_bytes == 312_000_000
    assert row.note == "2 thread(s), threshold 0.6"


def test_a_file_without_reference_is_an_error(tmp_path: Path) -> None:
    (one,) = tiny_dataset(tmp_path, "one")
    one.reference.write_text("")
    with pytest.raises(AnnotationError, match="the reference of 'one' has no speech"):
        score_peer(peer(diarized(one.audio, RIGHT, 1.0)), (one,))


def test_the_best_threshold_is_the_one_with_the_lowest_strict_error(tmp_path: Path) -> None:
    (one,) = tiny_dataset(tmp_path, "one")
    results = [
        peer(diarized(one.audio, ONE_SPEAKER, 1.0), threshold=0.7),
        peer(diarized(one.audio, RIGHT, 1.0), threshold=0.5),
        peer(threshold=0.6),
    ]
    assert best_by_error([(each, score_peer(each, (one,))) for each in results]) == 1
    with pytest.raises(ValueError, match="empty"):
        best_by_error([(peer(), {})])


def test_speed_is_compared_only_where_both_were_measured() -> None:
    ours = ComparedRun("fast", rtfx=900.0)
    assert speed_ratio(ours, ComparedRun("sherpa-onnx", rtfx=10.0)) == 90.0
    assert speed_ratio(ours, ComparedRun("senko", unavailable="not installed")) is None
    assert speed_ratio(ComparedRun("fast"), ComparedRun("sherpa-onnx", rtfx=10.0)) is None


def test_an_unavailable_mode_has_a_row_that_says_so() -> None:
    variant = VariantRecord(mode="fast", executor="coreml", precision="auto", unavailable="no Mac")
    assert our_row(variant) == ComparedRun("fast/coreml", unavailable="no Mac")


def test_the_table_gives_ratios_reasons_and_differences() -> None:
    result = peer()
    failed = PeerResult(
        **{**vars(result), "failures": (PeerFailure(Path("bad.wav"), "it is text"),)}
    )
    ours = ComparedRun("fast", "", 950.0, 0.134, 0.061, 8, 10, 210_400_000.0)
    measured = ComparedRun(
        "sherpa-onnx 2.0.1", "", 10.0, 0.125, 0.055, 3, 10, 312_000_000, "2 thread(s)"
    )
    missing = ComparedRun("senko", unavailable="senko is not installed")
    stream = StringIO()
    render_peers(Console(file=stream, width=140), [ours], [measured, missing], [failed])
    text = stream.getvalue()
    words = [line.split() for line in text.splitlines() if line.strip()]
    lines = {each[0]: each for each in words if "MB" in each}
    assert " ".join(lines["fast"]) == "fast 950.0x 13.40 % 6.10 % 8/10 210 MB 95.0x"
    measured_line = " ".join(lines["sherpa-onnx"])
    assert measured_line == "sherpa-onnx 2.0.1 (2 thread(s)) 10.0x 12.50 % 5.50 % 3/10 312 MB"
    assert "senko: unavailable: senko is not installed" in text
    assert "sherpa-onnx: models loaded in 0.50 s, not in RTFx" in text
    assert "threads tried on one stretch of audio: 1: 4.00 s, 2: 3.00 s" in text
    assert "sherpa-onnx differs: its own clustering" in text
    assert "sherpa-onnx failed: bad.wav: it is text" in text
