"""``diarize`` of many recordings into a folder: lists, URLs, resuming, what is refused."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fluidaudio_cli.cli.diarize_job import HostTally, Tally
from fluidaudio_cli.cli.diarize_run import DiarizeRun
from fluidaudio_cli.cli.render.jobs import described
from fluidaudio_cli.models.registry import bundled_models

Command = Callable[..., tuple[int, str, str]]
WriteWav = Callable[..., Path]
Samples = npt.NDArray[np.float32]

try:
    import fsspec
except ImportError:
    fsspec = None
reads_urls = pytest.mark.skipif(fsspec is None, reason="the extra [remote] is not installed")

FAST = ("--performance-mode", "fast")
pytestmark = pytest.mark.usefixtures("models_loaded_once")


@pytest.fixture
def piece(speech: Samples) -> Samples:
    """Twelve seconds of the bundled conversation."""
    return speech[: 12 * 16_000]


@reads_urls
def test_a_list_of_files_and_urls_is_done_once(
    command: Command, write_wav: WriteWav, piece: Samples, tmp_path: Path
) -> None:
    write_wav(piece, "talks/a.wav")
    talk = write_wav(piece, "b.wav")
    with fsspec.open("memory://talks//deep/c.wav", "wb") as stream:
        stream.write(talk.read_bytes())
    listed = tmp_path / "talks" / "list.txt"
    listed.write_text(f"# talks\na.wav\n\n  {talk}\nmemory://talks/\nmemory://other/none.wav\n")
    out = tmp_path / "out"
    arguments = ("diarize", listed, *FAST, "--output-dir", out)
    code, _, err = command(*arguments)
    assert code == 3
    *_, failure, summary, last = err.splitlines()
    assert failure == ("fluidaudio: memory://other/none.wav does not exist: check the address")
    assert summary.startswith("3 recordings, 36.0 s of audio in ")
    assert last == "1 of 4 recordings failed"
    texts = {name: (out / f"{name}.rttm").read_text() for name in "abc"}
    assert texts["b"] == texts["a"].replace(" a ", " b ")
    assert texts["c"] == texts["a"].replace(" a ", " c ")
    entries = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    states = {entry["uri"]: entry["state"] for entry in entries if "uri" in entry}
    assert states == {"a": "done", "b": "done", "c": "done", "none": "failed"}
    # Again: what is done stays as it is, and what failed is tried.
    (out / "a.rttm").chmod(0o400)
    write_wav(piece[: 8 * 16_000], "b.wav")
    with fsspec.open("memory://other/none.wav", "wb") as stream:
        stream.write((tmp_path / "talks" / "a.wav").read_bytes())
    before = (out / "a.rttm").stat().st_ino
    code, _, err = command(*arguments, "--resume")
    assert code == 0, err
    assert err.splitlines()[:3] == [
        f"2 of 4 recordings are done: {out / 'manifest.jsonl'}",
        f"wrote {out / 'b.rttm'}",
        f"wrote {out / 'none.rttm'}",
    ]
    assert (out / "a.rttm").stat().st_ino == before
    code, _, err = command(*arguments, "--num-speakers", "2")
    assert (code, err) == (
        2,
        f"fluidaudio: {out} holds results of another plan (speakers.exactly null, not 2): "
        "choose another --output-dir, or begin anew with --no-resume\n",
    )
    code, out_text, _ = command(*arguments, "--format", "json", "--no-resume")
    assert code == 0
    summary_document = json.loads(out_text)
    assert summary_document["schema"] == "fluidaudio.job-summary/1"
    assert (summary_document["done"], summary_document["failed"]) == (4, 0)
    assert sum(host["audio_seconds"] for host in summary_document["hosts"]) == 44.0


def test_evidence_that_is_gone_is_made_again_and_other_networks_are_another_plan(
    command: Command, write_wav: WriteWav, piece: Samples, tmp_path: Path
) -> None:
    for name in "ab":
        write_wav(piece, f"talks/{name}.wav")
    out, kept = tmp_path / "out", tmp_path / "evidence"
    arguments = ("diarize", tmp_path / "talks", *FAST, "--output-dir", out, "--save-evidence", kept)
    assert command(*arguments)[0] == 0
    (kept / "b.npz").unlink()
    code, _, err = command(*arguments)
    assert (code, err.splitlines()[0]) == (
        0,
        f"1 of 2 recordings are done: {out / 'manifest.jsonl'}",
    )
    assert (kept / "b.npz").is_file()
    # The set's name alone would not tell a card whose packages were changed.
    manifest = out / "manifest.jsonl"
    sha256 = bundled_models()["segmentation-adapted"].sha256[:12]
    manifest.write_text(manifest.read_text().replace(sha256, "0123456789ab"))
    code, _, err = command(*arguments)
    assert code == 2
    assert f"another plan (packages.segmentation 0123456789ab, not {sha256})" in err


def test_a_single_recording_does_not_replace_the_result_of_a_job(
    command: Command, write_wav: WriteWav, piece: Samples, tmp_path: Path
) -> None:
    for name in ("talks/a.wav", "talks/b.wav", "a.wav"):
        write_wav(piece[: 6 * 16_000], name)
    out = tmp_path / "out"
    assert command("diarize", tmp_path / "talks", *FAST, "--output-dir", out)[0] == 0
    before = (out / "a.rttm").stat().st_ino
    code, _, err = command("diarize", tmp_path / "a.wav", *FAST, "--output-dir", out)
    assert (code, f"{out / 'a.rttm'} is the result of another recording" in err) == (2, True)
    code, _, err = command("diarize", tmp_path / "talks" / "a.wav", *FAST, "--output-dir", out)
    assert (code, err) == (0, f"1 of 1 recordings are done: {out / 'manifest.jsonl'}\n")
    assert (out / "a.rttm").stat().st_ino == before


def test_a_recording_that_grew_while_it_was_read_is_not_done(
    command: Command, write_wav: WriteWav, piece: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = write_wav(piece, "talks/a.wav")
    out = talk.parent.parent / "out"
    arguments = ("diarize", talk.parent, *FAST, "--output-dir", out)
    take = DiarizeRun.take

    def meanwhile(*given: Any) -> None:
        write_wav(np.concatenate([piece, piece]), "talks/a.wav")
        take(*given)

    with monkeypatch.context() as patched:
        patched.setattr(DiarizeRun, "take", meanwhile)
        assert command(*arguments)[0] == 0
    before = (out / "a.rttm").read_text()
    code, _, err = command(*arguments)
    assert (code, "are done" in err) == (0, False)
    assert len((out / "a.rttm").read_text()) > len(before)
    assert "1 of 1 recordings are done" in command(*arguments)[2]


@reads_urls
def test_a_url_without_a_length_is_read_forward(
    command: Command, write_wav: WriteWav, piece: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_wav(piece, "talk.wav")

    class Unmeasured(io.BytesIO):
        """As fsspec has an answer of HTTP without Content-Length."""

        size = None

        def seek(self, *_: object) -> int:
            raise ValueError("Cannot seek streaming HTTP file")

    opened = SimpleNamespace(open=lambda: Unmeasured(path.read_bytes()))
    monkeypatch.setattr(fsspec, "open", lambda *_: opened)
    code, found, err = command("diarize", "memory://one/talk.wav", *FAST)
    assert (code, err) == (0, "")
    assert found == command("diarize", path, *FAST)[1]


@reads_urls
def test_a_url_is_read_as_a_file_is(
    command: Command, write_wav: WriteWav, piece: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_wav(piece, "talk.wav")
    with fsspec.open("memory://one/talk.wav", "wb") as stream:
        stream.write(path.read_bytes())
    _, expected, _ = command("diarize", path, *FAST, "--format", "json")
    code, found, err = command("diarize", "memory://one/talk.wav", *FAST, "--format", "json")
    assert (code, err) == (0, "")
    document = json.loads(found)
    assert document["segments"] == json.loads(expected)["segments"]
    assert (document["uri"], document["audio"]["path"]) == ("talk", "memory://one/talk.wav")

    def fails(*_: object) -> bytes:
        raise RuntimeError("connection reset\nby peer")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFile.read", fails)
    code, _, err = command("diarize", "memory://one/talk.wav", *FAST)
    assert (code, err) == (
        3,
        "fluidaudio: cannot read memory://one/talk.wav: connection reset by peer: "
        "check the address and the access rights\n",
    )


def unknown(scheme: str) -> None:
    raise ValueError(f"Protocol not known: {scheme}")


def test_what_reads_a_url_must_be_there(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    if fsspec is None:
        monkeypatch.setitem(sys.modules, "fsspec", SimpleNamespace(get_filesystem_class=unknown))
    code, _, err = command("diarize", "gs2://bucket/a.wav")
    assert (code, err) == (
        4,
        "fluidaudio: gs2://bucket/a.wav cannot be read: Protocol not known: gs2: "
        "install it, or copy the file\n",
    )
    monkeypatch.setitem(sys.modules, "fsspec", None)
    code, _, err = command("diarize", "s3://bucket/a.wav")
    assert (code, err) == (
        4,
        "fluidaudio: s3://bucket/a.wav cannot be read: fsspec is not installed: "
        "pip install 'fluidaudio[remote]'\n",
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ("--workers", "2"),
            "--cluster, --workers and --no-resume are for results in a folder: "
            "add --output-dir DIR",
        ),
        (
            ("--workers", "9", "--threads", "2", "--output-dir", "out"),
            "--workers 9 is more than the 2 processors they would share: give each at least one",
        ),
    ],
)
def test_what_cannot_be_spread_is_refused(
    more: tuple[str, ...],
    message: str,
    command: Command,
    write_wav: WriteWav,
    piece: Samples,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_wav(piece, "talks/a.wav")
    code, _, err = command("diarize", "talks", *FAST, *more)
    assert (code, err) == (2, f"fluidaudio: {message}\n")


def test_progress_tells_pace_and_time_left() -> None:
    tally = Tally(300, before=100, done=48, failed=2, audio_seconds=5400.0, seconds=60.0)
    assert described(tally) == "150 of 300 recordings, 1.5 h of audio, 90x, 2 failed, 0:03:00 left"
    total = HostTally(1, 2, 3.0, 4.0)
    total.add(HostTally(10, 20, 30.0, 40.0))
    assert total == HostTally(11, 22, 33.0, 44.0)
