"""A profile as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence

from fluidaudio_cli.profiling.records import (
    STAGE_COLUMNS,
    ModelProfile,
    Profile,
    StageProfile,
    Unavailable,
)
from fluidaudio_cli.report import html_charts as charts
from fluidaudio_cli.report.html_page import (
    Cell,
    cards,
    chart,
    details,
    facts,
    header,
    page,
    paragraph,
    section,
    table,
)

_DASH = "—"


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
        section("stages", "Stages", _stage_table(profile.stages), *_concurrency(profile)),
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
            f"{_size(profile.peak_rss_bytes)}.",
        ),
        _timeline(profile),
        *_precision(profile),
        section("cost", "What profiling costs", _costs(profile)),
        section("environment", "Environment", _environment(profile)),
    ]
    return page(f"Profile of {profile.uri}", parts)


def _key_figures(profile: Profile) -> list[tuple[str, str]]:
    figures = [
        (f"{profile.rtfx:.0f}x", "real time"),
        (_time(profile.processing_seconds), f"for {profile.audio_seconds:.1f} s of audio"),
        (f"{profile.bottleneck.share:.0%}", f"of busy time in {profile.bottleneck.stage}"),
        (f"{profile.concurrency.mean_parallel:.2f}", "stages at work at once"),
        (_size(profile.peak_rss_bytes), "peak memory"),
        (_time(profile.load_seconds), "to load the models"),
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


def _stage_table(stages: Sequence[StageProfile]) -> str:
    reasons: dict[str, str] = {}

    def seconds(value: float | Unavailable) -> Cell:
        return mark(value) if isinstance(value, Unavailable) else Cell(_time(value), value)

    def size(value: int | Unavailable) -> Cell:
        return mark(value) if isinstance(value, Unavailable) else Cell(_size(value), value)

    def mark(missing: Unavailable) -> Cell:
        return Cell(reasons.setdefault(missing.reason, "*" * (len(reasons) + 1)), "")

    nothing = Cell(_DASH, "")
    rows = [
        (
            Cell(stage.name),
            seconds(stage.wall_seconds),
            seconds(stage.cpu_seconds),
            nothing if stage.waiting else Cell(f"{stage.share:.1%}", stage.share),
            Cell(str(stage.calls), stage.calls),
            *(seconds(value) for value in stage.call_seconds),
            Cell(str(stage.items), stage.items),
            nothing if stage.waiting else size(stage.bytes_in),
            nothing if stage.waiting else size(stage.bytes_out),
            size(stage.copied_bytes),
            size(stage.allocated_bytes),
            Cell(f"+{_size(stage.rss_delta_bytes)}", stage.rss_delta_bytes),
            nothing if stage.waiting else Cell(f"{stage.rtfx:.0f}x", stage.rtfx),
        )
        for stage in stages
    ]
    notes = [
        paragraph(f"{mark} unavailable: {reason}", soft=True) for reason, mark in reasons.items()
    ]
    explained = paragraph(
        "Allocated: by Python and NumPy within one call, from a separate pass with one worker. "
        "RSS: highest while the stage ran; others may have run beside it.",
        soft=True,
    )
    return table(STAGE_COLUMNS, rows, "table-stages") + "".join(notes) + explained


def _concurrency(profile: Profile) -> list[str]:
    side = profile.concurrency
    if not side.concurrent:
        return [paragraph("Stages ran one after the other.", soft=True)]
    rows = [
        [
            Cell(thread.name),
            *(
                Cell(_time(value), value)
                for value in (thread.busy_seconds, thread.waiting_seconds, thread.idle_seconds)
            ),
        ]
        for thread in side.threads
    ]
    share = f"{side.overlap_share:.0%} of the time two or more stages were at work."
    return [table(("thread", "busy", "waiting", "idle"), rows), paragraph(share, soft=True)]


def _operators(profile: Profile, top: int) -> list[str]:
    parts = []
    slowest = charts.operators(profile.models, top)
    if slowest is not None:
        parts.append(chart("chart-operators", slowest, "Slowest operations of the networks"))
    by_kind = charts.kinds(profile.models)
    if by_kind is not None:
        parts.append(chart("chart-kinds", by_kind, "Operator time by kind"))
    parts.extend(
        paragraph(f"{model.name}: operator times {model.layers}")
        for model in profile.models
        if isinstance(model.layers, Unavailable)
    )
    parts.append(details("All operations", _operator_table(profile.models)))
    missing = {
        plan.operations.reason for plan in profile.plans if isinstance(plan.operations, Unavailable)
    }
    parts.extend(
        paragraph(f"Core ML's plan: unavailable: {reason}", soft=True) for reason in sorted(missing)
    )
    for plan in profile.plans:
        if not isinstance(plan.operations, Unavailable):
            share = plan.neural_engine_share
            parts.append(
                paragraph(
                    f"Core ML's plan of {plan.model} (an estimate, not a measurement): "
                    f"{_DASH if share is None else f'{share:.0%}'} of its cost on the Neural "
                    "Engine."
                )
            )
    sources = ", ".join(dict.fromkeys(model.source for model in profile.models))
    return [section("operators", "Operators", *parts, note=f"Measured by {sources}.")]


def _operator_table(models: Sequence[ModelProfile]) -> str:
    rows = []
    for model in models:
        if isinstance(model.layers, Unavailable):
            continue
        peak = None if isinstance(model.peak, Unavailable) else model.peak.flops_per_second
        for layer in model.layers:
            if not layer.seconds:
                continue
            rate = layer.flops_per_second
            rows.append(
                (
                    Cell(layer.layer),
                    Cell(model.name),
                    Cell(layer.op or "(executor)"),
                    Cell(_time(layer.seconds), layer.seconds),
                    Cell(f"{layer.share:.1%}", layer.share),
                    Cell(f"{layer.flops / 1e9:.3f}", layer.flops),
                    Cell(f"{rate / 1e9:.1f}", rate),
                    Cell(_DASH, "") if peak is None else Cell(f"{rate / peak:.1%}", rate / peak),
                    Cell(_size(layer.moved_bytes), layer.moved_bytes),
                )
            )
    headings = (
        "layer",
        "network",
        "MIL op",
        "time",
        "share",
        "GFLOP",
        "GFLOP/s",
        "of peak",
        "moved",
    )
    return table(headings, rows, "table-operators")


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

    reasons: dict[str, str] = {}

    def number(value: float | Unavailable, percent: bool) -> Cell:
        if isinstance(value, Unavailable):
            return Cell(reasons.setdefault(value.reason, "*" * (len(reasons) + 1)), "")
        return Cell(f"{value:.2%}" if percent else f"{value:.6f}", value)

    rows = []
    for model in report.models:
        percent = model.figure_name.startswith("flipped")
        rows.append(
            (
                Cell(model.model),
                Cell(model.precision),
                Cell(model.entry or _DASH),
                Cell(model.figure_name),
                number(model.figure, percent),
                number(model.executed, percent),
            )
        )
    headings = ("network", "precision", "error enters at", "figure", "simulated", "executed")
    parts.append(table(headings, rows, "table-precision"))

    def points(value: float | Unavailable) -> Cell:
        if isinstance(value, Unavailable):
            return number(value, False)
        return Cell(f"{100 * value:+.2f} points", value)

    rates = [
        (
            Cell(row.precision),
            Cell(row.executor),
            number(row.der, True),
            points(row.change),
            Cell(row.against),
        )
        for row in report.der
    ]
    parts.append(table(("precision", "executor", "DER strict", "change", "against"), rates))
    parts.extend(
        paragraph(f"{mark} unavailable: {reason}", soft=True) for reason, mark in reasons.items()
    )
    return [section("precision", "Precision against fp32", *parts, note=report.note)]


def _costs(profile: Profile) -> str:
    return table(
        ("measuring", "without", "with", "ratio", "pairs"),
        [
            (
                Cell(cost.name),
                Cell(_time(cost.plain_seconds), cost.plain_seconds),
                Cell(_time(cost.measured_seconds), cost.measured_seconds),
                Cell(f"{cost.ratio:.3f}", cost.ratio),
                Cell(str(cost.pairs), cost.pairs),
            )
            for cost in profile.costs
        ],
        "table-cost",
    )


def _environment(profile: Profile) -> str:
    machine = profile.environment.get("machine")
    known = dict(machine) if isinstance(machine, dict) else {}
    known |= {
        "python": profile.environment.get("python"),
        "system": profile.environment.get("system_release"),
        "load average": profile.environment.get("load_average"),
    }
    return facts(known.items())


def _time(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{1e3 * seconds:.1f} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.0f} µs"


def _size(value: int | Unavailable) -> str:
    if isinstance(value, Unavailable):
        return str(value)
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value} B"
