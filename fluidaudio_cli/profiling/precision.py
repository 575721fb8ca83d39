"""What each precision costs: error layer by layer, decisions that change, and error rates.

Layers are compared on pieces of the profiled recording, with rounding simulated the same way on
every machine; beside it stands the figure of the executor's own arithmetic, where it has any.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.audio.source import open_audio
from fluidaudio_cli.coreml.package import read_program
from fluidaudio_cli.coreml.taps import Rounding, rounds_anything, tapped_model
from fluidaudio_cli.diarization.frames import WINDOW_SAMPLES
from fluidaudio_cli.diarization.loading import Wishes, load_pipeline
from fluidaudio_cli.diarization.pipeline import Pipeline, usual
from fluidaudio_cli.diarization.result import Diarization
from fluidaudio_cli.errors import FluidAudioError
from fluidaudio_cli.executors.base import CompiledModel
from fluidaudio_cli.executors.onnxruntime import LayerRunner
from fluidaudio_cli.executors.select import select_executor
from fluidaudio_cli.models.loading import load_model
from fluidaudio_cli.models.registry import Model
from fluidaudio_cli.profiling.layer_errors import (
    RANGES,
    ErrorCounter,
    entry_layer,
    layer_errors,
)
from fluidaudio_cli.profiling.models import narrow_networks
from fluidaudio_cli.profiling.passes import Options
from fluidaudio_cli.profiling.records import (
    PrecisionDer,
    PrecisionProfile,
    PrecisionReport,
    Unavailable,
)
from fluidaudio_cli.profiling.timeline import strict_der
from fluidaudio_cli.scoring.sweep import score_turns
from fluidaudio_cli.wording import counted

# Windows that are compared, spread over the recording.
_WINDOWS = 4
_ROUNDINGS: tuple[Rounding, ...] = ("bf16", "fp16", "package")
_SHOWN = {"package": "fp16 as packaged"}
_INTEGERS = "8-bit integers"
_FORMAT = {"package": "fp16"}
_OFFSET_STEP = 32_000  # samples between the stretches of a window that a crop is chosen from

Piece = NDArray[np.float32]


def precision_report(
    path: Path, options: Options, pipeline: Pipeline, step: Callable[[str], None]
) -> PrecisionReport:
    """The report on the networks of ``pipeline``, on pieces of the recording.

    Of one that runs in 8-bit integers the usual one is rounded, and both are compared.
    """
    windows = audio_windows(path, _WINDOWS)
    models = pipeline.compiled
    narrow = narrow_networks(pipeline)
    packages = {name: pipeline.packages[usual(name) if name in narrow else name] for name in models}
    pieces = _pieces(windows, models, packages["fbank"])
    rows: list[PrecisionProfile] = []
    # A more exact copy of the embedding has nothing of its own to compare.
    for name in (each for each in models if each in _FIGURES):
        step(f"precision of {name}")
        rows.extend(
            _model_rows(name, pieces[name], models[name], packages[name], narrow=name in narrow)
        )
    step("error rates")
    return PrecisionReport(
        tuple(rows),
        _error_rates(path, options, pipeline),
        f"{counted(len(windows), 'window')} of 10 s, spread over the recording. Simulated: every "
        "layer's result, input and weight rounded (as packaged: only what the package computes in "
        "fp16), an LSTM's inner states not. Figures: share of flipped segmentation frames, largest "
        "filter-bank difference, lowest embedding cosine, all against fp32.",
    )


def audio_windows(path: Path, count: int) -> list[Piece]:
    """Up to ``count`` windows (1, 1, 160000), evenly spread; the last may end in zeros."""
    with open_audio(path) as stream:
        block = np.zeros(WINDOW_SAMPLES, np.float32)
        total = 0
        while stream.read_into(block):
            total += 1
    wanted = {round(place) for place in np.linspace(0, max(0, total - 1), min(count, total))}
    windows = []
    with open_audio(path) as stream:
        for number in range(total):
            block = np.zeros(WINDOW_SAMPLES, np.float32)
            stream.read_into(block)
            if number in wanted:
                windows.append(block[None, None])
    return windows


def _pieces(
    windows: Sequence[Piece], models: Mapping[str, CompiledModel], fbank: Model
) -> Mapping[str, Sequence[Piece]]:
    """Inputs of one item for each model: windows, their loudest stretches, and those' frames."""
    length = int(models["fbank"].inputs[0].shape[-1] or 0)
    stretches = [_loudest(window, length) for window in windows]
    runner = LayerRunner(tapped_model(read_program(fbank.package)).model)
    rows = int(models["embedding"].inputs[0].shape[1] or 0)
    frames = []
    for stretch in stretches:
        found = np.asarray(runner.run({"audio": stretch})["frames"], np.float32)
        frames.append(np.ascontiguousarray(found.reshape(1, -1, found.shape[-1])[:, :rows]))
    return {"segmentation": windows, "fbank": stretches, "embedding": frames}


def _loudest(window: Piece, length: int) -> Piece:
    starts = range(0, window.shape[-1] - length + 1, _OFFSET_STEP) or range(1)
    best = max(starts, key=lambda start: float(np.square(window[0, 0, start:][:length]).sum()))
    stretch = np.zeros((1, 1, length), np.float32)
    part = window[0, 0, best : best + length]
    stretch[0, 0, : part.size] = part
    return stretch


def _model_rows(
    name: str, pieces: Sequence[Piece], model: CompiledModel, package: Model, *, narrow: bool
) -> list[PrecisionProfile]:
    program = read_program(package.package)
    exact = tapped_model(program)
    runner = LayerRunner(exact.model)
    given, output = model.inputs[0].name, model.outputs[0].name
    references = [runner.run({given: piece}) for piece in pieces]
    answers = [np.asarray(reference[output]) for reference in references]
    label, measure = _FIGURES[name]
    rows = []
    for rounding in _ROUNDINGS:
        shown = _SHOWN.get(rounding, rounding)
        executed = _executed(name, rounding, model, package, pieces, answers)
        if not rounds_anything(program, rounding):
            reason = Unavailable("the package computes nothing in fp16")
            rows.append(PrecisionProfile(name, shown, reason, "", label, reason, executed))
            continue
        rounded = tapped_model(program, rounding)
        limits = RANGES[_FORMAT.get(rounding, rounding)]
        counters = {tap.tensor: ErrorCounter(limits) for tap in rounded.taps}
        other = LayerRunner(rounded.model)
        results = []
        for piece, reference in zip(pieces, references, strict=True):
            found = other.run({given: piece})
            results.append(np.asarray(found[output]))
            for tensor, counter in counters.items():
                counter.add(np.asarray(reference[tensor]), np.asarray(found[tensor]))
        layers = layer_errors(rounded.taps, counters)
        figure = measure(answers, results)
        rows.append(
            PrecisionProfile(name, shown, layers, entry_layer(layers), label, figure, executed)
        )
    if narrow:
        reason = Unavailable("not simulated: a package of its own")
        executed = measure(answers, _results(model, pieces))
        rows.append(PrecisionProfile(name, _INTEGERS, reason, "", label, reason, executed))
    return rows


def _results(model: CompiledModel, pieces: Sequence[Piece]) -> Arrays:
    """What ``model`` makes of each piece, with the arithmetic it was loaded in."""
    request = model.request()
    given, output = model.inputs[0].name, model.outputs[0].name
    return [np.array(request.run({given: piece})[output]) for piece in pieces]


Arrays = Sequence[NDArray[Any]]


def flipped_frames(exact: Arrays, other: Arrays) -> float:
    """Share of frames whose most probable class differs; arrays (…, classes)."""
    flips = [a.argmax(-1) != b.argmax(-1) for a, b in zip(exact, other, strict=True)]
    return float(np.concatenate([each.ravel() for each in flips]).mean())


def largest_difference(exact: Arrays, other: Arrays) -> float:
    """Largest absolute difference of any two elements; infinite where one is no number."""
    largest = max(float(np.abs(a - b).max()) for a, b in zip(exact, other, strict=True))
    return largest if math.isfinite(largest) else math.inf


def lowest_cosine(exact: Arrays, other: Arrays) -> float:
    """Smallest cosine between rows (vectors along the last axis)."""
    lowest = 1.0
    for first, second in zip(exact, other, strict=True):
        a, b = first.astype(np.float64), second.astype(np.float64)
        norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
        cosines = (a * b).sum(-1) / np.maximum(norms, np.finfo(np.float64).tiny)
        lowest = min(lowest, float(cosines.min()))
    return lowest


_FIGURES: dict[str, tuple[str, Callable[[Arrays, Arrays], float]]] = {
    "segmentation": ("flipped frames", flipped_frames),
    "fbank": ("largest difference", largest_difference),
    "embedding": ("lowest cosine", lowest_cosine),
}


def _executed(
    name: str,
    rounding: Rounding,
    model: CompiledModel,
    package: Model,
    pieces: Sequence[Piece],
    answers: Arrays,
) -> float | Unavailable:
    """The model's figure with the arithmetic of the executor that ran it."""
    executor = select_executor(model.ran.executor)
    precision = _FORMAT.get(rounding, rounding)
    if precision not in executor.availability().precisions:
        return Unavailable(f"{executor.name} does not compute in {precision} here")
    if rounding == "package" and not executor.traits.package_precision:
        return Unavailable(f"{executor.name} does not run the package's own mix of precisions")
    try:
        wanted = dataclasses.replace(model.asked, precision=precision)  # type: ignore[arg-type]
        loaded = load_model(package, executor, wanted)
    except FluidAudioError as error:
        return Unavailable(error.message)
    results = _results(loaded, pieces)
    loaded.close()
    return _FIGURES[name][1](answers, results)


def _error_rates(path: Path, options: Options, pipeline: Pipeline) -> tuple[PrecisionDer, ...]:
    """The whole pipeline in every precision that the executor computes in here."""
    executor = select_executor(pipeline.plan.executor)
    results: dict[str, Diarization | Unavailable] = {}
    for precision in dict.fromkeys(("fp32", *executor.availability().precisions, "fp16")):
        try:
            wishes = options.wishes | Wishes(executor=executor.name, precision=precision)
            loaded = load_pipeline(
                pipeline.mode, models=options.models, tuning=options.tuning, **wishes
            )
        except FluidAudioError as error:
            results[precision] = Unavailable(error.message)
            continue
        results[precision] = loaded.diarize(path, speakers=options.speakers)
        loaded.close()
    return tuple(
        PrecisionDer(precision, executor.name, *_der(result, results["fp32"], options))
        for precision, result in results.items()
    )


def _der(
    result: Diarization | Unavailable, exact: Diarization | Unavailable, options: Options
) -> tuple[float | Unavailable, float | Unavailable, str]:
    """Error rate, its change from fp32, and against what."""
    truth, uem = options.reference, options.uem
    against = "against the reference" if truth else "against the turns found in fp32"
    if isinstance(result, Unavailable):
        return result, result, against
    if truth is not None:
        rate = strict_der(result, truth, uem)
        if isinstance(exact, Unavailable):
            return rate, exact, against
        return rate, rate - strict_der(exact, truth, uem), against
    if isinstance(exact, Unavailable):
        return exact, exact, against
    if not exact.turns:
        nothing = Unavailable("no speech was found in fp32")
        return nothing, nothing, against
    whole = ((0.0, exact.duration_seconds),)
    rate = score_turns(exact.turns, result.turns, whole).rate
    return rate, rate, against
