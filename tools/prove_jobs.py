"""Show that a job loses nothing, on a Ray cluster of two nodes here, and what it costs.

    python tools/prove_jobs.py [faults] [scaling] [overhead] [memory]      (all by default)

``faults``: 300 short recordings made of the bundled sample are diarized by local processes. Then
again by a cluster of two nodes of one processor each: a node is killed in the middle, a worker is
killed ten times, and at last head and command are killed, started anew, and the command goes on.
Every recording has one ``done`` in the manifest, and every result the bytes of the local run.

``scaling``: 64 such recordings by one worker and by two, in turn: processes of this machine, a
node of two processors, and two commands that share nothing; the pace of the middle half of the
results, so that loading is left out (3 minutes on two free processors). ``overhead``: time per
recording of work that takes none, results and manifest included. ``memory``: the driver's peak at
1 000, 10 000 and 100 000 names of such work.

Exits with 1 where something was lost or differs. Needs fluidaudio[cluster]; Linux only.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import wave
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from fluidaudio_cli.files import write_text_atomic
from fluidaudio_cli.jobs.cluster import ClusterPool
from fluidaudio_cli.jobs.local import LocalPool
from fluidaudio_cli.jobs.manifest import DONE, NAME, Manifest, Stamp
from fluidaudio_cli.jobs.pool import Pool
from fluidaudio_cli.jobs.recordings import Recordings, State
from fluidaudio_cli.jobs.run import run
from fluidaudio_cli.jobs.work import Facts
from fluidaudio_cli.recordings import Place

SAMPLE = Path(__file__).resolve().parent.parent / "datasets" / "sample" / "sample.wav"
RECORDINGS = 300
WORKERS_KILLED = 10
_MODE = ("--performance-mode", "fast", "--threads", "1")
# Of a recording: fewer are one window or none, more only take longer.
_SECONDS = (5, 12)
_STORE_BYTES = 80_000_000  # the least that Ray takes is 75 MB
_POLL_SECONDS = 0.05
_ROUNDS = 2
_SCALED = 64
_TAKES_SECONDS = 0.03  # a recording of some seconds


# --- A cluster that can be hurt ---


class Cluster:
    """Ray nodes on this machine, each with a raylet of its own."""

    def __init__(self, processors: Sequence[int]) -> None:
        from ray.cluster_utils import Cluster as Nodes

        head, *others = processors
        self._nodes = Nodes(initialize_head=True, head_node_args=_node(head))
        self._others = [self._nodes.add_node(**_node(count)) for count in others]
        self.address = self._nodes.address

    def workers(self) -> list[int]:
        """Processes that are at a task."""
        return [
            each.pid
            for raylet in self._raylets()
            for each in raylet.children(recursive=True)
            if _title(each).startswith("ray::_do")
        ]

    def kill_node(self) -> None:
        """The last node, with all its processes and without a word."""
        self._nodes.remove_node(self._others.pop(), allow_graceful=False)

    def kill(self) -> None:
        """All nodes."""
        for node in (*self._others, self._nodes.head_node):
            node.kill_all_processes(check_alive=False, allow_graceful=False)

    def _raylets(self) -> Iterator[psutil.Process]:
        for node in self._nodes.list_all_nodes():
            for info in node.all_processes.get("raylet", ()):
                if info.process.poll() is None:
                    yield psutil.Process(info.process.pid)


def _node(processors: int) -> dict[str, Any]:
    return {
        "num_cpus": processors,
        "object_store_memory": _STORE_BYTES,
        "include_dashboard": False,
    }


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


# --- Faults ---


def make_recordings(folder: Path, count: int, dice: random.Random) -> None:
    """Pieces of the sample, each with another beginning and length."""
    folder.mkdir()
    with wave.open(str(SAMPLE)) as reader:
        parameters, rate = reader.getparams(), reader.getframerate()
        frames = reader.readframes(reader.getnframes())
    for number in range(count):
        length = int(dice.uniform(*_SECONDS) * rate)
        start = dice.randrange(parameters.nframes - length)
        with wave.open(str(folder / f"talk{number:03d}.wav"), "wb") as writer:
            writer.setparams(parameters)
            writer.writeframes(frames[2 * start : 2 * (start + length)])


def prove_faults(scratch: Path, dice: random.Random, count: int) -> list[str]:
    """Run the faults; what was found wrong."""
    talks, local, spread = scratch / "talks", scratch / "local", scratch / "spread"
    make_recordings(talks, count, dice)
    began = time.perf_counter()
    subprocess.run(_command(talks, local), check=True, stderr=subprocess.DEVNULL)
    say(f"local: {count} recordings in {time.perf_counter() - began:.1f} s")

    began = time.perf_counter()
    cluster = Cluster([1, 1])
    job = subprocess.Popen(
        _command(talks, spread, "--cluster", cluster.address), stderr=subprocess.DEVNULL
    )
    killed = 0
    _until(spread, count // 6, job)
    cluster.kill_node()
    say(f"killed a node, {done_lines(spread)} recordings done")
    while killed < WORKERS_KILLED:
        before = done_lines(spread)
        for pid in cluster.workers()[:1]:
            os.kill(pid, signal.SIGKILL)
            killed += 1
            say(f"killed worker {killed}, {before} recordings done")
            # The next one when something was done in between: as many as there are kills left.
            _until(spread, before + 1 + count // (4 * WORKERS_KILLED), job)
        time.sleep(_POLL_SECONDS)
    _until(spread, 2 * count // 3, job)
    job.send_signal(signal.SIGKILL)
    job.wait()
    cluster.kill()
    say(f"killed command and head, {done_lines(spread)} recordings done")
    cluster = Cluster([1, 1])
    code = subprocess.run(
        _command(talks, spread, "--cluster", cluster.address, "--resume"),
        stderr=subprocess.PIPE,
        text=True,
    )
    cluster.kill()
    say(f"went on to the end: exit code {code.returncode}, {code.stderr.splitlines()[0]}")
    say(f"cluster: {time.perf_counter() - began:.1f} s, with its starts")

    wrong = []
    if code.returncode:
        wrong.append(f"exit code {code.returncode}: {code.stderr}")
    states = Counter(line["uri"] for line in lines_of(spread) if line.get("state") == DONE)
    if len(states) != count or set(states.values()) != {1}:
        wrong.append(f"{len(states)} of {count} done; more than once: {states.most_common(3)}")
    others = [line for line in lines_of(spread) if line.get("state") not in (None, DONE)]
    if others:
        wrong.append(f"not done at first: {others}")
    expected = {path.name: path.read_bytes() for path in local.glob("*.rttm")}
    found = {path.name: path.read_bytes() for path in spread.glob("*.rttm")}
    if found != expected or len(expected) != count:
        wrong.append(f"{len(found)} results of {len(expected)}, or other bytes")
    if left := [path.name for path in spread.iterdir() if path.name.startswith(".")]:
        wrong.append(f"left behind: {left}")
    say(f"{len(states)} recordings, each done once; {len(found)} results equal to the local run's")
    return wrong


def _command(talks: Path, out: Path, *more: str) -> list[str]:
    arguments = ("diarize", str(talks), "--output-dir", str(out), *_MODE, *more)
    return [sys.executable, "-m", "fluidaudio_cli", *arguments]


def _until(folder: Path, count: int, job: subprocess.Popen[Any]) -> None:
    while done_lines(folder) < count:
        if job.poll() is not None:
            raise SystemExit(f"the job ended with {job.returncode} before it was hurt")
        time.sleep(_POLL_SECONDS)


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """Lines of the manifest."""
    path = folder / NAME
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
    # One that was cut off by a kill ends where the next begins.
    return [json.loads(line) for line in whole.splitlines() if line.endswith("}")]


def done_lines(folder: Path) -> int:
    """How many recordings the manifest has as done."""
    return sum(line.get("state") == DONE for line in lines_of(folder))


# --- Work that takes a given time ---


@dataclass(frozen=True)
class Simulated:
    """Takes ``seconds`` for each recording, and no processor: others here do not matter."""

    seconds: float

    def start(self, threads: int | None) -> Simulated:
        """Nothing to load."""
        return self

    @property
    def facts(self) -> Facts:
        """Of this host."""
        return Facts(socket.gethostname(), os.uname().machine, {"simulated": self.seconds})

    def run(self, sources: Sequence[str]) -> Iterator[str]:
        """A line of text for each."""
        for source in sources:
            if self.seconds:
                time.sleep(self.seconds)
            yield f"{source}\n"


def do_job(places: Iterable[Place], folder: Path, pool: Pool) -> float:
    """A whole job as ``diarize`` does it; seconds per recording in its middle half."""
    folder.mkdir(parents=True)
    recordings = Recordings(places)
    times = array("d")
    with closing(Manifest(folder, {})) as manifest:
        for outcome in run(recordings, pool, lambda each: each.uri):
            recording = recordings.at(outcome.number)
            target = folder / f"{recording.uri}.rttm"
            write_text_atomic(target, outcome.document)
            size = Stamp.of(target).bytes
            manifest.add(recording, Stamp(), outcome.facts, state=DONE, result_bytes=size)
            recordings.set(outcome.number, State.settled)
            times.append(time.perf_counter())
    recordings.close()
    return _pace(times)


def _pace(times: Sequence[float]) -> float:
    """Seconds between two of the middle half of ascending ``times``."""
    quarter = len(times) // 4
    return (times[-quarter - 1] - times[quarter]) / (len(times) - 2 * quarter - 1)


def names(count: int) -> Iterator[Place]:
    """Places that nothing is at."""
    return (Path(f"/recordings/2026-11/session-{number:07d}.wav") for number in range(count))


def new_pool(address: str, seconds: float = 0.0, workers: int = 1) -> Pool:
    """Workers whose work takes so long: of this machine, or of a cluster."""
    work = Simulated(seconds)
    return ClusterPool(work, address, workers, 1) if address else LocalPool(work, workers, 1)


def prove_overhead(scratch: Path) -> list[str]:
    """Say what a recording costs beyond computing, and what of that two workers do side by side."""
    cluster = Cluster([2])
    for where, address in (("local", ""), ("cluster", cluster.address)):
        seconds = do_job(names(3000), scratch / where, new_pool(address))
        one, two = (
            do_job(names(1000), scratch / f"{where}{n}", new_pool(address, _TAKES_SECONDS, n))
            for n in (1, 2)
        )
        say(
            f"overhead, {where}: {1000 * seconds:.2f} ms a recording; of work that takes "
            f"{1000 * _TAKES_SECONDS:.0f} ms, one worker {1000 * one:.2f} ms and two "
            f"{1000 * two:.2f} ms a recording: efficiency {one / (2 * two):.3f}"
        )
    cluster.kill()
    return []


def prove_memory(scratch: Path) -> list[str]:
    """Say the driver's peak for many names, each number in a process of its own."""
    cluster = Cluster([1])
    for where, address in (("local", ""), ("cluster", cluster.address)):
        for count in (1_000, 10_000, 100_000):
            folder = scratch / f"{where}-{count}"
            arguments = ("driver", str(folder), str(count), address)
            done = subprocess.run(
                [sys.executable, __file__, *arguments],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            say(f"memory, {where}, {count} names: {done.stdout.strip()}")
            shutil.rmtree(folder)
    cluster.kill()
    return []


def drive(folder: str, count: str, address: str) -> None:
    """What :func:`prove_memory` measures."""
    began = time.perf_counter()
    do_job(names(int(count)), Path(folder), new_pool(address))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    say(f"peak {peak:.1f} MiB, {time.perf_counter() - began:.0f} s")


# --- Scaling ---


def prove_scaling(scratch: Path, dice: random.Random, count: int) -> list[str]:
    """Say how much faster two workers are than one, once they are at work."""
    talks = scratch / "talks"
    make_recordings(talks, count, dice)
    cluster = Cluster([2])
    halves = []
    for half in range(2):
        halves.append(scratch / f"half{half}")
        halves[half].mkdir()
        for path in sorted(talks.iterdir())[half::2]:
            os.link(path, halves[half] / path.name)

    def seconds(*commands: list[str]) -> float:
        """Between two results."""
        for out in scratch.glob("out*"):
            shutil.rmtree(out)
        running = [subprocess.Popen(each, stderr=subprocess.DEVNULL) for each in commands]
        codes = [each.wait() for each in running]
        if any(codes):
            raise SystemExit(f"failed: {commands}")
        return _pace(sorted(path.stat().st_mtime for path in scratch.glob("out*/*.rttm")))

    def job(folder: Path, *more: str) -> list[str]:
        out = scratch / f"out{next(numbers)}"
        return _command(folder, out, *more)

    numbers = itertools.count()
    spread = ("--cluster", cluster.address)
    ways: dict[str, tuple[list[list[str]], list[list[str]]]] = {
        "local": (
            [job(talks, "--workers", "1")],
            [job(talks, "--workers", "2", "--threads", "2")],
        ),
        "cluster": (
            [job(talks, "--workers", "1", *spread)],
            [job(talks, "--workers", "2", *spread)],
        ),
        # What the processors allow: half of the recordings each, nothing shared.
        "two commands": ([job(talks)], [job(half) for half in halves]),
    }
    for name, (by_one, by_two) in ways.items():
        pairs = [(seconds(*by_one), seconds(*by_two)) for _ in range(_ROUNDS)]
        told = ", ".join(f"{1000 * one:.0f} ms and {1000 * two:.0f} ms" for one, two in pairs)
        efficiency = statistics.median(one / (2 * two) for one, two in pairs)
        say(f"scaling, {name}: one worker and two {told} a recording; efficiency {efficiency:.2f}")
    cluster.kill()
    return []


def say(line: str) -> None:
    """To stdout, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Do what was asked for."""
    if sys.argv[1:2] == ["driver"]:
        drive(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", nargs="*", default=["faults", "scaling", "overhead", "memory"])
    parser.add_argument("--recordings", type=int, default=RECORDINGS)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    proofs: dict[str, Callable[[Path], list[str]]] = {
        "faults": lambda scratch: prove_faults(scratch, dice, asked.recordings),
        "scaling": lambda scratch: prove_scaling(scratch, dice, _SCALED),
        "overhead": prove_overhead,
        "memory": prove_memory,
    }
    wrong = []
    for what in asked.what:
        dice = random.Random(asked.seed)
        with tempfile.TemporaryDirectory() as scratch:
            wrong += proofs[what](Path(scratch))
    for line in wrong:
        say(f"FOUND {line}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
