"""Performance gates: limits on figures, read from YAML (``fluidaudio.gates/1``), and verdicts.

``docs/benchmark.md`` has the keys. ``metric: robust_der_snr10`` is short for strict DER of the
robustness suite in noise of that SNR, ``robust_der_FACTOR_LEVEL`` (``robust_der_rt60_0.6``) for
another condition, ``robust_der_clean`` for the base. A gate whose figure was not measured fails.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator

from fluidaudio_cli.benchmark.grid import (
    FACTORS,
    LENGTH_UNITS,
    MODES,
    ROBUSTNESS,
    Level,
    level_name,
)
from fluidaudio_cli.benchmark.metrics import METRICS
from fluidaudio_cli.benchmark.results import BenchmarkResult, CellRecord, Record
from fluidaudio_cli.errors import InputError
from fluidaudio_cli.settings import first_problem, read_yaml

SCHEMA = "fluidaudio.gates/1"
ANY = "*"
_ROBUST, _CLEAN, _SNR = "robust_der_", "clean", re.compile(r"snr(-?\d+)")

# Strict: YAML reads "yes" as true, which would be 1.
Limit = Annotated[float | None, Field(strict=True)]

_LIMITS = {
    "at_least": (operator.ge, "≥"),
    "at_most": (operator.le, "≤"),
    "above": (operator.gt, ">"),
    "below": (operator.lt, "<"),
}


class Gate(Record):
    """One limit on one metric."""

    dataset: str = ANY
    mode: str = ANY
    study: str = MODES
    models: str = ANY
    executor: str = ANY
    precision: str = ANY
    threads: str = ANY
    length: str = ANY
    condition: str = ANY
    latency: str = ANY
    program: str = ANY
    metric: str
    unit: str
    relative: Literal["ratio", "difference"] | None = None
    versus: str | None = None
    at_least: Limit = None
    at_most: Limit = None
    above: Limit = None
    below: Limit = None
    reason: str = ""

    # YAML reads "threads: 2" as a number.
    model_config = ConfigDict(coerce_numbers_to_str=True)

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, given: Any) -> Any:
        metric = given.get("metric") if isinstance(given, dict) else None
        if not (isinstance(metric, str) and metric.startswith(_ROBUST)):
            return given
        asked = metric.removeprefix(_ROBUST)
        noise = _SNR.fullmatch(asked)
        factor, _, level = asked.partition("_")
        condition = f"noise={noise[1]}" if noise else f"{factor}={level}"
        if not noise and not level and asked != _CLEAN:
            known = f"{_ROBUST}snr10, {_ROBUST}clean or {_ROBUST}FACTOR_LEVEL"
            raise ValueError(f"{metric}: give {known}")
        if said := {"study", "condition"} & given.keys():
            raise ValueError(f"{metric} says its {min(said)} itself")
        meant = {
            "study": ROBUSTNESS,
            "condition": "" if asked == _CLEAN else condition,
            "metric": "der_strict",
        }
        return {**given, **meant}

    @model_validator(mode="after")
    def _check(self) -> Gate:
        if self.metric not in METRICS:
            raise ValueError(f"unknown metric {self.metric!r}; known: {', '.join(METRICS)}")
        if self.versus is not None and self.relative is None:
            raise ValueError("versus needs relative: ratio or difference")
        if len(self._given()) != 1:
            raise ValueError(f"needs exactly one of {', '.join(_LIMITS)}")
        expected = "x" if self.relative == "ratio" else METRICS[self.metric].unit
        if self.unit != expected:
            raise ValueError(f"{self.metric} is in {expected!r} here, not in {self.unit!r}")
        return self

    def _given(self) -> list[str]:
        return [name for name in _LIMITS if getattr(self, name) is not None]

    @property
    def bound(self) -> tuple[str, float]:
        """The kind of limit and its number."""
        (name,) = self._given()
        return name, getattr(self, name)

    @property
    def limit(self) -> str:
        """The limit for people, such as ``≥ 100 x``."""
        name, number = self.bound
        other = self.versus or "baseline"
        relative = {None: "", "ratio": f" of {other}", "difference": f" over {other}"}
        limit = f"{_LIMITS[name][1]} {number:.15g} {self.unit}".strip()
        return f"{limit}{relative[self.relative]}"

    @property
    def asked(self) -> str:
        """The cells that it is about, as far as it names them."""
        levels = (getattr(self, name) for name in FACTORS)
        return "/".join(level for level in levels if level not in (ANY, "")) or ANY

    def holds(self, value: float) -> bool:
        """Whether ``value`` is within the limit."""
        name, number = self.bound
        return bool(_LIMITS[name][0](value, number))

    def shown(self, value: float) -> str:
        """``value`` in as many digits, four or more, as show on which side of the limit it is."""
        holds, whole = self.holds(value), len(f"{abs(value):.0f}")
        texts = (f"{value:.{digits}g}" for digits in range(min(max(4, whole), 17), 18))
        text = next(text for text in texts if self.holds(float(text)) == holds)
        return f"{text} {self.unit}".strip()


class GateFile(Record):
    """The content of a gate file."""

    schema_: Literal["fluidaudio.gates/1"] = Field(alias="schema")
    # No tuple: one says that it is too short wherever all its gates are faulty.
    gates: list[Gate] = Field(min_length=1)


@dataclass(frozen=True)
class Check:
    """One gate's verdict: ``measured`` is the value with its unit, or why there is none."""

    name: str
    limit: str
    value: float | None
    passed: bool
    measured: str

    @property
    def verdict(self) -> str:
        """``pass`` or ``fail``."""
        return "pass" if self.passed else "fail"


def read_gates(path: Path) -> tuple[Gate, ...]:
    """Read a gate file; ``InputError`` names the file and its first problem."""
    try:
        return tuple(GateFile.model_validate(read_yaml(path, "the gates", InputError)).gates)
    except ValidationError as error:
        raise InputError(f"{path} is not a {SCHEMA} file: {first_problem(error)}") from error


def evaluate(
    gates: Sequence[Gate], result: BenchmarkResult, baseline: BenchmarkResult | None = None
) -> tuple[Check, ...]:
    """One check per gate and cell it applies to; none applying is one failed check."""
    return tuple(check for gate in gates for check in _evaluate(gate, result, baseline))


def _evaluate(
    gate: Gate, result: BenchmarkResult, baseline: BenchmarkResult | None
) -> Iterator[Check]:
    if gate.dataset not in (ANY, result.dataset.name):
        problem = f"not measured: this run was on {result.dataset.name}"
        yield _unmeasured(gate, gate.asked, problem)
        return
    cells = [cell for cell in result.cells if _applies(gate, cell)]
    if not cells:
        yield _unmeasured(gate, gate.asked, "not measured: no such cell in this run")
    for cell in cells:
        yield _check(gate, cell, result, baseline)


def _applies(gate: Gate, cell: CellRecord) -> bool:
    # An executor that this machine lacks is no cell, unless the gate asks for it by name.
    absent = cell.unavailable is not None and gate.executor == ANY
    return (
        not absent
        and gate.study in (ANY, cell.study)
        and all(
            getattr(gate, name) in (ANY, *_names_of(name, getattr(cell.cell, name)))
            for name in FACTORS
        )
    )


def _names_of(factor: str, level: Level) -> tuple[str, ...]:
    """A level as tables have it, as it may be asked for, and as a number."""
    shown = level_name(factor, level)
    asked = [shown.replace(" ", "")]
    if factor == "length" and isinstance(level, float):
        asked += [f"{level / size:.12g}{unit}" for unit, size in LENGTH_UNITS.items()]
    return shown, *asked, f"{level:g}" if isinstance(level, float) else str(level)


def _check(
    gate: Gate, cell: CellRecord, result: BenchmarkResult, baseline: BenchmarkResult | None
) -> Check:
    value = _figure(gate.metric, cell, result)
    if isinstance(value, str):
        return _unmeasured(gate, cell.name, value)
    if gate.relative is not None:
        where = f" of {gate.versus}" if gate.versus else " in a baseline (--baseline)"
        source = result if gate.versus else baseline
        name = gate.versus or cell.name
        base: float | str = "not measured"
        if source is not None and (others := [c for c in source.cells if c.name == name]):
            base = _figure(gate.metric, others[0], source)
        if isinstance(base, str):
            return _unmeasured(gate, cell.name, base + where)
        if gate.relative == "ratio" and base == 0:
            return _unmeasured(gate, cell.name, f"0{where}, which no figure is a multiple of")
        value = value / base if gate.relative == "ratio" else value - base
    return Check(_name(gate, cell.name), gate.limit, value, gate.holds(value), gate.shown(value))


def _figure(metric: str, cell: CellRecord, result: BenchmarkResult) -> float | str:
    """The median over all recordings of the cell, or why there is none."""
    wanted = () if cell.cell.length else result.datasets[cell.cell.condition].uris
    finished = {file.uri for file in cell.finished}
    if failed := [uri for uri in wanted if uri not in finished]:
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        return f"not measured on {failed[0]}{more}"
    summary = METRICS[metric].measure(cell)
    return "not measured" if summary is None else summary.median


def _unmeasured(gate: Gate, cell: str, problem: str) -> Check:
    return Check(_name(gate, cell), gate.limit, None, False, problem)


def _name(gate: Gate, cell: str) -> str:
    return f"{gate.dataset if gate.dataset != ANY else 'any dataset'} {cell} {gate.metric}"
