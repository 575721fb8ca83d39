"""Long audio made of short, cells measured in their own processes, and verdicts by hand."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from benchmarking import file_record, plan, result, variant

from fluidaudio_cli.benchmark.results import ScalingRecord
from fluidaudio_cli.benchmark.scaling import (
    length_name,
    parse_lengths,
    run_scaling,
    scaling_rows,
    scaling_verdicts,
)
from fluidaudio_cli.benchmark.workers import WorkerCommand
from fluidaudio_cli.errors import HostError, UsageError
from fluidaudio_cli.measure.long_audio import RepeatedAudio, check_space, speech_level
from fluidaudio_cli.report.benchmark_markdown import to_markdown
from fluidaudio_cli.report.benchmark_report import BenchmarkReport
from fluidaudio_cli.report.benchmark_scaling import scaling_lines, scaling_table

Floats = npt.NDArray[np.float64]


def write_wav(path: Path, samples: Floats) -> Path:
    with wave.open(str(path), "wb") as writer:
        writer.setparams((1, 2, 16_000, 0, "NONE", ""))
        writer.writeframes(np.rint(samples * 32768).astype("<i2").tobytes())
    return path


def read_wav(path: Path) -> Floats:
    with wave.open(str(path)) as reader:
        assert (reader.getnchannels(), reader.getsampwidth(), reader.getframerate()) == (
            1,
            2,
            16000,
        )
        frames = reader.readframes(reader.getnframes())
        assert len(frames) == 2 * reader.getnframes()
    return np.frombuffer(frames, "<i2") / 32768


def tone(seconds: float, amplitude: float, hertz: float) -> Floats:
    time = np.arange(round(seconds * 16_000)) / 16_000
    return np.asarray(amplitude * np.sin(2 * np.pi * hertz * time))


# --- Lengths and audio ---


def test_lengths_are_read_in_order_and_once() -> None:
    assert parse_lengths("1m,10m,1h,10h") == (60.0, 600.0, 3600.0, 36_000.0)
    assert parse_lengths("2h, 20s,1.5m,90s") == (20.0, 90.0, 7200.0)
    names = [length_name(seconds) for seconds in (20.0, 90.0, 600.0, 3600.0, 5400.0, 36_000.0)]
    assert names == ["20 s", "1.5 min", "10 min", "1 h", "1.5 h", "10 h"]


@pytest.mark.parametrize("part", ["", "10", "x", "0.5s", "0h", "-1m", "1d"])
def test_what_is_no_length_is_refused(part: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_lengths(f"20s,{part}")
    assert str(caught.value) == (
        f"--scaling-lengths 20s,{part}: {part!r} is no length of a second or more: "
        "give lengths such as 20s,1m,10h"
    )


def test_recordings_are_repeated_under_fresh_noise(tmp_path: Path) -> None:
    first, second = tone(0.5, 0.5, 200), tone(0.3, 0.125, 300)
    recordings = [write_wav(tmp_path / "a.wav", first), write_wav(tmp_path / "b.wav", second)]
    audio = RepeatedAudio(recordings)
    audio.write(tmp_path / "long.wav", 2.1, (0, 1))
    written = read_wav(tmp_path / "long.wav")
    assert written.size == 33_600
    noise = written - np.concatenate([first, second, first, second, first])[:33_600]
    # 50 dB below a tone of amplitude A is A / sqrt(2) / 316; rounding is far below that.
    for start, end, amplitude in ((0, 8000, 0.5), (8000, 12_800, 0.125), (12_800, 20_800, 0.5)):
        rms = float(np.sqrt(np.mean(noise[start:end] ** 2)))
        assert 20 * np.log10(rms / (amplitude / np.sqrt(2))) == pytest.approx(-50.0, abs=0.4)
    # Each repetition is its own: uncorrelated with the one before.
    assert abs(np.corrcoef(noise[:8000], noise[12_800:20_800])[0, 1]) < 0.06


def test_noise_is_that_of_its_seed(tmp_path: Path) -> None:
    audio = RepeatedAudio([write_wav(tmp_path / "a.wav", tone(0.5, 0.5, 200))])
    for name, seed in (("one", (0, 1)), ("same", (0, 1)), ("other", (0, 2))):
        audio.write(tmp_path / name, 1.0, seed)
    one, same, other = ((tmp_path / name).read_bytes() for name in ("one", "same", "other"))
    assert one == same
    assert one != other


def test_digital_silence_gets_noise_too(tmp_path: Path) -> None:
    silence = write_wav(tmp_path / "silence.wav", np.zeros(16_000))
    RepeatedAudio([silence]).write(tmp_path / "long.wav", 2.0, (0, 0))
    written = read_wav(tmp_path / "long.wav") * 32768
    assert written.std() == pytest.approx(np.sqrt(1 + 1 / 12), rel=0.03)  # one step, and rounding
    assert not np.array_equal(written[:16_000], written[16_000:])


def test_pauses_do_not_lower_the_speech_level(tmp_path: Path) -> None:
    spoken = np.concatenate([tone(1.0, 0.5, 200), np.zeros(16_000)])
    assert speech_level(write_wav(tmp_path / "a.wav", spoken)) == pytest.approx(
        0.5 / np.sqrt(2), rel=1e-3
    )


def test_a_full_disk_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1_350_000_000))
    check_space(tmp_path, [35_000.0])  # 1.12 GB, and 0.2 GB left alone
    with pytest.raises(HostError) as caught:
        check_space(tmp_path, [600.0, 36_000.0])
    assert str(caught.value) == (
        f"the audio of --scaling takes 1.17 GB, and {tmp_path} has 1.35 GB free, of which 0.2 GB "
        "are left alone: free space, set TMPDIR to another disk, or give shorter --scaling-lengths"
    )
    with pytest.raises(UsageError, match=r"38\.0 hours does not fit in a WAV file: .* 37 hours"):
        check_space(tmp_path, [38 * 3600.0])


# --- Measuring: real worker processes that note what they are asked ---

NOTING_WORKER = """
import json, os, sys, time, wave
from pathlib import Path
from types import SimpleNamespace
from fluidaudio_cli.benchmark import worker
from fluidaudio_cli.errors import AudioError

def note(**facts):
    with open(sys.argv[1], "a") as stream:
        stream.write(json.dumps({"pid": os.getpid(), **facts}) + "\\n")

class Pipeline:
    mode = SimpleNamespace(as_dict=lambda: {})
    models, load_cached = (), True

    def diarize(self, path):
        with wave.open(str(path)) as reader:
            seconds = reader.getnframes() / reader.getframerate()
        note(op="diarize", seconds=seconds, folder=str(path.parent))
        if seconds == float(sys.argv[2]):
            raise AudioError(f"{path.name} is cut off")
        time.sleep(0.001 * seconds)
        timings = SimpleNamespace(stages=[], windows=1, overlapped=True)
        return SimpleNamespace(turns=(), duration_seconds=seconds, timings=timings)

    def close(self):
        pass

def load(mode, *, threads, executor, **_):
    note(op="load", mode=mode, threads=threads, executor=executor)
    return Pipeline()

worker.serve(load)
"""


def measure(
    folder: Path, *, fails_at: float = -1.0, **plan_changes: Any
) -> tuple[list[ScalingRecord], list[dict[str, Any]], list[int]]:
    """Records, what the workers noted, and how many runs each save held."""
    script, notes = folder / "noting_worker.py", folder / "notes"
    script.write_text(NOTING_WORKER)
    command = WorkerCommand((sys.executable, str(script), str(notes), str(fails_at)))
    source = write_wav(folder / "source.wav", tone(0.5, 0.5, 200))
    saved: list[int] = []
    records = run_scaling(
        result(plan=plan(modes=("fast",), threads=3, **plan_changes)),
        [source],
        (1.0, 2.0),
        command=command,
        save=lambda each: saved.append(sum(len(record.runs) for record in each)),
    )
    return list(records), [json.loads(line) for line in notes.read_text().splitlines()], saved


def test_every_measurement_is_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    records, notes, saved = measure(tmp_path, iterations=2, warmup=1)
    cells = [(1.0, 1), (1.0, 3), (2.0, 1), (2.0, 3)]
    assert [(record.length_seconds, record.threads) for record in records] == cells
    assert all(len(record.runs) == len(record.load_seconds) == 2 for record in records)
    # Rounds over all cells; in each process a load, the warm-up on the shortest, the audio.
    assert len({note["pid"] for note in notes}) == 8
    for number, (seconds, threads) in enumerate(cells * 2):
        load, warm_up, measured = notes[3 * number : 3 * number + 3]
        assert load["pid"] == warm_up["pid"] == measured["pid"]
        assert (load["op"], load["threads"], load["mode"]) == ("load", threads, "fast")
        assert (warm_up["seconds"], measured["seconds"]) == (1.0, seconds)
    assert saved == [1, 2, 3, 4, 5, 6, 7, 8]
    for record in records:
        for run in record.runs:
            assert run.audio_seconds == record.length_seconds
            assert run.accuracy is None
            assert run.memory is not None
            assert run.memory.peak_rss_bytes >= run.memory.curve[0][1] > 1_000_000
    assert notes[-1]["folder"].startswith(str(tmp_path / "fluidaudio-scaling-"))
    assert list(tmp_path.glob("fluidaudio-scaling-*")) == []


def test_a_failed_process_is_recorded_and_the_rest_is_measured(tmp_path: Path) -> None:
    records, _, _ = measure(tmp_path, fails_at=2.0, iterations=1, warmup=0)
    assert [[run.error for run in record.runs] for record in records] == [
        [None],
        [None],
        ["2s.wav is cut off"],
        ["2s.wav is cut off"],
    ]
    whole = result(scaling=tuple(records))
    assert [(name, run.uri) for name, run in whole.failures] == [("fast", "2s"), ("fast", "2s")]
    assert [row.length_seconds for row in scaling_rows(records)] == [1.0, 1.0]


def test_the_audio_is_deleted_when_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found: list[list[str]] = []

    def interrupt(records: object) -> None:
        found.append(sorted(path.name for path in tmp_path.glob("fluidaudio-scaling-*/*")))
        raise KeyboardInterrupt

    source = write_wav(tmp_path / "source.wav", tone(0.5, 0.5, 200))
    script = tmp_path / "noting_worker.py"
    script.write_text(NOTING_WORKER)
    command = WorkerCommand((sys.executable, str(script), str(tmp_path / "notes"), "-1"))
    with pytest.raises(KeyboardInterrupt):
        run_scaling(result(), [source], (1.0, 2.0), command=command, save=interrupt)
    assert found == [["1s.wav", "2s.wav"]]
    assert list(tmp_path.glob("fluidaudio-scaling-*")) == []


# --- Figures and verdicts ---


def cell(
    length: float, threads: int, walls: tuple[float, ...], peak_mb: float, mode: str = "fast"
) -> ScalingRecord:
    runs = [
        file_record(walls=(wall,), audio_seconds=length, peak=round(peak_mb * 1e6) - number)
        for number, wall in enumerate(walls)
    ]
    return ScalingRecord(
        variant=mode,
        length_seconds=length,
        threads=threads,
        load_seconds=(0.5,) * len(walls),
        runs=tuple(runs),
    )


CELLS = (
    cell(60.0, 1, (1.0,), 200.0),  # 60 s an hour: too short to be judged
    cell(60.0, 2, (0.5,), 200.0),
    cell(600.0, 1, (4.5, 5.0, 9.0), 300.0),  # 30 s an hour
    cell(600.0, 2, (2.5,), 310.0),  # 15
    cell(3600.0, 1, (33.0,), 305.0),  # 33: +10 %
    cell(3600.0, 2, (15.0,), 312.0),
    cell(36_000.0, 1, (291.0,), 320.0),  # 29.1: -3 %
    cell(36_000.0, 2, (153.0,), 318.5),  # 15.3: +2 %
)


def test_rows_are_medians_and_the_highest_peak() -> None:
    row = scaling_rows(CELLS)[2]
    assert (row.variant, row.length_seconds, row.threads) == ("fast", 600.0, 1)
    assert (row.wall_seconds, row.load_seconds) == (5.0, 0.5)
    assert row.seconds_per_hour == pytest.approx(30.0)
    assert row.rtfx == pytest.approx(120.0)
    assert row.peak_bytes == 300_000_000


def test_time_and_memory_are_judged_from_ten_minutes_on() -> None:
    (verdict,) = scaling_verdicts(scaling_rows(CELLS))
    assert (verdict.shortest, verdict.longest) == (600.0, 36_000.0)
    assert verdict.time == pytest.approx({1: 0.10, 2: 0.02})
    assert verdict.growth == {1: 20_000_000, 2: 8_500_000}
    assert verdict.memory_holds


def test_the_lines_say_figures_limits_and_verdicts() -> None:
    assert scaling_lines(result(scaling=CELLS[:4] + CELLS[6:])) == (
        "fast: time per audio hour, 10 min to 10 h: -3.0 % with 1 thread, +2.0 % with 2 threads; "
        "limit ±10 %: pass",
        "fast: memory growth, 10 min to 10 h: +20.0 MB with 1 thread, +8.5 MB with 2 threads; "
        "limit 20 MB: pass",
    )
    worse = (*CELLS[2:4], cell(36_000.0, 1, (334.0,), 301.0), cell(36_000.0, 2, (150.0,), 330.1))
    assert scaling_lines(result(scaling=worse)) == (
        "fast: time per audio hour, 10 min to 10 h: +11.3 % with 1 thread, +0.0 % with 2 threads; "
        "limit ±10 %: fail",
        "fast: memory growth, 10 min to 10 h: +1.0 MB with 1 thread, +20.1 MB with 2 threads; "
        "limit 20 MB: fail",
    )


def test_two_lengths_are_needed_for_a_verdict() -> None:
    assert scaling_lines(result(scaling=CELLS[:4])) == (
        "fast: time per audio hour not judged, fewer than two lengths from 10 min on",
        "fast: memory growth not judged, fewer than two lengths from 10 min on",
    )
    assert scaling_lines(result()) == ()
    assert scaling_table(result()) is None


def test_modes_are_judged_apart() -> None:
    other = [cell(length, 1, (length,), 100.0, mode="accurate") for length in (600.0, 3600.0)]
    fast, accurate = scaling_verdicts(scaling_rows([*CELLS, *other]))
    assert (fast.variant, fast.longest) == ("fast", 36_000.0)
    assert (accurate.variant, accurate.longest) == ("accurate", 3600.0)
    assert accurate.time == {1: 0.0}
    assert accurate.growth == {1: 0}


def test_the_table_is_in_the_markdown() -> None:
    text = to_markdown(BenchmarkReport(result(variant("fast"), scaling=CELLS)))
    lines = text.splitlines()
    assert "### Scaling with the length of the audio" in lines
    assert "| fast | 10 min | 1 | 0.5 | 5.00 | 30.0 | 120x | 300.0 |" in lines
    assert "| fast | 10 h | 2 | 0.5 | 153 | 15.3 | 235x | 318.5 |" in lines
    assert sum(line.startswith("- fast: ") for line in lines) == 2
