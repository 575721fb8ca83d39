"""Distil the segmentation network into a small one without recurrence; see docs/narrow.md.

    python tools/segmentation_mixtures.py … -o SHARDS     (before, and while this runs)
    python tools/train_segmentation.py SHARDS --work FOLDER --minutes 80
    python tools/train_segmentation.py SHARDS --work FOLDER --export SPEECH.flac

Loss: cross-entropy to the teacher's probabilities and, less, to who was made to speak, each under
the best of the six orders of the three speakers. What is kept is the running mean of the weights.
``FOLDER/checkpoint.pt`` is written every two minutes and read at the start, so a training that was
killed goes on, with a new pass; new shards are found at each. With ``--steps`` instead of
``--minutes`` the same seed and shards give the same network, if nothing stops it. Needs the extra
``[convert]``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from segmentation_mixtures import MELS, WINDOW_SAMPLES, spectrum
from segmentation_student import CLASSES, Shipped, Student
from training import CHECKPOINT_SECONDS, REPORT_STEPS, Learning, Pace, tell

from fluidaudio_cli.coreml.build import PackageRecipe, convert_to_package
from fluidaudio_cli.coreml.package import package_sha256
from fluidaudio_cli.errors import HostError
from fluidaudio_cli.executors.base import ExecutorOptions
from fluidaudio_cli.executors.select import executor
from fluidaudio_cli.executors.selftest import compare, save_arrays
from fluidaudio_cli.files import folder_bytes
from fluidaudio_cli.models.registry import enter, entries_of
from fluidaudio_cli.resources import packages_dir
from fluidaudio_cli.simulate.voices import read_audio

NAME = "segmentation-student"
LEAST_AGREEMENT = 0.995
"""Of frames between PyTorch and the shipped package."""

LEAST_EIGHT_BIT_WEIGHTS = 10_000
"""Smaller layers are no size worth rounding."""

FP32_OPERATIONS = "waveform normalisation, energies and their logarithm, log-softmax"

BATCH = 32
PACE = Pace(learning_rate=1.2e-3, warm_up_steps=300, average_keeps=0.999)
"""The mean spans the last thousand steps."""

WEIGHT_DECAY = 0.01

TRUTH_WEIGHT = 0.3
"""Of the truth's cross-entropy beside the teacher's, which knows real meetings."""

CHECK_STEPS = 500

SPEAKERS = 3
PAIRS = ((0, 1), (0, 2), (1, 2))
CLASS_OF_SET = np.full(16, -1)
"""Class of a set of speakers (bits); -1 where the powerset has none."""

CLASS_OF_SET[[0, 1, 2, 4, 3, 5, 6]] = np.arange(7)


def orders() -> torch.Tensor:
    """(6, 7): the class that each class becomes under each order of the speakers."""
    rows = []
    for order in itertools.permutations(range(SPEAKERS)):
        pairs = [PAIRS.index(tuple(sorted((order[a], order[b])))) for a, b in PAIRS]
        rows.append([0, *(1 + speaker for speaker in order), *(4 + pair for pair in pairs)])
    return torch.tensor(rows)


ORDERS = orders()


def cross_entropy(target: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """(b,) nats a frame: ``target`` (b, frames, 7) probabilities, ``found`` log-probabilities.

    Under the order of the speakers that suits best. Frames whose target is 0 count for nothing.
    """
    together = target.transpose(1, 2) @ found
    costs = -together[:, ORDERS, torch.arange(ORDERS.shape[1])].sum(dim=2)
    return costs.min(dim=1).values / found.shape[1]


def agreement(target: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """(b,) share of frames of the same class, under the best order; classes (b, frames)."""
    return (
        torch.stack([(order[target] == found).float().mean(dim=1) for order in ORDERS])
        .max(dim=0)
        .values
    )


class Shards:
    """Windows of all shards there are."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, tuple[NDArray[Any], ...]] = {}

    def __len__(self) -> int:
        """Windows read so far."""
        return sum(len(frames) for frames, *_ in self._read.values())

    def batches(self, rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, ...]]:
        """One pass over what is there now: frames, teacher's and made probabilities."""
        for path in sorted(self._folder.glob("[0-9]*.npz")):
            if path not in self._read:
                with np.load(path) as shard:
                    self._read[path] = (shard["frames"], shard["teacher"], shard["truth"])
        shards = list(self._read.values())
        places = [(n, index) for n, shard in enumerate(shards) for index in range(len(shard[0]))]
        order = rng.permutation(len(places))
        for first in range(0, len(order) - BATCH + 1, BATCH):
            chosen = [places[index] for index in order[first : first + BATCH]]
            frames, teacher, sets = (
                np.stack([shards[n][part][index] for n, index in chosen]) for part in range(3)
            )
            yield (
                torch.from_numpy(varied(frames.astype(np.float32), rng)),
                torch.from_numpy(teacher.astype(np.float32)).exp(),
                made(sets),
            )


def made(sets: NDArray[np.uint8]) -> torch.Tensor:
    """(b, frames, 7) 1 for the class that was made; 0 where three speak, or four in the window."""
    classes = CLASS_OF_SET[sets]
    classes[(sets >= 1 << SPEAKERS).any(axis=1)] = -1
    return torch.from_numpy((classes[..., None] == np.arange(7)).astype(np.float32))


def varied(frames: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Other throats (bands shifted), other microphones (bands' gains), bands lost."""
    bands = frames.shape[2]
    for window in frames:
        if rng.random() < 0.5:
            shift = int(rng.integers(-2, 3))
            window[:] = window[:, np.clip(np.arange(bands) + shift, 0, bands - 1)]
        if rng.random() < 0.5:
            curve = np.interp(np.linspace(0, 1, bands), np.linspace(0, 1, 6), rng.normal(0, 0.5, 6))
            window += curve.astype(np.float32)
        if rng.random() < 0.3:
            first = int(rng.integers(bands))
            window[:, first : first + int(rng.integers(1, 9))] = window.mean()
    return frames


class Training(Learning[Student]):
    """A student on its way."""

    counts = (*Learning.counts, "passes", "windows")

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        super().__init__(Student(), PACE, WEIGHT_DECAY, seed)
        self.passes = 0
        self.windows = 0

    def learn(
        self, forward: Any, batch: Sequence[torch.Tensor], done: float
    ) -> tuple[float, float]:
        """One step at the share ``done`` of the training; the two losses, nats a frame."""
        frames, teacher, truth = batch
        with torch.autocast("cpu", torch.bfloat16):
            found = forward(frames)
        entropy = -(teacher * teacher.clamp_min(1e-9).log()).sum(dim=2).mean()
        distance = cross_entropy(teacher, found).mean()
        error = cross_entropy(truth, found).mean()
        self.descend(distance + TRUTH_WEIGHT * error, done)
        return float((distance - entropy).detach()), float(error.detach())

    def check(self, path: Path) -> float:
        """Share of frames that the mean student decides as the teacher, in a shard's windows."""
        with np.load(path) as shard:
            frames = torch.from_numpy(shard["frames"].astype(np.float32))
            teacher = torch.from_numpy(shard["teacher"].astype(np.float32)).argmax(dim=2)
        with torch.no_grad():
            found = torch.cat([self.mean(part) for part in frames.split(BATCH)]).argmax(dim=2)
        return float(agreement(teacher, found).mean())

    def checks(self, folder: Path | None) -> dict[str, float]:
        """The same for every shard of a folder, by name."""
        paths = sorted(folder.glob("*.npz")) if folder else []
        return {path.stem: round(self.check(path), 4) for path in paths}


def train(training: Training, asked: argparse.Namespace) -> None:
    """Until the minutes or steps asked for are over."""
    forward = torch.compile(training.network) if asked.compile else training.network
    shards, saved, last = Shards(asked.shards), time.monotonic(), time.monotonic()
    sums = np.zeros(2)
    while True:
        rng = np.random.default_rng([training.seed, training.passes])
        training.passes += 1
        for batch in shards.batches(rng):
            spent = training.seconds / 60 / asked.minutes if asked.minutes else 0.0
            done = max(spent, training.step / asked.steps if asked.steps else 0.0)
            if done >= 1:
                return
            sums += training.learn(forward, batch, done)
            now = time.monotonic()
            # What compiling takes is no training.
            training.seconds += min(now - last, 20.0)
            last = now
            training.windows = len(shards)
            if training.step % REPORT_STEPS == 0:
                distance, error = sums / REPORT_STEPS
                sums[:] = 0
                tell(
                    f"step {training.step}, {training.seconds / 60:.1f} min, pass "
                    f"{training.passes} of {len(shards)} windows: {distance:.4f} to the teacher, "
                    f"{error:.4f} to the truth"
                )
            if training.step % CHECK_STEPS == 0:
                tell(f"of frames as the teacher: {training.checks(asked.check)}")
            if now - saved > CHECKPOINT_SECONDS:
                training.save(asked.work / "checkpoint.pt")
                saved = now


def recipe(made: dict[str, Any]) -> PackageRecipe:
    """How the package is built; ``made``: what it was trained on."""
    return PackageRecipe(
        "audio",
        "log_probabilities",
        "10 s of mono audio at 16 kHz, full scale ±1: (batch, 1, 160000)",
        "log-probability of each powerset class per frame: (batch, 589, 7)",
        "fp16",
        "fluidaudio; taught by pyannote segmentation-3.0 (CNRS)",
        "MIT",
        "who speaks when within 10 s, up to 3 speakers; convolutions and attention, no recurrence",
        {"fp32_operations": FP32_OPERATIONS, "trained_on": made["trained_on"]},
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


def export(training: Training, speech: Path, made: dict[str, Any], target: Path) -> None:
    """Package, self-test and the manifest's entry, with how near the package is to PyTorch."""
    network = Shipped(training.mean).eval()
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
    convert_to_package(network, torch.zeros(2, 1, WINDOW_SAMPLES), recipe(made), package)
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
    entry = taught | {
        "name": NAME,
        "package": package.name,
        "sha256": package_sha256(package),
        "title": "Segmentation student: convolutions and attention, no recurrence",
        "source": {"teacher": taught["source"]["model"], "program": "tools/train_segmentation.py"},
        "training": made,
        "conversion": {
            **taught["conversion"],
            "fp32_operations": FP32_OPERATIONS,
            "weights": "8 bits for each channel but for the filter bank's",
        },
        "parity": {
            "max_log_probability_error_shipped": close.max_abs,
            "frame_decision_agreement_shipped": close.argmax_agreement,
        },
        "selftest": taught["selftest"] | {"file": f"{NAME}.selftest.npz"},
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
    kept = dict.fromkeys(("waves_weight_to_fp16", "bands_weight"))
    config = coreml.OptimizationConfig(global_config=eight, op_name_configs=kept)
    model = ct.models.MLModel(str(package), skip_model_load=True)
    coreml.linear_quantize_weights(model, config).save(str(package))


def report(training: Training, shards: Path, found: dict[str, float]) -> dict[str, Any]:
    """What the network was trained on, has not heard, and how it does; for manifest and card."""
    made = json.loads((shards / "made.json").read_text(encoding="utf-8"))
    mixtures = training.windows
    readers = len(made["readers"])
    return {
        "trained_on": (
            f"{mixtures} mixtures of 10 s of {readers} English readers (LibriSpeech) at "
            f"{len(made['speeds'])} speeds, turns timed as in AMI's training meetings, simulated "
            "rooms, noise, music and babble, a seventh of them with a telephone's bandwidth"
        ),
        "not_heard": (
            "other languages, children, real rooms, telephones and codecs; speech that is not read"
        ),
        "readers": made["readers"],
        "seed": training.seed,
        "steps": training.step,
        "batch": BATCH,
        "minutes": round(training.seconds / 60, 1),
        "agreement_with_teacher": found,
    }


def main() -> None:
    """Train, or write what was trained."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("shards", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--check", type=Path, help="folder of shards not trained on")
    parser.add_argument("--export", type=Path, metavar="SPEECH", help="write the package instead")
    parser.add_argument("--output", type=Path, default=packages_dir(), help="folder of packages")
    parser.add_argument("--compile", action="store_true", help="twice as fast after a minute")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    training = Training(asked.seed)
    training.load(asked.work / "checkpoint.pt")
    torch.set_num_threads(1)
    if asked.export:
        made = report(training, asked.shards, training.checks(asked.check))
        export(training, asked.export, made, asked.output)
        return
    train(training, asked)
    training.save(asked.work / "checkpoint.pt")


if __name__ == "__main__":
    main()
