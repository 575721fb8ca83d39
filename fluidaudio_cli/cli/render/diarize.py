"""A diarization for people: turns, speakers, error rates, where the time went, what ran."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from fluidaudio_cli.cli.render.console import plain_text, stdout_console
from fluidaudio_cli.cli.render.tables import print_line, titled_table
from fluidaudio_cli.diarization.result import Diarization, ModelRef
from fluidaudio_cli.report.diarization_json import RunFacts, ScoredAgainst

# The table as text for a file: as wide as a page.
_FILE_WIDTH = 100


def diarization_text(
    result: Diarization, run: RunFacts, scored: ScoredAgainst | None, *, styled: bool
) -> str:
    """Everything about one recording; ``styled`` as stdout takes it, else plain text."""
    if not styled:
        return plain_text(lambda page: _render(page, result, run, scored), _FILE_WIDTH)
    console = stdout_console()
    with console.capture() as capture:
        _render(console, result, run, scored)
    return capture.get()


def _render(
    console: Console, result: Diarization, run: RunFacts, scored: ScoredAgainst | None
) -> None:
    audio = result.audio
    channels = "mono" if audio.channels == 1 else f"{audio.channels} channels"
    print_line(
        console,
        f"{result.uri}: {_clock(result.duration_seconds)} of {audio.codec}, "
        f"{audio.sample_rate} Hz, {channels}",
        style="bold",
    )
    console.print(_turns(result, run.exclusive))
    console.print(_speakers(result))
    if result.speaker_counts:
        print_line(console, _count(result))
    if scored is not None:
        from fluidaudio_cli.cli.render.score import render_scores
        from fluidaudio_cli.scoring.boundaries import DEFAULT_TOLERANCE

        render_scores(
            console, [scored.score], scored.score, regions="all", tolerance=DEFAULT_TOLERANCE
        )
        console.print()
    console.print(_stages(result))
    for line in _remarks(result, run):
        print_line(console, line)
    for note in (*run.notes, *result.notes):
        print_line(console, f"note: {note}", style="bold")


def _turns(result: Diarization, exclusive: bool) -> Table:
    title = "Turns, one speaker at a time" if exclusive else "Turns"
    table = titled_table(title, "start", "end", "seconds", left=0)
    table.add_column("speaker")
    for turn in result.exclusive_turns if exclusive else result.turns:
        times = (_clock(turn.start), _clock(turn.end), f"{turn.duration:.2f}")
        table.add_row(*times, turn.speaker)
    if not table.rows:
        table.add_row("", "", "", "nobody speaks")
    return table


def _speakers(result: Diarization) -> Table:
    known = any(speaker.identity is not None for speaker in result.speakers)
    more = ["probability"] if known else []
    table = titled_table("Speakers", "speaker", "speaking", "of the recording", "turns", *more)
    for speaker in result.speakers:
        share = speaker.speech_seconds / result.duration_seconds
        found = speaker.identity
        table.add_row(
            speaker.label,
            _clock(speaker.speech_seconds),
            f"{share:.1%}",
            str(speaker.turns),
            *(["" if found is None else f"{found.probability:.1%}"] if known else []),
        )
    return table


# From which probability a number of speakers besides the likeliest is worth naming.
_POSSIBLE = 0.1


def _count(result: Diarization) -> str:
    """As in ``speakers: 4 (likely 4, 5 possible)``."""
    counts = result.speaker_counts
    likeliest = max(counts, key=lambda count: counts[count])
    others = [str(n) for n, share in counts.items() if share >= _POSSIBLE and n != likeliest]
    possible = f", {' or '.join(others)} possible" if others else ""
    return f"speakers: {len(result.speakers)} (likely {likeliest}{possible})"


def _stages(result: Diarization) -> Table:
    timings = result.timings
    table = titled_table("Time", "stage", "seconds", "of the time", "calls", "RTFx")
    for stage in timings.stages:
        table.add_row(
            stage.name,
            f"{stage.busy_seconds:.3f}",
            f"{stage.busy_seconds / timings.processing_seconds:.0%}",
            str(stage.calls),
            _speed(result.duration_seconds, stage.busy_seconds),
        )
    table.add_section()
    whole = timings.processing_seconds
    speed = _speed(result.duration_seconds, whole)
    table.add_row("in all", f"{whole:.3f}", "", "", speed, style="bold")
    return table


def _remarks(result: Diarization, run: RunFacts) -> Iterator[str]:
    if result.timings.overlapped:
        yield "Stages ran side by side: their times overlap and add up to more than the total."
    ran, asked = run.ran, run.ran.plan.asked
    cached = "from the cache" if ran.load_cached else "compiled now, and cached for the next time"
    if ran.load_seconds:  # none for evidence
        yield f"Models loaded before that in {ran.load_seconds:.2f} s ({cached})."
    yield (
        f"Mode {ran.plan.mode.name}; asked executor {asked['executor']}, precision "
        f"{asked['precision']}; ran {_ran(ran.models)}."
    )


def _ran(models: Sequence[ModelRef]) -> str:
    """What ran, models that ran alike named together."""
    groups: dict[str, list[str]] = {}
    for model in models:
        ran = model.ran
        threads = "" if ran["threads"] is None else f", {ran['threads']} threads"
        how = f"{ran['precision']} on {ran['executor']} {ran['version']} ({ran['device']}{threads})"
        groups.setdefault(how, []).append(model.name)
    return "; ".join(f"{' and '.join(names)} in {how}" for how, names in groups.items())


def _speed(audio_seconds: float, seconds: float) -> str:
    return f"{audio_seconds / seconds:,.0f}x" if seconds > 0 else ""


def _clock(seconds: float) -> str:
    """As in 1:02:03.45; hours only where there are some."""
    hundredths = round(seconds * 100)
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{head}:{rest // 100:02d}.{rest % 100:02d}"
