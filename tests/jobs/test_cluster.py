"""Jobs on Ray, against a stand-in of its few functions; tools/prove_jobs.py uses a real cluster."""

from __future__ import annotations

import os
import socket
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from simulated import Simulated, name_of

from fluidaudio_cli import __version__
from fluidaudio_cli.errors import HostError, UsageError
from fluidaudio_cli.jobs import cluster
from fluidaudio_cli.jobs.cluster import ClusterPool
from fluidaudio_cli.jobs.recordings import Recordings
from fluidaudio_cli.jobs.run import run


class RayError(Exception):
    """What Ray's own errors inherit."""


class NodeDiedError(RayError):
    """A node is gone."""


class RayTaskError(RayError):
    """The task raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("a traceback")
        self.cause = cause


class StandIn:
    """Does tasks when they are asked for; ``accidents``: errors in place of the next ones."""

    exceptions = SimpleNamespace(RayError=RayError, NodeDiedError=NodeDiedError)

    def __init__(self, *processors: int) -> None:
        self.head = socket.create_server(("127.0.0.1", 0))
        self._private = SimpleNamespace(
            worker=SimpleNamespace(_worker_logs_enabled=True),
            services=SimpleNamespace(canonicalize_bootstrap_address=self._address_of),
        )
        self.processors = processors
        self.accidents: deque[Exception] = deque()
        self.asked: list[tuple[Any, ...]] = []
        self.tasks: dict[int, Any] = {}
        self.open = False

    def _address_of(self, address: str) -> str:
        return f"127.0.0.1:{self.head.getsockname()[1]}" if address == "auto" else address

    def init(self, address: str, **_: Any) -> None:
        if address != self._address_of("auto"):
            raise ConnectionError("not\nRay")
        self.open = True

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": float(n)}} for n in self.processors]

    def remote(self, function: Any) -> Any:
        def options(**given: Any) -> Any:
            def submit(*arguments: Any) -> int:
                self.asked.append((given["num_cpus"], given["max_retries"], arguments[-1]))
                self.tasks[len(self.asked)] = lambda: function(*arguments)
                return len(self.asked)

            return SimpleNamespace(remote=submit)

        return SimpleNamespace(options=options)

    def wait(self, tasks: list[int]) -> tuple[list[int], list[int]]:
        return tasks[:1], tasks[1:]

    def get(self, task: int) -> Any:
        if self.accidents and (accident := self.accidents.popleft()) is not None:
            raise accident
        return self.tasks[task]()

    def shutdown(self) -> None:
        self.open = False


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    stand_in = StandIn(2, 3)
    monkeypatch.setitem(sys.modules, "ray", stand_in)
    monkeypatch.setattr(cluster, "_loaded", None)
    with stand_in.head:
        yield stand_in


def recordings(*names: str) -> Recordings:
    return Recordings(Path(name) for name in names)


def test_chunks_are_tasks_and_what_is_lost_is_tried_alone(ray: StandIn, tmp_path: Path) -> None:
    ray.accidents.extend([RayTaskError(MemoryError("all of it")), NodeDiedError("gone")])
    pool = ClusterPool(Simulated(tmp_path / "log"), "auto", 1, None)
    found = {each.number: each for each in run(recordings("a", "b", "bad"), pool, name_of)}
    assert {number: str(each.document) for number, each in found.items()} == {
        1: "A",
        2: "B",
        3: "bad is bad",
    }
    # As many processors as the smallest node has; repeated by Ray only in company.
    assert ray.asked == [
        (2, 1, ("a", "b", "bad")),
        (2, 0, ("a",)),
        (2, 0, ("a",)),  # a node died: no fault of the recording
        (2, 0, ("b",)),
        (2, 0, ("bad",)),
    ]
    assert (tmp_path / "log").read_text().splitlines() == ["start 2", "a", "b", "bad"]
    assert not ray.open
    assert not ray._private.worker._worker_logs_enabled
    # Ray reads it spelt so. What takes all memory is tried alone, too.
    assert os.environ["RAY_task_oom_retries"] == "0"  # noqa: SIM112


def test_what_is_lost_alone_as_well_is_set_aside(ray: StandIn, tmp_path: Path) -> None:
    ray.accidents.extend([RayError("crashed"), RayTaskError(MemoryError("all\nof it"))])
    pool = ClusterPool(Simulated(tmp_path / "log"), "auto", 1, 1)
    (outcome,) = run(recordings("a"), pool, name_of)
    assert outcome.set_aside
    assert "tried alone (MemoryError: all): " in str(outcome.document)


def test_a_node_that_cannot_do_it_ends_the_job(ray: StandIn, tmp_path: Path) -> None:
    pool = ClusterPool(Simulated(tmp_path / "log", loads=False), "auto", None, 1)
    assert pool.capacity == 10  # one at work and one waiting for each of five processors
    with pytest.raises(HostError, match="no models: build them"):
        list(run(recordings("a"), pool, name_of))
    answer = cluster._do("0.0.0", "job", Simulated(tmp_path / "log"), 1, ("a",))
    assert str(answer) == (
        f"a node has fluidaudio {__version__}, and the head has 0.0.0: install the same on all"
    )


def test_no_cluster_and_no_room_are_said(ray: StandIn, tmp_path: Path) -> None:
    work = Simulated(tmp_path / "log")
    with socket.create_server(("127.0.0.1", 0)) as other, socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        for address, reason in (
            (f"127.0.0.1:{other.getsockname()[1]}", "not Ray"),
            (f"127.0.0.1:{silent.getsockname()[1]}", "Connection refused"),
            ("here", "give auto, or HOST:PORT"),
        ):
            with pytest.raises(HostError) as caught:
                ClusterPool(work, address, None, None)
            assert str(caught.value) == (
                f"no Ray cluster at {address}: {reason}: "
                "start one with `ray start --head`, or give its address"
            )
    with pytest.raises(UsageError) as refused:
        ClusterPool(work, "auto", None, 4)
    assert str(refused.value) == ("no node of the cluster has 4 processors: give fewer --threads")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ray", None)
        with pytest.raises(HostError, match=r"pip install 'fluidaudio\[cluster\]'"):
            ClusterPool(work, "auto", None, None)
