"""Jobs: nothing lost whoever is killed, names as for folders, a manifest that resumes."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from simulated import Simulated, name_of

from fluidaudio_cli.audio.folders import uris_by_place
from fluidaudio_cli.errors import HostError, InputError, UsageError
from fluidaudio_cli.jobs.local import LocalPool
from fluidaudio_cli.jobs.manifest import DONE, FAILED, SET_ASIDE, Manifest, Stamp
from fluidaudio_cli.jobs.pool import Inline
from fluidaudio_cli.jobs.recordings import Recordings, State
from fluidaudio_cli.jobs.run import run
from fluidaudio_cli.jobs.work import Facts
from fluidaudio_cli.signals import deaf_to_interrupts

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has")


def paths(*names: str) -> list[Path]:
    return [Path(name) for name in names]


def test_uris_are_those_of_a_folder() -> None:
    names = ("a.wav", "a.mp3", "x/b.wav", "y/b.wav", "z/c d.wav", "z/c_d.wav", "w/q/e.wav", "e.wav")
    given = paths(*names, "v/q/e.wav", "z/c  d.wav")
    found = {each.place: each.uri for each in Recordings([*given, Path("a.wav")])}
    assert found == uris_by_place(given)
    assert found[Path("z/c  d.wav")] == "z__c_d.wav_3"


@posix_only
def test_a_killed_worker_costs_nothing_but_what_kills_it_twice(tmp_path: Path) -> None:
    names = [f"r{number}" for number in range(20)]
    names[1:1], names[15:15] = ["bad", "kill"], ["once", "odd"]
    recordings = Recordings(paths(*names))
    pool = LocalPool(Simulated(tmp_path / "log"), 2, 1)
    outcomes = {}
    for outcome in run(recordings, pool, name_of):
        uri = recordings.at(outcome.number).uri
        assert uri not in outcomes
        outcomes[uri] = outcome
        recordings.set(outcome.number, State.settled)
    assert sorted(outcomes) == sorted(names)
    assert {uri for uri, each in outcomes.items() if each.failed} == {"bad", "kill", "odd"}
    assert all(each.failed or each.document == uri.upper() for uri, each in outcomes.items())
    assert (outcomes["kill"].set_aside, outcomes["bad"].set_aside) == (True, False)
    assert str(outcomes["kill"].document) == (
        "its worker was lost, and again when it was tried alone (signal 9): "
        "it is left aside; the others are done"
    )
    assert "alone (ZeroDivisionError: at work): " in str(outcomes["odd"].document)
    log = (tmp_path / "log").read_text().splitlines()
    assert log.count("kill") == 2
    assert log.count("r0") == 1  # done before its worker was lost
    # Two to begin with, and one more for each of those that were lost.
    assert log.count("start 1") <= 2 + 5


def test_what_loading_raises_ends_the_job(tmp_path: Path) -> None:
    pool = LocalPool(Simulated(tmp_path / "log", loads=False), 1, 1)
    with pytest.raises(HostError) as caught:
        list(run(Recordings(paths("a")), pool, name_of))
    assert str(caught.value) == "no models: build them"


@posix_only
def test_workers_do_not_hear_ctrl_c_while_they_start() -> None:
    script = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    with deaf_to_interrupts():
        said = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True)
    assert said.stdout.strip() == b"True"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@posix_only
def test_workers_that_die_at_their_start_are_not_begun_for_ever(tmp_path: Path) -> None:
    (tmp_path / "dies-at-start").touch()
    pool = LocalPool(Simulated(tmp_path / "log"), 1, 1)
    with pytest.raises(HostError) as caught:
        list(run(Recordings(paths("a")), pool, name_of))
    assert str(caught.value) == (
        "3 workers in a row ended before their models were loaded (signal 9): "
        "see `fluidaudio doctor`; memory may be short"
    )


def test_a_manifest_resumes_what_is_as_it_was(tmp_path: Path) -> None:
    talks = [tmp_path / f"{name}.wav" for name in ("same", "changed", "failed", "aside", "gone")]
    for path in talks:
        path.write_text("audio")
    facts = Facts("here", "x86", {"precision": "fp32"})

    def result(uri: str) -> Path:
        return tmp_path / f"{uri}.rttm"

    plan = {"mode": "fast", "speakers": {"exactly": 2}}
    recordings = Recordings(talks)
    with closing(Manifest(tmp_path, plan)) as manifest:
        assert manifest.settle(recordings, result) == 0
        for each in recordings:
            result(each.uri).write_text("turns")
            state = {"failed": FAILED, "aside": SET_ASIDE}.get(each.uri, DONE)
            size = Stamp.of(result(each.uri)).bytes
            manifest.add(each, Stamp.of(each.place), facts, state=state, result_bytes=size)
        for resume in (True, False):
            with pytest.raises(HostError, match="another job writes to"):
                Manifest(tmp_path, plan, resume=resume)
    lines = [json.loads(line) for line in manifest.path.read_text().splitlines()]
    assert [line.get("uri", line.get("schema", "ran")) for line in lines] == [
        *("fluidaudio.job/1", "ran", "same", "changed", "failed", "aside", "gone")
    ]
    assert lines[2]["ran"] == lines[1]["ran"]
    assert lines[1]["plan"] == {"precision": "fp32"}
    # A line that was cut off is none; the next one begins anew.
    with manifest.path.open("a") as stream:
        stream.write('{"uri": "changed", "state": "do')
    talks[1].write_text("other audio")
    result("gone").unlink()
    recordings = Recordings(talks)
    with closing(Manifest(tmp_path, plan)) as manifest:
        assert manifest.settle(recordings, result, lambda uri: tmp_path / f"{uri}.npz") == 0
        (tmp_path / "same.npz").touch()
        assert manifest.settle(recordings, result, lambda uri: tmp_path / f"{uri}.npz") == 1
        assert manifest.settle(recordings, result) == 1
        counts = {state.name: recordings.count(state) for state in State}
        assert counts == {"settled": 1, "suspect": 1, "waiting": 3, "failed": 0}
        manifest.add(recordings.at(2), Stamp.of(talks[1]), facts, state=DONE, result_bytes=5)
    assert json.loads(manifest.path.read_text().splitlines()[-1])["uri"] == "changed"
    with pytest.raises(UsageError) as caught:
        Manifest(tmp_path, {"mode": "fast", "speakers": {"exactly": 3}})
    assert str(caught.value) == (
        f"{tmp_path} holds results of another plan (speakers.exactly 2, not 3): "
        "choose another --output-dir, or begin anew with --no-resume"
    )
    with closing(Manifest(tmp_path, {"mode": "slow"}, resume=False)) as manifest:
        assert manifest.settle(recordings, result) == 1  # as they were before
    assert manifest.path.read_text().count("\n") == 1


@pytest.mark.parametrize("there", ["", '{"sch', '{"schema": "fluidaudio.job/1", "pl', "\0" * 9])
def test_a_manifest_that_lost_its_content_is_begun_anew(tmp_path: Path, there: str) -> None:
    """As a power cut or a full disk may leave it; another file of its name stays as it is."""
    (tmp_path / "manifest.jsonl").write_text("notes")
    with pytest.raises(InputError, match="is not the manifest of a job"):
        Manifest(tmp_path, {"mode": "fast"})
    assert (tmp_path / "manifest.jsonl").read_text() == "notes"
    (tmp_path / "manifest.jsonl").write_text(there)
    with closing(Manifest(tmp_path, {"mode": "fast"})) as manifest:
        (header,) = map(json.loads, manifest.path.read_text().splitlines())
    assert header == {"schema": "fluidaudio.job/1", "plan": {"mode": "fast"}}


def test_a_result_of_another_recording_is_not_taken_for_done(tmp_path: Path) -> None:
    first, second = tmp_path / "monday" / "a.wav", tmp_path / "tuesday" / "a.wav"
    with closing(Manifest(tmp_path, {})) as manifest:
        (recording,) = Recordings([first])
        manifest.add(recording, Stamp(), None, state=DONE)
    with closing(Manifest(tmp_path, {})) as manifest, pytest.raises(UsageError) as caught:
        manifest.settle(Recordings([second]), lambda uri: tmp_path / f"{uri}.rttm")
    assert str(caught.value) == (
        f"{tmp_path / 'a.rttm'} is the result of another recording, {first}: "
        "choose another --output-dir, or begin anew with --no-resume"
    )


def test_a_list_that_finds_no_room_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def small(*given: Any, **more: Any) -> sqlite3.Connection:
        database: sqlite3.Connection = connect(*given, **more)
        database.execute("PRAGMA max_page_count = 20")
        return database

    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(HostError) as caught:
        Recordings(Path(f"{number:09}.wav") for number in range(9999))
    assert str(caught.value) == (
        "cannot keep the list of recordings in a temporary file: database or disk is full: "
        "free space, or set TMPDIR to a larger place"
    )


def test_inline_is_this_process(tmp_path: Path) -> None:
    recordings = Recordings(paths("a", "b"))
    found = list(run(recordings, Inline(Simulated(tmp_path / "log"), None), name_of))
    assert [each.document for each in found] == ["A", "B"]
    assert found[0].facts == Facts("here", "x", {"pid": os.getpid()})
