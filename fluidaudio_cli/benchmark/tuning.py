"""Find the fastest setting of this machine that costs no accuracy on the bundled check.

The full product of executors, precisions, compute units, workers and batches is a hundred
measurements, most of them of what one look rules out. So the search is staged, each stage with
what the one before left:

1. every executor, precision and set of compute units, at the mode's own batches and with all
   processors at work;
2. the candidates within a factor of two of the best, which is more than what follows gains:
   fewer workers with more threads each, then every batch;
3. the error on the bundled sample, fastest candidate first, until one is close enough to fp32.
   When none is, the candidates that stage 2 left out get their turn.

A candidate has one executor, one set of compute units and one number of workers, because a
worker takes a block of audio through all networks; precision and batch are each network's own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from fluidaudio_cli.benchmark.passes import turns_of
from fluidaudio_cli.benchmark.workers import PipelineOptions, Worker, WorkerCommand
from fluidaudio_cli.diarization.modes import DEFAULT_MODE, load_mode
from fluidaudio_cli.diarization.tuning import (
    TUNING_VARIABLE,
    NetworkTuning,
    Tuning,
    machine_identity,
    save_tuning,
)
from fluidaudio_cli.errors import FluidAudioError, HostError
from fluidaudio_cli.executors.machine import processors
from fluidaudio_cli.executors.probe import TIMEOUT_SECONDS, ProbeResult, ProbeSetting, probe
from fluidaudio_cli.executors.select import availabilities, traits_of
from fluidaudio_cli.files import temporary_folder
from fluidaudio_cli.models.registry import bundled_models
from fluidaudio_cli.resources import datasets_dir
from fluidaudio_cli.scoring.rttm import read_rttm
from fluidaudio_cli.scoring.sweep import score_turns

# In this order: the largest, which memory may not suffice for, costs only itself.
BATCHES = {"segmentation": (1, 2, 4, 8, 16), "embedding": (4, 8, 16, 32)}
CORE_ML_UNITS = ("cpu-and-ne", "cpu-and-gpu", "cpu-only", "all")
# Candidates below this share of the fastest one's speed are not looked at further.
WORTH_REFINING = 0.5
# Fewer workers or another batch than the mode's must gain this much: less is noise.
WORTH_CHANGING = 1.03
# A setting may change the error rate of the bundled check by this much, in points.
MAX_DER_CHANGE = 0.2
# Local speakers embedded per 10 s window on the development meetings; weighs the two networks.
CROPS_PER_WINDOW = 1.5

Watch = Callable[[str, int, int], None]
"""(what begins now, steps done, steps expected in all)"""


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
    """The choice, what it was measured against, what was passed over, and the time it took."""

    chosen: Candidate
    der: float
    fp32_der: float
    rejected: tuple[Rejected, ...]
    probes: tuple[ProbeResult, ...]
    seconds: float


def tune(
    watch: Watch = lambda what, done, expected: None, timeout: float = TIMEOUT_SECONDS
) -> TuningResult:
    """Search this machine's settings in the stages described above.

    Every probe and every check of the error runs in a process of its own, so that a setting
    that crashes, or hangs for ``timeout`` seconds, is only a failed one. The error of the
    candidate is that of the default mode as it would run with it stored. Raises ``HostError``
    when no setting can be used.
    """
    began = time.perf_counter()
    search = _Search(watch, timeout)
    waiting = search.first_look()
    search.begin("error in fp32")
    exact = bundled_sample_der(None, timeout)
    rejected: list[Rejected] = []
    while waiting:
        limit = waiting[0].windows_per_second * WORTH_REFINING
        near = [each for each in waiting if each.windows_per_second >= limit]
        waiting = waiting[len(near) :]
        search.expect(near)
        for candidate in _fastest_first(search.refined(each) for each in near):
            search.begin(f"error with {candidate.tuning}")
            reason = ""
            try:
                der = bundled_sample_der(candidate.tuning, timeout)
            except FluidAudioError as error:
                reason = str(error)
            else:
                if (der - exact) * 100 <= MAX_DER_CHANGE:
                    return TuningResult(
                        candidate,
                        der,
                        exact,
                        tuple(rejected),
                        tuple(search.probes),
                        time.perf_counter() - began,
                    )
                points = (der - exact) * 100
                reason = f"DER {der:.2%} against {exact:.2%} in fp32: {points:+.2f} points"
            rejected.append(Rejected(candidate.tuning, reason))
    reasons = "; ".join(
        dict.fromkeys(
            [result.failure for result in search.probes if result.failure]
            + [item.reason for item in rejected]
        )
    )
    raise HostError(f"no setting works on this machine: {reasons}", "run fluidaudio doctor")


class _Search:
    """Probes made so far, none of them twice, and the candidates they give."""

    def __init__(self, watch: Watch, timeout: float) -> None:
        self.probes: list[ProbeResult] = []
        self._watch = watch
        self._timeout = timeout
        self._known: dict[tuple[ProbeSetting, tuple[int, ...]], dict[int, float]] = {}
        self._done = 0
        self._expected = 0

    def begin(self, what: str) -> None:
        """Say what comes next."""
        self._expected = max(self._expected, self._done + 1)
        self._watch(what, self._done, self._expected)
        self._done += 1

    def expect(self, near: Sequence[Candidate]) -> None:
        """Reckon the steps left: a look at fewer workers and at batches, and one check."""
        networks = {
            (name, each.tuning.executor, each.tuning.compute_units, each.tuning.network(name))
            for each in near
            for name in BATCHES
        }
        self._expected = self._done + 1 + len(networks) * (2 if processors() > 1 else 1)

    def first_look(self) -> list[Candidate]:
        """Every layout at the default mode's batches with all processors; fastest first."""
        mode = load_mode(DEFAULT_MODE)
        batches = {"segmentation": mode.windows.batch, "embedding": mode.embedding.batch}
        layouts = list(_layouts())
        # One setting to refine, its check and that in fp32 are the least that follows.
        looks = sum(len(precisions) for _, _, precisions in layouts) * len(batches)
        self._expected = looks + 2 * len(batches) + 2
        candidates = []
        for executor, units, precisions in layouts:
            choices = product(precisions, repeat=len(batches))
            for segmentation, embedding in choices:
                tuning = Tuning(
                    executor,
                    units,
                    processors(),
                    NetworkTuning(segmentation, batches["segmentation"]),
                    NetworkTuning(embedding, batches["embedding"]),
                    machine_identity(),
                )
                candidates.append(self._candidate(tuning))
        return _fastest_first(each for each in candidates if each.windows_per_second)

    def refined(self, candidate: Candidate) -> Candidate:
        """The candidate with the workers and then the batches that suit it best."""
        best = candidate
        # With one thread for each worker, fewer would leave processors idle.
        while not _one_thread_each(best.tuning) and best.tuning.workers > 1:
            fewer = self._candidate(replace(best.tuning, workers=best.tuning.workers // 2))
            if fewer.windows_per_second < best.windows_per_second * WORTH_CHANGING:
                break
            best = fewer
        tuning, speeds = best.tuning, {}
        for name, batches in BATCHES.items():
            found = self._speeds(tuning, name, batches)
            if not found:  # it ran in the first look: keep that
                speeds[name] = self._speed(tuning, name)
                continue
            batch = max(found, key=lambda each: found[each])
            usual = tuning.network(name).batch
            if found[batch] < found.get(usual, 0.0) * WORTH_CHANGING:
                batch = usual
            speeds[name] = found[batch]
            tuning = tuning.with_batch(name, batch)
        return Candidate(tuning, _together(speeds["segmentation"], speeds["embedding"]))

    def _candidate(self, tuning: Tuning) -> Candidate:
        segmentation, embedding = (self._speed(tuning, name) for name in BATCHES)
        return Candidate(tuning, _together(segmentation, embedding))

    def _speed(self, tuning: Tuning, network: str) -> float:
        """Items per second of one network under ``tuning``; 0 when it does not run."""
        batch = tuning.network(network).batch
        return self._speeds(tuning, network, (batch,)).get(batch, 0.0)

    def _speeds(self, tuning: Tuning, network: str, batches: tuple[int, ...]) -> dict[int, float]:
        """Items per second by batch, of those that ran."""
        precision = tuning.network(network).precision
        setting = ProbeSetting(
            str(bundled_models()[network].package),
            tuning.executor,
            precision,
            # As the plan shares them out.
            tuning.workers if _one_thread_each(tuning) else processors(),
            tuning.workers,
            tuning.compute_units,
        )
        if (setting, batches) not in self._known:
            sizes = ", ".join(map(str, batches))
            units = "" if tuning.compute_units == "all" else f" {tuning.compute_units}"
            self.begin(
                f"{network} on {tuning.executor} {precision}{units}, "
                f"{tuning.workers} at a time, by {sizes}"
            )
            results = probe(setting, batches, self._timeout)
            self.probes += results
            self._known[setting, batches] = {
                result.batch: result.items_per_second
                for result in results
                if result.items_per_second is not None
            }
        return self._known[setting, batches]


def _one_thread_each(tuning: Tuning) -> bool:
    return traits_of(tuning.executor).sums_follow_threads


def _layouts() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Executor, compute units and the precisions to try."""
    for name, state in availabilities().items():
        if not state.ok:
            continue
        if traits_of(name).package_precision:
            # Only the units are a choice.
            for units in CORE_ML_UNITS:
                yield name, units, ("auto",)
        else:
            yield name, "all", state.precisions


def _together(windows: float, crops: float) -> float:
    """Windows per second through both networks, one after the other."""
    return 1.0 / (1.0 / windows + CROPS_PER_WINDOW / crops) if windows and crops else 0.0


def _fastest_first(candidates: Iterable[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda each: -each.windows_per_second)


def bundled_sample_der(tuning: Tuning | None, timeout: float) -> float:
    """Strict error rate of the default mode on the bundled sample, run in a process of its own.

    With ``tuning`` stored, and all left to ``auto``; without, in fp32 on ONNX Runtime. Raises
    ``HostError`` when the process crashes, or hangs for ``timeout`` seconds, and what loading and
    diarizing raise.
    """
    sample = datasets_dir() / "sample" / "sample.wav"
    options = PipelineOptions()
    with temporary_folder() as folder:
        path = folder / "tuning.json"
        if tuning is None:
            options = PipelineOptions(executor="onnxruntime", precision="fp32")
        else:
            save_tuning(tuning, path)
        command = WorkerCommand().with_env(**{TUNING_VARIABLE: str(path)})
        with Worker(command, timeout) as worker:
            worker.load(DEFAULT_MODE, options)
            reply = worker.diarize(sample)
    reference = read_rttm(sample.with_suffix(".rttm"))["sample"]
    whole = ((0.0, float(reply["audio_seconds"])),)
    rate = score_turns(reference, turns_of(reply), whole).rate
    return math.inf if math.isnan(rate) else rate
