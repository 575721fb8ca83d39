"""Distil the segmentation network into a small one without recurrence; see docs/narrow.md.

    python tools/segmentation_mixtures.py … -o SOUNDS.npz
    python tools/train_segmentation.py SOUNDS.npz --work FOLDER --teacher ADAPTED.pt --minutes 80
    python tools/train_segmentation.py SOUNDS.npz --work FOLDER --teacher ADAPTED.pt \\
        --export SPEECH.flac

Loss: cross-entropy to the teacher's probabilities and, less, to who was made to speak, each under
the best of the six orders of the three speakers. ADAPTED.pt: what ``adapt_segmentation.py`` exports
beside its package; without it the published network teaches. What is kept is the running mean of
the weights. ``FOLDER/checkpoint.pt`` is written every two minutes and read at the start, so a
training that was killed goes on; step n of a seed draws the same mixtures whenever and wherever it
runs. Needs the extra ``[convert]``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from published_networks import Segmentation, published_segmentation
from render_mixtures import between_points
from segmentation_mixtures import Sounds
from segmentation_student import STRIDE, FrontEnd, Student
from torch import Tensor
from torch.nn import functional
from training import (
    SPEAKERS,
    Learning,
    Pace,
    agreement,
    arguments,
    begun,
    checked,
    cross_entropy,
    mixtures_told,
)
from training import train as learn

BATCH = 32
PACE = Pace(learning_rate=1.2e-3, warm_up_steps=300, average_keeps=0.999)
"""The mean spans the last thousand steps."""

WEIGHT_DECAY = 0.01

TRUTH_WEIGHT = 0.4
"""Of the truth's cross-entropy beside the teacher's, which knows real meetings."""

VOICES_WEIGHT = 0.3
"""Of telling a window's voices apart, which the student of before did worst (docs/narrow.md)."""

VOICE_SCALE, VOICE_MIDDLE = 8.0, 0.4
"""From the cosine of two frames' vectors to the log-odds of one speaker."""

SURE = 0.9
"""Probability from which a frame is one speaker's."""

_GAIN_POINTS = 6


class Distillation(Learning[Student]):
    """A student on its way."""

    def __init__(self, teacher: Segmentation, asked: argparse.Namespace) -> None:
        super().__init__(Student(), PACE, WEIGHT_DECAY, asked)
        self.front_end = FrontEnd().to(self.device)
        self.teacher = teacher.to(self.device)

    def losses(self, audio: Tensor, truth: Tensor, told: Tensor) -> tuple[Tensor, ...]:
        """The sum, the distance to the teacher, and the error."""
        with torch.no_grad():
            frames = self._frames(audio)
            with self.narrow():
                word = self.teacher(audio).float()
        rng = np.random.default_rng([self.seed, 3, self.step])
        with self.narrow():
            found, heard = self.network.both(varied(frames, rng))
        likely = word.exp()
        distance = cross_entropy(likely, found).mean()
        error = cross_entropy(truth, found).mean()
        apart = voices_apart(torch.where(told[:, None, None], truth, likely), heard)
        entropy = -(likely * word).sum(dim=2).mean()
        loss = distance + TRUTH_WEIGHT * error + VOICES_WEIGHT * apart
        return loss, distance - entropy, error, apart

    def _frames(self, audio: Tensor) -> Tensor:
        """Log-mel frames, of every other window in bf16: its noise lies 50 dB below what is loud.

        A network that had heard only fp32's took that noise, in a silent room, for somebody.
        """
        exact = self.front_end(audio[1::2])
        with self.narrow():
            rounded = self.front_end(audio[::2])
        frames = exact.new_empty((len(audio), *exact.shape[1:]))
        frames[::2], frames[1::2] = rounded, exact
        return frames.transpose(1, 2)

    def checks(self, sounds: Sounds) -> dict[str, float]:
        """Share of frames that the mean student decides as the teacher, and as it was made."""
        shares: dict[str, list[float]] = {"teacher": [], "truth": []}
        with torch.no_grad():
            for audio, truth, told in checked(sounds, self.seed, self.device):
                found = self.mean(self.front_end(audio).transpose(1, 2)).argmax(dim=2)
                word = self.teacher(audio).argmax(dim=2)
                whole = told & (truth.sum(dim=2) > 0).all(dim=1)
                shares["teacher"] += agreement(word, found).tolist()
                shares["truth"] += agreement(truth.argmax(dim=2), found)[whole].tolist()
        return {name: round(float(np.mean(share)), 4) for name, share in shares.items()}


def voices_apart(who: Tensor, heard: Tensor) -> Tensor:
    """Nats a pair of frames of one speaker each: whether it is the same one, by their vectors.

    ``who`` (b, 589, 7) probabilities, ``heard`` (b, 148, 32). Same and different count alike.
    """
    alone = (who[:, ::STRIDE, 1 : 1 + SPEAKERS] > SURE).float()
    same = alone @ alone.transpose(1, 2)
    speaks = alone.sum(dim=2)
    other = speaks[:, :, None] * speaks[:, None] - same
    alike = VOICE_SCALE * (heard @ heard.transpose(1, 2) - VOICE_MIDDLE)
    costs = (
        (kind * functional.softplus(sign * alike)).sum() / kind.sum().clamp_min(1)
        for kind, sign in ((same, -1), (other, 1))
    )
    return sum(costs, torch.zeros((), device=who.device)) / 2


def varied(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Other throats (bands shifted), other microphones (bands' gains), bands lost."""
    b, _, bands = frames.shape
    band = np.arange(bands)
    shift = np.where(rng.random(b) < 0.5, rng.integers(-2, 3, b), 0)
    from_band = np.clip(band + shift[:, None], 0, bands - 1)
    curves = rng.normal(0, 0.5, (b, _GAIN_POINTS)) * (rng.random((b, 1)) < 0.5)
    gain = curves @ between_points(np.linspace(0, 1, bands), _GAIN_POINTS)
    first = np.where(rng.random(b) < 0.3, rng.integers(0, bands, b), bands)[:, None]
    lost = (band >= first) & (band < first + rng.integers(1, 9, (b, 1)))
    index, gain, lost = (
        torch.from_numpy(part).to(frames.device)[:, None]
        for part in (from_band, gain.astype(np.float32), lost)
    )
    frames = frames.gather(2, index.expand_as(frames)) + gain
    return torch.where(lost, frames.mean(dim=(1, 2), keepdim=True), frames)


def facts(training: Distillation, sounds: Sounds) -> dict[str, Any]:
    """What the network was taught with, has not heard, and how it does."""
    return {
        "trained_on": mixtures_told(training, sounds),
        "not_heard": (
            "children; real rooms and telephones but in ten minutes; sentences in other languages "
            "than English but few"
        ),
        "readers": sounds.about["voice"],
        "seed": training.seed,
        "steps": training.step,
        "batch": training.batch,
        "minutes": round(training.seconds / 60, 1),
        "frames_decided_alike_on_new_mixtures": training.checks(sounds),
    }


def _teacher(asked: argparse.Namespace) -> Segmentation:
    if not asked.teacher:
        return published_segmentation(asked.weights)
    teacher = Segmentation()
    teacher.eval()
    teacher.load_state_dict(torch.load(asked.teacher, weights_only=True))
    return teacher


def main() -> None:
    """Train, or write what was trained."""
    parser = arguments(__doc__, BATCH)
    parser.add_argument("--teacher", type=Path, help="weights of an adapted segmentation network")
    asked = parser.parse_args()
    sounds = begun(asked)
    training = Distillation(_teacher(asked), asked)
    training.load(asked.work / "checkpoint.pt")
    if asked.export:
        # Not where it trains: a machine with a GPU needs no converter.
        from ship_student import ship

        made_of = facts(training, sounds)
        ship(training.mean.cpu(), asked.export, made_of, asked.output)
    else:
        learn(training, sounds, asked)


if __name__ == "__main__":
    main()
