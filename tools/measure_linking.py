"""Measure how well speakers of several recordings are linked, and what linking many takes.

    fluidaudio simulate -n 30 --duration 60s --voices READERS --rt60 0.2-0.6 --noise noise \
        --snr 10-30 -o made
    fluidaudio diarize made --save-evidence found --output-dir turns
    python tools/measure_linking.py found --references made --recordings 1000

Each NAME.npz of evidence needs a NAME.rttm among the references. A speaker found is the reference
speaker of most of its time; told is the share of pairs of different recordings that are right, of
all speakers, and of those in which diarization mixed no people. Then as many recordings as asked
for are made of the evidence, each heard through a channel of its own (a shift common to all its
voices), and diarized with --link in a process of its own.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fluidaudio_cli.diarization.evidence import EvidenceLog, LocalVoice, WindowEvidence
from fluidaudio_cli.diarization.frames import SAMPLE_RATE
from fluidaudio_cli.diarization.saved_evidence import read_evidence
from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
from fluidaudio_cli.scoring.matching import read_annotations
from fluidaudio_cli.turns import Turn
from fluidaudio_cli.voices.linking import link, linked_speakers

# Share of a speaker's time that one person has, from which diarization did not mix people.
_PURE = 0.7
# Length of the shift that a made channel adds to unit vectors: two of them have a cosine of 0.8.
_CHANNEL = 0.5


def speakers_right(files: Sequence[Path], references: Mapping[str, tuple[Turn, ...]]) -> None:
    """Print the share of pairs that are linked rightly."""
    speakers, truth, pure = [], [], []
    for path in files:
        saved = read_evidence(path)
        result = saved.diarize(SpeakerBounds())
        for each in linked_speakers(result):
            own = [turn for turn in result.turns if turn.speaker == each.label]
            speakers.append(each)
            person, share = _speaker_of(own, references[path.stem])
            truth.append(person)
            pure.append(share >= _PURE)
    calibration = read_evidence(files[0]).plan.mode.calibration
    persons = link(speakers, calibration)
    names = [
        persons[s.uri, s.label].name if (s.uri, s.label) in persons else f"{s.uri} {s.label}"
        for s in speakers
    ]
    sys.stdout.write(f"{len(files)} recordings, {len(set(truth))} people\n")
    uris = np.array([s.uri for s in speakers])
    for what, rows in (
        ("all speakers found", np.arange(len(speakers))),
        (f"those that are {100 * _PURE:.0f} % one person", np.flatnonzero(pure)),
    ):
        first, second = (rows[side] for side in np.triu_indices(len(rows), 1))
        apart = uris[first] != uris[second]
        same, said = ((np.array(x)[first] == np.array(x)[second])[apart] for x in (truth, names))
        sys.stdout.write(
            f"{what}, {len(rows)}: {100 * (same == said).mean():.2f} % of {len(same)} pairs right; "
            f"of {same.sum()} pairs of one person {100 * said[same].mean():.1f} % linked, "
            f"of {said.sum()} linked {100 * same[said].mean():.1f} % right\n"
        )


def _speaker_of(turns: Sequence[Turn], reference: Sequence[Turn]) -> tuple[str, float]:
    """Who it is most of the time, and the share of that."""
    common: dict[str, float] = {}
    for turn in turns:
        for other in reference:
            both = min(turn.end, other.end) - max(turn.start, other.start)
            common[other.speaker] = common.get(other.speaker, 0.0) + max(both, 0.0)
    name = max(sorted(common), key=lambda name: common[name])
    return name, common[name] / max(sum(common.values()), 1e-9)


def make_many(files: Sequence[Path], count: int, folder: Path) -> None:
    """``count`` recordings of evidence, each some of ``files`` through another channel."""
    logs = [EvidenceLog.load(path) for path in files]
    random = np.random.default_rng(0)
    for number in range(count):
        log = logs[number % len(logs)]
        made = EvidenceLog(log.facts)
        made.samples = log.samples
        shift = random.normal(size=log.vectors.shape[1])
        shift *= _CHANNEL / np.linalg.norm(shift)
        for window in log:
            voices = tuple(_shifted(voice, shift) for voice in window.voices)
            made.append(WindowEvidence(window.number, voices, window.packed, window.shape))
        made.save(folder / f"made-{number:05d}.npz")
    hours = sum(log.samples for log in logs) / len(logs) * count / SAMPLE_RATE / 3600
    sys.stdout.write(f"{count} recordings, {hours:.0f} h\n")


def _shifted(voice: LocalVoice, shift: np.ndarray) -> LocalVoice:
    if not voice.vector.any():
        return voice
    vector = voice.vector + shift
    return voice._replace(vector=(vector / np.linalg.norm(vector)).astype(np.float32))


def measure(folder: Path) -> None:
    """Print time and memory of diarizing all of ``folder`` with --link."""
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        command = ["-m", "fluidaudio_cli", "diarize", str(folder), "--link", "--output-dir", out]
        subprocess.run([sys.executable, *command, "-q"], check=True)
        wall = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    sys.stdout.write(
        f"{wall:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of processor time, "
        f"{used.ru_maxrss / 1e3:.0f} MB at most\n"
    )


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("evidence", type=Path, help="folder of .npz")
    parser.add_argument("--references", type=Path, help="folder of .rttm of the same names")
    parser.add_argument("--recordings", type=int, default=0, help="to make and link")
    asked = parser.parse_args()
    files = sorted(asked.evidence.glob("*.npz"))
    if asked.references:
        speakers_right(files, read_annotations(asked.references).turns)
    if asked.recordings:
        with tempfile.TemporaryDirectory() as folder:
            make_many(files, asked.recordings, Path(folder))
            measure(Path(folder))


if __name__ == "__main__":
    main()
