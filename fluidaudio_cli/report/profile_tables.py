"""The tables of a profile, which the terminal and the page show alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from fluidaudio_cli.profiling.records import (
    ModelProfile,
    PrecisionProfile,
    PrecisionReport,
    Profile,
    Unavailable,
)
from fluidaudio_cli.report.tables import Cell, Table

DASH = "—"
_NOTHING = Cell(DASH, "")
# Kinds of operation with less than this share of a network's time are left out.
_SHOWN_SHARE = 0.001


class _Marks:
    """Cells of figures that may be missing: a mark for each reason, explained below the table."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(f"{mark} unavailable: {reason}" for reason, mark in self._reasons.items())

    def seconds(self, value: float | Unavailable) -> Cell:
        return self.cell(value, time_text)

    def size(self, value: float | Unavailable) -> Cell:
        return self.cell(value, size_text)

    def cell(self, value: float | Unavailable, text: Callable[[float], str]) -> Cell:
        if isinstance(value, Unavailable):
            mark = self._reasons.setdefault(value.reason, "*" * (len(self._reasons) + 1))
            return Cell(mark, "")
        return Cell(text(value), value)


def stage_table(profile: Profile) -> Table:
    """Time, traffic and memory of every stage."""
    marks = _Marks()
    rows = tuple(
        (
            Cell(stage.name),
            marks.seconds(stage.wall_seconds),
            marks.seconds(stage.cpu_seconds),
            _NOTHING if stage.waiting else _share(stage.share),
            Cell(str(stage.calls), stage.calls),
            *(marks.seconds(value) for value in stage.call_seconds),
            Cell(str(stage.items), stage.items),
            _NOTHING if stage.waiting else marks.size(stage.bytes_in),
            _NOTHING if stage.waiting else marks.size(stage.bytes_out),
            marks.size(stage.copied_bytes),
            marks.size(stage.allocated_bytes),
            Cell(f"+{size_text(stage.rss_delta_bytes)}", stage.rss_delta_bytes),
            _NOTHING if stage.waiting else Cell(f"{stage.rtfx:.0f}x", stage.rtfx),
        )
        for stage in profile.stages
    )
    header = (
        *("stage", "wall", "CPU", "share", "calls", "p50", "p90", "p99", "items"),
        *("in", "out", "copied", "allocated", "RSS", "RTFx"),
    )
    explained = (
        "allocated: by Python and NumPy within one call, from a separate pass (tracemalloc, one "
        "worker); RSS: highest while the stage ran, other stages may have run beside it"
    )
    return Table("Stages", header, rows, (*marks.notes, explained))


def thread_table(profile: Profile) -> Table:
    """What each thread did; no rows where stages ran one after the other."""
    side = profile.concurrency
    if not side.concurrent:
        return Table("Threads", (), (), ("Stages ran one after the other.",))
    rows = tuple(
        (
            Cell(thread.name),
            *(
                Cell(time_text(value), value)
                for value in (thread.busy_seconds, thread.waiting_seconds, thread.idle_seconds)
            ),
        )
        for thread in side.threads
    )
    at_once = ", ".join(
        f"{count}: {time_text(seconds)}" for count, seconds in enumerate(side.parallel_seconds)
    )
    note = (
        f"Stages at work at once: {at_once}; {side.overlap_share:.0%} of the time two or more, "
        f"{side.mean_parallel:.2f} on average"
    )
    return Table("Threads", ("thread", "busy", "waiting", "idle"), rows, (note,))


def operator_table(model: ModelProfile, top: int | None = None) -> Table:
    """The slowest operations of a network, ``top`` of them or all; no rows without times."""
    title = f"{model.name}: {model.executor}, {model.precision}"
    if isinstance(model.layers, Unavailable):
        return Table(title, (), (), (f"{title}: operator times {model.layers}",))
    if not any(layer.seconds for layer in model.layers):
        return Table(title, (), (), (f"{title}: it was not needed",))
    peak, bandwidth, against = None, None, f"machine's peak {model.peak}"
    if not isinstance(model.peak, Unavailable):
        peak, bandwidth = model.peak.flops_per_second, model.peak.bytes_per_second
        against = (
            f"peak of {model.peak.threads} thread(s), measured: {_rate(peak)} "
            f"{model.peak.precision}, "
            f"{DASH if bandwidth is None else f'{bandwidth / 1e9:.1f} GB/s in cache'}"
        )
    rows = []
    for layer in [each for each in model.layers[:top] if each.seconds]:
        rate = layer.flops_per_second
        more = f" +{len(layer.kernels) - 1}" if len(layer.kernels) > 1 else ""
        rows.append(
            (
                Cell(layer.layer),
                Cell(layer.op or "(executor)"),
                Cell(time_text(layer.seconds), layer.seconds),
                _share(layer.share),
                Cell(f"{layer.flops / 1e9:.2f}", layer.flops),
                Cell(_rate(rate), rate),
                _NOTHING if peak is None else _share(rate / peak),
                Cell(size_text(layer.moved_bytes), layer.moved_bytes),
                Cell((layer.kernels[0] if layer.kernels else DASH) + more),
            )
        )
    note = (
        f"{model.source}; {model.attributed_share:.1%} of the operators' time belongs to a layer "
        f"of the package; {against}"
    )
    return Table(
        f"{title}: slowest operations of one run",
        ("layer", "MIL op", "time", "share", "GFLOP", "reached", "of peak", "moved", "run by"),
        tuple(rows),
        (note,),
    )


def kind_table(model: ModelProfile) -> Table:
    """A network's operations summed by MIL type."""
    rows = tuple(
        (
            Cell(kind.op),
            Cell(str(kind.operations), kind.operations),
            Cell(time_text(kind.seconds), kind.seconds),
            _share(kind.share),
            Cell(f"{kind.flops / 1e9:.2f}", kind.flops),
            Cell(size_text(kind.moved_bytes), kind.moved_bytes),
        )
        for kind in model.kinds
        if kind.share >= _SHOWN_SHARE
    )
    header = ("MIL op", "number", "time", "share", "GFLOP", "moved")
    return Table(f"{model.name}: by kind", header, rows)


def plan_lines(profile: Profile) -> tuple[str, ...]:
    """What Core ML plans for each network, or why that is not known."""
    plans = [(plan.model, plan.operations, plan.neural_engine_share) for plan in profile.plans]
    missing = {each.reason for _, each, _ in plans if isinstance(each, Unavailable)}
    lines = [f"Core ML's plan (MLComputePlan) unavailable: {reason}" for reason in sorted(missing)]
    for name, operations, share in plans:
        if isinstance(operations, Unavailable):
            continue
        counts = Counter(operation.device for operation in operations)
        lines.append(
            f"{name}: Core ML plans (an estimate, not a measurement) "
            + ", ".join(f"{count} operations on {device}" for device, count in counts.items())
            + f"; {DASH if share is None else f'{share:.0%}'} of the estimated cost on the Neural "
            "Engine"
        )
    return tuple(lines)


def precision_table(report: PrecisionReport) -> Table:
    """Each network's figure in each precision, simulated and executed."""
    marks = _Marks()
    rows = []
    for model in report.models:
        form = "{:.2%}" if model.figure_name.startswith("flipped") else "{:.6f}"
        rows.append(
            (
                Cell(model.model),
                Cell(model.precision),
                Cell(model.entry or DASH),
                Cell(model.figure_name),
                marks.cell(model.figure, form.format),
                marks.cell(model.executed, form.format),
            )
        )
    header = ("model", "precision", "error enters at", "figure", "simulated", "executed")
    return Table("Precision against fp32", header, tuple(rows), marks.notes)


def error_table(model: PrecisionProfile, top: int) -> Table:
    """The ``top`` layers that add most error; no rows where there is no simulation."""
    if isinstance(model.layers, Unavailable):
        return Table("", (), (), (f"{model.model} {model.precision}: layers {model.layers}",))
    rows = tuple(
        (
            Cell(layer.layer),
            Cell(layer.op),
            Cell(f"{layer.max_error:.3g}", layer.max_error),
            Cell(f"{layer.rms_error:.3g}", layer.rms_error),
            Cell(f"{layer.relative:.3%}", layer.relative),
            Cell(f"{layer.added:.3%}", layer.added),
            *(
                Cell(str(count), count)
                for count in (layer.overflow, layer.underflow, layer.subnormal, layer.numbers)
            ),
        )
        for layer in sorted(model.layers, key=lambda each: -each.added)[:top]
    )
    header = (
        *("layer", "MIL op", "max error", "RMS error", "relative", "added here"),
        *("overflow", "underflow", "subnormal", "of numbers"),
    )
    return Table(f"{model.model} in {model.precision}: layers that add most error", header, rows)


def rate_table(report: PrecisionReport) -> Table:
    """The error rate of the whole pipeline in each precision."""
    marks = _Marks()
    rows = tuple(
        (
            Cell(row.precision),
            Cell(row.executor),
            marks.cell(row.der, "{:.2%}".format),
            marks.cell(row.change, lambda change: f"{100 * change:+.2f} points"),
            Cell(row.against),
        )
        for row in report.der
    )
    header = ("precision", "executor", "DER strict", "change from fp32", "against")
    return Table("Error rates", header, rows, marks.notes)


def cost_table(profile: Profile) -> Table:
    """What each kind of measuring costs."""
    rows = tuple(
        (
            Cell(cost.name),
            Cell(time_text(cost.plain_seconds), cost.plain_seconds),
            Cell(time_text(cost.measured_seconds), cost.measured_seconds),
            Cell(f"{cost.ratio:.3f}", cost.ratio),
            Cell(str(cost.pairs), cost.pairs),
        )
        for cost in profile.costs
    )
    return Table(
        "What profiling costs (runs in turn, with and without)",
        ("measuring", "without", "with", "ratio", "pairs"),
        rows,
    )


def time_text(seconds: float) -> str:
    """``1.20 s``, ``3.4 ms``, ``12 µs``."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{1e3 * seconds:.1f} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.0f} µs"


def size_text(value: float | Unavailable) -> str:
    """``1.2 MB``, or why it is not known."""
    if isinstance(value, Unavailable):
        return str(value)
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} B"


def _share(value: float) -> Cell:
    return Cell(f"{value:.1%}", value)


def _rate(flops_per_second: float | None) -> str:
    return DASH if flops_per_second is None else f"{flops_per_second / 1e9:.1f} GFLOP/s"
