"""Any number of rows on a model of one batch size: what the inner model is given, and results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest

from fluidaudio_cli.errors import HostError, UsageError
from fluidaudio_cli.executors.base import (
    Array,
    CompiledModel,
    ExecutorOptions,
    ExecutorRun,
    Feeds,
    InferRequest,
    OperatorTime,
    TensorSpec,
)
from fluidaudio_cli.executors.cache import CompileCache
from fluidaudio_cli.executors.feeds import ResultBuffers
from fluidaudio_cli.executors.fixed_batch import FixedBatchModel, has_batch
from fluidaudio_cli.executors.select import executor
from fluidaudio_cli.resources import packages_dir

BATCH = 4
Floats = npt.NDArray[np.float32]


class FakeModel:
    """``total`` = sum of ``x`` and ``offset``, for exactly four rows; remembers its runs."""

    inputs = (
        TensorSpec("x", (BATCH, 3), "float32"),
        TensorSpec("offset", (BATCH, 1), "float32"),
    )
    outputs = (TensorSpec("total", (BATCH,), "float32"),)
    asked = ExecutorOptions("fp32", batch=BATCH)
    ran = ExecutorRun("fake", "1", "fp32", "CPU", 1, 1, BATCH)
    cache_hit = True
    closed = False

    def __init__(self) -> None:
        self.requests: list[FakeRequest] = []

    def request(self) -> FakeRequest:
        self.requests.append(FakeRequest())
        return self.requests[-1]

    def operator_times(self) -> tuple[OperatorTime, ...]:
        return (OperatorTime("sum", "Sum", "fake", 1, 0.5),)

    def close(self) -> None:
        self.closed = True


class FakeRequest:
    """What it was given: addresses and copies of the inputs, the outputs it was told to use."""

    def __init__(self) -> None:
        self.copied_bytes = 0
        self.seen: list[Floats] = []
        self.addresses: list[int] = []
        self.given: list[Feeds | None] = []
        self.error: Exception | None = None
        self._buffers = ResultBuffers(FakeModel.outputs)

    def run(self, feeds: Feeds, outputs: Feeds | None = None) -> Mapping[str, Array]:
        if self.error is not None:
            raise self.error
        x, offset = cast(Floats, feeds["x"]), cast(Floats, feeds["offset"])
        assert (x.shape, offset.shape) == ((BATCH, 3), (BATCH, 1))
        self.seen.append(x.copy())
        self.addresses.append(x.ctypes.data)
        self.given.append(outputs)
        results = self._buffers.of({"total": (BATCH,)}, outputs)
        results["total"][...] = x.sum(axis=1) + offset[:, 0]
        return results


@pytest.fixture
def fake() -> FakeModel:
    return FakeModel()


@pytest.fixture
def model(fake: FakeModel) -> FixedBatchModel:
    return FixedBatchModel(fake, BATCH)


def feeds(rows: int) -> dict[str, Array]:
    """Row n is (n, n, n) and 100: its total is 3 n + 100."""
    x = np.repeat(np.arange(rows, dtype=np.float32)[:, None], 3, axis=1)
    return {"x": x, "offset": np.full((rows, 1), 100.0, np.float32)}


def totals(rows: int) -> Floats:
    return 3 * np.arange(rows, dtype=np.float32) + 100


def test_description(fake: FakeModel, model: FixedBatchModel) -> None:
    assert isinstance(model, CompiledModel)
    assert isinstance(model.request(), InferRequest)
    assert [str(spec) for spec in model.inputs] == ["x float32[*, 3]", "offset float32[*, 1]"]
    assert [str(spec) for spec in model.outputs] == ["total float32[*]"]
    assert (model.asked, model.ran, model.parts) == (fake.asked, fake.ran, (fake,))
    assert model.cache_hit
    assert model.operator_times() == fake.operator_times()
    model.close()
    assert fake.closed


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 8, 11])
def test_rows_run_four_at_a_time(fake: FakeModel, model: FixedBatchModel, rows: int) -> None:
    results = model.request().run(feeds(rows))
    np.testing.assert_array_equal(results["total"], totals(rows))
    assert results["total"].ctypes.data % 64 == 0
    seen = np.concatenate(fake.requests[0].seen)
    assert len(seen) == -(-rows // BATCH) * BATCH
    np.testing.assert_array_equal(seen[:rows], feeds(rows)["x"])
    # Nothing was in the padding before.
    np.testing.assert_array_equal(seen[rows:], 0.0)


def test_whole_batches_are_used_and_written_where_they_lie(
    fake: FakeModel, model: FixedBatchModel
) -> None:
    given = feeds(10)
    results = model.request().run(given)
    (inner,) = fake.requests
    row_bytes = given["x"].strides[0]
    start = given["x"].ctypes.data
    assert inner.addresses[:2] == [start, start + 4 * row_bytes]
    assert not start <= inner.addresses[2] < start + given["x"].nbytes
    written = [None if one is None else one["total"].ctypes.data for one in inner.given]
    start = results["total"].ctypes.data
    assert written == [start, start + 4 * 4, None]


def test_only_padded_rows_are_copied(fake: FakeModel, model: FixedBatchModel) -> None:
    request = model.request()
    row_bytes = (3 + 1) * 4
    request.run(feeds(8))
    assert request.copied_bytes == 0
    request.run(feeds(6))
    assert request.copied_bytes == 2 * row_bytes
    # What the inner request copies itself counts too.
    fake.requests[0].copied_bytes = 1000
    request.run(feeds(3))
    assert request.copied_bytes == 1000 + 5 * row_bytes


def test_padding_keeps_one_place_and_is_zeros(fake: FakeModel, model: FixedBatchModel) -> None:
    request = model.request()
    for rows in (3, 1, 2):
        np.testing.assert_array_equal(request.run(feeds(rows))["total"], totals(rows))
    (inner,) = fake.requests
    assert len(set(inner.addresses)) == 1
    np.testing.assert_array_equal(inner.seen[2][:, 0], [0.0, 1.0, 0.0, 0.0])


def test_results_land_in_the_callers_array(fake: FakeModel, model: FixedBatchModel) -> None:
    store = np.full(12, np.nan, np.float32)
    given = store[1:10]
    results = model.request().run(feeds(9), {"total": given})
    assert results["total"] is given
    np.testing.assert_array_equal(store[1:10], totals(9))
    assert np.isnan(store[[0, 10, 11]]).all()
    with pytest.raises(UsageError, match=r"output 'total' is float32\[8\].*float32\[9\]"):
        model.request().run(feeds(9), {"total": store[:8]})


def test_requests_have_rows_and_results_of_their_own(
    fake: FakeModel, model: FixedBatchModel
) -> None:
    one, two = model.request(), model.request()
    first, second = one.run(feeds(5)), two.run(feeds(7))
    np.testing.assert_array_equal(first["total"], totals(5))
    np.testing.assert_array_equal(second["total"], totals(7))
    assert [len(each.seen) for each in fake.requests] == [2, 2]


def test_errors_of_the_inner_model_pass_through(fake: FakeModel, model: FixedBatchModel) -> None:
    request = model.request()
    fake.requests[0].error = HostError("the runtime failed", "try again")
    with pytest.raises(HostError, match="the runtime failed: try again"):
        request.run(feeds(2))
    fake.requests[0].error = None
    np.testing.assert_array_equal(request.run(feeds(2))["total"], totals(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((2, 4), np.float32)}, r"input 'x' is float32\[2, 4\]: the model takes x"),
        ({"x": np.zeros((0, 3), np.float32)}, "input 'x' is empty"),
        ({"y": np.zeros(1, np.float32)}, "the model has no input 'y'"),
        (
            {"offset": np.zeros((5, 1), np.float32)},
            "input 'offset' has 5 rows, 'x' has 6: give every input as many",
        ),
    ],
)
def test_wrong_feeds_run_nothing(
    fake: FakeModel, model: FixedBatchModel, change: dict[str, Array], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        model.request().run(feeds(6) | change)
    assert fake.requests[0].seen == []


@pytest.mark.parametrize(
    ("shapes", "fits"),
    [
        ([(4, 3), (4,)], True),
        ([(4, 3), (12,)], False),
        ([(4, None), (4,)], False),
        ([(None, 3)], False),
        ([(4, 3), ()], False),
    ],
)
def test_which_models_have_a_batch(shapes: list[tuple[int | None, ...]], fits: bool) -> None:
    assert has_batch([TensorSpec("x", shape, "float32") for shape in shapes], 4) is fits


@pytest.mark.parametrize(("runtime", "precision"), [("openvino", "bf16"), ("onnxruntime", "fp32")])
def test_an_embedding_depends_on_nothing_beside_it(
    runtime: str, precision: str, cache: CompileCache
) -> None:
    """Bit for bit: alone, in each place of a batch, beside silence or noise, in any number."""
    package = packages_dir() / "embedding.mlpackage"
    if not package.is_dir():
        pytest.skip(f"the bundled package {package.name} is not built (make models)")
    engine = executor(runtime, cache)
    if precision not in engine.availability().precisions:
        pytest.skip(f"{runtime} does not run {precision} on this processor")
    options = ExecutorOptions(precision, threads=1, batch=BATCH)  # type: ignore[arg-type]
    request = engine.load(package, options).request()
    rng = np.random.default_rng(12)
    frames = rng.normal(0.0, 2.0, (7, 200, 80)).astype(np.float32)

    def embeddings(rows: Floats) -> Floats:
        return np.array(request.run({"frames": rows})["embedding"], np.float32)

    expected = embeddings(frames)
    assert len(np.unique(expected, axis=0)) == 7
    np.testing.assert_array_equal(embeddings(frames[::-1].copy()), expected[::-1])
    for first, last in ((0, 1), (6, 7), (1, 4), (2, 7)):
        np.testing.assert_array_equal(embeddings(frames[first:last].copy()), expected[first:last])
    for other in (0.0, 1e4):
        beside = np.full((BATCH, 200, 80), other, np.float32)
        for place in range(BATCH):
            rows = beside.copy()
            rows[place] = frames[5]
            np.testing.assert_array_equal(embeddings(rows)[place], expected[5])
