"""Write the package of a segmentation student that was trained; see ``train_segmentation.py``."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from convert_package import PackageRecipe, convert_to_package
from manifest import enter, entries_of
from segmentation_mixtures import WINDOW_SAMPLES
from segmentation_student import CLASSES, MELS, Shipped, Student, spectrum
from training import tell

from fluidaudio_cli.coreml.package import package_sha256
from fluidaudio_cli.errors import HostError
from fluidaudio_cli.executors.base import ExecutorOptions
from fluidaudio_cli.executors.select import executor
from fluidaudio_cli.executors.selftest import compare, save_arrays
from fluidaudio_cli.files import folder_bytes
from fluidaudio_cli.simulate.voices import read_audio

NAME = "segmentation-student"
LEAST_AGREEMENT = 0.995
"""Of frames between PyTorch and the shipped package."""

LEAST_BF16_AGREEMENT = 0.95
"""In the self-test's window, where rounded energies of 50 dB below the loudest settle close calls:
3 % of its frames, where 93 windows of others have 0.2 %. What is computed wrongly loses more."""

LEAST_EIGHT_BIT_WEIGHTS = 10_000
"""Smaller layers are no size worth rounding."""

FP32_OPERATIONS = "waveform normalisation, energies and their logarithm, log-softmax"


def recipe(training: dict[str, Any]) -> PackageRecipe:
    """How the package is built; ``training``: what it was trained on."""
    return PackageRecipe(
        "audio",
        "log_probabilities",
        "10 s of mono audio at 16 kHz, full scale ±1: (batch, 1, 160000)",
        "log-probability of each powerset class per frame: (batch, 589, 7)",
        "fp16",
        "fluidaudio; taught by pyannote segmentation-3.0 (CNRS)",
        "MIT",
        "who speaks when within 10 s, up to 3 speakers; convolutions and attention, no recurrence",
        {"fp32_operations": FP32_OPERATIONS, "trained_on": training["trained_on"]},
        _stays_fp32,
    )


def _stays_fp32(operation: Any) -> bool:
    """Levels and energies, which float16 does not hold, and the final log-softmax."""
    if operation.op_type in ("instance_norm", "log", "reduce_log_sum_exp"):
        return True
    if operation.op_type == "sub":
        return bool(operation.x.shape[-1] == CLASSES)
    if operation.op_type not in ("conv", "mul", "add"):
        return False
    # The cosines and sines themselves stand it, their squares and bands do not.
    width = MELS if operation.op_type == "add" else spectrum()[0].shape[1]
    return len(operation.x.shape) == 3 and bool(operation.x.shape[1] == width)


def ship(student: Student, speech: Path, training: dict[str, Any], target: Path) -> None:
    """Package, self-test and the manifest's entry, with how near the package is to PyTorch."""
    network = Shipped(student).eval()
    samples = read_audio(speech)
    windows = np.stack(
        [
            samples[at : at + WINDOW_SAMPLES]
            for at in range(0, samples.size - WINDOW_SAMPLES + 1, WINDOW_SAMPLES // 2)
        ]
    )[:, None]
    with torch.no_grad():
        expected = network(torch.from_numpy(windows)).numpy()
    package = target / f"{NAME}.mlpackage"
    convert_to_package(network, torch.zeros(2, 1, WINDOW_SAMPLES), recipe(training), package)
    _shrink(package)
    model = executor("onnxruntime").load(package, ExecutorOptions(precision="fp32"))
    found = np.array(model.request().run({"audio": windows})["log_probabilities"], np.float32)
    close = compare("log_probabilities", found, expected)
    if close.argmax_agreement < LEAST_AGREEMENT:
        raise HostError(f"the package does not agree with PyTorch: {close}")
    save_arrays(
        target / f"{NAME}.selftest.npz",
        {"audio": windows[-1:]},
        # What the rounded weights give: how far executors stray from that is the question.
        {"log_probabilities": found[-1:]},
    )
    taught = entries_of(target)["segmentation"]
    tolerances = copy.deepcopy(taught["selftest"]["tolerances"])
    tolerances["bf16"]["min_argmax_agreement"] = LEAST_BF16_AGREEMENT
    entry = taught | {
        "name": NAME,
        "package": package.name,
        "sha256": package_sha256(package),
        "title": "Segmentation student: convolutions and attention, no recurrence",
        "source": {"teacher": taught["source"]["model"], "program": "tools/train_segmentation.py"},
        "training": training,
        "conversion": {
            **taught["conversion"],
            "fp32_operations": FP32_OPERATIONS,
            "weights": "8 bits for each channel but for the filter bank's",
        },
        "parity": {
            "max_log_probability_error_shipped": close.max_abs,
            "frame_decision_agreement_shipped": close.argmax_agreement,
        },
        "selftest": {"file": f"{NAME}.selftest.npz", "tolerances": tolerances},
    }
    enter(target, entry)
    tell(f"{package}: {folder_bytes(package) / 1e6:.2f} MB; to PyTorch: {close}")


def _shrink(package: Path) -> None:
    """Store the weights of all large layers but the filter bank's in 8 bits for each channel."""
    import coremltools as ct
    from coremltools.optimize import coreml

    eight = coreml.OpLinearQuantizerConfig(
        mode="linear_symmetric", weight_threshold=LEAST_EIGHT_BIT_WEIGHTS
    )
    kept = dict.fromkeys(("front_waves_weight_to_fp16", "front_bands_weight"))
    config = coreml.OptimizationConfig(global_config=eight, op_name_configs=kept)
    model = ct.models.MLModel(str(package), skip_model_load=True)
    coreml.linear_quantize_weights(model, config).save(str(package))
