"""Evidence of a recording: kept as it came, into a file and back."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fluidaudio_cli.diarization.evidence import EvidenceLog, LocalVoice, WindowEvidence
from fluidaudio_cli.diarization.frames import SAMPLE_RATE, WINDOW_FRAMES
from fluidaudio_cli.diarization.modes import load_mode
from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
from fluidaudio_cli.diarization.speakers.model import OfflineSpeakers
from fluidaudio_cli.errors import InputError


def window(number: int, slots: tuple[int, ...], seed: int) -> WindowEvidence:
    random = np.random.default_rng(seed)
    presence = random.integers(0, 256, (589, 3)).astype(np.uint8)
    voices = []
    for slot in slots:
        vector = random.normal(size=192).astype(np.float32)
        vector /= np.linalg.norm(vector)
        voices.append(LocalVoice(slot, float(random.uniform(0, 9)), vector))
    return WindowEvidence.of(number, tuple(voices), presence, crops=len(slots), copied_bytes=7)


def logged(count: int = 700) -> tuple[EvidenceLog, list[WindowEvidence]]:
    """More voices than the store is made for at first; every third window holds nobody."""
    slots: list[tuple[int, ...]] = [(0, 2), (1,), ()]
    windows = [window(number, slots[number % 3], number) for number in range(count)]
    log = EvidenceLog({"uri": "meeting"})
    for each in windows:
        log.append(each)
    log.samples = count * 80_000
    return log, windows


def assert_same(log: EvidenceLog, windows: list[WindowEvidence]) -> None:
    assert log.windows == len(windows)
    for kept, given in zip(log, windows, strict=True):
        assert kept.number == given.number
        assert np.array_equal(kept.presence(), given.presence())
        assert [voice[:2] for voice in kept.voices] == [voice[:2] for voice in given.voices]
        for one, other in zip(kept.voices, given.voices, strict=True):
            assert np.array_equal(one.vector, other.vector)


def test_log_gives_back_what_it_was_given() -> None:
    log, windows = logged()
    assert_same(log, windows)
    voices = [(each.number, voice) for each in windows for voice in each.voices]
    assert log.voice_windows.tolist() == [number for number, _ in voices]
    assert log.slots.tolist() == [voice.slot for _, voice in voices]
    assert log.clean_seconds.tolist() == [voice.clean_seconds for _, voice in voices]
    assert np.array_equal(log.vectors, np.stack([voice.vector for _, voice in voices]))
    assert (log.crops, log.copied_bytes) == (len(voices), 7 * len(windows))


@pytest.mark.parametrize(("most", "first"), [(4, 46), (5, 45), (49, 1), (50, 0), (99, 0)])
def test_recent_windows_are_numbered_anew(most: int, first: int) -> None:
    log, windows = logged(50)
    recent, since = log.recent(most)
    assert since == first
    assert recent.facts == {"uri": "meeting"}
    assert_same(recent, [replace(each, number=each.number - first) for each in windows[first:]])
    recent.append(window(recent.windows, (1,), 0))  # a copy of its own
    assert log.windows == 50


def test_windows_without_voices_hold_nobody() -> None:
    log, _ = logged(3)
    *_, silent = log
    assert silent.voices == ()
    assert silent.presence().shape == (589, 3)
    assert not silent.presence().any()


def test_file_holds_all_of_it(tmp_path: Path) -> None:
    log, windows = logged(50)
    log.save(tmp_path / "log.npz")
    again = EvidenceLog.load(tmp_path / "log.npz")
    assert_same(again, windows)
    assert again.facts == {"uri": "meeting"}
    assert again.samples == log.samples


def test_windows_with_more_voices_than_others(tmp_path: Path) -> None:
    log, windows = EvidenceLog(), []
    for number, columns in enumerate((3, 5, 0, 4)):
        given = window(number, (0, columns - 1) if columns else (), number)
        presence = np.resize(given.presence(), (589, columns or 3))
        presence[:, -1] = number  # what is in the last column is kept
        windows.append(WindowEvidence.of(number, given.voices, presence))
        log.append(windows[-1])
    log.samples = 320_000
    assert_same(log, windows)
    assert_same(log.recent(2)[0], [replace(each, number=each.number - 2) for each in windows[2:]])
    log.save(tmp_path / "log.npz")
    for kept, given in zip(EvidenceLog.load(tmp_path / "log.npz"), windows, strict=True):
        found = kept.presence()
        assert found.shape == (589, 5)
        assert np.array_equal(found[:, : given.shape[1]], given.presence())
        assert not found[:, given.shape[1] :].any()
        assert [voice[:2] for voice in kept.voices] == [voice[:2] for voice in given.voices]


def test_recording_in_which_nobody_speaks(tmp_path: Path) -> None:
    log = EvidenceLog()
    log.append(window(0, (), 0))
    log.samples = 5
    log.save(tmp_path / "log.npz")
    again = EvidenceLog.load(tmp_path / "log.npz")
    assert (again.windows, again.vectors.shape[0], again.samples) == (1, 0, 5)


def test_same_evidence_is_the_same_file(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        logged(20)[0].save(tmp_path / name)
    with np.load(tmp_path / "a.npz") as one, np.load(tmp_path / "b.npz") as other:
        assert one.files == other.files
        assert all(np.array_equal(one[key], other[key]) for key in one.files)


@pytest.mark.parametrize("damage", ["text", "cut", "foreign", "encrypted", "packed otherwise"])
def test_file_that_is_no_evidence_is_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "log.npz"
    logged(20)[0].save(path)
    if damage == "text":
        path.write_text("no evidence")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-300])
    elif damage == "foreign":
        np.savez(path, other=np.zeros(3))
    else:
        # The first entry of the archive's list: its flags, and how it is packed.
        content = bytearray(path.read_bytes())
        at = content.index(b"PK\x01\x02") + (8 if damage == "encrypted" else 10)
        content[at] = 1 if damage == "encrypted" else 99
        path.write_bytes(content)
    refused_in_one_line(path)


APART = "its arrays do not belong together"
ORDER = "its windows are out of order"
ABSENT = "a voice has no presence"
UNFIT = "a voice is not a vector of unit length with its seconds"


def of_another_schema(header: NDArray[Any]) -> NDArray[Any]:
    return np.frombuffer(header.tobytes().replace(b"evidence/1", b"evidence/9"), np.uint8)


@pytest.mark.parametrize(
    ("key", "change", "reason"),
    [
        ("header", of_another_schema, "another schema"),
        ("window", lambda window: window[::-1], ORDER),
        ("window", lambda window: window + 1000, ORDER),
        ("slot", lambda slot: slot[1:], APART),
        ("slot", lambda slot: slot + 3, ABSENT),
        ("slot", lambda slot: slot * 0, ORDER),
        ("clean_seconds", lambda seconds: seconds * np.nan, UNFIT),
        ("clean_seconds", lambda seconds: seconds - 100.0, UNFIT),
        ("clean_seconds", lambda seconds: seconds + 100.0, UNFIT),
        ("vector", lambda vector: vector[:, 0], APART),
        ("vector", lambda vector: vector * np.inf, UNFIT),
        ("vector", lambda vector: vector * np.float32(0.5), UNFIT),
        ("spoken_window", lambda spoken: spoken + 1000, ORDER),
        ("spoken_window", lambda spoken: spoken[1:], APART),
        ("presence", lambda presence: presence[:, :, :1], ABSENT),
        ("presence", lambda presence: presence / 255.0, ABSENT),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    key: str, change: Callable[[NDArray[Any]], NDArray[Any]], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "log.npz"
    logged(20)[0].save(path)
    with np.load(path) as content:
        arrays = dict(content)
    with np.errstate(invalid="ignore"):
        np.savez(path, **{**arrays, key: change(arrays[key])})
    refused_in_one_line(path, reason)


def test_a_header_takes_no_memory_that_no_recording_fills(tmp_path: Path) -> None:
    """Its number of windows was counted out before anything else was looked at."""
    path = tmp_path / "log.npz"
    logged(20)[0].save(path)
    with np.load(path) as content:
        arrays = dict(content)
    header = json.loads(arrays["header"].tobytes()) | {"windows": 10**9}
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(path, **arrays)
    begun = time.process_time()
    refused_in_one_line(path)
    assert time.process_time() - begun < 1.0


def test_a_file_that_is_not_there_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"cannot read .*gone\.npz: No such file or directory: give"
    ):
        EvidenceLog.load(tmp_path / "gone.npz")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Opening it took for ever where nobody wrote."""
    os.mkfifo(tmp_path / "log.npz")
    refused_in_one_line(tmp_path / "log.npz", "no regular file")


def refused_in_one_line(path: Path, reason: str = "") -> None:
    with pytest.raises(InputError) as caught:
        EvidenceLog.load(path)
    text = str(caught.value)
    assert text.startswith(f"{path} is not a file of evidence: {reason}")
    assert text.endswith("give a file written by fluidaudio diarize --save-evidence")
    assert "\n" not in text


def test_how_much_of_a_recording_windows_see() -> None:
    """Three windows 5 s apart over 18 s see 10, 10 and 8 s: 28 of twice 18."""
    model = OfflineSpeakers(load_mode("balanced").calibration, 5 * SAMPLE_RATE, 1)
    for number in range(3):
        presence = np.full((WINDOW_FRAMES, 3), 255, np.uint8)
        voice = LocalVoice(0, 3.0 - number, np.eye(192, dtype=np.float32)[0])
        model.update(WindowEvidence.of(number, (voice,), presence))
    model.evidence.samples = 18 * SAMPLE_RATE
    voices, _ = model.heard()
    assert (voices.windows_per_moment, voices.inside) == (2.0, 28 / 36)
    assert voices.clean_seconds.tolist() == [3.0, 2.0, 1.0]
    assert voices.heard_seconds.tolist() == [2.0, 2.0, 1.0]
    # So much speech of the one speaker, as if all of it were seen twice.
    (seconds,) = model.finish(SpeakerBounds()).seconds
    assert seconds == pytest.approx(6.0 / 2 / (28 / 36))
