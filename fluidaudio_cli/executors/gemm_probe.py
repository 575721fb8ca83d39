"""How fast this machine multiplies matrices, through the runtimes that run the networks.

The graph is a chain of square products, long enough that converting its input and output to the
runtime's own precision and layout does not count. Which precision the products ran in is read
back from the compiled graph.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fluidaudio_cli.errors import ExecutorUnavailableError

# (rows and columns, products in the chain). Large enough to keep tiles busy, small enough that the
# operands (1 and 4 MB in fp32) stay in the caches: the aim is the arithmetic limit, not the
# memory's. The small one takes about 1 ms in bf16, so that some runs escape interruption by
# others on the machine; the large one keeps more processors busy.
SHAPES = ((512, 4), (1024, 4))
_SECONDS = 1.0  # per precision and number of threads; the fastest single run counts
_MIN_RUNS = 3
_SCALE = 0.05  # of int8 activations
# OpenVINO's names: as a hint, and as what a compiled product reports.
_HINT = {"fp32": "f32", "bf16": "bf16", "int8": "bf16"}
_REPORTED = {"fp32": ("f32",), "bf16": ("bf16",), "int8": ("u8", "i8")}
PRECISIONS = tuple(_HINT)

Shape = tuple[int, int]


@dataclass(frozen=True)
class GemmPeak:
    """Rate of a chain of products in FLOP/s: the fastest run of any shape, and its median."""

    executor: str
    precision: str
    threads: int
    flops_per_second: float
    median_flops_per_second: float


def gemm_peak(executor: str, precision: str, threads: int, seconds: float = _SECONDS) -> GemmPeak:
    """Measure ``executor`` (``openvino`` or ``onnxruntime``) for about ``seconds``.

    Raises ``ExecutorUnavailableError`` where it does not compute in ``precision`` here.
    """
    if (executor, precision) not in PRODUCTS:
        raise ExecutorUnavailableError(f"{executor} has no {precision} product to measure")
    runner = _RUNNERS[executor]
    rates = [
        _rates(runner(precision, threads, shape), shape, seconds / len(SHAPES)) for shape in SHAPES
    ]
    fastest, median = max(rates)
    return GemmPeak(executor, precision, threads, fastest, median)


def _rates(run: Callable[[], object], shape: Shape, seconds: float) -> tuple[float, float]:
    """FLOP/s of the fastest run and of the median run."""
    size, steps = shape
    work = 2.0 * size**3 * steps
    run()
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < _MIN_RUNS or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return work / min(times), work / statistics.median(times)


def _onnxruntime(precision: str, threads: int, shape: Shape) -> Callable[[], object]:
    from fluidaudio_cli.executors.onnxruntime import cpu_session, runtime

    options = runtime().SessionOptions()
    options.intra_op_num_threads = threads
    session = cpu_session(_chain(shape, quantised=precision == "int8"), options)
    feeds = {"x": _numbers(shape[0])}
    return lambda: session.run(None, feeds)


def _openvino(precision: str, threads: int, shape: Shape) -> Callable[[], object]:
    from fluidaudio_cli.executors.openvino import runtime

    openvino, core = runtime()
    try:
        model = core.read_model(_chain(shape, quantised=precision == "int8"))
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": _HINT[precision],
                "INFERENCE_NUM_THREADS": str(threads),
                "NUM_STREAMS": "1",
                "PERFORMANCE_HINT": "LATENCY",
            },
        )
    except (RuntimeError, KeyError) as error:
        text = " ".join(str(error).split())
        raise ExecutorUnavailableError(f"openvino has no {precision} product: {text}") from error
    ran = _product_precisions(compiled)
    if not ran or not ran.issubset(_REPORTED[precision]):
        raise ExecutorUnavailableError(
            f"openvino was asked for {precision} products and runs {', '.join(sorted(ran))}"
        )
    request = compiled.create_infer_request()
    # A copy: shared, nothing would keep the array, and its memory may be given back at once.
    request.set_input_tensor(openvino.Tensor(_numbers(shape[0])))
    return lambda: request.infer()


def _product_precisions(compiled: Any) -> set[str]:
    """The precisions in which the compiled graph's products run."""
    found = set()
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        if info["layerType"].astype(str) in ("FullyConnected", "MatMul"):
            found.add(info["runtimePrecision"].astype(str).lower())
    return found


def _numbers(size: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((size, size)).astype(np.float32)


def _chain(shape: Shape, quantised: bool) -> bytes:
    """ONNX: a chain of products of a square input with one weight that keeps its scale."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    size, steps = shape
    weight = _numbers(size) / np.float32(np.sqrt(size))
    constants = {"weight": weight}
    nodes = []
    factor = "weight"
    if quantised:
        scale = np.float32(np.abs(weight).max() / 127.0)
        constants = {
            "weight": np.round(weight / scale).astype(np.int8),
            "weight_scale": scale,
            "scale": np.float32(_SCALE),
            "zero": np.uint8(128),
        }
        nodes.append(helper.make_node("DequantizeLinear", ["weight", "weight_scale"], ["factor"]))
        factor = "factor"
    current = "x"
    for step in range(steps):
        if quantised:
            quantise = ["scale", "zero"]
            nodes += [
                helper.make_node("QuantizeLinear", [current, *quantise], [f"q{step}"]),
                helper.make_node("DequantizeLinear", [f"q{step}", *quantise], [f"d{step}"]),
            ]
            current = f"d{step}"
        nodes.append(helper.make_node("MatMul", [current, factor], [f"y{step}"]))
        current = f"y{step}"
    graph = helper.make_graph(
        nodes,
        "gemm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [size, size])],
        [helper.make_tensor_value_info(current, TensorProto.FLOAT, [size, size])],
        [numpy_helper.from_array(np.asarray(data), name) for name, data in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=onnx.IR_VERSION_2024_3_25
    )
    serialised: bytes = model.SerializeToString()
    return serialised


_RUNNERS = {"openvino": _openvino, "onnxruntime": _onnxruntime}
PRODUCTS = (*(("openvino", precision) for precision in PRECISIONS), ("onnxruntime", "fp32"))
"""(executor, precision) of the products that can be measured where the executor runs."""


def products_of(executor: str, precision: str, *, narrow: bool) -> str:
    """What a network's products are in: of a ``narrow`` one 8-bit integers, where they gain by it.

    ``precision``: of all else.
    """
    return "int8" if narrow and (executor, "int8") in PRODUCTS else precision
