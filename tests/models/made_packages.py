"""Packages with the interfaces of networks made by others, built of what is here.

Their own weights are not to be had; what is tested with these is how such networks are fed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb  # noqa: N813

from fluidaudio_cli.coreml.ir import Block, Value
from fluidaudio_cli.coreml.package import read_program
from fluidaudio_cli.diarization.frames import CROP_FRAMES, segmentation_frame_of_fbank
from fluidaudio_cli.resources import packages_dir


def masked_embedding(target: Path) -> None:
    """FluidAudio's embedding: ``waveform`` 3x160000 and ``mask`` 3x589 → ``embedding`` 3x192.

    The bundled filter bank and CAM++ inside: of the frames under the mask the middle 2 s, repeated
    where there are fewer.
    """
    rows = 3

    @mb.program(  # type: ignore[untyped-decorator]
        input_specs=[mb.TensorSpec((rows, 160_000)), mb.TensorSpec((rows, 589))],
        opset_version=ct.target.iOS16,
    )
    def program(waveform: Any, mask: Any) -> Any:
        frames = _replayed("fbank", mb.expand_dims(x=waveform, axes=[1]))  # (3, 998, 80)
        nearest = segmentation_frame_of_fbank()[: frames.shape[1]].astype(np.int32)
        heard = mb.gather(x=mask, indices=nearest, axis=1)
        rank = mb.mul(x=mb.cumsum(x=heard, axis=1), y=heard)  # 1 … n, 0 where not heard
        count = mb.maximum(x=mb.reduce_sum(x=heard, axes=[1], keep_dims=True), y=1.0)
        skipped = mb.floor(x=mb.mul(x=mb.maximum(x=mb.sub(x=count, y=200.0), y=0.0), y=0.5))
        place = mb.add(x=skipped, y=np.arange(CROP_FRAMES, dtype=np.float32)[None])
        wanted = mb.add(x=mb.mod(x=place, y=count), y=1.0)
        chosen = mb.equal(x=mb.expand_dims(x=wanted, axes=[2]), y=mb.expand_dims(x=rank, axes=[1]))
        crop = mb.matmul(x=mb.cast(x=chosen, dtype="fp32"), y=frames)
        return mb.identity(x=_replayed("embedding", crop), name="embedding")

    _save(program, target)


def _save(program: Any, target: Path) -> None:
    model = ct.convert(
        program,
        convert_to="mlprogram",
        compute_precision=ct.precision.FLOAT32,
        minimum_deployment_target=ct.target.iOS16,
        pass_pipeline=ct.PassPipeline.EMPTY,  # nothing to optimise for: it takes most of the time
        skip_model_load=True,
    )
    model.save(str(target))


def _replayed(name: str, given: Any) -> Any:
    """The one output of a bundled network on ``given``, in fp32 throughout."""
    block: Block = read_program(packages_dir() / f"{name}.mlpackage").main.block
    (source,) = block.inputs
    known: dict[str, Any] = {source.name: given}

    def argument(value: Value) -> Any:
        if value.data is None:
            return known[value.name]
        if value.data.dtype == np.float16:
            return value.data.astype(np.float32)
        return value.data.item() if value.data.dtype.kind in "US" else value.data

    for operation in block.operations:
        (output,) = operation.outputs
        if operation.kind == "cast":
            known[output.name] = argument(operation.inputs["x"][0])
            continue
        arguments = {
            key: tuple(map(argument, values)) if key == "values" else argument(values[0])
            for key, values in operation.inputs.items()
        }
        known[output.name] = getattr(mb, operation.kind)(**arguments)
    (result,) = block.outputs
    return known[result.name]


TONES_HZ = (400.0, 1_500.0)
HOP_SAMPLES = 1_600


def tone_diarizer(target: Path) -> None:
    """LS-EEND's names around a network whose two speakers are tones.

    ``frame`` (1, 1600), the state ``top_buffer`` (1, 2), ``ingest`` and ``decode`` (1,) →
    ``full_logits`` (1, 1, 4), of which the first and the last are nobody, and ``top_buffer_out``.
    What it says comes a frame late, as it goes through the state.
    """
    angles = 2 * np.pi * np.arange(HOP_SAMPLES)[:, None] * np.array(TONES_HZ) / 16_000
    waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) / HOP_SAMPLES

    @mb.program(  # type: ignore[untyped-decorator]
        input_specs=[
            mb.TensorSpec((1, HOP_SAMPLES)),
            mb.TensorSpec((1, 2)),
            mb.TensorSpec((1,)),
            mb.TensorSpec((1,)),
        ],
        opset_version=ct.target.iOS16,
    )
    def program(frame: Any, top_buffer: Any, ingest: Any, decode: Any) -> Any:
        parts = mb.square(x=mb.matmul(x=mb.mul(x=frame, y=ingest), y=waves.astype(np.float32)))
        powers = mb.reduce_sum(x=mb.reshape(x=parts, shape=(1, 2, 2)), axes=[1])
        logits = mb.mul(x=mb.sub(x=powers, y=1e-4), y=1e5)
        nobody = np.full((1, 1), -9.0, np.float32)
        decided = mb.mul(x=mb.sub(x=top_buffer, y=-9.0), y=decode)
        tracks = mb.concat(values=(nobody, mb.add(x=decided, y=-9.0), nobody), axis=1)
        full = mb.expand_dims(x=tracks, axes=[1], name="full_logits")
        return full, mb.identity(x=logits, name="top_buffer_out")

    _save(program, target)
