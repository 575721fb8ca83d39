"""A window is copied once, and no array between networks: shown by the addresses themselves.

The whole pipeline with the real models, on every executor here. What each request was given and,
with OpenVINO, what the runtime's own tensors point to is noted as a range of addresses.
"""

from __future__ import annotations

import wave
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fluidaudio_cli.diarization import loading
from fluidaudio_cli.diarization.modes import load_mode
from fluidaudio_cli.executors.base import Array, Feeds, InferRequest
from fluidaudio_cli.executors.select import availabilities
from fluidaudio_cli.models.loading import load_model

EXECUTORS = ("onnxruntime", "openvino")
STEPS = (10.0, 5.0)  # seconds between windows: side by side, and in two phases
SECONDS = 60
# Small, so that a minute fills several.
BATCH = 2
NETWORKS = ("segmentation", "fbank", "embedding")


class Span(NamedTuple):
    """Where an array lies: its first byte, the one after its last, and its rows."""

    start: int
    end: int
    rows: int

    @classmethod
    def of(cls, array: Array) -> Span:
        assert array.flags.c_contiguous
        address: int = array.__array_interface__["data"][0]
        return cls(address, address + array.nbytes, len(array))

    @property
    def size(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Call:
    """A run of a network: where its input lay, where it was to write, where its result lies.

    ``native``: first byte of every input tensor that the OpenVINO requests below hold.
    ``copied``: by how much ``copied_bytes`` rose.
    """

    network: str
    given: Span
    target: Span | None
    result: Span
    native: tuple[int, ...]
    copied: int


class Recorder:
    """A request that notes every run; all else is the request's own."""

    def __init__(self, network: str, request: InferRequest, log: list[Call]) -> None:
        self._network, self._request, self._log = network, request, log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)

    def run(self, feeds: Feeds, outputs: Feeds | None = None) -> Mapping[str, Array]:
        before = self._request.copied_bytes
        results = self._request.run(feeds, outputs)
        self._note(feeds, outputs or {}, before, results)
        return results

    def _note(self, feeds: Feeds, outputs: Feeds, before: int, results: Feeds) -> None:
        (given,), (result,) = feeds.values(), results.values()
        targets = [Span.of(array) for array in outputs.values()]
        copied = self._request.copied_bytes - before
        native = tuple(native_inputs(self._request))
        self._log.append(
            Call(
                self._network,
                Span.of(given),
                targets[0] if targets else None,
                Span.of(result),
                native,
                copied,
            )
        )


def native_inputs(request: object) -> Iterator[int]:
    """Addresses of the input tensors of every OpenVINO request that ``request`` is made of."""
    waiting, seen = [request], set()
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        kind = type(part)
        if kind.__name__ == "InferRequest" and kind.__module__.startswith("openvino"):
            for tensor in part.input_tensors:  # type: ignore[attr-defined]
                yield tensor.data.ctypes.data
        elif kind.__module__.startswith("fluidaudio_cli."):
            waiting.extend(getattr(part, "__dict__", {}).values())


@dataclass(frozen=True)
class Run:
    """A minute through the pipeline, on one worker."""

    executor: str
    windows: int
    crops: int
    copied_bytes: int
    log: list[Call]

    def calls(self, network: str) -> list[Call]:
        return [call for call in self.log if call.network == network]


@pytest.fixture(scope="module")
def minute(sample_wav: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled conversation twice."""
    path = tmp_path_factory.mktemp("audio") / "minute.wav"
    with wave.open(str(sample_wav)) as reader, wave.open(str(path), "wb") as writer:
        writer.setparams(reader.getparams())
        writer.writeframes(reader.readframes(reader.getnframes()) * 2)
    return path


@pytest.fixture(
    scope="module",
    params=[(executor, step) for executor in EXECUTORS for step in STEPS],
    ids=lambda param: f"{param[0]}-{param[1]:g}s",
)
def run(request: pytest.FixtureRequest, minute: Path) -> Run:
    """The second run, in the fastest precision: at the first the models learn some shapes."""
    executor, step = request.param
    state = availabilities()[executor]
    if not state.ok:
        pytest.skip(f"{executor} is not here: {state.reason}")
    fast = load_mode("fast")
    mode = replace(
        fast,
        windows=replace(fast.windows, step_seconds=step, batch=BATCH),
        embedding=replace(fast.embedding, batch=BATCH),
    )
    log: list[Call] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "load_model", _recorded(load_model, log))
        loaded = loading.load_pipeline(mode, executor=executor, threads=1)
        loaded.diarize(minute)
        log.clear()
        timings = loaded.diarize(minute).timings
        loaded.close()
    return Run(executor, timings.windows, timings.crops, timings.copied_bytes, log)


def _recorded(plain_load: Callable[..., Any], log: list[Call]) -> Callable[..., Any]:
    def load(model: Any, *arguments: Any, **options: Any) -> Any:
        compiled = plain_load(model, *arguments, **options)
        plain = compiled.request
        # segmentation-adapted, and embedding-int8 where the processor gains by it.
        role = model.name.split("-")[0]
        compiled.request = lambda: Recorder(role, plain(), log)
        return compiled

    return load


def test_several_batches_ran_every_network(run: Run) -> None:
    assert len(run.calls("segmentation")) >= 3
    assert sum(call.given.rows for call in run.calls("segmentation")) == run.windows
    crops = [call.given.rows for call in run.calls("embedding")]
    assert crops == [call.given.rows for call in run.calls("fbank")]
    assert sum(crops) == run.crops >= 6
    # Arrays of several windows or crops are handed over as they lie, too.
    for network in NETWORKS:
        assert max(call.given.rows for call in run.calls(network)) == BATCH


def test_windows_lie_aligned_in_one_place(run: Run) -> None:
    """Every batch is read where the one copy of its windows put it."""
    calls = run.calls("segmentation")
    start, end = min(call.given.start for call in calls), max(call.given.end for call in calls)
    assert end - start == BATCH * 4 * 160_000
    assert all(call.given.start % 64 == 0 for call in calls)
    assert all((call.given.start - start) % (4 * 160_000) == 0 for call in calls)


def test_a_window_is_copied_once(run: Run) -> None:
    """What is copied is a window with its tail, a fifth of the overlap, and what crops hear."""
    window, crop = 4 * 160_240, 4 * (32_240 + 200 * 80)
    # The most: a crop is cut out of its window, and its frames may be repeated in place.
    assert run.windows * window <= run.copied_bytes
    assert run.copied_bytes <= 1.2 * run.windows * window + run.crops * crop


def test_the_embedding_reads_what_the_filter_bank_wrote_where_it_wrote_it(run: Run) -> None:
    filled = run.calls("fbank")
    for fbank, embedding in zip(filled, run.calls("embedding"), strict=True):
        assert fbank.target == fbank.result == embedding.given
    assert len({call.result.start for call in filled}) == 1  # one store for all batches


def test_no_request_copied_a_byte_of_a_full_batch(run: Run) -> None:
    for network in NETWORKS:
        for call in run.calls(network):
            # A short batch may be filled up, beside a copy of its own rows.
            allowed = {0} if call.given.rows == BATCH else {0, call.given.size}
            assert call.copied in allowed, network


def test_openvinos_own_tensors_point_into_our_memory(run: Run) -> None:
    for network in NETWORKS:
        for call in run.calls(network):
            if run.executor != "openvino":
                assert call.native == ()
            elif call.given.rows == BATCH or not call.copied:
                inside = [call.given.start <= each < call.given.end for each in call.native]
                assert any(inside), network
