"""Fit ``simulate/turn_taking.json`` to real meetings, and state how well it agrees.

    python tools/fit_turn_taking.py FOLDER_OF_RTTM            # fit, write, state
    python tools/fit_turn_taking.py FOLDER_OF_RTTM --check    # only state

Shapes are counted; the three numbers about standing are found by a small search, which compares
the speakers' shares of speech, by rank, in meetings of four.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fluidaudio_cli.scoring.rttm import read_rttm
from fluidaudio_cli.simulate import turn_taking
from fluidaudio_cli.simulate.turn_taking import (
    OVERLAP,
    PAUSE,
    SAME,
    TurnModel,
    Utterance,
    converse,
    model_from,
    overlap_share,
    shipped_model,
)

EDGES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
QUANTILES = np.append(np.linspace(0, 0.975, 40), 0.99)
"""Read as equally spaced: the longest percent (breaks, lectures) is left out."""

FIT_MEETINGS = 60
"""Conversations simulated for each candidate of the search."""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true", help="state the shipped model's agreement")
    asked = parser.parse_args()
    meetings = [read_meeting(path) for path in sorted(asked.folder.glob("*.rttm"))]
    if asked.check:
        model = shipped_model()
    else:
        document = fit(meetings)
        target = Path(turn_taking.__file__).with_name("turn_taking.json")
        target.write_text(to_json(document), encoding="utf-8")
        model = model_from(document)
    made = [
        converse(model, speakers_of(meeting), meeting[-1].end, np.random.default_rng([7, index]))
        for index, meeting in enumerate(meetings)
    ]
    sys.stdout.write(agreement(meetings, made))


def to_json(document: dict[str, Any]) -> str:
    """One key a line."""
    rows = (f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in document.items())
    return "{\n" + ",\n".join(rows) + "\n}\n"


def read_meeting(path: Path) -> list[Utterance]:
    """A meeting's turns, speakers numbered, whether they interject seen from the floor."""
    turns = next(iter(read_rttm(path).values()))
    names = sorted({turn.speaker for turn in turns})
    made = []
    floor_end = 0.0
    for turn in sorted(turns):
        made.append(
            Utterance(
                names.index(turn.speaker),
                round(turn.start * 1000),
                round(turn.duration * 1000),
                turn.end <= floor_end,
            )
        )
        floor_end = max(floor_end, turn.end)
    return made


def speakers_of(meeting: Sequence[Utterance]) -> int:
    """How many speak."""
    return len({utterance.speaker for utterance in meeting})


def fit(meetings: Sequence[Sequence[Utterance]]) -> dict[str, Any]:
    """The parameters, as ``turn_taking.json`` holds them."""
    classes = len(EDGES) + 1
    kinds = np.zeros((classes, 3))
    depth: list[list[float]] = [[] for _ in range(classes)]
    interjections: list[list[float]] = [[] for _ in range(classes)]
    held = np.zeros(classes)
    gap: list[list[float]] = [[], []]
    length: list[list[float]] = [[], [], []]
    returns = [0, 0]
    for meeting in meetings:
        floor, before = meeting[0], -1
        cls = int(np.searchsorted(EDGES, floor.seconds, side="right"))
        held[cls] += floor.seconds
        for turn in meeting[1:]:
            if turn.interjected:
                interjections[cls].append(turn.seconds)
                continue
            kind = (
                SAME
                if turn.speaker == floor.speaker
                else PAUSE
                if turn.start >= floor.end
                else OVERLAP
            )
            kinds[cls, kind] += 1
            if kind == OVERLAP:
                depth[cls].append(floor.end - turn.start)
            else:
                gap[kind].append(turn.start - floor.end)
            length[kind].append(turn.seconds)
            if kind != SAME:
                if before >= 0:
                    returns[turn.speaker == before] += 1
                before = floor.speaker
            floor = turn
            cls = int(np.searchsorted(EDGES, floor.seconds, side="right"))
            held[cls] += floor.seconds

    def tables(rows: Sequence[Sequence[float]]) -> list[list[float]]:
        return [np.round(np.quantile(row or [0.0], QUANTILES), 3).tolist() for row in rows]

    document: dict[str, Any] = {
        "source": f"only-words references of {len(meetings)} AMI training meetings, CC BY 4.0",
        "edges": EDGES,
        "kinds": np.round(kinds / kinds.sum(axis=1, keepdims=True), 4).tolist(),
        "depth": tables(depth),
        "rate": np.round(
            [len(i) / s for i, s in zip(interjections, held, strict=True)], 4
        ).tolist(),
        "interjection": tables(interjections),
        "gap": tables(gap),
        "length": tables(length),
    }
    return {**document, **_search(document, meetings)}


def _search(document: dict[str, Any], meetings: Sequence[Sequence[Utterance]]) -> dict[str, float]:
    four = [meeting for meeting in meetings if speakers_of(meeting) == 4]
    goal = _habits(four)
    best, found = np.inf, {}
    grid = itertools.product((0.2, 0.4, 0.6), (0.2, 0.35), (1.5, 2, 2.5), (0.3, 0.5, 0.7))
    for standing, hold, back, spread in grid:
        candidate = {"standing": standing, "hold": hold, "back": back, "spread": spread}
        made = _simulated(model_from({**document, **candidate}))
        error = float(np.abs(_habits(made) - goal).sum())
        if error < best:
            best, found = error, candidate
    return found


def _simulated(model: TurnModel) -> list[list[Utterance]]:
    streams = (np.random.default_rng([3, index]) for index in range(FIT_MEETINGS))
    return [converse(model, 4, 1800.0, stream) for stream in streams]


def _habits(meetings: Sequence[Sequence[Utterance]]) -> np.ndarray[Any, Any]:
    spread = float(np.std([overlap_share(meeting) for meeting in meetings]))
    return np.array([*mean_shares(meetings), returned(meetings), spread])


def mean_shares(meetings: Sequence[Sequence[Utterance]]) -> np.ndarray[Any, Any]:
    """Mean share of the speech of the most, second most … talkative of four."""
    rows = []
    for meeting in meetings:
        seconds = np.zeros(4)
        for turn in meeting:
            seconds[turn.speaker] += turn.seconds
        rows.append(np.sort(seconds)[::-1] / seconds.sum())
    return np.asarray(np.mean(rows, axis=0))


def returned(meetings: Sequence[Sequence[Utterance]]) -> float:
    """How often the floor goes back to the speaker before."""
    back = changes = 0
    for meeting in meetings:
        before = holder = -1
        for turn in meeting:
            if turn.interjected or turn.speaker == holder:
                continue
            if before >= 0:
                changes += 1
                back += turn.speaker == before
            before, holder = holder, turn.speaker
    return back / max(changes, 1)


def agreement(real: Sequence[Sequence[Utterance]], made: Sequence[Sequence[Utterance]]) -> str:
    """A table of what meetings and simulated conversations look like."""
    rows: list[tuple[str, ...]] = [("", "meetings", "simulated")]

    def quantiles(name: str, pick: Any) -> None:
        sides = [np.concatenate([pick(meeting) for meeting in side]) for side in (real, made)]
        levels = (0.1, 0.25, 0.5, 0.75, 0.9)
        shown = [" ".join(f"{v:.2f}" for v in np.quantile(side, levels)) for side in sides]
        rows.append((f"{name}, s, at 10 25 50 75 90 %", *shown))
        rows.append((f"  largest gap of the distributions: {_distance(*sides):.3f}", "", ""))

    def number(name: str, pick: Any) -> None:
        values = [np.array([pick(meeting) for meeting in side]) for side in (real, made)]
        rows.append((name, *(f"{v.mean():.3f} (sd {v.std():.3f})" for v in values)))

    quantiles("turns", lambda m: np.array([u.seconds for u in m]))
    quantiles("interjections", lambda m: np.array([u.seconds for u in m if u.interjected]))
    quantiles("pauses of all", silences)
    quantiles("pauses of one speaker", own_pauses)
    number("overlap share", overlap_share)
    number("silence share", lambda m: silences(m).sum() / m[-1].end)
    number("interjections of all turns", lambda m: np.mean([u.interjected for u in m]))
    number("turns a minute", lambda m: 60 * len(m) / m[-1].end)
    number("floor goes back", lambda m: returned([m]))
    for rank, name in enumerate(("first", "second", "third", "fourth")):
        shares = (
            mean_shares([m for m in side if speakers_of(m) == 4])[rank] for side in (real, made)
        )
        rows.append((f"share of the {name} of four", *(f"{share:.3f}" for share in shares)))
    width = max(len(row[0]) for row in rows)
    return "".join(f"{a:{width}}  {b:34}{c}\n" for a, b, c in rows)


def silences(meeting: Sequence[Utterance]) -> np.ndarray[Any, Any]:
    """Pauses in which nobody speaks, seconds."""
    found, end = [], meeting[0].end
    for turn in meeting[1:]:
        if turn.start > end:
            found.append(turn.start - end)
        end = max(end, turn.end)
    return np.array(found)


def own_pauses(meeting: Sequence[Utterance]) -> np.ndarray[Any, Any]:
    """From a speaker's end to their next start, seconds."""
    last: dict[int, float] = {}
    found = []
    for turn in meeting:
        if turn.speaker in last:
            found.append(turn.start - last[turn.speaker])
        last[turn.speaker] = turn.end
    return np.array(found)


def _distance(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    """Kolmogorov and Smirnov's: the largest difference of the cumulative distributions."""
    points = np.sort(np.concatenate([a, b]))
    steps = [np.searchsorted(np.sort(side), points, side="right") / side.size for side in (a, b)]
    return float(np.abs(steps[0] - steps[1]).max())


if __name__ == "__main__":
    main()
