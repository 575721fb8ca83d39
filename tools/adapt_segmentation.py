"""Adapt the published segmentation network to loud rooms and quiet talkers; see docs/adapted.md.

    python tools/segmentation_mixtures.py … -o SOUNDS.npz
    python tools/adapt_segmentation.py SOUNDS.npz --work FOLDER --steps 1000
    python tools/adapt_segmentation.py SOUNDS.npz --work FOLDER --export SPEECH.flac

Starts from the published weights and learns from mixtures (drawn on the fly, none twice) whose
truth is known, and from real conversations what the published network says of them; the filters
that the audio meets first stay as they are. What is shipped lies between the published weights and
the running mean of the learnt ones: it keeps what the published network knows of real rooms, which
simulation has not (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).
``FOLDER/checkpoint.pt`` is written every two minutes and read at the start, so that a training that
was killed goes on. Step n of a seed draws the same mixtures whenever and wherever it runs;
``--device cuda --batch 512 --workers 8`` where there is a GPU. Needs the extra ``[convert]``.
"""

from __future__ import annotations

import argparse
import copy
import json
from typing import Any

import torch
from published_networks import Segmentation, published_segmentation
from segmentation_mixtures import Sounds
from torch import Tensor
from training import Learning, Pace, arguments, begun, checked, cross_entropy, mixtures_told, tell
from training import train as learn

BATCH = 32
PACE = Pace(learning_rate=2e-4, warm_up_steps=50, average_keeps=0.997)
"""Twice the rate diverged after 640 steps. The mean spans the last three hundred."""

SHARE = 0.35
"""Of the learnt weights in what is shipped, the rest being the published ones. With half, noise
costs up to 0.8 points less, and excerpts of real meetings, labels apart, 0.7 to 1.3 more."""


class Adaptation(Learning[Segmentation]):
    """The published network on its way to another."""

    def __init__(self, published: Segmentation, asked: argparse.Namespace) -> None:
        network = copy.deepcopy(published).train()
        # The sinc filters and the level that they meet are the published network's.
        network.sincnet.conv1d[0].requires_grad_(False)
        network.sincnet.wav_norm1d.requires_grad_(False)
        super().__init__(network, PACE, 0.0, asked)
        self._published = published.to(self.device)

    def losses(self, audio: Tensor, truth: Tensor, told: Tensor) -> tuple[Tensor, ...]:
        """The distance to the truth, and to the published network's word where none is known."""
        target = truth.clone()
        if not bool(told.all()):
            with torch.no_grad(), self.narrow():
                target[~told] = self._published(audio[~told]).float().exp()
        with self.narrow():
            found = self.network(audio)
        return (cross_entropy(target, found.float()).mean(),)

    def distances(self, networks: dict[str, Segmentation], sounds: Sounds) -> dict[str, float]:
        """Nats a frame of each on mixtures that no step draws."""
        found: dict[str, list[float]] = {name: [] for name in networks}
        for audio, truth, _ in checked(sounds, self.seed, self.device):
            for name, network in networks.items():
                with torch.no_grad(), self.narrow():
                    said = network.to(self.device)(audio).float()
                found[name].append(float(cross_entropy(truth, said).mean()))
        return {name: round(sum(nats) / len(nats), 4) for name, nats in found.items()}


def between(published: Segmentation, learnt: Segmentation, share: float) -> Segmentation:
    """The network whose weights lie ``share`` of the way from the published to the learnt."""
    network = copy.deepcopy(published)
    with torch.no_grad():
        for value, other in zip(network.parameters(), learnt.parameters(), strict=True):
            value.lerp_(other, share)
    network.eval()
    return network


def export(training: Adaptation, published: Segmentation, sounds: Sounds, asked: Any) -> None:
    """The package, and the weights beside the checkpoint, for what is taught by them."""
    from build_models import ship_adapted

    from fluidaudio_cli.simulate.voices import read_audio

    shipped = between(published, training.mean, asked.share)
    networks = {"published": published, "learnt": training.mean, "shipped": shipped}
    distances = training.distances(networks, sounds)
    tell(json.dumps(distances))
    torch.save(shipped.state_dict(), asked.work / "adapted.pt")
    facts = {
        "trained_on": f"the published weights and {mixtures_told(training, sounds)}",
        "not_heard": (
            "children; real rooms and telephones but in ten minutes, and sentences in other "
            "languages than English but few, since it was published"
        ),
        "readers": sounds.about["voice"],
        "seed": training.seed,
        "steps": training.step,
        "batch": training.batch,
        "minutes": round(training.seconds / 60, 1),
        "share_of_learnt_weights": asked.share,
        "nats_a_frame_on_new_mixtures": distances,
    }
    tell(json.dumps(ship_adapted(shipped.cpu(), facts, read_audio(asked.export), asked.output)))


def main() -> None:
    """Train, or write what was trained."""
    parser = arguments(__doc__, BATCH)
    parser.add_argument("--share", type=float, default=SHARE, help="of the learnt weights")
    asked = parser.parse_args()
    sounds = begun(asked)
    published = published_segmentation(asked.weights)
    training = Adaptation(published, asked)
    training.load(asked.work / "checkpoint.pt")
    if asked.export:
        export(training, published, sounds, asked)
    else:
        learn(training, sounds, asked)


if __name__ == "__main__":
    main()
