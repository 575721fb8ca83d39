"""Is what `simulate` makes as hard as what was recorded? The same figures of both, side by side.

    python tools/compare_with_real.py REAL [--each 3] [--mode balanced]

``REAL`` is a folder of recordings with RTTM (and UEM). For each, conversations are made in its
likeness: as long, with as many speakers, as much overlap, the same level and noise. Both are
diarized and scored in the same way; pooled figures are printed. A row in which the simulation is
lower by more than its error bar (a bootstrap over recordings) is one for which it is too easy.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fluidaudio_cli.recordings import is_audio_name
from fluidaudio_cli.scoring.rttm import read_rttm
from fluidaudio_cli.simulate.signals import rms, to_db
from fluidaudio_cli.simulate.voices import read_audio

Groups = list[list[dict[str, Any]]]

_FRAME = 160  # samples: 10 ms
_QUIETEST_DB = 60.0
_DRAWS = 1000


def likeness(audio: Path, seed: int, count: int) -> dict[str, Any]:
    """A recipe of ``count`` conversations like a recording with its reference beside it."""
    samples = read_audio(audio)
    frames = samples[: samples.size // _FRAME * _FRAME].reshape(-1, _FRAME)
    turns = [turn for each in read_rttm(audio.with_suffix(".rttm")).values() for turn in each]
    speakers = sorted({turn.speaker for turn in turns})
    active = np.zeros((len(speakers), len(frames)), bool)
    for turn in turns:
        span = slice(int(turn.start * 100), int(turn.end * 100))
        active[speakers.index(turn.speaker), span] = True
    said = active.any(0)
    level = to_db(rms(frames[said].ravel()))
    noise = np.median(np.sqrt(np.mean(frames[~said] ** 2, 1))) if not said.all() else 0.0
    snr = min(level - to_db(float(noise)), _QUIETEST_DB) if noise > 0 else _QUIETEST_DB
    return {
        "name": audio.stem,
        "seed": seed,
        "conversations": count,
        "seconds": max(round(samples.size / 16_000, 1), 10.0),
        "speakers": len(speakers),
        "introduction": 0.0,
        "overlap": float(min(100 * (active.sum(0) > 1).sum() / said.sum(), 80.0)),
        "level": float(max(level, -60.0)),
        "noise": {"kind": "noise", "snr": float(snr)},
    }


def figures(files: list[dict[str, Any]]) -> dict[str, float]:
    """Pooled over recordings: error rates and shares in %, boundaries in ms."""
    parts = {key: sum(_der(each, key) for each in files) for key in _der_keys(files[0])}
    true = np.array([each["speakers"]["reference"] for each in files])
    found = np.array([each["speakers"]["hypothesis"] for each in files])
    overlap = {
        key: sum(float(each["overlap"][key]) for each in files) for key in files[0]["overlap"]
    }
    edges = [each["boundaries"] for each in files]
    matched = [each["median_seconds"] for each in edges if each["median_seconds"] is not None]
    return {
        "strict DER": 100 * sum(v for k, v in parts.items() if k != "total") / parts["total"],
        "missed": 100 * parts["missed_detection"] / parts["total"],
        "false alarm": 100 * parts["false_alarm"] / parts["total"],
        "confusion": 100 * parts["confusion"] / parts["total"],
        "overlap missed": 100 * overlap["missed"] / max(overlap["total"], 1e-9),
        "wrong speaker count": 100 * float(np.mean(true != found)),
        "speakers too few, on average": float(np.mean(true - found)),
        "boundaries missed": 100
        * (1 - sum(e["matched"] for e in edges) / max(sum(e["reference"] for e in edges), 1)),
        "boundary, median ms": 1000 * float(np.median(matched)) if matched else float("nan"),
    }


def _der(file: dict[str, Any], key: str) -> float:
    return float(file["conditions"]["strict"]["der"][key])


def _der_keys(file: dict[str, Any]) -> list[str]:
    return [key for key in file["conditions"]["strict"]["der"] if key != "rate"]


def spread(groups: Groups, size: int) -> dict[str, float]:
    """Standard errors of ``figures`` of ``size`` groups of files, drawn from ``groups``."""
    rng = np.random.default_rng(0)
    drawn = [
        figures([each for i in rng.integers(len(groups), size=size) for each in groups[i]])
        for _ in range(_DRAWS)
    ]
    return {key: float(np.nanstd([one[key] for one in drawn])) for key in drawn[0]}


def scored(audio: Path, mode: str, out: Path) -> list[dict[str, Any]]:
    """Diarize and score a folder: a record for each recording, sorted by name."""
    _run("diarize", audio, "--performance-mode", mode, "--format", "rttm", "--output-dir", out)
    document, given = out.with_suffix(".json"), []
    for option, kind in ((), "rttm"), (("--uem",), "uem"):
        whole = out.with_suffix(f".{kind}")
        whole.write_text("".join(path.read_text() for path in sorted(audio.rglob(f"*.{kind}"))))
        given += [*option, whole] if whole.stat().st_size else []
    _run("score", given[0], out, *given[1:], "--format", "json", "--output", document)
    files: list[dict[str, Any]] = json.loads(document.read_bytes())["files"]
    return sorted(files, key=lambda file: str(file["uri"]))


def _run(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "fluidaudio_cli", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("real", type=Path)
    parser.add_argument("--each", type=int, default=3)
    parser.add_argument("--mode", default="balanced")
    parser.add_argument("--set", default="{}", help="keys of every recipe, as YAML")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        made = Path(name) / "made"
        uris = []
        for seed, audio in enumerate(sorted(filter(is_audio_name, given.real.iterdir()))):
            recipe = Path(name) / "recipe.yaml"
            recipe.write_text(
                yaml.safe_dump(likeness(audio, seed, given.each) | yaml.safe_load(given.set))
            )
            _run("simulate", "--recipe", recipe, "--output", made / audio.stem)
            uris.append(audio.stem)
        real = scored(given.real, given.mode, Path(name) / "real-turns")
        same = scored(made, given.mode, Path(name) / "made-turns")
    alone = [[each] for each in same]
    groups = [[each for each in same if str(each["uri"]).startswith(f"{uri}-")] for uri in uris]
    if len(real) > 1:
        errors = spread([[each] for each in real], len(real)), spread(groups, len(groups))
    else:  # how far a single one strays is seen in those that were made
        errors = spread(alone, 1), spread(alone, len(alone))
    recorded, made_up = figures(real), figures(same)
    for key, value in recorded.items():
        gap, sure = made_up[key] - value, 2 * float(np.hypot(errors[0][key], errors[1][key]))
        verdict = "too easy" if gap < -sure else "too hard" if gap > sure else ""
        print(  # noqa: T201
            f"{key:29} {value:6.1f} ± {errors[0][key]:4.1f}   "
            f"{made_up[key]:6.1f} ± {errors[1][key]:4.1f}   {verdict}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
