"""What the bundled networks compute does not depend on how it is spread over threads.

Guaranteed, bit for bit: OpenVINO in fp32 for every number of threads, streams and items per
batch; OpenVINO in bf16 for every number of threads and streams at one batch size; ONNX Runtime
with one thread per stream, for every number of streams at one batch size. Not guaranteed, and so
not relied upon: bf16 between batch sizes, and ONNX Runtime between batch sizes or with several
threads in one stream (both differ in the last bits).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest

from fluidaudio_cli.executors.base import ExecutorOptions
from fluidaudio_cli.executors.cache import CompileCache
from fluidaudio_cli.executors.select import executor
from fluidaudio_cli.resources import packages_dir

ITEMS = 3


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> CompileCache:
    return CompileCache(tmp_path_factory.mktemp("cache"))


def outputs(
    cache: CompileCache, name: str, runtime: str, options: ExecutorOptions, batch: int
) -> bytes:
    """All results for the same items, run ``batch`` at a time on overlapping requests."""
    package: Path = packages_dir() / f"{name}.mlpackage"
    if not package.is_dir():
        pytest.skip(f"the bundled package {package.name} is not built (make models)")
    model = executor(runtime, cache).load(package, options)
    (spec,) = model.inputs
    shape = [1 if size is None else size for size in spec.shape[1:]]
    items = np.random.default_rng(5).normal(0.0, 0.3, (ITEMS, *shape)).astype(np.float32)
    requests = [model.request() for _ in range(options.streams)]

    def run(part: int) -> list[bytes]:
        """Every so many-th batch, by a request of its own."""
        pieces = []
        for first in range(part * batch, ITEMS, batch * len(requests)):
            (result,) = requests[part].run({spec.name: items[first : first + batch]}).values()
            pieces.append(result.tobytes())
        return pieces

    with ThreadPoolExecutor(len(requests)) as pool:
        parts = list(pool.map(run, range(len(requests))))
    return b"".join(piece for row in zip_longest(*parts, fillvalue=b"") for piece in row)


@pytest.mark.parametrize("name", ["segmentation", "fbank", "embedding"])
def test_openvino_fp32_whatever_threads_streams_and_batch(
    compiled: CompileCache, name: str
) -> None:
    expected = outputs(compiled, name, "openvino", ExecutorOptions("fp32", threads=1), 1)
    for threads, streams, batch in ((2, 2, 1), (2, 1, 2), (1, 1, 3)):
        options = ExecutorOptions("fp32", threads=threads, streams=streams)
        assert outputs(compiled, name, "openvino", options, batch) == expected


@pytest.mark.parametrize("name", ["segmentation", "embedding"])
@pytest.mark.parametrize("batch", [1, 2])
def test_openvino_bf16_whatever_threads_and_streams(
    compiled: CompileCache, name: str, batch: int
) -> None:
    if "bf16" not in executor("openvino").availability().precisions:
        pytest.skip("OpenVINO has no bf16 on this processor")
    expected = outputs(compiled, name, "openvino", ExecutorOptions("bf16", threads=1), batch)
    for threads, streams in ((2, 1), (2, 2)):
        options = ExecutorOptions("bf16", threads=threads, streams=streams)
        assert outputs(compiled, name, "openvino", options, batch) == expected


@pytest.mark.parametrize("name", ["segmentation", "fbank", "embedding"])
@pytest.mark.parametrize("batch", [1, 2])
def test_onnxruntime_whatever_streams_of_one_thread(
    compiled: CompileCache, name: str, batch: int
) -> None:
    expected = outputs(compiled, name, "onnxruntime", ExecutorOptions("fp32", threads=1), batch)
    options = ExecutorOptions("fp32", threads=2, streams=2)
    assert outputs(compiled, name, "onnxruntime", options, batch) == expected
