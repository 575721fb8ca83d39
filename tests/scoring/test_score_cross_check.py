"""Our scores beside those of simpleder, an independent scorer, on perturbed references."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import simpleder

from fluidaudio_cli.scoring import pyannote_scorer
from fluidaudio_cli.scoring.extents import Extents
from fluidaudio_cli.scoring.matching import read_annotations, read_uems
from fluidaudio_cli.scoring.metrics import LENIENT, STRICT, pool, score_conditions
from fluidaudio_cli.scoring.rttm import read_rttm
from fluidaudio_cli.turns import Turn

CORPORA = {"ami-excerpts": 14, "sim-meetings": 10}


def jitter(turns: list[Turn], rng: random.Random) -> list[Turn]:
    moved = [
        Turn(
            max(0.0, turn.start + rng.gauss(0, 0.2)),
            turn.end + rng.gauss(0.1, 0.2),
            turn.speaker,
        )
        for turn in turns
    ]
    return [turn for turn in moved if turn.end > turn.start]


def drop(turns: list[Turn], rng: random.Random) -> list[Turn]:
    return [turn for turn in turns if rng.random() < 0.8]


def swap(turns: list[Turn], rng: random.Random) -> list[Turn]:
    names = [*sorted({turn.speaker for turn in turns}), "nobody"]
    return [
        turn._replace(speaker=rng.choice(names)) if rng.random() < 0.3 else turn for turn in turns
    ]


def merge(turns: list[Turn], rng: random.Random) -> list[Turn]:
    names = sorted({turn.speaker for turn in turns})
    lost, kept = names[0], names[-1]
    return [turn._replace(speaker=kept) if turn.speaker == lost else turn for turn in turns]


def everything(turns: list[Turn], rng: random.Random) -> list[Turn]:
    return jitter(drop(swap(merge(turns, rng), rng), rng), rng)


PERTURBATIONS = [jitter, drop, swap, merge, everything]


def clipped(turns: tuple[Turn, ...] | list[Turn], uem: Extents) -> list[tuple[str, float, float]]:
    """simpleder knows no UEM; ours here is one interval, so turns are cut to it beforehand."""
    ((first, last),) = uem
    return [
        (turn.speaker, max(turn.start, first), min(turn.end, last))
        for turn in turns
        if max(turn.start, first) < min(turn.end, last)
    ]


@pytest.mark.parametrize("corpus", CORPORA)
@pytest.mark.parametrize("perturb", PERTURBATIONS)
def test_same_components_as_simpleder(corpus: str, perturb: object, shared_data: Path) -> None:
    assert callable(perturb)
    references = read_annotations(shared_data / corpus).turns
    uems = read_uems(shared_data / corpus)
    assert len(references) == CORPORA[corpus]
    scores = []
    sums = {"strict": 0.0, "lenient": 0.0}
    for uri, reference in references.items():
        hypothesis = perturb(list(reference), random.Random(uri))
        found = score_conditions((STRICT, LENIENT), reference, hypothesis, uems[uri], uri=uri)
        scores.append(found)
        truth, answer = clipped(reference, uems[uri]), clipped(hypothesis, uems[uri])
        for item in found.conditions:
            theirs = simpleder.DER(
                truth,
                answer,
                collar=item.condition.collar_per_side,
                skip_overlap=item.condition.skip_overlap,
                detailed=True,
            )
            ours = item.der
            assert (
                ours.missed_detection, ours.false_alarm, ours.confusion, ours.total
            ) == pytest.approx(
                [theirs[name] for name in ("miss", "false_alarm", "confusion", "ref_length")],
                abs=1e-6,
            ), (uri, item.condition.name)  # fmt: skip
            sums[item.condition.name] += (
                theirs["miss"] + theirs["false_alarm"] + theirs["confusion"]
            )
    pooled = pool(scores)
    assert pooled.strict.der.error == pytest.approx(sums["strict"], abs=1e-6)
    assert sums["strict"] > 0
    assert pooled.lenient.der.error == pytest.approx(sums["lenient"], abs=1e-6)


def test_long_recordings_score_as_short_ones(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    references = read_annotations(shared_data / "sim-meetings").turns
    uems = read_uems(shared_data / "sim-meetings")
    for uri, reference in references.items():
        hypothesis = everything(list(reference), random.Random(uri))
        whole = score_conditions((STRICT, LENIENT), reference, hypothesis, uems[uri])
        with monkeypatch.context() as patch:
            patch.setattr(pyannote_scorer, "_WHOLE_TURNS", 0)
            patch.setattr(pyannote_scorer, "_PART_SECONDS", 50.0)
            parts = score_conditions((STRICT, LENIENT), reference, hypothesis, uems[uri])
        for left, right in zip(whole.conditions, parts.conditions, strict=True):
            assert vars(left.der) == pytest.approx(vars(right.der), abs=1e-6)
            assert left.jer.rate == pytest.approx(right.jer.rate, abs=1e-6)


def test_bundled_sample_against_simpleder(sample_wav: Path) -> None:
    (reference,) = read_rttm(sample_wav.with_suffix(".rttm")).values()
    uem = ((0.0, 30.0),)
    hypothesis = jitter(list(reference), random.Random(7))
    ours = score_conditions((STRICT, LENIENT), reference, hypothesis, uem).strict.der
    theirs = simpleder.DER(clipped(reference, uem), clipped(hypothesis, uem))
    assert ours.rate == pytest.approx(theirs, abs=1e-9)
    assert ours.rate > 0.05
