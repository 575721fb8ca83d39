"""Kill the program at random moments, fill its disk, forbid it to write: nothing may be lost.

    python tools/kill_storm.py [--kills 200] [--seed 0] [--processes 8]

``kill -9`` hits ``diarize`` on a folder, ``benchmark``, ``datasets download`` (from a server in
this process) and builds of a cold cache, a quarter of the kills each, at moments spread over
the length of a whole run. After each kill everything under its final name must be whole, and what
was finished before must still be there. Then a run to the end must succeed, give what an
undisturbed run gives, and leave no drafts. After that: many processes at once on a cold cache,
a full disk, a read-only cache and output folder, each with its one line (the last two need root,
for mounts). Exits with 1 and says what was wrong if anything was. Linux only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests" / "corpora"))
from faulty_server import FaultyServer, Handler, rttm_line, write_corpus  # type: ignore[import-not-found]  # noqa: E402

SAMPLE = REPOSITORY / "datasets" / "sample" / "sample.wav"
_RECORDINGS = 6
_URIS = "abcdefgh"
_AUDIO_BYTES = 4_000_000  # so that a download can be killed in its middle
_TIMEOUT_SECONDS = 300
_FAST = ("--performance-mode", "fast")


@dataclass
class Scene:
    """A command that is killed, and what must be true whenever it was.

    ``problems``: what is half-written under a final name now. ``finished``: what is done so far,
    by name, with a hash or a count; it may only grow. ``begin_again`` undoes a whole run.
    """

    name: str
    arguments: Callable[[], list[str | Path]]
    env: dict[str, str]
    folders: tuple[Path, ...]
    problems: Callable[[], list[str]]
    finished: Callable[[], dict[str, str]]
    begin_again: Callable[[], None]

    def run(self) -> subprocess.CompletedProcess[str]:
        """Undisturbed."""
        return run(*self.arguments(), **self.env)

    def drafts(self) -> list[Path]:
        """Scratch folders under the scene's folders."""
        return [path for folder in self.folders for path in folder.rglob(".fluidaudio-*")]


@dataclass
class Tally:
    """Kills that met a running process, those among them that left a draft, and complaints."""

    kills: int = 0
    with_draft: int = 0
    complaints: list[str] = field(default_factory=list)


def fluidaudio(*arguments: str | Path, **env: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "fluidaudio_cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    )


def run(*arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """The command to its end."""
    started = fluidaudio(*arguments, **env)
    out, err = started.communicate(timeout=_TIMEOUT_SECONDS)
    return subprocess.CompletedProcess(started.args, started.returncode, out, err)


def storm(scene: Scene, kills: int, chance: random.Random) -> Tally:
    """Kill ``scene`` so many times, then let it end."""
    tally = Tally()
    began = time.perf_counter()
    whole = scene.run()
    span = time.perf_counter() - began
    if whole.returncode:
        tally.complaints.append(f"undisturbed: code {whole.returncode}: {whole.stderr}")
        return tally
    expected = scene.finished()
    scene.begin_again()
    while tally.kills < kills:
        before = scene.finished()
        started = fluidaudio(*scene.arguments(), **scene.env)
        time.sleep(chance.uniform(0.0, span))
        if started.poll() is None:
            started.kill()
            tally.kills += 1
            tally.with_draft += bool(scene.drafts())
        started.communicate()
        tally.complaints += scene.problems()
        now = scene.finished()
        lost = [name for name in before if name not in now]
        tally.complaints += [
            f"kill {tally.kills}: {name} was finished and is gone" for name in lost
        ]
        if len(now) == len(expected):
            scene.begin_again()
    last = scene.run()
    if last.returncode or "Traceback" in last.stderr:
        tally.complaints.append(f"at the end: code {last.returncode}: {last.stderr}")
    if scene.finished() != expected:
        tally.complaints.append("at the end: not what an undisturbed run gives")
    tally.complaints += [f"left behind: {path}" for path in scene.drafts()]
    return tally


def diarize_scene(folder: Path) -> Scene:
    """Many recordings, one result for each."""
    talks, out = folder / "talks", folder / "out"
    talks.mkdir(parents=True)
    for number in range(_RECORDINGS):
        os.link(SAMPLE, talks / f"{number}.wav") if _same_disk(talks) else shutil.copy(
            SAMPLE, talks / f"{number}.wav"
        )

    def results() -> Iterator[Path]:
        return (path for path in sorted(out.glob("*")) if not path.name.startswith("."))

    def problems() -> list[str]:
        return [f"{path.name} is half-written" for path in results() if not _is_rttm(path)]

    return Scene(
        "diarize",
        lambda: ["diarize", talks, "--output-dir", out, *_FAST],
        {},
        (out,),
        problems,
        lambda: {path.name: _sha256(path) for path in results()},
        lambda: shutil.rmtree(out),
    )


def benchmark_scene(folder: Path) -> Scene:
    """A benchmark that is resumed after each kill."""
    dataset, result = folder / "set", folder / "result" / "result.json"
    dataset.mkdir(parents=True)
    for number in range(_RECORDINGS):
        uri = f"r{number}"
        shutil.copy(SAMPLE, dataset / f"{uri}.wav")
        turns = SAMPLE.with_suffix(".rttm").read_text().replace(" sample ", f" {uri} ")
        (dataset / f"{uri}.rttm").write_text(turns)
    fixed: list[str | Path] = [
        "benchmark",
        *_FAST,
        "--dataset",
        dataset,
        "--iterations",
        "1",
        "--warmup",
        "0",
    ]
    fixed += ["--latency-windows", "1", "--output", result, "--output-format", "csv"]

    def finished() -> dict[str, str]:
        if not result.exists():
            return {}
        variants = json.loads(result.read_text())["variants"]
        return {file["uri"]: "measured" for each in variants for file in each["files"]}

    def problems() -> list[str]:
        try:
            finished()
        except (ValueError, KeyError, TypeError) as error:
            return [f"the result is half-written: {error}"]
        return []

    return Scene(
        "benchmark",
        lambda: [*fixed, *(["--resume"] if result.exists() else [])],
        {},
        (result.parent,),
        problems,
        finished,
        lambda: result.unlink(),
    )


@contextmanager
def download_scene(folder: Path) -> Iterator[Scene]:
    """A corpus of a server that runs in this process."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = FaultyServer(f"http://127.0.0.1:{server.server_port}")
    server.state = state  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    chance = random.Random(0)
    for uri in _URIS:
        state.add(f"/tiny/{uri}.wav", chance.randbytes(_AUDIO_BYTES))
        state.add(f"/tiny/{uri}.rttm", rttm_line(uri))
        state.add(f"/tiny/{uri}.uem", f"{uri} 1 0.0 2.0\n".encode())
    write_corpus(folder, state.url, uris=", ".join(_URIS))
    place = folder / "datasets" / "tiny"

    def files() -> dict[str, str]:
        ours = {f"{uri}.{kind}" for uri in _URIS for kind in ("wav", "rttm", "uem")}
        return {p.name: _sha256(p) for p in sorted(place.rglob("*")) if p.name in ours}

    def problems() -> list[str]:
        right = {Path(path).name: content for path, content in state.files.items()}
        wrong = [n for n, h in files().items() if h != hashlib.sha256(right[n]).hexdigest()]
        lock = place / "lock.json"
        with suppress(FileNotFoundError):
            json.loads(lock.read_text())
        return [f"{name} is half-written" for name in wrong]

    try:
        yield Scene(
            "download",
            lambda: ["datasets", "download", "tiny", "--data-dir", folder],
            {},
            (place,),
            problems,
            files,
            lambda: shutil.rmtree(place),
        )
    finally:
        server.shutdown()
        server.server_close()


def cold_scene(folder: Path) -> Scene:
    """The compiled models of a cache that is empty at first."""
    cache = folder / "cache"

    def entries() -> Iterator[Path]:
        return (p for p in sorted((cache / "models").glob("*")) if not p.name.startswith("."))

    def problems() -> list[str]:
        return [f"{path.name} is half-written" for path in entries() if not _is_whole(path)]

    return Scene(
        "cold cache",
        lambda: ["diarize", SAMPLE, "--format", "rttm", *_FAST],
        {"FLUIDAUDIO_CACHE_DIR": str(cache)},
        (cache,),
        problems,
        lambda: dict.fromkeys((path.name for path in entries()), "whole"),
        lambda: shutil.rmtree(cache),
    )


def cold_crowd(folder: Path, count: int) -> list[str]:
    """``count`` processes at once on a cold cache: each gives the same, and the cache is whole."""
    scene = cold_scene(folder)
    crowd = [fluidaudio(*scene.arguments(), **scene.env) for _ in range(count)]
    answers = [(each.communicate(timeout=_TIMEOUT_SECONDS), each.returncode) for each in crowd]
    wrong = scene.problems() + [f"left behind: {path}" for path in scene.drafts()]
    if len({(code, out, err) for (out, err), code in answers}) != 1 or answers[0][1]:
        wrong.append(f"answers differ: {answers}")
    return wrong


def unwritable(folder: Path) -> list[str]:
    """A full disk and a read-only one, for outputs and for the cache."""
    wrong: list[str] = []
    with _mounted(folder / "full", "size=64k") as full, _mounted(folder / "ro", "ro") as read_only:
        with suppress(OSError), (full / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(b"\0" * 4096)
        for place, said in (
            (full, "No space left on device"),
            (read_only, "Read-only file system"),
        ):
            commands: tuple[tuple[str | Path, ...], ...] = (
                ("diarize", SAMPLE, "--output", place / "x.rttm", *_FAST),
                ("diarize", SAMPLE, "--output-dir", place / "out", *_FAST),
                ("score", *[SAMPLE.with_suffix(".rttm")] * 2, "--output", place / "x.json"),
                ("benchmark", *_FAST, "--iterations", "1", "--output", place / "x.json"),
                ("models", "lower", "fbank", "--output", place / "x.onnx"),
            )
            for arguments in commands:
                done = run(*arguments)
                errors = [line for line in done.stderr.splitlines() if said in line]
                if done.returncode != 4 or len(errors) != 1 or "Traceback" in done.stderr:
                    wrong.append(f"{arguments[0]} on {place.name}: {done.returncode} {done.stderr}")
            done = run("diarize", SAMPLE, "--format", "rttm", FLUIDAUDIO_CACHE_DIR=str(place))
            warned = done.stderr.startswith("warning: ") and said in done.stderr
            if done.returncode or done.stderr.count("\n") != 1 or not warned:
                wrong.append(f"cache on {place.name}: {done.returncode} {done.stderr}")
        wrong += [f"left behind: {path}" for path in full.rglob(".fluidaudio-*")]
    return wrong


@contextmanager
def _mounted(place: Path, options: str) -> Iterator[Path]:
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def _same_disk(folder: Path) -> bool:
    return folder.stat().st_dev == SAMPLE.stat().st_dev


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_rttm(path: Path) -> bool:
    text = path.read_text(encoding="utf-8")
    return text.endswith("\n") and all(len(line.split()) == 10 for line in text.splitlines())


def _is_whole(entry: Path) -> bool:
    try:
        files = json.loads((entry / "entry.json").read_text())["files"]
        return all(_sha256(entry / name) == facts["sha256"] for name, facts in files.items())
    except (OSError, ValueError):
        return False


def main() -> int:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", default="diarize,benchmark,download,cold,crowd,unwritable")
    given = parser.parse_args()
    chosen = given.scenes.split(",")
    storms = [name for name in chosen if name in ("diarize", "benchmark", "download", "cold")]
    chance = random.Random(given.seed)
    complaints = 0

    def show(name: str, figures: str, wrong: list[str]) -> None:
        nonlocal complaints
        complaints += len(wrong)
        print(f"{name}: {figures}, {len(wrong)} complaints", *wrong, sep="\n  ", flush=True)  # noqa: T201

    with tempfile.TemporaryDirectory(prefix="fluidaudio-storm-") as scratch:
        folder = Path(scratch)
        os.environ["FLUIDAUDIO_TUNING"] = str(folder / "none.json")
        for number, name in enumerate(storms):
            kills = given.kills // len(storms) + (number < given.kills % len(storms))
            with download_scene(folder / "data") as download:
                scene = {
                    "diarize": lambda: diarize_scene(folder / "diarize"),
                    "benchmark": lambda: benchmark_scene(folder / "benchmark"),
                    "download": lambda: download,
                    "cold": lambda: cold_scene(folder / "cold"),
                }[name]()
                tally = storm(scene, kills, chance)
            figures = f"{tally.kills} kills, {tally.with_draft} with a draft left at that moment"
            show(scene.name, figures, tally.complaints)
        if "crowd" in chosen:
            wrong = cold_crowd(folder / "crowd", given.processes)
            show("crowd", f"{given.processes} processes on a cold cache", wrong)
        if "unwritable" in chosen:
            if os.geteuid():
                print("unwritable: left out, mounting needs root")  # noqa: T201
            else:
                show("unwritable", "12 commands on full and read-only disks", unwritable(folder))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
