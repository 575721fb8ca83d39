"""The whole pipeline on the bundled sample: golden turns, determinism, errors, timings."""

from __future__ import annotations

import shutil
import threading
import wave
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from fluidaudio_cli.audio.source import open_audio
from fluidaudio_cli.diarization.clock import StageClock
from fluidaudio_cli.diarization.conclusion import conclude, speaker_model
from fluidaudio_cli.diarization.evidence import EvidenceLog, LocalVoice, WindowEvidence
from fluidaudio_cli.diarization.frames import WINDOW_FRAMES
from fluidaudio_cli.diarization.loading import load_pipeline
from fluidaudio_cli.diarization.modes import load_mode
from fluidaudio_cli.diarization.pipeline import Pipeline
from fluidaudio_cli.diarization.result import Diarization
from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
from fluidaudio_cli.diarization.speakers.offline import SpeakerLabels
from fluidaudio_cli.errors import AudioError, ExecutorUnavailableError, SelfTestError, UsageError
from fluidaudio_cli.executors.select import availabilities
from fluidaudio_cli.executors.selftest import Tolerance
from fluidaudio_cli.models import registry
from fluidaudio_cli.scoring.metrics import LENIENT, STRICT, score_conditions
from fluidaudio_cli.scoring.rttm import format_rttm, read_rttm

EXECUTORS = ("onnxruntime", "openvino")
LoadedOnce = Callable[..., Pipeline]


@pytest.fixture(scope="module")
def reference() -> Pipeline:
    return load_pipeline("reference")


@pytest.fixture(scope="module")
def fast() -> Pipeline:
    """The quickest mode on ONNX Runtime, one thread."""
    return load_pipeline("fast", executor="onnxruntime", precision="fp32", threads=1)


def available(executor: str) -> None:
    state = availabilities()[executor]
    if not state.ok:
        pytest.skip(f"{executor} is not here: {state.reason}")


def rttm(result: Diarization) -> str:
    return format_rttm(result.uri, result.turns)


def samples_of(path: Path) -> npt.NDArray[np.int16]:
    with wave.open(str(path)) as reader:
        return np.frombuffer(reader.readframes(reader.getnframes()), "<i2")


def write(path: Path, samples: npt.NDArray[np.int16]) -> Path:
    with wave.open(str(path), "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16_000)
        writer.writeframes(samples.astype("<i2").tobytes())
    return path


# --- What comes out ---


def test_golden_turns_of_the_published_networks(sample_wav: Path) -> None:
    """Another processor's fp32 may move a boundary by one frame of 17 ms, not more."""
    result = load_pipeline("reference", models="published").diarize(sample_wav)
    assert [turn.speaker for turn in result.turns] == [speaker for _, _, speaker in GOLDEN]
    for turn, (start, end, _) in zip(result.turns, GOLDEN, strict=True):
        assert turn.start == pytest.approx(start, abs=0.025)
        assert turn.end == pytest.approx(end, abs=0.025)
    assert result.duration_seconds == 30.0
    assert result.notes == ()


GOLDEN = [
    (6.69, 14.77, "SPEAKER_00"),
    (9.96, 10.99, "SPEAKER_01"),
    (14.30, 17.94, "SPEAKER_01"),
    (17.94, 21.50, "SPEAKER_00"),
    (21.76, 28.52, "SPEAKER_01"),
    (27.78, 29.96, "SPEAKER_00"),
]


@pytest.mark.parametrize("mode", ["reference", "accurate", "balanced", "fast", "turbo"])
def test_error_on_the_sample(mode: str, sample_wav: Path) -> None:
    """The exact reference of 30 s, where one boundary weighs much: 11 to 12 % strict."""
    result = load_pipeline(mode).diarize(sample_wav)
    truth = read_rttm(sample_wav.with_suffix(".rttm"))["sample"]
    scores = score_conditions((STRICT, LENIENT), truth, result.turns, ((0.0, 30.0),))
    assert scores.strict.der.rate < 0.135
    assert scores.lenient.der.rate < 0.04
    assert scores.speakers.hypothesis == 2


def test_speakers_agree_with_the_turns(reference: Pipeline, sample_wav: Path) -> None:
    result = reference.diarize(sample_wav)
    assert [speaker.label for speaker in result.speakers] == ["SPEAKER_00", "SPEAKER_01"]
    assert result.turns[0].speaker == "SPEAKER_00"  # named by first appearance
    for speaker in result.speakers:
        own = [turn for turn in result.turns if turn.speaker == speaker.label]
        assert speaker.turns == len(own)
        assert speaker.speech_seconds == pytest.approx(sum(turn.duration for turn in own))
        assert float(np.linalg.norm(speaker.embedding)) == pytest.approx(1.0, abs=1e-5)
    assert list(result.turns) == sorted(result.turns)


# --- The same whatever the route ---


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize(("mode", "copies"), [("accurate", 1), ("balanced", 2), ("fast", 4)])
def test_threads_change_nothing(
    executor: str, mode: str, copies: int, sample_wav: Path, tmp_path: Path
) -> None:
    """Serial and concurrent, in the precision that is fastest here: the same bytes."""
    available(executor)
    long = write(tmp_path / "long.wav", np.tile(samples_of(sample_wav), copies))
    texts = set()
    for threads in (1, 2, 3):
        pipeline = load_pipeline(mode, executor=executor, threads=threads)
        texts.add(rttm(pipeline.diarize(long)))
        pipeline.close()
    assert len(texts) == 1
    assert texts.pop().count("\n") > 3 * copies


def test_repeated_runs_change_nothing(fast: Pipeline, sample_wav: Path) -> None:
    first, second = fast.diarize(sample_wav), fast.diarize(sample_wav)
    assert first.turns == second.turns
    assert first.exclusive_turns == second.exclusive_turns
    for left, right in zip(first.speakers, second.speakers, strict=True):
        assert np.array_equal(left.embedding, right.embedding)


def test_batches_change_nothing_in_fp32(sample_wav: Path) -> None:
    """Batches and workers are about speed only."""
    mode = replace(load_mode("balanced"), name="variant")
    texts = set()
    for batch, workers in ((1, 1), (3, 2), (8, 1)):
        variant = replace(
            mode,
            windows=replace(mode.windows, batch=batch),
            embedding=replace(mode.embedding, batch=batch),
            execution=replace(mode.execution, workers=workers),
        )
        pipeline = load_pipeline(variant, executor="onnxruntime", precision="fp32")
        texts.add(rttm(pipeline.diarize(sample_wav)))
        pipeline.close()
    assert len(texts) == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_many_recordings_are_as_each_alone(workers: int, sample_wav: Path, tmp_path: Path) -> None:
    """Short ones, so that windows and crops of several fill batches together."""
    mode = load_mode("fast")
    variant = replace(mode, execution=replace(mode.execution, workers=workers))
    pipeline = load_pipeline(variant, executor="onnxruntime", precision="fp32", threads=2)
    speech = samples_of(sample_wav)
    bad = tmp_path / "bad.wav"
    bad.write_text("no audio", encoding="utf-8")
    paths = [
        write(tmp_path / "one.wav", speech[6 * 16_000 : 19 * 16_000]),
        bad,
        write(tmp_path / "two.wav", np.tile(speech, 3)),
        write(tmp_path / "three.wav", speech[: 8 * 16_000]),
    ]
    results = list(pipeline.diarize_many([(path, None) for path in paths]))
    errors = [result for result in results if isinstance(result, AudioError)]
    good = [result for result in results if isinstance(result, Diarization)]
    assert [str(error).startswith(f"{bad} ") for error in errors] == [True]
    assert [result.uri for result in good] == ["one", "two", "three"]
    assert results[1] is errors[0]
    for result in good:
        assert result.turns == pipeline.diarize(result.audio.path).turns
    pipeline.close()


def test_recording_that_is_open_already(fast: Pipeline, sample_wav: Path) -> None:
    """It is read on from where it stands, once, and closed."""
    expected = fast.diarize(sample_wav)
    stream = open_audio(sample_wav, "by-hand")
    result = fast.diarize(stream)
    assert result.uri == "by-hand"
    assert result.turns == expected.turns


def test_processing_time_runs_from_the_opening_of_a_recording(
    fast: Pipeline, sample_wav: Path, tmp_path: Path
) -> None:
    """Of several, no recording's time is shorter than its own stages on one worker."""
    paths = [sample_wav, *(shutil.copy(sample_wav, tmp_path / f"{n}.wav") for n in range(3))]
    for result in fast.diarize_many([(Path(path), None) for path in paths]):
        assert isinstance(result, Diarization)
        stages = {stage.name: stage.busy_seconds for stage in result.timings.stages}
        assert result.timings.processing_seconds >= stages["decode"] + stages["clustering"]
        assert result.timings.cpu_seconds > 0.0


# --- Evidence ---


def test_evidence_gives_the_same_turns_again_and_others_for_another_count(
    fast: Pipeline, sample_wav: Path, tmp_path: Path
) -> None:
    result = fast.diarize(sample_wav)
    assert result.evidence is not None
    path = tmp_path / "sample.npz"
    result.evidence.save(path)
    log = EvidenceLog.load(path)
    again = conclude(speaker_model(fast.mode, log), fast.mode, SpeakerBounds(), StageClock())
    assert again.turns == result.turns
    assert again.exclusive_turns == result.exclusive_turns
    one = conclude(speaker_model(fast.mode, log), fast.mode, SpeakerBounds(exactly=1), StageClock())
    assert one.turns == fast.diarize(sample_wav, speakers=SpeakerBounds(exactly=1)).turns
    assert {turn.speaker for turn in one.turns} == {"SPEAKER_00"}


# --- Speaker counts ---


def test_speaker_model_is_fed_alike_by_the_pipeline_and_by_hand(
    fast: Pipeline, sample_wav: Path
) -> None:
    result = fast.diarize(sample_wav)
    by_hand = speaker_model(fast.mode)
    with open_audio(sample_wav) as stream:
        for found in fast.evidence(stream, StageClock()):
            by_hand.update(found)
        by_hand.evidence.samples = stream.samples_read
    assert result.evidence is not None
    assert by_hand.evidence.windows == result.evidence.windows
    again = conclude(by_hand, fast.mode, SpeakerBounds(), StageClock())
    assert again.turns == result.turns


@dataclass
class Settled:
    """A speaker model that found what it was made to find."""

    evidence: EvidenceLog
    labels: SpeakerLabels

    def update(self, evidence: WindowEvidence) -> None:
        raise NotImplementedError

    def finish(self, bounds: SpeakerBounds) -> SpeakerLabels:
        return self.labels


@pytest.mark.parametrize(
    ("speaking", "bounds", "note"),
    [
        # One of seven has a turn: of that, no bound is the reason.
        (True, SpeakerBounds(), ""),
        (True, SpeakerBounds(at_least=1, at_most=9), ""),
        (True, SpeakerBounds(at_most=1), "1 speaker as asked for, although the evidence says 7"),
        (True, SpeakerBounds(exactly=1), "1 speaker as asked for, although the evidence says 7"),
        (True, SpeakerBounds(exactly=2), "2 speakers were asked for, but only 1 speaker could be "),
        (False, SpeakerBounds(), ""),
        (False, SpeakerBounds(exactly=1), "1 speaker was asked for, but nobody speaks"),
        (False, SpeakerBounds(at_least=3), "3 speakers were asked for, but nobody speaks"),
    ],
)
def test_what_is_said_of_bounds(speaking: bool, bounds: SpeakerBounds, note: str) -> None:
    log = EvidenceLog()
    presence = np.full((WINDOW_FRAMES, 3), 255 if speaking else 0, np.uint8)
    log.append(WindowEvidence.of(0, (LocalVoice(0, 9.0, np.zeros(8, np.float32)),), presence))
    log.samples = 160_000
    none = np.zeros(7)
    labels = SpeakerLabels(
        np.zeros(1, np.intp), np.zeros((7, 8), np.float32), none, {7: 1.0}, 7, none
    )
    found = conclude(Settled(log, labels), load_mode("fast"), bounds, StageClock())
    assert len(found.speakers) == speaking
    assert len(found.notes) == bool(note)
    assert "".join(found.notes).startswith(note)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_number_of_speakers(fast: Pipeline, sample_wav: Path, count: int) -> None:
    result = fast.diarize(sample_wav, speakers=SpeakerBounds(exactly=count))
    assert len(result.speakers) == len({turn.speaker for turn in result.turns})
    if len(result.speakers) != count:
        (note,) = result.notes
        assert note.startswith(
            f"{count} speakers were asked for, but only {len(result.speakers)} speakers could be "
            "given turns"
        )
    else:
        assert result.notes == ()
    if count <= 2:
        assert len(result.speakers) == count


# --- What happens on the way ---


def test_serial_stages_add_up(fast: Pipeline, sample_wav: Path) -> None:
    clock = StageClock()
    timings = fast.diarize(sample_wav, clock=clock).timings
    assert not timings.overlapped
    assert sum(stage.busy_seconds for stage in timings.stages) == pytest.approx(
        timings.processing_seconds, rel=1e-6
    )
    spans = clock.spans()
    assert {span.stage for span in spans} | {"other"} == {stage.name for stage in timings.stages}
    for earlier, later in pairwise(spans):
        assert earlier.end <= later.start
    assert timings.windows == 3
    assert timings.crops >= 3


def test_each_of_several_recordings_has_its_own_stages(
    fast: Pipeline, sample_wav: Path, tmp_path: Path
) -> None:
    paths = [sample_wav, shutil.copy(sample_wav, tmp_path / "b.wav")]
    found = list(fast.diarize_many([(Path(path), None) for path in paths]))
    calls = []
    for result in found:
        assert isinstance(result, Diarization)
        calls.append({stage.name: stage.calls for stage in result.timings.stages})
    # Windows and crops of several recordings fill batches together: all else is each one's own.
    assert [each["decode"] for each in calls] == [3, 3]
    assert [each["clustering"] for each in calls] == [1, 1]
    assert [each["reconstruction"] for each in calls] == [1, 1]
    assert sum(each.get("segmentation", 0) for each in calls) == 1


def test_progress_reaches_the_end(fast: Pipeline, sample_wav: Path, tmp_path: Path) -> None:
    long = write(tmp_path / "long.wav", np.tile(samples_of(sample_wav), 5))
    seen: list[tuple[float, float | None]] = []
    fast.diarize(long, progress=lambda done, total: seen.append((done, total)))
    done = [seconds for seconds, _ in seen]
    assert {total for _, total in seen} == {150.0}
    assert done == sorted(done)
    assert len(done) > 1
    assert done[-1] == pytest.approx(150.0, abs=10.0)


@pytest.mark.parametrize("workers", [1, 2])
def test_error_leaves_the_pipeline_usable_and_no_thread_behind(
    workers: int, sample_wav: Path, tmp_path: Path
) -> None:
    pipeline = load_pipeline("fast", executor="onnxruntime", precision="fp32", threads=workers)
    before = pipeline.diarize(sample_wav)
    threads = set(threading.enumerate())
    cut = tmp_path / "cut.wav"
    content = write(tmp_path / "whole.wav", np.tile(samples_of(sample_wav), 4)).read_bytes()
    cut.write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(AudioError, match="cut off or damaged"):
        pipeline.diarize(cut)
    assert set(threading.enumerate()) == threads
    assert pipeline.diarize(sample_wav).turns == before.turns
    pipeline.close()


def test_run_that_is_abandoned_leaves_no_thread_behind(sample_wav: Path, tmp_path: Path) -> None:
    pipeline = load_pipeline("fast", executor="onnxruntime", precision="fp32", threads=2)
    paths = [(Path(shutil.copy(sample_wav, tmp_path / f"{n}.wav")), None) for n in range(6)]
    threads = set(threading.enumerate())
    run = pipeline.diarize_many(paths)
    assert isinstance(next(run), Diarization)
    run.close()  # type: ignore[attr-defined]
    assert set(threading.enumerate()) == threads
    assert len(list(pipeline.diarize_many(paths))) == 6
    pipeline.close()


def test_window_alone(fast: Pipeline, sample_wav: Path) -> None:
    speech = (samples_of(sample_wav) / 32768).astype(np.float32)
    assert len(fast.process_window(speech[10 * 16_000 : 20 * 16_000]).voices) == 2
    assert not fast.process_window(np.zeros(160_000, np.float32)).voices
    with pytest.raises(UsageError, match=r"^a window has 160000 samples, not \(5,\)$"):
        fast.process_window(np.zeros(5, np.float32))


def test_failed_self_test_stops_the_run_with_the_figures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It does not try another executor in silence."""
    monkeypatch.setenv("FLUIDAUDIO_CACHE_DIR", str(tmp_path))
    original = registry.BundledModel.selftest

    def impossible(model: registry.BundledModel) -> object:
        test = original(model)
        return replace(test, tolerances={"fp32": Tolerance(max_abs=0.0)})

    monkeypatch.setattr(registry.BundledModel, "selftest", impossible)
    with pytest.raises(SelfTestError) as caught:
        load_pipeline("reference")
    text = str(caught.value)
    assert text.startswith("self-test of ")
    assert "max difference" in text
    assert "required difference at most 0" in text


def test_precision_that_is_not_here() -> None:
    with pytest.raises(ExecutorUnavailableError, match="fp16"):
        load_pipeline("fast", executor="onnxruntime", precision="fp16")
