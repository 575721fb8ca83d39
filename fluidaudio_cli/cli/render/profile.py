"""A profile on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fluidaudio_cli.profiling.records import (
    STAGE_COLUMNS,
    KindProfile,
    LayerProfile,
    ModelProfile,
    PrecisionReport,
    Profile,
    StageProfile,
    Unavailable,
)

_DASH = "—"


def render_profile(console: Console, profile: Profile, *, top: int, seconds: float) -> None:
    """Stages, bottleneck, concurrency, operators, precision, and what profiling cost.

    ``top``: operators shown per network; ``seconds``: what the whole profile took.
    """
    console.print(Text(_headline(profile)), soft_wrap=True)
    reasons: dict[str, str] = {}
    console.print(_stages(profile.stages, reasons))
    for reason, mark in reasons.items():
        _line(console, f"{mark} unavailable: {reason}")
    if not any(isinstance(stage.allocated_bytes, Unavailable) for stage in profile.stages):
        _line(
            console,
            "allocated: by Python and NumPy within one call, from a separate pass (tracemalloc, "
            "one worker); RSS: highest while the stage ran, other stages may have run beside it",
        )
    limit = profile.bottleneck
    _line(
        console,
        f"Bottleneck: {limit.stage} ({limit.share:.0%} of busy time), limited by {limit.limit}: "
        f"{limit.reason}",
    )
    _concurrency(console, profile)
    for model in profile.models:
        _model(console, model, top)
    _plans(console, profile)
    if profile.precision is not None:
        _precision(console, profile.precision, top)
    if profile.timeline.der_strict is not None:
        _line(console, f"DER strict: {100 * profile.timeline.der_strict:.1f} %")
    _costs(console, profile, seconds)
    for note in profile.notes:
        _line(console, f"note: {note}")


def _headline(profile: Profile) -> str:
    cached = "cached" if profile.load_cached else "compiled"
    return (
        f"{profile.uri}: {profile.audio_seconds:.1f} s of audio in "
        f"{_seconds(profile.processing_seconds)}, {profile.rtfx:.0f}x real time, mode "
        f"{profile.mode}, models {profile.plan['models']}; {_seconds(profile.cpu_seconds)} of "
        f"processor time, models loaded in {_seconds(profile.load_seconds)} ({cached})"
    )


def _stages(stages: Sequence[StageProfile], reasons: dict[str, str]) -> Table:
    table = _table(
        "Stages",
        STAGE_COLUMNS,
    )

    def cell(value: float | int | Unavailable, kind: str) -> str:
        if isinstance(value, Unavailable):
            return reasons.setdefault(value.reason, "*" * (len(reasons) + 1))
        return _seconds(value) if kind == "s" else _bytes(value)

    for stage in stages:
        p50, p90, p99 = stage.call_seconds
        table.add_row(
            Text(stage.name),
            _seconds(stage.wall_seconds),
            cell(stage.cpu_seconds, "s"),
            _DASH if stage.waiting else f"{stage.share:.1%}",
            f"{stage.calls}",
            _seconds(p50),
            _seconds(p90),
            _seconds(p99),
            f"{stage.items}",
            _DASH if stage.waiting else cell(stage.bytes_in, "B"),
            _DASH if stage.waiting else cell(stage.bytes_out, "B"),
            _bytes(stage.copied_bytes),
            cell(stage.allocated_bytes, "B"),
            f"+{_bytes(stage.rss_delta_bytes)}",
            _DASH if stage.waiting else f"{stage.rtfx:.0f}x",
        )
    return table


def _concurrency(console: Console, profile: Profile) -> None:
    side = profile.concurrency
    if not side.concurrent:
        _line(console, "Stages ran one after the other.")
        return
    table = _table("Threads", ("thread", "busy", "waiting", "idle"))
    for thread in side.threads:
        table.add_row(
            thread.name,
            _seconds(thread.busy_seconds),
            _seconds(thread.waiting_seconds),
            _seconds(thread.idle_seconds),
        )
    console.print(table)
    at_once = ", ".join(
        f"{count}: {_seconds(seconds)}" for count, seconds in enumerate(side.parallel_seconds)
    )
    _line(
        console,
        f"Stages at work at once: {at_once}; {side.overlap_share:.0%} of the time two or more, "
        f"{side.mean_parallel:.2f} on average",
    )


def _model(console: Console, model: ModelProfile, top: int) -> None:
    title = f"{model.name}: {model.executor}, {model.precision}"
    if isinstance(model.layers, Unavailable):
        _line(console, f"{title}: operator times {model.layers}")
        return
    peak = model.peak
    flops = bandwidth = None
    if isinstance(peak, Unavailable):
        against = f"machine's peak {peak}"
    else:
        flops, bandwidth = peak.flops_per_second, peak.bytes_per_second
        against = (
            f"peak of {peak.threads} thread(s), measured: {_rate(flops)} {peak.precision}, "
            f"{_DASH if bandwidth is None else f'{bandwidth / 1e9:.1f} GB/s in cache'}"
        )
    layers = _table(
        f"{title}: slowest operations of one run",
        ("layer", "MIL op", "time", "share", "GFLOP", "reached", "of peak", "moved", "run by"),
    )
    for layer in model.layers[:top]:
        if layer.seconds:
            layers.add_row(*_layer(layer, flops))
    console.print(layers)
    kinds = _table(
        f"{model.name}: by kind", ("MIL op", "number", "time", "share", "GFLOP", "moved")
    )
    for kind in model.kinds:
        if kind.share >= _SHOWN_SHARE:
            kinds.add_row(*_kind(kind))
    console.print(kinds)
    _line(
        console,
        f"{model.source}; {model.attributed_share:.1%} of the operators' time belongs to a layer "
        f"of the package; {against}",
    )


_SHOWN_SHARE = 0.001


def _layer(layer: LayerProfile, peak: float | None) -> tuple[Text | str, ...]:
    rate = layer.flops_per_second
    more = f" +{len(layer.kernels) - 1}" if len(layer.kernels) > 1 else ""
    return (
        Text(layer.layer),
        layer.op or "(executor)",
        _seconds(layer.seconds),
        f"{layer.share:.1%}",
        f"{layer.flops / 1e9:.2f}",
        _rate(rate),
        _DASH if peak is None else f"{rate / peak:.1%}",
        _bytes(layer.moved_bytes),
        Text((layer.kernels[0] if layer.kernels else _DASH) + more),
    )


def _kind(kind: KindProfile) -> tuple[str, ...]:
    return (
        kind.op,
        str(kind.operations),
        _seconds(kind.seconds),
        f"{kind.share:.1%}",
        f"{kind.flops / 1e9:.2f}",
        _bytes(kind.moved_bytes),
    )


def _plans(console: Console, profile: Profile) -> None:
    missing = {
        plan.operations.reason for plan in profile.plans if isinstance(plan.operations, Unavailable)
    }
    for reason in sorted(missing):
        _line(console, f"Core ML's plan (MLComputePlan) unavailable: {reason}")
    for plan in profile.plans:
        if isinstance(plan.operations, Unavailable):
            continue
        counts: dict[str, int] = {}
        for operation in plan.operations:
            counts[operation.device] = counts.get(operation.device, 0) + 1
        share = plan.neural_engine_share
        engine = _DASH if share is None else f"{share:.0%}"
        _line(
            console,
            f"{plan.model}: Core ML plans (an estimate, not a measurement) "
            + ", ".join(f"{count} operations on {device}" for device, count in counts.items())
            + f"; {engine} of the estimated cost on the Neural Engine",
        )


def _precision(console: Console, report: PrecisionReport, top: int) -> None:
    summary = _table(
        "Precision against fp32",
        ("model", "precision", "error enters at", "figure", "simulated", "executed"),
    )
    reasons: dict[str, str] = {}

    def number(value: float | Unavailable, share: bool) -> str:
        if isinstance(value, Unavailable):
            return reasons.setdefault(value.reason, "*" * (len(reasons) + 1))
        return f"{value:.2%}" if share else f"{value:.6f}"

    for model in report.models:
        share = model.figure_name.startswith("flipped")
        summary.add_row(
            model.model,
            model.precision,
            Text(model.entry or _DASH),
            model.figure_name,
            number(model.figure, share),
            number(model.executed, share),
        )
    console.print(summary)
    for model in report.models:
        if isinstance(model.layers, Unavailable):
            _line(console, f"{model.model} {model.precision}: layers {model.layers}")
            continue
        table = _table(
            f"{model.model} in {model.precision}: layers that add most error",
            (
                "layer",
                "MIL op",
                "max error",
                "RMS error",
                "relative",
                "added here",
                "overflow",
                "underflow",
                "subnormal",
                "of numbers",
            ),
        )
        for layer in sorted(model.layers, key=lambda each: -each.added)[:top]:
            table.add_row(
                Text(layer.layer),
                layer.op,
                f"{layer.max_error:.3g}",
                f"{layer.rms_error:.3g}",
                f"{layer.relative:.3%}",
                f"{layer.added:.3%}",
                str(layer.overflow),
                str(layer.underflow),
                str(layer.subnormal),
                str(layer.numbers),
            )
        console.print(table)
    for row in report.der:
        rate = f"{row.der}" if isinstance(row.der, Unavailable) else f"{100 * row.der:.2f} %"
        change = (
            ""
            if isinstance(row.change, Unavailable)
            else f", {100 * row.change:+.2f} points from fp32"
        )
        _line(
            console,
            f"DER strict in {row.precision} ({row.executor}), {row.against}: {rate}{change}",
        )
    for reason, mark in reasons.items():
        _line(console, f"{mark} unavailable: {reason}")
    _line(console, f"note: {report.note}")


def _costs(console: Console, profile: Profile, seconds: float) -> None:
    table = _table(
        "What profiling costs (runs in turn, with and without)",
        ("measuring", "without", "with", "ratio", "pairs"),
    )
    for cost in profile.costs:
        table.add_row(
            cost.name,
            _seconds(cost.plain_seconds),
            _seconds(cost.measured_seconds),
            f"{cost.ratio:.3f}",
            str(cost.pairs),
        )
    console.print(table)
    _line(console, f"The whole profile took {_seconds(seconds)}.")


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0))
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index == 0 else "right", overflow="fold")
    return table


def _line(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)


def _seconds(value: float) -> str:
    if value >= 1:
        return f"{value:.2f} s"
    return f"{1e3 * value:.1f} ms" if value >= 1e-3 else f"{1e6 * value:.0f} µs"


def _bytes(value: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} B"


def _rate(flops_per_second: float | None) -> str:
    return _DASH if flops_per_second is None else f"{flops_per_second / 1e9:.1f} GFLOP/s"
