"""What the trainings of segmentation networks share: a step, a running mean, checkpoints."""

from __future__ import annotations

import copy
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import torch

CHECKPOINT_SECONDS = 120
REPORT_STEPS = 50
LARGEST_GRADIENT = 1.0
_SHARED = ("network", "mean", "optimizer")
_Network = TypeVar("_Network", bound=torch.nn.Module)


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

    ``counts``: plain values that a checkpoint holds, too.
    """

    counts: ClassVar[tuple[str, ...]] = ("seed", "step", "seconds")

    def __init__(self, network: _Network, pace: Pace, weight_decay: float, seed: int) -> None:
        self.network = network
        self.mean = copy.deepcopy(network).eval()
        self._pace = pace
        learnt = [each for each in network.parameters() if each.requires_grad]
        self.optimizer = torch.optim.AdamW(
            learnt, pace.learning_rate, (0.9, 0.98), weight_decay=weight_decay
        )
        self.seed, self.step, self.seconds = seed, 0, 0.0

    def load(self, path: Path) -> None:
        """Go on from a checkpoint, where there is one."""
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
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

    def descend(self, loss: torch.Tensor, done: float) -> None:
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


def tell(line: str) -> None:
    """On stderr, at once."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201
