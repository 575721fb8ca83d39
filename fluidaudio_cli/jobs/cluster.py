"""Workers on a Ray cluster: one task for each chunk.

Tasks, not Ray Data: that is made for blocks of rows which flow through stages, and does a block
over when one row of it fails; here each recording must be accounted for by itself, and results
are small. Ray starts the processes, keeps them from task to task (so that each loads its models
once), gives every one its processors, and repeats a task whose node or process died.
"""

from __future__ import annotations

import os
import socket
import uuid
from typing import Any

from fluidaudio_cli import __version__
from fluidaudio_cli.errors import FluidAudioError, HostError, UsageError, os_errors
from fluidaudio_cli.jobs.pool import Chunk, News
from fluidaudio_cli.jobs.work import Outcome, Session, Work

_GROUP = 4
"""Processors of a worker unless told: one thread decodes for all, and Python holds up more. Not
measured: there were two processors to develop on."""

_CHUNK_RETRIES = 1
"""Of a chunk, by Ray: enough for a node that dies. Then each recording is tried by itself."""

_AHEAD = 2
"""Chunks under way for each worker: one that it does, and one that waits there for it."""


_ANSWER_SECONDS = 5.0
"""Within which the head takes a connection."""


class ClusterPool:
    """``workers`` processes (``None``: as many as fit) of ``threads`` processors each.

    ``address``: of the cluster, or ``auto`` for the one that runs here. Raises ``HostError``
    where there is none, or no node has so many processors.
    """

    def __init__(self, work: Work, address: str, workers: int | None, threads: int | None) -> None:
        self._ray = ray = _ray()
        remedy = "start one with `ray start --head`, or give its address"
        refused = f"no Ray cluster at {address}", remedy, HostError
        with os_errors(*refused, ValueError, RuntimeError):
            ray.init(
                address=_answering(ray, address),
                log_to_driver=False,
                logging_level="ERROR",
                # Before NumPy is imported there: sums would depend on a node's processors.
                runtime_env={"env_vars": {"OPENBLAS_NUM_THREADS": "1"}},
            )
        nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        threads = threads or min(_GROUP, max(1, min((n for n in nodes if n), default=1)))
        fit = sum(count // threads for count in nodes)
        if not fit:
            ray.shutdown()
            raise UsageError(
                f"no node of the cluster has {threads} processors", "give fewer --threads"
            )
        self.capacity = workers or _AHEAD * fit
        self._work, self._threads = work, threads
        self._job = uuid.uuid4().hex
        self._task = ray.remote(_do)
        self._under_way: dict[Any, Chunk] = {}

    def submit(self, chunk: Chunk) -> None:
        """Hand it to Ray."""
        task = self._task.options(
            num_cpus=self._threads, max_retries=0 if chunk.alone else _CHUNK_RETRIES
        )
        given = (__version__, self._job, self._work, self._threads, chunk.sources)
        self._under_way[task.remote(*given)] = chunk

    def wait(self) -> News:
        """What the next task that ends has to tell."""
        exceptions = self._ray.exceptions
        (ready, *_), _ = self._ray.wait(list(self._under_way))
        chunk = self._under_way.pop(ready)
        try:
            answer = self._ray.get(ready)
        except exceptions.NodeDiedError as error:
            if chunk.alone:  # not for anything in the recording
                self.submit(chunk)
                return News(chunk)
            return News(chunk, ended=True, lost=_first_line(error))
        except exceptions.RayError as error:
            return News(chunk, ended=True, lost=_first_line(error))
        if isinstance(answer, FluidAudioError):
            raise answer
        facts, documents = answer
        outcomes = [
            Outcome(number, document, facts)
            for number, document in zip(chunk.numbers, documents, strict=True)
        ]
        return News(chunk, outcomes, ended=True)

    def close(self) -> None:
        """Leave the cluster, which ends this job's processes there."""
        self._ray.shutdown()


_loaded: tuple[str, Session] | None = None
"""What this worker process has loaded for which job: Ray keeps the process for its next tasks."""


def _do(version: str, job: str, work: Work, threads: int, sources: tuple[Any, ...]) -> Any:
    """On a node: its facts and the documents of ``sources``, or the error that ends the job."""
    global _loaded
    try:
        if version != __version__:
            raise HostError(
                f"a node has fluidaudio {__version__}, and the head has {version}",
                "install the same on all",
            )
        if _loaded is None or _loaded[0] != job:
            _loaded = job, work.start(threads)
        session = _loaded[1]
        return session.facts, tuple(session.run(sources))
    except FluidAudioError as error:
        return error


def _ray() -> Any:
    # Ray's own notes on stderr are none of the command's.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Of a task that its memory monitor ends: without end otherwise, and the job would never. Ray
    # reads it in the process that hands out tasks.
    os.environ.setdefault("RAY_task_oom_retries", "0")
    try:
        import ray
    except ImportError as error:
        raise HostError(
            f"--cluster needs Ray: {error}", "pip install 'fluidaudio[cluster]'"
        ) from error
    # What it tells of each retry goes to stdout, which is for results; there is no public switch.
    ray._private.worker._worker_logs_enabled = False
    return ray


def _answering(ray: Any, address: str) -> str:
    """``address``, at which something answers: Ray would try for many minutes.

    Raises ``OSError`` or ``ValueError``.
    """
    place = address.removeprefix("ray://")
    if place == address:  # Ray knows where its own cluster of this machine is, or was
        place = ray._private.services.canonicalize_bootstrap_address(address) or "nowhere"
    host, colon, port = place.rpartition(":")
    if not (colon and port.isdecimal()):
        raise ValueError("give auto, or HOST:PORT")
    with socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS):
        return address if address.startswith("ray://") else place


def _first_line(error: BaseException) -> str:
    # Of what a task raised, Ray's own text is a traceback.
    cause = getattr(error, "cause", None) or error
    text = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {text[0]}" if text else type(cause).__name__
