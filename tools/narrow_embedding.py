"""Make the 8-bit embedding package (W8A8) from the bundled one; needs no PyTorch.

    fluidaudio simulate -o clean -n 16 --duration 2m --seed 15
    fluidaudio simulate -o rough -n 16 --duration 2m --seed 16 --rt60 0.2-0.6
    python tools/narrow_embedding.py clean rough --check READERS

Convolutions behind a rectifier get integers: 255 steps for what they read, 127 either way for the
weights of an output channel; each bias takes up the mean error of its channel (Nagel et al., ICCV
2019, section 4.2), measured on crops of the conversations. The first convolution, the masks' small
ones and the last projection stay as they are: they take no time. ``--sensitivity`` tells what each
layer costs alone; ``--wide N`` leaves the N worst as they are. ``--check``: recordings of other
readers, for cosines against the package itself, which go into the manifest. Nothing is drawn by
chance, but sums follow processor and threads: another run gave 0.98895 at worst for 0.98919.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from manifest import enter, entries_of
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from quantized_package import QuantizedConvolution, write_quantized

from fluidaudio_cli.audio.folders import uris_by_place
from fluidaudio_cli.audio.source import open_audio
from fluidaudio_cli.coreml.lower import lower_to_onnx
from fluidaudio_cli.coreml.package import package_sha256, read_program
from fluidaudio_cli.executors.base import ExecutorOptions
from fluidaudio_cli.executors.onnxruntime import runtime
from fluidaudio_cli.executors.select import executor
from fluidaudio_cli.models.registry import bundled_models
from fluidaudio_cli.resources import packages_dir

Floats = NDArray[np.float32]
Convolutions = Mapping[str, QuantizedConvolution]

NAME = "embedding-int8"
# Nearer than this, on average and at worst, to the vectors of the package itself.
LEAST_MEAN_COSINE, LEAST_COSINE = 0.995, 0.97
# Ranges and mean errors are settled by some hundreds of crops.
_MOST_CROPS = 512
_BATCH = 16
# Stretches whose peak stays below this (full scale 1) are pauses, which are not embedded.
_LEAST_PEAK = 0.01
# Sensitivities are only compared with each other.
_SENSITIVITY_CROPS = 64
# Of the largest weight of a channel: where its range may end, for the least squared error.
_WEIGHT_RANGES = np.linspace(0.7, 1.0, 13)


class Network:
    """The lowered embedding with its constants; gives any tensor, quantized or not."""

    def __init__(self, package: Path) -> None:
        self._model = lower_to_onnx(read_program(package))
        self._nodes = list(self._model.graph.node)
        self._makers = {name: node for node in self._nodes for name in node.output}
        self._masks = {node.input[0] for node in self._nodes if node.op_type == "Sigmoid"}
        self.output = self._model.graph.output[0].name
        self.constants = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in self._model.graph.initializer
        }

    def convolutions(self) -> list[Any]:
        """Nodes worth integers: they read what a rectifier gave, and make no mask."""
        return [
            node
            for node in self._nodes
            if node.op_type == "Conv"
            and self._rectified(node.input[0])
            and node.output[0] not in self._masks
        ]

    def bias(self, node: Any) -> Floats:
        """(out,), zeros where there is none."""
        if len(node.input) > 2:
            return np.asarray(self.constants[node.input[2]], np.float32)
        return np.zeros(len(self.constants[node.input[1]]), np.float32)

    def run(
        self, crops: Floats, outputs: Sequence[str], quantized: Convolutions | None = None
    ) -> Iterator[list[NDArray[Any]]]:
        """``outputs`` of each batch; ``quantized`` as integers, each beside what it stands for.

        Convolutions that are ``quantized`` give their own result as ``NAME/quantized`` too; what
        follows them hears only that if :attr:`output` is asked for.
        """
        onnxruntime = runtime()
        nodes, constants = self._with_integers(quantized or {}, self.output in outputs)
        used = {name for node in nodes for name in node.input}
        graph = helper.make_graph(
            nodes,
            "embedding",
            list(self._model.graph.input),
            [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs],
            [
                numpy_helper.from_array(constants[name], name)
                for name in sorted(used & {*constants})
            ],
        )
        model = helper.make_model(
            graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version
        )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        given = self._model.graph.input[0].name
        for first in range(0, len(crops), _BATCH):
            yield session.run(list(outputs), {given: crops[first : first + _BATCH]})

    def embed(self, crops: Floats, quantized: Convolutions | None = None) -> Floats:
        """(n, size) of unit length."""
        rows = np.concatenate([row for (row,) in self.run(crops, [self.output], quantized)])
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)

    def _with_integers(
        self, quantized: Convolutions, instead: bool
    ) -> tuple[list[Any], dict[str, NDArray[Any]]]:
        constants: dict[str, NDArray[Any]] = dict(self.constants)
        nodes = []
        for node in self._nodes:
            if node.name not in quantized or not instead:
                nodes.append(node)
            if node.name not in quantized:
                continue
            own, name = quantized[node.name], node.name
            spread = (-1, *(1,) * (own.weight.ndim - 1))
            constants |= {
                f"{name}/step": np.array(own.input_scale, np.float32),
                f"{name}/zero": np.array(0, np.uint8),
                f"{name}/weight": own.weight * own.weight_scale.reshape(spread),
                f"{name}/bias": own.bias,
            }
            step, integers, x = (f"{name}/step", f"{name}/zero"), f"{name}/integers", f"{name}/x"
            nodes.append(helper.make_node("QuantizeLinear", [node.input[0], *step], [integers]))
            nodes.append(helper.make_node("DequantizeLinear", [integers, *step], [x]))
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"{name}/quantized"
            del copy.input[:], copy.output[:]
            copy.input.extend([x, f"{name}/weight", f"{name}/bias"])
            copy.output.append(node.output[0] if instead else f"{name}/quantized")
            nodes.append(copy)
        return nodes, constants

    def _rectified(self, name: str) -> bool:
        while self._makers[name].op_type == "Reshape":
            name = self._makers[name].input[0]
        return bool(self._makers[name].op_type == "Relu")


def quantize(network: Network, crops: Floats) -> dict[str, QuantizedConvolution]:
    """Every convolution worth it in integers, ranges and biases by ``crops``."""
    nodes = network.convolutions()
    read = sorted({node.input[0] for node in nodes})
    tops = [[array.max() for array in arrays] for arrays in network.run(crops, read)]
    # The mean over batches: a single outlier must not coarsen the steps of all.
    steps = dict(zip(read, np.mean(tops, axis=0) / 255, strict=True))
    made = {}
    for node in nodes:
        weight, scale = _integers(network.constants[node.input[1]])
        # As a package has it, in half precision.
        step = float(np.float16(steps[node.input[0]]))
        made[node.name] = QuantizedConvolution(step, weight, scale, network.bias(node))
    return _with_mean_errors(network, crops, made)


def _integers(weight: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Weights (out, …) as integers, and their steps (out,)."""
    rows = weight.reshape(len(weight), -1)
    most = np.abs(rows).max(axis=1, initial=1e-6)
    steps = np.float16(most[:, None] * _WEIGHT_RANGES / 127).astype(np.float32)

    def rounded(step: Floats) -> Floats:
        return np.asarray(np.clip(np.rint(rows / step[:, None]), -127, 127), np.float32)

    errors = [((rounded(step) * step[:, None] - rows) ** 2).sum(axis=1) for step in steps.T]
    best = steps[np.arange(len(rows)), np.argmin(errors, axis=0)]
    return rounded(best).astype(np.int8).reshape(weight.shape), best


def _with_mean_errors(
    network: Network, crops: Floats, made: Convolutions
) -> dict[str, QuantizedConvolution]:
    """The same, each bias with what its channel loses on average."""
    nodes = [node for node in network.convolutions() if node.name in made]
    outputs = [node.output[0] for node in nodes] + [f"{node.name}/quantized" for node in nodes]
    sums = [0.0] * len(nodes)
    for arrays in network.run(crops, outputs, made):
        for index, (exact, found) in enumerate(
            zip(arrays[: len(nodes)], arrays[len(nodes) :], strict=True)
        ):
            lost = np.moveaxis(exact - found, 1, 0).reshape(exact.shape[1], -1)
            sums[index] = sums[index] + lost.mean(axis=1, dtype=np.float64) * len(exact)
    return {
        node.name: QuantizedConvolution(
            made[node.name].input_scale,
            made[node.name].weight,
            made[node.name].weight_scale,
            (made[node.name].bias + total / len(crops)).astype(np.float32),
        )
        for node, total in zip(nodes, sums, strict=True)
    }


def read_crops(folders: Sequence[Path], most: int = _MOST_CROPS) -> Floats:
    """(n, 200, 80): frames of stretches of the recordings, evenly taken from all."""
    package = bundled_models()["fbank"].package
    bank = executor("onnxruntime").load(package, ExecutorOptions("fp32")).request()
    crops = []
    for path in uris_by_place(folders):
        with open_audio(path) as stream:
            size = 32_240  # samples of a crop of 2 s
            samples = np.zeros(size, np.float32)
            while stream.read_into(samples) == size:
                if np.abs(samples).max() >= _LEAST_PEAK:
                    crops.append(np.array(bank.run({"audio": samples[None, None]})["frames"][0]))
    chosen = np.linspace(0, len(crops) - 1, min(most, len(crops))).astype(int)
    return np.stack([crops[index] for index in chosen]).astype(np.float32)


def sensitivities(network: Network, crops: Floats, made: Convolutions) -> dict[str, float]:
    """1 - mean cosine with each convolution alone in integers, the worst first."""
    exact = network.embed(crops)
    costs = {
        name: float(1 - (network.embed(crops, {name: own}) * exact).sum(axis=1).mean())
        for name, own in made.items()
    }
    return dict(sorted(costs.items(), key=lambda item: -item[1]))


def write_entry(folder: Path, package: Path, figures: Mapping[str, Any]) -> None:
    """Put the package into the manifest of ``folder``, beside the one it is made of."""
    source = entries_of(folder)["embedding"]
    limits = {"min_cosine": LEAST_COSINE}
    entry = source | {
        "name": NAME,
        "package": package.name,
        "sha256": package_sha256(package),
        "title": f"{source['title']}, 8-bit convolutions",
        "conversion": source["conversion"] | {"quantized": figures["quantized"]},
        "parity": {key: value for key, value in figures.items() if "cosine" in key},
        "selftest": source["selftest"]
        | {"tolerances": dict.fromkeys(source["selftest"]["tolerances"], limits)},
    }
    enter(folder, entry)


def main() -> None:
    """Quantize, say how near the vectors stay, write package and manifest."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folders", nargs="+", type=Path, help="recordings to calibrate on")
    parser.add_argument("--check", nargs="+", type=Path, required=True, help="of other readers")
    parser.add_argument("--sensitivity", action="store_true", help="tell each layer's cost")
    parser.add_argument("--wide", type=int, default=0, help="worst layers left as they are")
    parser.add_argument("--output", type=Path, default=packages_dir(), help="folder of packages")
    asked = parser.parse_args()
    source = bundled_models()["embedding"].package
    network, crops = Network(source), read_crops(asked.folders)
    made = quantize(network, crops)
    if asked.sensitivity or asked.wide:
        costs = sensitivities(network, crops[:: max(1, len(crops) // _SENSITIVITY_CROPS)], made)
        for name, cost in costs.items():
            print(f"{name}\t{cost:.2e}")  # noqa: T201
        for name in list(costs)[: asked.wide]:
            del made[name]
    package = asked.output / f"{NAME}.mlpackage"
    quantized = f"{len(made)} convolutions, W8A8, on {len(crops)} crops of simulated speech"
    write_quantized(
        source,
        package,
        made,
        "CAM++ zh/en common advanced: whose voice 2 s of speech are; 8-bit convolutions",
        {"quantized": quantized},
    )
    checked = read_crops(asked.check)
    cosines = (Network(package).embed(checked) * network.embed(checked)).sum(axis=1)
    figures = {
        "quantized": quantized,
        "mean_cosine_other_readers": round(float(cosines.mean()), 5),
        "min_cosine_other_readers": round(float(cosines.min()), 5),
    }
    write_entry(asked.output, package, figures)
    print(f"{len(checked)} crops: {figures}")  # noqa: T201
    if cosines.min() < LEAST_COSINE or cosines.mean() < LEAST_MEAN_COSINE:
        sys.exit(f"the vectors are further away than {LEAST_MEAN_COSINE} and {LEAST_COSINE}")


if __name__ == "__main__":
    main()
