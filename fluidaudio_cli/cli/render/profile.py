"""A profile on the terminal."""

from __future__ import annotations

from rich.console import Console

from fluidaudio_cli.cli.render.tables import print_line, print_table
from fluidaudio_cli.profiling.records import Profile
from fluidaudio_cli.report import profile_tables as tables
from fluidaudio_cli.report.profile_tables import time_text


def render_profile(console: Console, profile: Profile, *, top: int, seconds: float) -> None:
    """Stages, bottleneck, concurrency, operators, precision, and what profiling cost.

    ``top``: operators shown per network; ``seconds``: what the whole profile took.
    """
    print_line(console, _headline(profile))
    print_table(console, tables.stage_table(profile))
    limit = profile.bottleneck
    print_line(
        console,
        f"Bottleneck: {limit.stage} ({limit.share:.0%} of busy time), limited by {limit.limit}: "
        f"{limit.reason}",
    )
    print_table(console, tables.thread_table(profile))
    for model in profile.models:
        print_table(console, tables.operator_table(model, top))
        print_table(console, tables.kind_table(model))
    for line in tables.plan_lines(profile):
        print_line(console, line)
    report = profile.precision
    if report is not None:
        print_table(console, tables.precision_table(report))
        for each in report.models:
            print_table(console, tables.error_table(each, top))
        print_table(console, tables.rate_table(report))
        print_line(console, f"note: {report.note}")
    if profile.timeline.der_strict is not None:
        print_line(console, f"DER strict: {100 * profile.timeline.der_strict:.1f} %")
    print_table(console, tables.cost_table(profile))
    print_line(console, f"The whole profile took {time_text(seconds)}.")
    for note in profile.notes:
        print_line(console, f"note: {note}")


def _headline(profile: Profile) -> str:
    cached = "cached" if profile.load_cached else "compiled"
    return (
        f"{profile.uri}: {profile.audio_seconds:.1f} s of audio in "
        f"{time_text(profile.processing_seconds)}, {profile.rtfx:.0f}x real time, mode "
        f"{profile.mode}, models {profile.plan['models']}; {time_text(profile.cpu_seconds)} of "
        f"processor time, models loaded in {time_text(profile.load_seconds)} ({cached})"
    )
