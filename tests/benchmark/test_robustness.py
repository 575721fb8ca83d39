"""The robustness suite: conditions, study, and what is concluded of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fluidaudio_cli.benchmark.gates import read_gates
from fluidaudio_cli.benchmark.grid import ROBUSTNESS
from fluidaudio_cli.benchmark.results import read_result
from fluidaudio_cli.benchmark.robustness import (
    degradations,
    doubling,
    levels_of,
    make_conditions,
    read_suite,
)
from fluidaudio_cli.errors import InputError
from fluidaudio_cli.executors.cache import cache_dir
from fluidaudio_cli.report.robustness import crossing_figures, factor_figures, robustness_tables
from tests import forked

SMALL = """
schema: fluidaudio.robustness/1
base: {name: small, seed: 3, conversations: 1, seconds: 20, speakers: 2}
factors:
  noise:
    "30": {noise: {kind: white, snr: 30}}
    "-15": {noise: {kind: white, snr: -15}}
  level: {"-46": {level: -46}}
crossings: [{noise: ["-15"], level: ["-46"]}]
quick: {conversations: 1, seconds: 10, levels: {noise: ["30"]}}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def test_the_shipped_suite_asks_for_what_the_issue_names() -> None:
    recipes = read_suite().recipes()
    assert recipes["noise=0"].noise.snr == 0
    assert recipes["rt60=1.0"].room.rt60 == 1
    assert recipes["rt60=1.0"].room.distance == recipes[""].room.distance
    assert recipes["overlap=40"].overlap == 40
    counts = {recipes[name].speakers for name in recipes if name.startswith("speakers=")}
    assert counts | {recipes[""].speakers} == {1, 2, 3, 4, 6, 8, 12}
    assert recipes["babble=5 rt60=0.6"].noise.snr == 5
    assert recipes["babble=5 rt60=0.6"].room.rt60 == 0.6
    assert len({recipe.seed for recipe in recipes.values()}) == 1
    quick = read_suite().shortened().recipes()
    assert set(quick) < set(recipes)
    assert all(recipe.seconds < recipes[""].seconds for recipe in quick.values())


def test_conditions_hold_the_same_conversations(small: Path, tmp_path: Path) -> None:
    made = make_conditions(read_suite(small).shortened(), tmp_path / "cache", lambda each: each)
    assert list(made) == ["", "noise=30"]
    turns = [
        [line.split()[3:8] for line in item.reference.read_text().splitlines()]
        for condition in made.values()
        for item in condition.recordings.items
    ]
    assert turns[0] == turns[1]
    assert set(made[""].conversations.values()) == set(made["noise=30"].conversations.values())
    assert made[""].recordings.fingerprint != made["noise=30"].recordings.fingerprint


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("snr: 30", "snr: loud", "robustness suite: noise.snr: "),
        ('levels: {noise: ["30"]}', 'levels: {noise: ["31"]}', "has no noise=31"),
        ('level: {"-46":', 'level: {"very low":', "factors: .*'very low' is no name of one word"),
        ("robustness/1", "robustness/2", "small.yaml: schema: "),
        ("factors:", "factor:", "small.yaml: factors: Field required"),
    ],
)
def test_a_wrong_suite_says_where(small: Path, old: str, new: str, words: str) -> None:
    small.write_text(SMALL.replace(old, new))
    with pytest.raises(InputError, match=words):
        _ = [suite.recipes() for suite in (read_suite(small), read_suite(small).shortened())]


def test_the_command_measures_each_condition_against_the_base(small: Path, tmp_path: Path) -> None:
    gates = tmp_path / "gates.yaml"
    gates.write_text(
        "schema: fluidaudio.gates/1\ngates:\n"
        "  - {metric: robust_der_snr30, at_most: 90, unit: '%'}\n"
        "  - {metric: robust_der_level_-46, at_most: 90, unit: '%'}\n"
        "  - {metric: robust_der_clean, mode: fast, at_most: 90, unit: '%'}\n"
    )
    output = [str(tmp_path / name) for name in ("r.json", "r.html")]
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "models").symlink_to(cache_dir() / "models")  # compiled already
    done = forked.run(
        *("benchmark", "--robustness", small, "--performance-mode", "fast"),
        *("--gate", gates, "-o", output[0], "-o", output[1]),
        env={"FLUIDAUDIO_CACHE_DIR": str(tmp_path / "cache")},
    )
    assert done.returncode == 0, done.stderr
    assert [each.condition for each in read_gates(gates)] == ["noise=30", "level=-46", ""]
    assert "Robustness: fast" in done.stdout
    assert "Where the error doubles" in done.stdout
    result = read_result(tmp_path / "r.json")
    rows = degradations(result)
    assert [dict(row.levels) for row in rows] == [
        {}, {"noise": "30"}, {"noise": "-15"}, {"level": "-46"}, {"noise": "-15", "level": "-46"},
    ]  # fmt: skip
    assert {record.study for record in result.cells} == {ROBUSTNESS}
    base, quiet, loud = (row.der or 0.0 for row in rows[:3])
    assert base < 60
    assert loud > quiet
    assert rows[2].difference is not None
    assert rows[2].difference.der_points is not None
    assert rows[2].difference.der_points.value == pytest.approx(loud - base)
    assert doubling(rows, "fast", "noise") == ("-15" if loud >= 2 * base else None)
    assert [factor for factor, _ in factor_figures(result)] == ["noise", "level"]
    ((label, figure),) = crossing_figures(result)
    assert label == "fast: noise and level"
    (heat,) = figure["data"]
    assert heat["z"][1][1] == rows[4].der
    ink = luminance(heat["textfont"]["color"])
    for _, colour in heat["colorscale"]:
        assert (luminance(colour) + 0.05) / (ink + 0.05) > 4.5
    assert [len(table.rows) for table in robustness_tables(result)] == [5, 2]
    page = (tmp_path / "r.html").read_text()
    assert 'id="chart-robust-noise"' in page
    assert 'id="chart-crossed-0"' in page
    json.dumps(figure)


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_names_of_conditions() -> None:
    assert levels_of("") == ()
    assert levels_of("noise=-5 rt60=0.6") == (("noise", "-5"), ("rt60", "0.6"))
