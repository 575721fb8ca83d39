"""``benchmark --streaming``: figures by hand, and a small run of the real thing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarking import cell, file_record

from fluidaudio_cli.benchmark.metrics import METRICS
from fluidaudio_cli.benchmark.results import FileRecord, StreamingRecord, read_result
from fluidaudio_cli.benchmark.streaming import parse_latencies, switches
from fluidaudio_cli.cli.process import run
from fluidaudio_cli.errors import UsageError
from fluidaudio_cli.report.streaming import latency_figure
from fluidaudio_cli.scoring.records import DiarizationErrorRate
from fluidaudio_cli.turns import Turn


def test_switches_by_hand() -> None:
    reference = [
        Turn(0, 4, "a"), Turn(5, 7, "b"), Turn(8, 10, "a"), Turn(11, 12, "b"), Turn(13, 15, "a"),
    ]  # fmt: skip
    said = [
        Turn(0, 1.5, "y"), Turn(1.5, 4, "x"),  # mostly x
        Turn(5, 7, "z"),
        Turn(8, 10, "y"),  # a switch
        # b's second turn is missed: no name, and no switch
        Turn(13, 15, "x"),  # and back
    ]  # fmt: skip
    assert switches(reference, said) == 2
    assert switches(reference, []) == 0
    # A name of the lesser part of a turn says nothing: neither a switch, nor one back.
    said[3] = Turn(8, 9, "y")
    assert switches(reference, said) == 0
    said[3] = Turn(8, 9.01, "y")
    assert switches(reference, said) == 2
    # While both speak the other's name is right, too: where a is alone, it is called x.
    both = [Turn(0, 4, "a"), Turn(5, 9, "b"), Turn(8, 9.4, "a")]
    assert switches(both, [Turn(0, 4, "x"), Turn(5, 9, "z"), Turn(9, 9.4, "x")]) == 0
    assert switches(both, [Turn(0, 4, "x"), Turn(5, 9.4, "z")]) == 1


def test_figures_of_streams_by_hand() -> None:
    def wrong(seconds: float) -> DiarizationErrorRate:
        return DiarizationErrorRate(0.0, 0.0, seconds, 50.0)

    curve = ((0.0, 100), (600.0, 150), (700.0, 155), (3600.0, 160))
    first = StreamingRecord(
        online=wrong(15.0), refined=wrong(12.5), delays=(1.0, 3.0), switches=2, switches_end=1,
        turns=10, revisions=8, revised_seconds=6.0, created=3, withdrawn=1, step_seconds=1.0,
        computing=(0.01, 0.02, 0.03), memory=tuple((time, size * 10**6) for time, size in curve),
    )  # fmt: skip
    second = first.model_copy(
        update={
            "online": wrong(5.0), "refined": wrong(2.5), "delays": (2.0,), "revisions": 2,
            "revised_seconds": 4.0, "created": 2, "withdrawn": 0, "memory": ((0.0, 0), (30.0, 9)),
        }
    )  # fmt: skip
    # Of 50 s each, 10 s are wrong at the end.
    files = [
        file_record(uri, audio_seconds=length).model_copy(update={"streaming": stream})
        for uri, length, stream in (("a", 300.0, first), ("b", 100.0, second))
    ]
    expected = {
        "online_der": 20.0, "online_ratio": 1.0, "refined_der": 15.0, "refined_ratio": 0.75,
        "label_delay": 2.0, "switches": 20.0, "switches_end": 10.0, "revisions": 1.5,
        "revised": 1.5, "speakers_created": 2.5, "speakers_withdrawn": 0.5, "step_p50": 20.0,
        "step_max": 30.0, "stream_rtf": 0.12 / 400, "stream_growth": 10.0,
    }  # fmt: skip
    streamed = cell("fast", *files)
    assert {name: METRICS[name].samples(streamed)[0] for name in expected} == pytest.approx(
        expected
    )
    silent = files[0].model_copy(update={"streaming": first.model_copy(update={"turns": 0})})
    assert METRICS["switches"].samples(cell("fast", silent)) == ()
    short = file_record().model_copy(update={"streaming": second})
    assert METRICS["stream_growth"].samples(cell("fast", short)) == ()


@pytest.mark.parametrize(
    ("minutes", "growth"),
    # After 10 of 61 and of 600 minutes; after the sixth of 12; of one there is no such reading.
    [(61, (5.1,)), (600, (59.0,)), (12, (1.0,)), (0.9, ())],
)
def test_memory_growth_is_of_the_end_over_the_beginning(
    minutes: float, growth: tuple[float, ...]
) -> None:
    end = 60.0 * minutes
    times = (0.0, *(10.0 * number for number in range(1, int(end // 10) + 1)), end)
    stream = StreamingRecord(
        delays=(), switches=0, switches_end=0, turns=0, revisions=0, revised_seconds=0.0,
        created=0, withdrawn=0, step_seconds=1.0, computing=(),
        memory=tuple((time, round(50e6 * (time > 0) + 1e5 * time / 60)) for time in times),
    )  # fmt: skip
    record = FileRecord(uri="one", audio_seconds=end, streaming=stream)
    assert METRICS["stream_growth"].samples(cell("fast", record)) == pytest.approx(growth)


def test_latencies_are_read_once_each() -> None:
    assert parse_latencies("0.5,1,1.0,10") == (0.5, 1.0, 10.0)
    with pytest.raises(UsageError, match=r"--latency soon: give seconds, such as 0.5,1,2,5,10"):
        parse_latencies("soon")


def test_a_run_in_every_format_with_gates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gates = tmp_path / "gates.yaml"
    gates.write_text(
        "schema: fluidaudio.gates/1\ngates:\n"
        '  - {study: streaming, latency: "10", metric: online_der, at_most: 40, unit: "%"}\n'
        '  - {study: streaming, latency: "10", metric: revisions, below: 0, unit: /min}\n'
    )
    files = [tmp_path / f"r.{kind}" for kind in ("json", "csv", "md", "html")]
    outputs = [part for file in files for part in ("-o", str(file))]
    arguments = ["benchmark", "--streaming", "--latency", "10", "--single-file", "sample"]
    code = run([*arguments, "--gate", str(gates), *outputs])
    out, err = capsys.readouterr()
    assert code == 1
    assert "1 of 2 gates failed: any dataset balanced/after 10 s revisions" in err
    assert "Streaming: error" in out
    result = read_result(files[0])
    (only,) = result.cells
    assert only.cell.latency == 10.0
    (file,) = only.finished
    stream, accuracy = file.streaming, file.accuracy
    assert stream is not None
    assert accuracy is not None
    assert stream.online is not None
    assert (stream.step_seconds, len(stream.computing)) == (2.5, 11)
    assert (stream.turns, stream.unnamed, len(stream.delays)) == (10, 0, 2)
    assert stream.refined is not None
    # A moment that waits for 10 s is decided as well as a file's.
    assert stream.refined.rate == pytest.approx(accuracy.strict.rate, abs=0.02)
    assert stream.online.rate == pytest.approx(accuracy.strict.rate, abs=0.02)
    assert [time for time, _ in stream.memory] == [0.0, 10.015, 20.015, 30.0]
    figure = latency_figure(result)
    assert figure is not None
    assert [line["name"] for line in figure["data"]] == [
        "balanced, online",
        "balanced, refined",
        "balanced, at the end",
    ]
    assert "online_der" in files[1].read_text(encoding="utf-8")
    assert "| DER online (%) |" in files[2].read_text(encoding="utf-8")
    assert "chart-streaming" in files[3].read_text(encoding="utf-8")
    assert json.loads(files[0].read_text())["schema"] == "fluidaudio.benchmark/2"


def test_streams_of_any_length_have_no_error_but_figures_of_computing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["benchmark", "--streaming", "--latency", "10", "--single-file", "sample"]
    path = tmp_path / "r.json"
    assert run([*arguments, "--scaling", "--scaling-lengths", "35s,20s", "-o", str(path)]) == 0
    out, _ = capsys.readouterr()
    assert "Streaming: computing" in out
    assert "Streaming: error" not in out
    result = read_result(path)
    assert [each.cell.name for each in result.cells] == [
        "balanced/20 s/after 10 s",
        "balanced/35 s/after 10 s",
    ]
    (file,) = result.cells[1].finished
    assert file.accuracy is None
    assert file.audio_seconds == 35.0
    assert file.streaming is not None
    assert file.streaming.online is None
    assert len(file.streaming.computing) == 13
    assert result.findings.growth == ()
