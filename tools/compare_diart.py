"""Score diart on the same networks' evidence as `benchmark --streaming`, at its best parameters.

    python tools/compare_diart.py record shared/data/sim-meetings found/test
    python tools/compare_diart.py record made found/dev
    DIART/bin/python tools/compare_diart.py run found/dev found/test --latency 0.5,1,2,5

``record`` needs this project, ``run`` only what diart 0.9.2 needs, in an environment of its own.
diart runs its own pipeline (clustering, aggregation, thresholds) on windows of 10 s, 0.5 s apart;
the models it is given answer with what the networks found there: presence as they have it, and
the voices that `balanced` embeds, from where each is alone. For each latency its three parameters
are searched, one after another, on the first folder. What its windows would have said of the last
seconds is had from silence after the end, as diart pads it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Arrays = Mapping[str, Any]
Parameters = tuple[float, ...]

_STEP, _WINDOW = 0.5, 10.0
# diart cuts windows by samples: as few as it takes to tell them apart.
_RATE = 16
# tau_active, rho_update, delta_new: where the search begins, and what it tries, in order.
_BEGIN: Parameters = (0.5, 0.2, 0.6)
_TRIED = (
    (2, (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)),
    (1, (0.05, 0.1, 0.2, 0.3)),
    (0, (0.4, 0.5, 0.6, 0.7)),
    (2, (0.45, 0.55, 0.65, 0.75, 0.85, 0.95)),
)


def record(dataset: Path, folder: Path) -> None:
    """Write what the networks of `balanced` find in every recording of ``dataset``."""
    from fluidaudio_cli.audio.source import open_audio
    from fluidaudio_cli.benchmark.accuracy import reference_turns
    from fluidaudio_cli.corpora.dataset import open_dataset
    from fluidaudio_cli.diarization.clock import StageClock
    from fluidaudio_cli.diarization.evidence import FULL_SCALE
    from fluidaudio_cli.diarization.frames import SAMPLE_RATE
    from fluidaudio_cli.diarization.loading import load_pipeline
    from fluidaudio_cli.diarization.windows import read_windows

    folder.mkdir(parents=True, exist_ok=True)
    pipeline, clock = load_pipeline("balanced", low_latency=True), StageClock()
    for item in open_dataset(str(dataset)).items:
        presence, vectors = [], []
        with open_audio(item.audio, item.uri) as stream:
            for window in read_windows(stream, round(_STEP * SAMPLE_RATE), clock):
                if window.valid_samples < len(window.samples):
                    break
                found = pipeline.window_evidence(window, clock)
                presence.append(found.presence() / np.float32(FULL_SCALE))
                voices = np.full((presence[-1].shape[1], 192), np.nan, np.float32)
                for voice in found.voices:
                    if voice.vector.any():
                        voices[voice.slot] = voice.vector
                vectors.append(voices)
        np.savez_compressed(
            folder / f"{item.uri}.npz",
            presence=np.stack(presence),
            vectors=np.stack(vectors),
            reference=np.array(json.dumps(reference_turns(item))),
        )
        sys.stderr.write(f"{item.uri}: {len(presence)} windows\n")


def said(found: Arrays, latency: float, parameters: Parameters) -> Any:
    """What diart says of a recording, as a pyannote ``Annotation``."""
    import torch
    from diart import SpeakerDiarization, SpeakerDiarizationConfig
    from diart.models import EmbeddingModel, SegmentationModel
    from pyannote.core import Annotation, SlidingWindow, SlidingWindowFeature

    presence, vectors = found["presence"], found["vectors"]
    frames = presence.shape[1]
    for number in range(1, round(latency / _STEP)):
        silent = np.zeros_like(presence[:1])
        gone = round(number * _STEP * frames / _WINDOW)
        silent[0, : frames - gone] = found["presence"][-1, gone:]
        presence, vectors = np.append(presence, silent, 0), np.append(vectors, vectors[-1:], 0)

    class Answers:
        """A model: what was found in the window whose number is its first sample."""

        def __init__(self, answers: Any) -> None:
            self.answers = answers

        def to(self, _device: Any) -> Answers:
            return self

        def __call__(self, waves: Any, _weights: Any = None) -> Any:
            return torch.from_numpy(self.answers[int(waves[0, 0, 0])])

    config = SpeakerDiarizationConfig(
        segmentation=SegmentationModel(lambda: Answers(presence[:, None])),
        embedding=EmbeddingModel(lambda: Answers(vectors)),
        duration=_WINDOW,
        step=_STEP,
        latency=latency,
        tau_active=parameters[0],
        rho_update=parameters[1],
        delta_new=parameters[2],
        sample_rate=_RATE,
        device=torch.device("cpu"),
    )
    pipeline, all_of_it = SpeakerDiarization(config), Annotation()
    for number in range(len(presence)):
        wave = np.zeros((round(_WINDOW * _RATE), 1), np.float32)
        wave[0] = number
        place = SlidingWindow(start=number * _STEP, duration=1 / _RATE, step=1 / _RATE)
        ((new, _),) = pipeline([SlidingWindowFeature(wave, place)])
        for segment, track, speaker in new.itertracks(yield_label=True):
            all_of_it[segment, f"{number} {track}"] = speaker
    return all_of_it


def error(recordings: Sequence[Arrays], latency: float, parameters: Parameters) -> float:
    """Strict error rate over all ``recordings``, weighted by speech."""
    from pyannote.core import Annotation, Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    metric = DiarizationErrorRate(collar=0.0, skip_overlap=False)
    for found in recordings:
        reference = Annotation()
        for number, (start, end, speaker) in enumerate(json.loads(str(found["reference"]))):
            reference[Segment(start, end), number] = speaker
        seconds = _WINDOW + _STEP * (len(found["presence"]) - 1)
        extent = Timeline([Segment(0.0, seconds)])
        metric(reference, said(found, latency, parameters).support(), uem=extent)
    return float(abs(metric))


def run(dev: Path, test: Path, latencies: Sequence[float]) -> None:
    """Print diart's error on ``test`` at each latency, tuned on ``dev``."""
    tuning, tested = (
        [dict(np.load(path)) for path in sorted(each.glob("*.npz"))] for each in (dev, test)
    )
    for latency in latencies:
        best, tried = _BEGIN, {_BEGIN: error(tuning, latency, _BEGIN)}
        for place, values in _TRIED:
            for value in values:
                other = (*best[:place], value, *best[place + 1 :])
                if other not in tried:
                    tried[other] = error(tuning, latency, other)
            best = min(tried, key=lambda each: tried[each])
        tau, rho, delta = best
        sys.stdout.write(
            f"latency {latency:g} s: {100 * error(tested, latency, best):.1f} % "
            f"(tau {tau:g}, rho {rho:g}, delta {delta:g}; tuned on: {100 * tried[best]:.1f} %)\n"
        )


def main() -> None:
    """Record, or run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    what = parser.add_subparsers(dest="what", required=True)
    recording = what.add_parser("record", help="what the networks find in a dataset")
    recording.add_argument("dataset", type=Path)
    recording.add_argument("folder", type=Path)
    running = what.add_parser("run", help="diart on it")
    running.add_argument("dev", type=Path)
    running.add_argument("test", type=Path)
    running.add_argument("--latency", default="0.5,1,2,5")
    given = parser.parse_args()
    if given.what == "record":
        record(given.dataset, given.folder)
    else:
        run(given.dev, given.test, [float(each) for each in given.latency.split(",")])


if __name__ == "__main__":
    main()
