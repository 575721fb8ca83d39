"""The robustness suite: conditions around a base, one factor at a time, and crossings.

A suite (YAML, ``fluidaudio.robustness/1``) names a base recipe and, for each factor, what its
levels change in it. Each condition holds the same conversations; its name is ``factor=level``, or
several of these for a crossing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from fluidaudio_cli.benchmark.grid import ONCE, ROBUSTNESS, Condition, Study
from fluidaudio_cli.benchmark.metrics import METRICS
from fluidaudio_cli.benchmark.results import BenchmarkResult, CellRecord, DifferenceRecord
from fluidaudio_cli.corpora.dataset import Dataset
from fluidaudio_cli.errors import InputError
from fluidaudio_cli.progress import ProgressCallback, no_progress
from fluidaudio_cli.resources import datasets_dir
from fluidaudio_cli.settings import first_problem, merged, read_yaml
from fluidaudio_cli.simulate.batch import read_voices
from fluidaudio_cli.simulate.bundled import bundled_voices, made_dataset
from fluidaudio_cli.simulate.recipe import Frozen, Recipe, parse_recipe

DOUBLED = 2.0


class _Quick(Frozen):
    conversations: int = Field(ge=1)
    seconds: float
    levels: dict[str, list[str]]


class Suite(Frozen):
    """A suite's file; levels are names of changes to the base recipe."""

    schema_: Literal["fluidaudio.robustness/1"] = Field(alias="schema")
    base: dict[str, Any]
    factors: dict[str, dict[str, dict[str, Any]]]
    crossings: list[dict[str, list[str]]] = Field(default_factory=list)
    quick: _Quick | None = None

    @field_validator("factors")
    @classmethod
    def _one_word_each(cls, factors: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        # levels_of() takes a condition's name apart again.
        for name in (*factors, *(level for levels in factors.values() for level in levels)):
            if not name or re.search(r"[\s=]", name):
                raise ValueError(f"{name!r} is no name of one word without '='")
        return factors

    def shortened(self) -> Suite:
        """The quick part of the suite, all of it where it names none."""
        if self.quick is None:
            return self
        base = {
            **self.base,
            "conversations": self.quick.conversations,
            "seconds": self.quick.seconds,
        }
        factors = {
            name: {level: self._change(name, level) for level in levels}
            for name, levels in self.quick.levels.items()
        }
        return self.model_copy(update={"base": base, "factors": factors, "crossings": []})

    def recipes(self) -> dict[str, Recipe]:
        """Condition to recipe, the base (called "") first; raises ``InputError``."""
        found = {"": self._recipe({})}
        for factor, levels in self.factors.items():
            for level in levels:
                found[f"{factor}={level}"] = self._recipe({factor: level})
        for crossing in self.crossings:
            for levels_of in product(*crossing.values()):
                chosen = dict(zip(crossing, levels_of, strict=True))
                name = " ".join(f"{factor}={level}" for factor, level in chosen.items())
                found[name] = self._recipe(chosen)
        return found

    def _recipe(self, chosen: Mapping[str, str]) -> Recipe:
        document = self.base
        for factor, level in chosen.items():
            document = merged(document, self._change(factor, level))
        return parse_recipe(document, "robustness suite")

    def _change(self, factor: str, level: str) -> dict[str, Any]:
        try:
            return self.factors[factor][level]
        except KeyError as error:
            raise InputError(f"the robustness suite has no {factor}={level}", "name it") from error


def read_suite(path: Path | None = None, quick: bool = False) -> Suite:
    """The suite of a file, by default the one that ships, or its quick part.

    Raises ``InputError``.
    """
    path = path or datasets_dir() / "recipes" / "robustness.yaml"
    try:
        suite = Suite.model_validate(read_yaml(path, "the suite", InputError))
    except ValidationError as error:
        raise InputError(f"{path}: {first_problem(error)}", "see docs/robustness.md") from error
    return suite.shortened() if quick else suite


def make_conditions(
    suite: Suite,
    cache_folder: Path,
    choose: Callable[[Dataset], Dataset],
    progress: ProgressCallback = no_progress,
) -> dict[str, Condition]:
    """The chosen recordings of each condition, made now unless they are in ``cache_folder``."""
    recipes = suite.recipes()
    voices = read_voices(bundled_voices())
    found = {}
    for number, (name, recipe) in enumerate(recipes.items()):

        def report(done: float, total: float | None, number: int = number) -> None:
            progress(number + done / (total or 1), len(recipes))

        # Here: starting processes for each condition takes longer than making it.
        made = choose(made_dataset(recipe, cache_folder, voices=voices, progress=report))
        # robust-004-3spk and robust-004-6spk are what the fourth conversation became.
        pairs = {item.uri: item.uri.rsplit("-", 1)[0] for item in made.items}
        found[name] = Condition(name, made, pairs)
    return found


def robustness_study(study: Study) -> Study:
    """``study``'s cells, each mode's conditions against its base, measured once."""
    contrasts = tuple(each for each in study.contrasts if each.cell.condition)
    return replace(study, name=ROBUSTNESS, effort=ONCE, contrasts=contrasts)


@dataclass(frozen=True)
class Degradation:
    """A condition of one series (mode, models, …): its record and difference from the base."""

    series: str
    levels: tuple[tuple[str, str], ...]
    record: CellRecord
    difference: DifferenceRecord | None

    @property
    def der(self) -> float | None:
        """Strict DER, percent."""
        found = METRICS["der_strict"].measure(self.record)
        return None if found is None else found.median


def degradations(result: BenchmarkResult) -> tuple[Degradation, ...]:
    """Every measured condition in the suite's order, the base of each series with no levels."""
    differences = {
        each.cell: each for each in result.findings.differences if each.study == ROBUSTNESS
    }
    return tuple(
        Degradation(
            record.cell.at(condition="").name,
            levels_of(record.cell.condition),
            record,
            differences.get(record.name),
        )
        for record in result.of_study(ROBUSTNESS)
        if record.unavailable is None
    )


def levels_of(condition: str) -> tuple[tuple[str, str], ...]:
    """(factor, level) of a condition's name."""
    pairs = (part.partition("=") for part in condition.split())
    return tuple((factor, level) for factor, _, level in pairs)


def doubling(rows: tuple[Degradation, ...], series: str, factor: str) -> str | None:
    """The first level of ``factor``, in the suite's order, at which DER is twice the base's."""
    own = [row for row in rows if row.series == series]
    base = next((row.der for row in own if not row.levels), None)
    for row in own:
        alone = len(row.levels) == 1 and row.levels[0][0] == factor
        if alone and base and row.der is not None and row.der >= DOUBLED * base:
            return row.levels[0][1]
    return None
