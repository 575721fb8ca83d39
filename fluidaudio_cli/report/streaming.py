"""What latency costs, as tables and as a chart."""

from __future__ import annotations

from collections.abc import Iterator

from fluidaudio_cli.benchmark.grid import STREAMING
from fluidaudio_cli.benchmark.metrics import METRICS
from fluidaudio_cli.benchmark.results import BenchmarkResult, CellRecord
from fluidaudio_cli.report.benchmark_tables import heading, medians
from fluidaudio_cli.report.html_page import Figure, axis, line, plot, ticks_at
from fluidaudio_cli.report.tables import Table

_ERRORS = ("online_der", "online_ratio", "refined_der", "refined_ratio", "der_strict")
_BEHAVIOUR = (
    "label_delay",
    "switches",
    "switches_end",
    "revisions",
    "revised",
    "speakers_created",
    "speakers_withdrawn",
)
_COMPUTING = ("step_p50", "step_p90", "step_p99", "step_max", "stream_rtf", "stream_growth")
_LINES = {"online_der": "online", "refined_der": "refined", "der_strict": "at the end"}


def streaming_tables(result: BenchmarkResult) -> Iterator[Table]:
    """Error, behaviour and computing of every latency."""
    cells = [cell for cell in result.of_study(STREAMING) if cell.finished]
    scored = [cell for cell in cells if cell.cell.length is None]
    if scored:
        yield _table(
            "Streaming: error",
            scored,
            _ERRORS,
            "online: what was final or tentative once the latency was over; refined: after the "
            "background's corrections; strict: what stands at the end, as of a file",
        )
    yield _table("Streaming: names", cells, _BEHAVIOUR, "created and withdrawn: per recording")
    yield _table(
        "Streaming: computing",
        cells,
        _COMPUTING,
        "of a step, networks included; memory: of the longest recording, its end over that after "
        "10 minutes (of a shorter one than an hour, after a sixth of it)",
    )


def _table(title: str, cells: list[CellRecord], names: tuple[str, ...], note: str) -> Table:
    header = ("cell", "step", *map(heading, names))
    return Table(title, header, tuple(_row(cell, names) for cell in cells), (note,))


def _row(cell: CellRecord, names: tuple[str, ...]) -> tuple[str, ...]:
    steps = {file.streaming.step_seconds for file in cell.finished if file.streaming is not None}
    shown = ", ".join(f"{step:g} s" for step in sorted(steps))
    return (cell.name, shown, *medians(cell, names))


def latency_figure(result: BenchmarkResult) -> Figure | None:
    """Error over latency: online, refined and at the end, for each series of cells."""
    lines: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for cell in result.of_study(STREAMING):
        for name, label in _LINES.items():
            found = METRICS[name].measure(cell)
            if cell.cell.latency is not None and found is not None:
                key = (cell.cell.at(latency=None).name, label)
                lines.setdefault(key, []).append((cell.cell.latency, found.median))
    if not lines:
        return None
    ticks = sorted({x for points in lines.values() for x, _ in points})
    most = max(y for points in lines.values() for _, y in points)
    return plot(
        [
            line(f"{series}, {label}", [(x, round(y, 3)) for x, y in sorted(points)], number)
            for number, ((series, label), points) in enumerate(lines.items())
        ],
        360,
        showlegend=True,
        xaxis=axis("latency, s", type="log", **ticks_at(ticks)),
        yaxis=axis("DER strict, %", range=[0, 1.1 * most]),
    )
