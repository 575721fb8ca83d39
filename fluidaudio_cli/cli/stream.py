"""``fluidaudio stream``: who speaks, while they do."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from fluidaudio_cli.cli import messages, options, report_output
from fluidaudio_cli.cli.known import known_voices
from fluidaudio_cli.cli.process import interrupts_held
from fluidaudio_cli.errors import FluidAudioError, UsageError, os_errors
from fluidaudio_cli.files import check_folder, resolved, write_text_atomic
from fluidaudio_cli.recordings import STDIN, STDIN_URI, place_from, uri_from, uri_of
from fluidaudio_cli.report import stream_json
from fluidaudio_cli.report.turn_formats import FORMATS, turns_as
from fluidaudio_cli.wording import counted

if TYPE_CHECKING:
    from fluidaudio_cli.audio.live import Feed
    from fluidaudio_cli.audio.pcm import Samples
    from fluidaudio_cli.audio.source import AudioInfo
    from fluidaudio_cli.cli.render.stream import LiveView
    from fluidaudio_cli.diarization.pipeline import Pipeline
    from fluidaudio_cli.diarization.result import Conclusion, Diarization
    from fluidaudio_cli.diarization.stream import LiveDiarizer, Step
    from fluidaudio_cli.report.diarization_json import RunFacts

# How long a source may say nothing until that is told, beyond the time of a step.
_STALLED_SECONDS = 3.0
_MICROPHONE = "mic"


class StreamFormat(str, Enum):
    """How a stream is written."""

    jsonl = "jsonl"
    rttm = "rttm"
    vtt = "vtt"


class Pace(str, Enum):
    """How fast a file is read."""

    full = "full"
    real = "real"


class SampleFormat(str, Enum):
    """Raw samples."""

    s16le = "s16le"
    f32le = "f32le"


_BY_SUFFIX = {f".{kind.value}": kind for kind in StreamFormat} | {".json": StreamFormat.jsonl}


@dataclass(frozen=True)
class _Source:
    feed: Feed
    uri: str
    info: Callable[[], AudioInfo]


def stream(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A file, - for standard input, a URL, or mic[:DEVICE]."
        ),
    ],
    latency: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="After which turns are final: 0.5 to 30."),
    ] = 2.0,
    pace: Annotated[
        Pace, typer.Option(help="Full speed, or real: no sooner than it would be spoken.")
    ] = Pace.full,
    rate: Annotated[
        int | None,
        typer.Option(metavar="HZ", min=1000, max=384_000, help="Standard input is raw samples."),
    ] = None,
    channels: Annotated[
        int | None, typer.Option(min=1, max=64, help="Of raw samples. Default: 1.")
    ] = None,
    format_of_samples: Annotated[
        SampleFormat | None, typer.Option(help="Of raw samples. Default: s16le.")
    ] = None,
    performance_mode: options.ModeOption = "balanced",
    models: options.ModelsOption = "bundled",
    output_format: Annotated[
        StreamFormat | None,
        typer.Option(
            *report_output.FORMAT_NAMES,
            help="Default: by the ending of --output; on a terminal a live view, else jsonl.",
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(*report_output.OUTPUT_NAMES, metavar="PATH|-", help="Written as it comes."),
    ] = report_output.STDOUT,
    save: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Also the final turns, at the end: .rttm, .json, …"),
    ] = None,
    known: options.KnownOption = None,
    store: options.StoreOption = None,
    max_false_accept: options.MaxFalseAcceptOption = "1%",
    num_speakers: options.NumSpeakersOption = None,
    max_speakers: options.MaxSpeakersOption = None,
    executor: options.ExecutorOption = options.ExecutorChoice.auto,
    precision: options.PrecisionOption = options.PrecisionChoice.auto,
    threads: options.ThreadsOption = None,
    no_tuning: options.NoTuningOption = False,
) -> None:
    """Tell who speaks, while they do.

    Turns are final after --latency seconds of sound; what is found out later comes as a revision.
    At the end, also after Ctrl-C, all is decided as `diarize` would. Events: docs/stream.md.
    """
    from fluidaudio_cli.diarization.loading import load, make_plan
    from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
    from fluidaudio_cli.diarization.stream import LiveDiarizer, step_for
    from fluidaudio_cli.report.diarization_json import Ran, RunFacts

    bounds = SpeakerBounds(num_speakers, None, max_speakers)
    people = known_voices(known, store, max_false_accept)
    _check_targets(source, output, save)
    to_stdout = output == report_output.STDOUT
    shown = to_stdout and output_format is None and sys.stdout.isatty()
    kind = report_output.chosen_format(output_format, output, _BY_SUFFIX, StreamFormat.jsonl)
    plan = make_plan(
        performance_mode,
        executor=executor.value,
        precision=precision.value,
        threads=threads,
        low_latency=True,
        models=models,
        tuning=not no_tuning,
    )
    step_for(latency, plan.mode)
    with ExitStack() as opened:
        # A source that cannot be opened is told before models load; a live one begins after.
        begin = _prepare(source, pace, rate, channels, format_of_samples)
        pipeline = load(plan)
        named = people.people(pipeline.models, pipeline.mode.calibration) if people else None
        diarizer = LiveDiarizer(pipeline, latency, bounds, named)
        opened.callback(diarizer.close)
        file = sys.stdout if to_stdout else opened.enter_context(_opened(output))
        view = None
        if shown:
            from fluidaudio_cli.cli.render.stream import LiveView

            view = opened.enter_context(LiveView(latency, diarizer.step_seconds))
        heard = begin()
        opened.callback(heard.feed.stop)
        writer = _Writer(None if shown else file, kind, heard.uri, view)
        writer.start(latency, diarizer.step_seconds, pipeline)
        facts = RunFacts(
            Ran.of(pipeline, environment=save is not None),
            bounds,
            exclusive=False,
            notes=pipeline.plan.notes,
            known=people.facts if people else None,
        )
        _run(heard, diarizer, writer, save, facts)


def _run(
    heard: _Source,
    diarizer: LiveDiarizer,
    writer: _Writer,
    save: Path | None,
    facts: RunFacts,
) -> None:
    """Feed the stream until it ends; then say how it ended, whatever ended it."""
    feed, ending = heard.feed, "end"
    failure: BaseException | None = None
    rest: Samples | None = None
    steps: list[Step] = []  # that are not written yet

    def advance(late_seconds: float) -> Samples | None:
        """Hear the next step; what is left, where there is none."""
        samples = feed.take(diarizer.wanted)
        if len(samples) < diarizer.wanted:
            return samples
        step = diarizer.push(samples, late_seconds)
        if step is not None:
            steps.append(step)
        return None

    try:
        stalled = behind = False
        while rest is None:
            came = feed.wait(diarizer.wanted, diarizer.step_seconds + _STALLED_SECONDS)
            if came and stalled:
                writer.state("resumed", diarizer.seconds, "the source goes on")
            elif not came and not stalled:
                writer.state("stalled", diarizer.seconds, "nothing comes from the source")
            stalled = not came
            if stalled:
                continue
            # Networks and evidence stay whole, for what comes at the end.
            with interrupts_held():
                rest = advance(feed.late_seconds)
            if diarizer.behind != behind:
                behind = diarizer.behind
                text = (
                    f"{feed.late_seconds:.1f} s of sound wait: the step is coarser for a while"
                    if behind
                    else "no sound waits: the step is as before"
                )
                writer.state("behind" if behind else "caught-up", diarizer.seconds, text)
            while steps:
                writer.step(steps.pop())
        if feed.error is not None:
            ending, failure = "error", feed.error
    except KeyboardInterrupt as error:
        ending, failure = "interrupted", error
    except OSError as error:
        # Nobody reads, or no more fits: what was asked to be kept is kept nevertheless.
        ending, failure = "interrupted", error
        writer.silent = True
    with interrupts_held(once=True):
        feed.stop()
        while rest is None:
            rest = advance(0.0)
        last, conclusion = diarizer.finish(rest)
        info = heard.info()
        info = replace(info, notes=(*info.notes, *diarizer.notes))
        # Kept first: who should read the events may have stopped.
        if save is not None:
            try:
                _save(save, diarizer.result(info, conclusion), facts)
            except FluidAudioError as error:
                failure, save = error, None
        try:
            for step in (*steps, last):
                writer.step(step)
            writer.end(ending, diarizer, conclusion, (*info.notes, *conclusion.notes))
        except OSError as error:
            failure = failure or error
        if save is not None:
            messages.say(f"wrote {save}")
    if failure is not None:
        raise failure


class _Writer:
    """Events, or turns in a format that can be appended, to ``file``; the view sees all."""

    def __init__(
        self, file: IO[str] | None, kind: StreamFormat, uri: str, view: LiveView | None
    ) -> None:
        self.silent = False
        self._file, self._kind, self._uri, self._view = file, kind, uri, view
        self._started = time.perf_counter()

    @property
    def _wall(self) -> float:
        return time.perf_counter() - self._started

    def start(self, latency: float, step: float, pipeline: Pipeline) -> None:
        """Say what runs."""
        if self._kind is StreamFormat.vtt:
            self._put("WEBVTT\n")
        self._event(stream_json.start_event(self._uri, latency, step, pipeline.plan.summary()))

    def step(self, step: Step) -> None:
        """What a step brought."""
        self._event(stream_json.step_event(step, self._wall))
        if self._kind is not StreamFormat.jsonl:
            self._put(self._as_turns(step))
        if self._view is not None:
            self._view.step(step, self._wall)

    def state(self, kind: str, seconds: float, text: str) -> None:
        """Something about the stream itself."""
        self._event(stream_json.state_event(kind, seconds, self._wall, text))
        if self._view is not None:
            self._view.say(text)
        elif self._kind is not StreamFormat.jsonl or self._file is not sys.stdout:
            messages.say(f"note: {text}")

    def end(
        self, reason: str, diarizer: LiveDiarizer, found: Conclusion, notes: tuple[str, ...]
    ) -> None:
        """The summary."""
        figures, turns = diarizer.figures, found.turns
        event = stream_json.summary_event(
            reason, diarizer.seconds, self._wall, turns, figures, notes
        )
        self._event(event)
        if self._view is not None or self._kind is not StreamFormat.jsonl:
            if self._view is not None:
                self._view.close()
            messages.say(
                f"{diarizer.seconds:.1f} s, {counted(len(event['speakers']), 'speaker')}, "
                f"{counted(len(turns), 'turn')}, {counted(figures.revisions, 'revision')}; "
                "a step took "
                f"{1000 * figures.percentile(0.5):.0f} ms (p99 "
                f"{1000 * figures.percentile(0.99):.0f} ms) of {diarizer.step_seconds:g} s"
            )
            for note in notes:
                messages.say(f"note: {note}")

    def _as_turns(self, step: Step) -> str:
        """Turns that became final; a revision is a comment."""
        change = step.change
        text = FORMATS[self._kind.value](change.final, self._uri, step.seconds)
        comment = "\nNOTE" if self._kind is StreamFormat.vtt else ";;"
        text = text.removeprefix("WEBVTT\n")
        for each in change.revisions:
            text += (
                f"{comment} revision {each.start:.3f} {each.end:.3f} "
                f"from {each.before or '-'} to {each.after or '-'}\n"
            )
        return text

    def _event(self, event: dict[str, Any]) -> None:
        if self._kind is StreamFormat.jsonl:
            self._put(stream_json.line(event))

    def _put(self, text: str) -> None:
        if text and self._file is not None and not self.silent:
            try:
                self._file.write(text)
                self._file.flush()
            except OSError as error:
                error.filename = error.filename or self._file.name
                raise


def _prepare(
    source: str,
    pace: Pace,
    rate: int | None,
    channels: int | None,
    sample_format: SampleFormat | None,
) -> Callable[[], _Source]:
    """Check and open the source; what is returned begins to read it."""
    from fluidaudio_cli.audio import live
    from fluidaudio_cli.audio.mono import SAMPLE_RATE
    from fluidaudio_cli.audio.source import open_audio

    if rate is not None and source != str(STDIN):
        raise UsageError(f"--rate is of raw samples, and {source} is none", "give - and pipe them")

    def reading(
        blocks: live.Blocks, uri: str, info: Callable[[], AudioInfo], *, waits: bool = True
    ) -> Callable[[], _Source]:
        timed = live.paced(blocks) if pace is Pace.real else blocks
        return lambda: _Source(live.Feed(timed, waits=waits), uri, info)

    mono = live.LiveMono()
    if rate is not None:
        raw_channels = channels or 1
        raw_format = sample_format or SampleFormat.s16le
        info = _info(STDIN_URI, "raw", raw_format.value, rate, raw_channels)
        blocks = live.pcm_blocks(mono, rate, raw_channels, raw_format.value)
        return reading(blocks, STDIN_URI, lambda: replace(info, notes=mono.notes))
    if source == _MICROPHONE or source.startswith(f"{_MICROPHONE}:"):
        blocks = live.microphone_blocks(source.partition(":")[2], messages.say)
        info = _info(_MICROPHONE, _MICROPHONE, "f32le", SAMPLE_RATE, 1)
        return reading(blocks, _MICROPHONE, lambda: info, waits=False)
    if live.is_live_address(source):
        uri = uri_from(source)
        info = _info(uri, source.partition(":")[0], "decoded", SAMPLE_RATE, 1)
        blocks = live.address_blocks(mono, source)
        return reading(
            blocks, uri, lambda: replace(info, notes=mono.notes), waits=live.can_wait(source)
        )
    place = place_from(source)
    audio = open_audio(place)
    return reading(live.file_blocks(audio), uri_of(place), lambda: audio.info)


def _info(uri: str, container: str, codec: str, rate: int, channels: int) -> AudioInfo:
    from fluidaudio_cli.audio.source import AudioInfo

    return AudioInfo(Path(uri), uri, container, codec, rate, channels, None)


def _check_targets(source: str, output: Path, save: Path | None) -> None:
    """Make sure, before anything is heard, that what is said can be written, and over what."""
    from fluidaudio_cli.cli.diarize_output import EXTENSIONS, check_targets

    place = place_from(source)
    recording = resolved(place) if isinstance(place, Path) else None
    events = None if output == report_output.STDOUT else output

    def read_as(target: Path) -> str:
        return "a recording" if target == recording else ""

    check_targets([(place, "")], [lambda _: events, lambda _: save], read_as)
    if save is None:
        return
    saved = [ending for ending in EXTENSIONS.values() if ending != ".txt"]
    report_output.check_ending("--save", save, saved)
    if resolved(save) == resolved(output):
        raise UsageError(f"--output and --save are both {save}", "give two names")
    check_folder(save.parent, "choose another --save")


@contextmanager
def _opened(output: Path) -> Iterator[IO[str]]:
    with os_errors(f"cannot write {output}", "choose another --output"):
        output.parent.mkdir(parents=True, exist_ok=True)
        file = output.open("w", encoding="utf-8", newline="\n")
    try:
        yield file
    finally:
        # All is written already, but for what did not fit, which was told.
        with suppress(OSError):
            file.close()


def _save(path: Path, found: Diarization, facts: RunFacts) -> None:
    """The final turns, as of ``diarize``."""
    ending = path.suffix.lower().removeprefix(".")
    if ending == "json":
        from fluidaudio_cli.report.diarization_json import diarization_document, format_document

        text = format_document(diarization_document(found, facts))
    else:
        text = turns_as(ending, found, found.turns)
    write_text_atomic(path, text)
