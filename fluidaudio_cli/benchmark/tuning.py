"""Find the fastest setting of this machine that costs no accuracy on the bundled check."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fluidaudio_cli.diarization.config import ModeConfig, load_mode
from fluidaudio_cli.diarization.pipeline import load_pipeline
from fluidaudio_cli.diarization.tuning import Tuning, machine_identity
from fluidaudio_cli.errors import HostError
from fluidaudio_cli.executors.machine import processors
from fluidaudio_cli.executors.probe import ProbeResult, ProbeSetting, probe
from fluidaudio_cli.executors.select import availabilities
from fluidaudio_cli.models.registry import bundled_models
from fluidaudio_cli.resources import datasets_dir
from fluidaudio_cli.scoring.rttm import read_rttm
from fluidaudio_cli.scoring.sweep import score_turns

WINDOW_BATCHES = (1, 2, 4, 8, 16)
CROP_BATCHES = (1, 8, 16, 32)
CORE_ML_UNITS = ("cpu-and-ne", "cpu-and-gpu", "cpu-only", "all")
# A setting may change the error rate of the bundled check by this much, in points.
MAX_DER_CHANGE = 0.2
# Local speakers embedded per 10 s window on the development meetings; weighs the two networks.
CROPS_PER_WINDOW = 1.5

Report = Callable[[ProbeResult], None]


@dataclass(frozen=True)
class Candidate:
    """One setting and its speed: windows per second, segmentation and embedding together."""

    tuning: Tuning
    windows_per_second: float


@dataclass(frozen=True)
class Rejected:
    """A faster candidate that was not taken, and why."""

    tuning: Tuning
    reason: str


@dataclass(frozen=True)
class TuningResult:
    """The choice, what it was measured against, and what was passed over."""

    chosen: Candidate
    der: float
    fp32_der: float
    rejected: tuple[Rejected, ...]
    probes: tuple[ProbeResult, ...]


def tune(report: Report = lambda result: None, timeout: float = 120.0) -> TuningResult:
    """Probe every executor, precision, batch and number of workers this machine has.

    Each probe runs in a process of its own, so that a setting that crashes or hangs is only a
    failed probe. The fastest candidate is taken whose error on the bundled sample is within
    ``MAX_DER_CHANGE`` points of fp32's. Raises ``HostError`` when none can be used.
    """
    probes: list[ProbeResult] = []
    candidates = []
    for executor, precision, units, workers in _layouts():
        best = {}
        for network, batches in (("segmentation", WINDOW_BATCHES), ("embedding", CROP_BATCHES)):
            results = []
            for batch in batches:
                setting = ProbeSetting(
                    str(bundled_models()[network].package),
                    executor,
                    precision,
                    processors(),
                    workers,
                    batch,
                    units,
                )
                result = probe(setting, timeout)
                report(result)
                results.append(result)
                if result.items_per_second is None:
                    # What fails at a small batch will not do better at a larger one.
                    break
            probes += results
            best[network] = max(results, key=lambda item: item.items_per_second or 0.0)
        windows, crops = (best[name].items_per_second for name in ("segmentation", "embedding"))
        if windows and crops:
            tuning = Tuning(
                executor,
                precision,
                units,
                best["segmentation"].setting.batch,
                best["embedding"].setting.batch,
                workers,
                machine_identity(),
            )
            speed = 1.0 / (1.0 / windows + CROPS_PER_WINDOW / crops)
            candidates.append(Candidate(tuning, speed))
    candidates.sort(key=lambda candidate: -candidate.windows_per_second)
    return _first_that_keeps_accuracy(candidates, probes)


def _layouts() -> Iterator[tuple[str, str, str, int]]:
    """Executor, precision, compute units and workers worth trying."""
    for name, state in availabilities().items():
        if not state.ok:
            continue
        for precision in state.precisions:
            for units in CORE_ML_UNITS if name == "coreml" else ("all",):
                for workers in sorted({1, processors()}):
                    yield name, precision, units, workers


def _first_that_keeps_accuracy(
    candidates: Sequence[Candidate], probes: Sequence[ProbeResult]
) -> TuningResult:
    mode = load_mode("balanced")
    exact = _der(mode, "onnxruntime", "fp32", "all")
    rejected = []
    for candidate in candidates:
        tuning = candidate.tuning
        try:
            der = _der(tuning.apply(mode), tuning.executor, tuning.precision, tuning.compute_units)
        except HostError as error:
            rejected.append(Rejected(tuning, str(error)))
            continue
        change = (der - exact) * 100
        if change <= MAX_DER_CHANGE:
            return TuningResult(candidate, der, exact, tuple(rejected), tuple(probes))
        rejected.append(
            Rejected(tuning, f"DER {der:.2%} against {exact:.2%} in fp32: {change:+.2f} points")
        )
    reasons = "; ".join(
        {result.failure for result in probes if result.failure} | {item.reason for item in rejected}
    )
    raise HostError(f"no setting works on this machine: {reasons}", "run fluidaudio doctor")


def _der(mode: ModeConfig, executor: str, precision: str, units: str) -> float:
    """Strict error rate of the bundled sample under a setting."""
    sample = datasets_dir() / "sample" / "sample.wav"
    pipeline = load_pipeline(mode, executor=executor, precision=precision, compute_units=units)
    try:
        result = pipeline.diarize(sample)
    finally:
        pipeline.close()
    reference = read_rttm(sample.with_suffix(".rttm"))["sample"]
    whole = ((0.0, result.duration_seconds),)
    rate = score_turns(reference, result.turns, whole).rate
    return math.inf if math.isnan(rate) else rate
