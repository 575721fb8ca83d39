"""Profile one recording: the passes, and the profile made of them.

Each kind of measuring has a pass of its own, because each slows down what the others measure:
plain and timed runs in turn (A B B A …), then one with operator times, then one with
``tracemalloc``. The figures of stages are those of the median timed run.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fluidaudio_cli import __version__
from fluidaudio_cli.audio.source import SAMPLE_RATE, is_pipe, open_audio
from fluidaudio_cli.diarization.modes import ModeConfig, load_mode
from fluidaudio_cli.diarization.pipeline import Pipeline
from fluidaudio_cli.diarization.powerset import LOCAL_SPEAKERS
from fluidaudio_cli.diarization.result import Diarization
from fluidaudio_cli.errors import HostError, UsageError
from fluidaudio_cli.executors.base import CompiledModel, ExecutorRun
from fluidaudio_cli.executors.select import traits_of
from fluidaudio_cli.files import temporary_folder
from fluidaudio_cli.measure.environment import busy_before, describe
from fluidaudio_cli.models.card import load_card
from fluidaudio_cli.profiling.bottleneck import find_bottleneck
from fluidaudio_cli.profiling.clock import Call
from fluidaudio_cli.profiling.models import (
    measure_peaks,
    model_plans,
    model_profile,
    narrow_networks,
    operator_pass,
)
from fluidaudio_cli.profiling.passes import (
    Options,
    allocations,
    clock_cost,
    load,
    paired_runs,
)
from fluidaudio_cli.profiling.records import ModelProfile, PassCost, Profile, Unavailable
from fluidaudio_cli.profiling.stages import (
    Traffic,
    busiest_while_idle,
    concurrency,
    network_traffic,
    stage_profiles,
)
from fluidaudio_cli.profiling.timeline import read_truth, timeline
from fluidaudio_cli.simulate.render import WavWriter

# Operator times and allocations of longer recordings are those of their beginning: an operator
# profile grows with the length, and ONNX Runtime stops keeping one at a million events.
EXCERPT_SECONDS = 600.0

Step = Callable[[str], None]


def profile(path: Path, options: Options, step: Step = lambda name: None) -> Profile:
    """Profile one recording; ``step`` is told the name of each pass as it begins.

    Raises what ``diarize`` raises: ``AudioError`` for the recording, ``HostError`` for an
    executor that this machine does not have. What only the profile needs and cannot have is
    ``Unavailable`` in it.
    """
    card = load_card(options.models)
    mode = load_mode(options.mode, card)
    if options.precision_report and not card.ships:
        raise UsageError(
            "--precision-report compares networks that ship", "leave out it or --models"
        )
    # Before anything that takes time: a recording or reference that cannot be read ends it here.
    if is_pipe(path):
        raise UsageError(
            f"{path} is a pipe, and a profile reads its recording several times",
            "save it to a file first",
        )
    with open_audio(path) as stream:
        info = stream.info
    if options.reference is not None:
        read_truth(options.reference, options.uem, info.uri, info.duration_seconds or 0.0)
    notes = list(busy_before())
    step("loading")
    pipeline = load(mode, options)
    step("warming up")
    first = pipeline.diarize(path, speakers=options.speakers)
    turns = timeline(first, options.reference, options.uem)
    step("timing")
    runs, cost = paired_runs(pipeline, path, options, first)
    run = sorted(runs, key=lambda each: each.seconds)[len(runs) // 2]
    compiled = dict(pipeline.compiled)
    notes.extend(run.result.notes)
    with _short_enough(path, run.result, notes) as part:
        step("operators")
        models, operator_cost = _model_profiles(mode, part, options, pipeline, step)
        step("allocations")
        allocated, allocation_cost = allocations(mode, part, options)
    overlapped = run.result.timings.overlapped
    ran = {name: model.ran for name, model in compiled.items()}
    stages = stage_profiles(
        run.calls,
        run.result.duration_seconds,
        _traffic(compiled, run.result, path, run.calls),
        allocated,
        lambda stage, calls: _cpu(stage, calls, ran, overlapped),
        tuple((run.started + at, size) for at, size in run.curve),
        run.baseline_rss,
    )
    side_by_side = concurrency(run.calls, run.started, run.seconds, overlapped)
    report = None
    if options.precision_report:
        from fluidaudio_cli.profiling.precision import precision_report

        step("precision")
        report = precision_report(path, options, pipeline, step)
    outcome = Profile(
        version=__version__,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        uri=run.result.uri,
        path=str(path),
        audio_seconds=run.result.duration_seconds,
        mode=mode.name,
        plan=pipeline.plan.summary(),
        executors={
            name: {"asked": dataclasses.asdict(model.asked), "ran": dataclasses.asdict(model.ran)}
            for name, model in compiled.items()
        },
        environment=describe(),
        load_seconds=pipeline.load_seconds,
        load_cached=pipeline.load_cached,
        processing_seconds=run.result.timings.processing_seconds,
        cpu_seconds=run.result.timings.cpu_seconds,
        started=run.started,
        windows=run.result.timings.windows,
        crops=run.result.timings.crops,
        copied_bytes=run.result.timings.copied_bytes,
        stages=stages,
        concurrency=side_by_side,
        bottleneck=find_bottleneck(
            stages, side_by_side, models, busiest_while_idle(run.calls, pipeline.workers)
        ),
        costs=tuple(
            each
            for each in (
                cost,
                clock_cost(len(run.calls), cost.plain_seconds),
                operator_cost,
                allocation_cost,
            )
            if each
        ),
        models=models,
        plans=model_plans(compiled),
        memory_curve=run.curve,
        peak_rss_bytes=run.peak_rss,
        baseline_rss_bytes=run.baseline_rss,
        calls=run.calls,
        queues={
            name: tuple((at - run.started, items) for at, items in readings)
            for name, readings in run.queues.items()
        },
        timeline=turns,
        precision=report,
        notes=tuple(notes),
    )
    pipeline.close()
    return outcome


def _model_profiles(
    mode: ModeConfig, path: Path, options: Options, pipeline: Pipeline, step: Step
) -> tuple[tuple[ModelProfile, ...], PassCost | None]:
    models = pipeline.compiled
    try:
        profiled = load(mode, options, profile=True)
        times, work, cost = operator_pass(pipeline, profiled, path, options)
        profiled.close()
    except HostError as error:
        missing = Unavailable(error.message)
        times, work, cost = dict.fromkeys(models, missing), dict.fromkeys(models, (0, 0)), None
    step("machine's peaks")
    peaks = measure_peaks(models, narrow_networks(pipeline), options.peaks)
    return tuple(
        model_profile(
            name, model, pipeline.packages[name].package, times[name], work[name], peaks[name]
        )
        for name, model in models.items()
    ), cost


@contextmanager
def _short_enough(path: Path, result: Diarization, notes: list[str]) -> Iterator[Path]:
    """The recording, or its beginning where it is long."""
    if result.duration_seconds <= EXCERPT_SECONDS:
        yield path
        return
    notes.append(
        f"operator times and allocations are those of the first {EXCERPT_SECONDS:.0f} s of "
        f"{result.duration_seconds:.0f} s"
    )
    with temporary_folder() as folder:
        part = folder / "excerpt.wav"
        write_excerpt(path, part, EXCERPT_SECONDS)
        yield part


def write_excerpt(source: Path, target: Path, seconds: float) -> float:
    """Write the first ``seconds`` of ``source`` as 16-bit mono WAV; seconds written."""
    block = np.zeros(SAMPLE_RATE, np.float32)
    left = round(seconds * SAMPLE_RATE)
    with open_audio(source) as stream, WavWriter(target) as writer:
        while left > 0 and (read := stream.read_into(block[:left])):
            writer.write(block[:read])
            left -= read
    return writer.samples / SAMPLE_RATE


def _traffic(
    models: Mapping[str, CompiledModel],
    result: Diarization,
    path: Path,
    calls: Sequence[Call],
) -> dict[str, Traffic]:
    """Bytes in, out and copied of the stages whose arrays have a known size."""
    items: dict[str, int] = {}
    for call in calls:
        items[call.span.stage] = items.get(call.span.stage, 0) + call.span.items
    traffic = {name: network_traffic(model, items.get(name, 0)) for name, model in models.items()}
    if "local speakers" in items and "segmentation" in models:
        scores = network_traffic(models["segmentation"], items["local speakers"])[1]
        frames = models["segmentation"].outputs[0].shape[1] or 0
        traffic["local speakers"] = (scores, items["local speakers"] * frames * LOCAL_SPEAKERS, 0)
    cropped = 0
    if "crops" in items and "embedding" in models:
        size = network_traffic(models["embedding"], items["crops"])[0]
        cropped = size if isinstance(size, int) else 0
        traffic["crops"] = (cropped, cropped, cropped)
    decoded = round(result.duration_seconds * SAMPLE_RATE) * 4
    # What is copied and not by cropping is carried from one block of audio to the next.
    carried = max(0, result.timings.copied_bytes - cropped)
    traffic["decode"] = (path.stat().st_size, decoded, carried)
    return traffic


def _cpu(
    stage: str, calls: Sequence[Call], ran: Mapping[str, ExecutorRun], overlapped: bool
) -> float | Unavailable:
    """Processor seconds of a stage, where they can be told from those of others."""
    run = ran.get(stage)
    if run is None:
        return sum(call.thread_cpu for call in calls)
    if not overlapped:
        # The executor's threads work for this stage alone.
        return sum(call.process_cpu for call in calls)
    one_thread = run.threads is not None and run.threads <= run.streams
    if one_thread and traits_of(run.executor).computes_in_caller:
        return sum(call.thread_cpu for call in calls)
    return Unavailable(f"{run.executor} computes in threads of its own, beside other stages")
