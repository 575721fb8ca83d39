"""Fit how voices compare across recordings, and tell in a table what the fit is worth.

    python tools/fit_voices.py READERS > calibration.yaml

READERS holds one file, or one folder of files, for each voice. The fit is that of ``fluidaudio
models check CARD --calibrate FOLDER --voices READERS`` (``benchmark/calibrating_voices.py``),
without the conversations that the rest of a calibration is fitted to.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from fluidaudio_cli.benchmark.calibrating_voices import CHANNELS, TELEPHONE, Fifths, fit_all, hear
from fluidaudio_cli.benchmark.identify import VoiceFolder
from fluidaudio_cli.benchmark.results import IdentificationRecord
from fluidaudio_cli.benchmark.trials import (
    cllr,
    equal_error_rate,
    false_accepts,
    false_rejects,
    min_dcf,
)
from fluidaudio_cli.diarization.loading import load_pipeline

_FIGURES: Mapping[str, Callable[[IdentificationRecord], float]] = {
    "EER %": lambda record: 100.0 * equal_error_rate(record),
    "minDCF": min_dcf,
    "Cllr": cllr,
    "FA at 1 %": lambda record: 100.0 * false_accepts(record, 0.01),
    "FR at 1 %": lambda record: 100.0 * false_rejects(record, 0.01),
    "FA at 5 %": lambda record: 100.0 * false_accepts(record, 0.05),
    "FR at 5 %": lambda record: 100.0 * false_rejects(record, 0.05),
}


def tell(fifths: Fifths) -> None:
    """A row of errors for what enrolment and test are heard through, of all trials together."""
    sys.stderr.write(f"| {' | '.join(('enrolment, test', *_FIGURES))} |\n")
    for first, second in (*(("", channel) for channel in CHANNELS), (TELEPHONE, TELEPHONE)):
        record = fifths.record(first, second)
        figures = (f"{figure(record):.2f}" for figure in _FIGURES.values())
        name = f"{first or 'plain'}, {second or 'plain'}"
        sys.stderr.write(f"| {name} | {' | '.join(figures)} |\n")


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("voices", type=Path, help="folder of one file, or folder, a voice")
    parser.add_argument("--mode", default="balanced")
    parser.add_argument("--models", help="model card, by default the bundled one")
    asked = parser.parse_args()
    pipeline = load_pipeline(asked.mode, models=asked.models)
    heard, start = hear(VoiceFolder.of(asked.voices), pipeline), pipeline.mode.calibration
    tell(Fifths.of(heard, start))
    values = {
        name: value
        for name, value in fit_all(heard, start).rounded(4).items()
        if name.startswith(("across_", "stranger_", "telephone"))
    }
    text = yaml.safe_dump({"calibration": values}, sort_keys=False, default_flow_style=None)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
