"""A profile as one self-contained HTML page."""

from __future__ import annotations

from fluidaudio_cli.profiling.records import Profile, Unavailable
from fluidaudio_cli.report import html_charts as charts
from fluidaudio_cli.report import profile_tables as tables
from fluidaudio_cli.report.html_page import (
    cards,
    chart,
    details,
    environment_section,
    header,
    page,
    paragraph,
    section,
    table,
)
from fluidaudio_cli.report.profile_tables import size_text, time_text
from fluidaudio_cli.report.tables import Table


def profile_page(profile: Profile, top: int = 10) -> str:
    """The page; ``top`` operations are charted, all of them are in its table."""
    ran = " · ".join(
        f"{model.name}: {model.executor} {model.precision}" for model in profile.models
    )
    parts = [
        header(
            f"Profile of {profile.uri}",
            f"mode {profile.mode} · {ran} · {profile.created} · fluidaudio {profile.version}",
        ),
        cards(_key_figures(profile)),
        _bottleneck(profile),
        section(
            "waterfall",
            "Stages over time",
            chart("chart-waterfall", charts.waterfall(profile), "Calls of each stage over time"),
            note="One run; a lane for each thread.",
        ),
        section(
            "stages",
            "Stages",
            _table(tables.stage_table(profile), "table-stages"),
            _table(tables.thread_table(profile)),
        ),
        *_operators(profile, top),
        section(
            "memory",
            "Memory",
            chart(
                "chart-memory",
                charts.memory(profile.memory_curve, profile.baseline_rss_bytes),
                "Resident memory over time",
            ),
            note=f"Resident memory of the process; highest by the kernel's count: "
            f"{size_text(profile.peak_rss_bytes)}.",
        ),
        _timeline(profile),
        *_precision(profile),
        section("cost", "What profiling costs", _table(tables.cost_table(profile), "table-cost")),
        environment_section(profile.environment),
    ]
    return page(f"Profile of {profile.uri}", parts)


def _key_figures(profile: Profile) -> list[tuple[str, str]]:
    figures = [
        (f"{profile.rtfx:.0f}x", "real time"),
        (time_text(profile.processing_seconds), f"for {profile.audio_seconds:.1f} s of audio"),
        (f"{profile.bottleneck.share:.0%}", f"of busy time in {profile.bottleneck.stage}"),
        (f"{profile.concurrency.mean_parallel:.2f}", "stages at work at once"),
        (size_text(profile.peak_rss_bytes), "peak memory"),
        (time_text(profile.load_seconds), "to load the models"),
    ]
    if profile.timeline.der_strict is not None:
        figures.append((f"{100 * profile.timeline.der_strict:.1f} %", "DER strict"))
    return figures


def _bottleneck(profile: Profile) -> str:
    limit = profile.bottleneck
    return section(
        "bottleneck",
        f"Bottleneck: {limit.stage}, limited by {limit.limit}",
        paragraph(limit.reason[:1].upper() + limit.reason[1:] + "."),
        *(paragraph(f"Note: {note}", soft=True) for note in profile.notes),
    )


def _operators(profile: Profile, top: int) -> list[str]:
    parts = []
    slowest = charts.operators(profile.models, top)
    if slowest is not None:
        parts.append(chart("chart-operators", slowest, "Slowest operations of the networks"))
    by_kind = charts.kinds(profile.models)
    if by_kind is not None:
        parts.append(chart("chart-kinds", by_kind, "Operator time by kind"))
    every = "".join(_table(tables.operator_table(model), titled=True) for model in profile.models)
    parts.append(details("All operations", every))
    parts.extend(paragraph(line, soft=True) for line in tables.plan_lines(profile))
    sources = ", ".join(dict.fromkeys(model.source for model in profile.models))
    return [section("operators", "Operators", *parts, note=f"Measured by {sources}.")]


def _table(made: Table, name: str = "", titled: bool = False) -> str:
    """A table, where it has rows, and its notes."""
    parts = [paragraph(made.title)] if titled and made.rows else []
    if made.rows:
        parts.append(table(made, name))
    return "".join((*parts, *(paragraph(note, soft=True) for note in made.notes)))


def _timeline(profile: Profile) -> str:
    if isinstance(profile.timeline.reference, Unavailable):
        note = "Give --reference to see errors."
    else:
        note = "Errors are against the reference, without collar. Found speakers bear the name "
        note += "of the reference speaker they are mapped to."
    return section(
        "timeline",
        "Who speaks when",
        chart(
            "chart-timeline",
            charts.diarization(profile.timeline, profile.audio_seconds),
            "Turns found, turns of the reference, and errors",
        ),
        note=note,
    )


def _precision(profile: Profile) -> list[str]:
    report = profile.precision
    if report is None:
        return []
    parts = []
    figure = charts.precision(report.models)
    if figure is not None:
        parts.append(chart("chart-precision", figure, "Relative error layer by layer"))

    parts.append(_table(tables.precision_table(report), "table-precision"))
    parts.append(_table(tables.rate_table(report)))
    return [section("precision", "Precision against fp32", *parts, note=report.note)]
