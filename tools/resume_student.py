"""Make a checkpoint to begin with from a student's package, where the one it came from is lost.

    python tools/resume_student.py SOUNDS.npz --work FOLDER
    python tools/train_segmentation.py SOUNDS.npz --work … --start FOLDER/start.pt

A package has no batch normalisation: it lies in the convolutions. Here each gets one again, by the
mean and variance of what it meets in a batch of mixtures, so that the network answers as before.
Blocks that the package lacks are added at the end, and add nothing at first. Beside it,
``adapted.pt`` holds the weights of the bundled segmentation, for ``--teacher``. Needs the extra
``[convert]``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from published_networks import Segmentation
from render_mixtures import Renderer
from segmentation_mixtures import Mixer, load
from segmentation_student import (
    BLOCKS,
    FRAME_MEAN,
    FRAME_SPREAD,
    HEADS,
    FrontEnd,
    Normal,
    Separable,
    Shipped,
    Student,
)
from torch import Tensor, nn

from fluidaudio_cli.coreml.ir import iterate_operations
from fluidaudio_cli.coreml.package import read_program
from fluidaudio_cli.resources import packages_dir

MIXTURES = 64


def constants(package: Path) -> dict[str, Tensor]:
    """Every array of a package by its name there, less what the converter put at its end."""
    found: dict[str, Tensor] = {}
    for operation in iterate_operations(read_program(package).main.block):
        for values in operation.inputs.values():
            for value in values:
                if value.data is not None and value.data.dtype.kind == "f" and value.data.ndim:
                    name = value.name.removesuffix("_quantized").removesuffix("_to_fp16")
                    found[name] = torch.from_numpy(np.array(value.data, np.float32))
    return found


def student_of(package: Path, frames: Tensor) -> Student:
    """The student in ``package``; ``frames`` (b, 591, 64): log-mel of what it usually hears."""
    stored = constants(package)
    student = Student()
    student.eval()
    blocks = sum(f"context_{number}_query_weight" in stored for number in range(BLOCKS))
    offsets: dict[nn.Module, Tensor] = {}

    def fill(layer: nn.Linear, norm: nn.BatchNorm1d, name: str, taps_first: bool = False) -> None:
        # (out, in, taps), a transposed convolution's (in, out, taps).
        weight = stored[f"{name}_weight"]
        rows = weight.permute(2, 1, 0) if taps_first else weight.permute(0, 2, 1)
        layer.weight.data.copy_(rows.reshape(layer.weight.shape))
        offsets[norm] = stored[f"{name}_bias"]

    def fill_separable(layer: nn.Module, name: str) -> None:
        layer.taps.data.copy_(stored[f"{name}_near_weight"][:, 0].T)
        fill(layer.mix, layer.norm, f"{name}_mix")

    fill(student.stem, student.stem_norm, "stem")
    # The shipped one takes frames as they are, the trained one normalised.
    student.stem.weight.data.mul_(FRAME_SPREAD)
    offsets[student.stem_norm] += student.stem.weight.data.sum(dim=1) * FRAME_MEAN / FRAME_SPREAD
    fill_separable(student.before, "before")
    fill(student.down, student.down_norm, "down")
    for number, block in enumerate(student.context):
        if number >= blocks:
            block.given_norm.weight.data.zero_()
            block.back_norm.weight.data.zero_()
            continue
        name = f"context_{number}"
        if isinstance(block.near, Separable):
            fill_separable(block.near, f"{name}_near")
        parts = [stored[f"{name}_{part}_weight"][..., 0] for part in ("query", "key", "value")]
        shifts = [stored[f"{name}_{part}_bias"] for part in ("query", "key", "value")]
        scale = (parts[0].shape[0] // HEADS) ** 0.5
        block.asked.weight.data.copy_(torch.cat([parts[0] * scale, *parts[1:]]))
        offsets[block.asked_norm] = torch.cat([shifts[0] * scale, *shifts[1:]])
        for part in ("given", "wider", "back"):
            fill(getattr(block, part), getattr(block, f"{part}_norm"), f"{name}_{part}")
    fill(student.up, student.up_norm, "up", taps_first=True)
    for number, layer in enumerate(student.after):
        fill_separable(layer, f"after_{number}")
    student.head.weight.data.copy_(stored["head_weight"][..., 0])
    student.head.bias.data.copy_(stored["head_bias"])
    _normalize(student, offsets, frames)
    return student


def _normalize(student: Student, offsets: Mapping[nn.Module, Tensor], frames: Tensor) -> None:
    """Give every normalisation what it meets, in the order in which it meets it."""

    def meet(norm: nn.Module, given: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, Normal)
        met = given[0].flatten(0, 1)
        norm.running_mean.copy_(met.mean(dim=0))
        norm.running_var.copy_(met.var(dim=0))
        if norm in offsets:
            norm.weight.data.copy_(torch.sqrt(norm.running_var + norm.eps))
            norm.bias.data.copy_(offsets[norm] + norm.running_mean)

    norms = [each for each in student.modules() if isinstance(each, Normal)]
    hooks = [norm.register_forward_pre_hook(meet) for norm in norms]
    with torch.no_grad():
        student(frames)
    for hook in hooks:
        hook.remove()


def segmentation_of(package: Path) -> Segmentation:
    """The bundled segmentation's network with the weights of its package, as rounded there."""
    network = Segmentation()
    network.eval()
    state = network.state_dict()
    operations = list(iterate_operations(read_program(package).main.block))
    stored = constants(package)
    for name, value in state.items():
        if (kept := stored.get(name.replace(".", "_"))) is not None:
            value.copy_(kept.reshape(value.shape))
    # Core ML's gates are input, forget, output, cell; PyTorch's cell before output.
    for layer, lstm in enumerate(o for o in operations if o.kind == "lstm"):
        for side, there in (("", ""), ("_reverse", "_back")):
            for kind in ("weight_ih", "weight_hh", "bias"):
                data = np.asarray(lstm.inputs[f"{kind}{there}"][0].data, np.float32)
                gates = torch.from_numpy(data).chunk(4)
                ordered = torch.cat([gates[0], gates[1], gates[3], gates[2]])
                name = "bias_ih" if kind == "bias" else kind
                state[f"lstm.{name}_l{layer}{side}"].copy_(ordered)
                if kind == "bias":
                    state[f"lstm.bias_hh_l{layer}{side}"].zero_()
    for number, linear in enumerate(o for o in operations if o.kind == "linear"):
        name = f"linear.{number}" if number < 2 else "classifier"
        for kind in ("weight", "bias"):
            data = np.asarray(linear.inputs[kind][0].data, np.float32)
            state[f"{name}.{kind}"].copy_(torch.from_numpy(data))
    return network


def main() -> None:
    """Write both, and say how near they come to the packages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("sounds", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--packages", type=Path, default=packages_dir())
    parser.add_argument("--before", type=int, default=0, help="mixtures it was taught with")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    sounds = load(asked.sounds, 1)
    mixtures = Mixer(sounds).batch(np.random.default_rng(1), MIXTURES)
    audio = Renderer(sounds, torch.device("cpu"))(mixtures)[:, None]
    frames = FrontEnd()(audio).transpose(1, 2)
    student = student_of(asked.packages / "segmentation-student.mlpackage", frames)
    state = {"mean": student.state_dict(), "before": asked.before, "step": 0, "batch": 0}
    torch.save(state, asked.work / "start.pt")
    teacher = segmentation_of(asked.packages / "segmentation-adapted.mlpackage")
    torch.save(teacher.state_dict(), asked.work / "adapted.pt")
    _compare(Shipped(student).eval(), teacher, asked.packages)


def _compare(student: nn.Module, teacher: nn.Module, packages: Path) -> None:
    for name, network in (("segmentation-student", student), ("segmentation-adapted", teacher)):
        with np.load(packages / f"{name}.selftest.npz") as kept, torch.no_grad():
            arrays = {key: kept[key] for key in kept.files}
            audio = next(value for value in arrays.values() if value.shape[-1] == 160_000)
            told = next(value for value in arrays.values() if value.shape[-1] == 7)
            said = network(torch.from_numpy(audio).reshape(-1, 1, 160_000)).numpy()
        alike = (said.argmax(-1) == told.reshape(said.shape).argmax(-1)).mean()
        print(f"{name}: {alike:.4f} of frames as the package decides")  # noqa: T201


if __name__ == "__main__":
    main()
