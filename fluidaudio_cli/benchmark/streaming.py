"""``benchmark --streaming``: what latency costs, against what a file's diarization gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fluidaudio_cli.audio.source import open_audio
from fluidaudio_cli.benchmark.accuracy import assess, reference_turns
from fluidaudio_cli.benchmark.grid import STREAMING, Cell, Effort, Study, crossed
from fluidaudio_cli.benchmark.results import (
    CellRecord,
    FileRecord,
    ProcessRecord,
    StreamingRecord,
)
from fluidaudio_cli.benchmark.worker import facts_of
from fluidaudio_cli.diarization.ledger import Ledger, partners
from fluidaudio_cli.diarization.pipeline import Pipeline
from fluidaudio_cli.diarization.stream import LiveDiarizer, step_for
from fluidaudio_cli.errors import InputError, UsageError
from fluidaudio_cli.measure.memory import resident_bytes
from fluidaudio_cli.progress import ProgressCallback, no_progress
from fluidaudio_cli.scoring.extents import merge_extents, subtract_extents
from fluidaudio_cli.turns import Turn

# Seconds of sound between two readings of memory.
_MEMORY_SECONDS = 10.0


def parse_latencies(text: str) -> tuple[float, ...]:
    """The latencies that ``text`` lists, in seconds; raises ``UsageError``."""
    try:
        found = tuple(dict.fromkeys(float(each) for each in text.split(",")))
    except ValueError:
        found = (math.nan,)
    if not all(map(math.isfinite, found)):
        raise UsageError(f"--latency {text}", "give seconds, such as 0.5,1,2,5,10")
    return found


def streaming_study(
    latencies: Sequence[float], lengths: Sequence[float] = (), **levels: Sequence[object]
) -> Study:
    """Every combination of the levels at every latency; measured here, one after another.

    ``lengths``: of audio made of the recordings, which has no reference, instead of these.
    """
    cells = crossed(**levels, latency=tuple(latencies), length=tuple(lengths) or (None,))

    def measure(
        wanted: Sequence[Cell],
        load: Callable[..., Pipeline],
        items: Callable[[Cell], Sequence[Any]],
        progress: ProgressCallback = no_progress,
    ) -> Iterator[CellRecord]:
        total, done = sum(len(items(cell)) for cell in wanted), 0
        for kind in dict.fromkeys(cell.at(latency=None, length=None) for cell in wanted):
            pipeline = load(kind, low_latency=True)
            try:
                for cell in (c for c in wanted if c.at(latency=None, length=None) == kind):
                    assert cell.latency is not None
                    step_for(cell.latency, pipeline.mode)
                    files = []
                    for item in items(cell):
                        scored = cell.length is None
                        files.append(_file(item, pipeline, cell.latency, scored=scored))
                        done += 1
                        progress(done, total)
                    process = ProcessRecord(load_seconds=pipeline.load_seconds, files=tuple(files))
                    yield CellRecord(
                        cell=cell, study=STREAMING, processes=(process,), **facts_of(pipeline)
                    )
            finally:
                pipeline.close()

    once = Effort(processes=1, warmup=0, iterations=1)
    return Study(STREAMING, cells, once, measure=measure)


def _file(item: Any, pipeline: Pipeline, latency: float, *, scored: bool) -> FileRecord:
    """One recording as a stream, as fast as it goes; failed where it cannot be read or scored."""
    diarizer = LiveDiarizer(pipeline, latency)
    try:
        reference = reference_turns(item) if scored else ()
        said: list[Turn] = []
        reader = Ledger()
        named: dict[str, float] = {}
        memory = [(0.0, resident_bytes())]
        with open_audio(item.audio, item.uri) as stream:
            while True:
                samples = np.empty(diarizer.wanted, np.float32)
                count = stream.read_into(samples)
                if count < len(samples):
                    break
                step = diarizer.push(samples)
                if step is None:
                    continue
                said += step.change.final
                reader.add(step.change.final)
                reader.apply(step.change.revisions)
                for name in (*step.change.created, *(t.speaker for t in step.change.final)):
                    named.setdefault(name, step.seconds)
                if step.seconds >= memory[-1][0] + _MEMORY_SECONDS:
                    memory.append((round(step.seconds, 3), resident_bytes()))
        last, conclusion = diarizer.finish(samples[:count])
        said += last.change.final
        # As it stands at the end, before all is decided once more as a file's would be.
        reader.add(last.change.final)
        for turn in conclusion.turns:
            named.setdefault(turn.speaker, last.seconds)
        seconds = diarizer.seconds
        memory.append((round(seconds, 3), resident_bytes()))
        delays, unnamed = _delays(reference, conclusion.turns, named)
        figures = diarizer.figures
        return FileRecord(
            uri=item.uri,
            audio_seconds=seconds,
            accuracy=assess(item, conclusion.turns, seconds) if scored else None,
            streaming=StreamingRecord(
                online=assess(item, said, seconds).strict if scored else None,
                refined=assess(item, reader.turns(), seconds).strict if scored else None,
                delays=delays,
                unnamed=unnamed,
                switches=switches(reference, said),
                switches_end=switches(reference, conclusion.turns),
                turns=len(reference),
                revisions=figures.revisions,
                revised_seconds=round(figures.revised_seconds, 3),
                created=figures.created,
                withdrawn=figures.withdrawn,
                step_seconds=diarizer.step_seconds,
                computing=tuple(round(each, 6) for each in figures.computing),
                left_out=figures.left_out,
                silent=figures.silent,
                memory=tuple(memory),
            ),
        )
    except InputError as error:
        return FileRecord(uri=item.uri, error=str(error))
    finally:
        diarizer.close()


def switches(reference: Sequence[Turn], said: Sequence[Turn]) -> int:
    """Turns that most of which was given another name than most of the same speaker's before.

    By the time in which the speaker is alone: elsewhere the other's name is right, too. A turn
    without such time, or none of whose names covers most of it, has no name.
    """
    found = 0
    before: dict[str, str] = {}
    for turn in sorted(reference):
        others = [(o.start, o.end) for o in reference if o.speaker != turn.speaker]
        alone = subtract_extents(((turn.start, turn.end),), merge_extents(others))
        shared: dict[str, float] = {}
        for start, end in alone:
            for each in said:
                seconds = min(end, each.end) - max(start, each.start)
                if seconds > 0.0:
                    shared[each.speaker] = shared.get(each.speaker, 0.0) + seconds
        name = max(sorted(shared), key=lambda each: shared[each], default="")
        if 2.0 * shared.get(name, 0.0) <= sum(end - start for start, end in alone):
            continue
        found += before.get(turn.speaker, name) != name
        before[turn.speaker] = name
    return found


def _delays(
    reference: Sequence[Turn], end: Sequence[Turn], named: dict[str, float]
) -> tuple[tuple[float, ...], int]:
    """Seconds from each speaker's first word to the name's first event; how many have no name."""
    first = {turn.speaker: turn.start for turn in sorted(reference, reverse=True)}
    delays = tuple(
        round(max(0.0, named[name] - first[person]), 3)
        for person, name in sorted(partners(reference, end).items())
    )
    return delays, len(first) - len(delays)
