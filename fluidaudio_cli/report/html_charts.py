"""The charts of a profile, as plotly figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fluidaudio_cli.profiling.clock import Call
from fluidaudio_cli.profiling.records import (
    LayerProfile,
    ModelProfile,
    PrecisionProfile,
    Profile,
    Timeline,
    Unavailable,
)
from fluidaudio_cli.report.html_page import (
    GREY,
    PALETTE,
    Figure,
    axis,
    labelled_rows,
    line,
    plain_text,
    plot,
    time_axis,
)
from fluidaudio_cli.turns import Turn

# An exact layer has no place on a logarithmic axis.
_SMALLEST = 1e-8
# Gaps narrower than this share of the run are not to be seen: bars around them become one.
_FINEST = 1 / 2000
_ERRORS = ("missed", "false alarm", "confusion")
_ERROR_COLOUR = PALETTE[3]
_SPEAKER_COLOURS = tuple(colour for colour in PALETTE if colour != _ERROR_COLOUR)
_ROW_PIXELS = 38

Bar = tuple[float, float, int, int]  # start, end, calls, items


def waterfall(profile: Profile) -> Figure:
    """Stages from top to bottom in order of first use; in each row a lane for every thread."""
    calls: dict[tuple[str, str], list[Call]] = {}
    for call in profile.calls:
        calls.setdefault((call.span.stage, call.span.thread), []).append(call)
    stages = list(dict.fromkeys(stage for stage, _ in calls))
    threads = list(dict.fromkeys(thread for _, thread in calls))
    end = max((call.span.end - profile.started for call in profile.calls), default=1.0)
    traces: list[dict[str, Any]] = []
    for number, thread in enumerate(threads):
        rows: list[tuple[Bar, float, float, str]] = []
        for row, stage in enumerate(stages):
            lanes = [each for each in threads if (stage, each) in calls]
            if thread in lanes:
                width = _LANES / len(lanes)
                place = row + (lanes.index(thread) + 0.5) * width - _LANES / 2 + _LANE_SHIFT
                bars = joined(calls[stage, thread], profile.started, end * _FINEST)
                rows.extend((bar, place, width * 0.9, stage) for bar in bars)
        traces.append(_bars(thread, rows, PALETTE[number % len(PALETTE)]))
    return plot(
        traces,
        90 + _ROW_PIXELS * len(stages),
        barmode="overlay",
        showlegend=len(threads) > 1,
        margin={"l": 8, "r": 8, "t": 34, "b": 40},
        xaxis=time_axis("seconds from the start of the run", end),
        **labelled_rows(stages, _LABEL_SHIFT),
    )


# Of a row's height: bars take this much, below the row's label.
_LANES = 0.42
_LANE_SHIFT = 0.22
_LABEL_SHIFT = 0.26


def _bars(name: str, rows: Sequence[tuple[Bar, float, float, str]], colour: str) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        # Outlined, so that a call shorter than a pixel is still to be seen.
        "marker": {"color": colour, "line": {"width": 1, "color": colour}},
        "base": [bar[0] for bar, *_ in rows],
        "x": [bar[1] - bar[0] for bar, *_ in rows],
        "y": [place for _, place, *_ in rows],
        "width": [width for *_, width, _ in rows],
        "customdata": [
            [stage, 1e3 * (bar[1] - bar[0]), bar[2], bar[3]] for bar, _, _, stage in rows
        ],
        "hovertemplate": "%{customdata[0]}: %{customdata[1]:.2f} ms, %{customdata[2]} call(s), "
        "%{customdata[3]} item(s)<extra>" + name + "</extra>",
    }


def joined(calls: Sequence[Call], started: float, gap: float) -> list[Bar]:
    """Calls of one stage on one thread as bars; those less than ``gap`` apart are one bar."""
    bars: list[Bar] = []
    for call in calls:
        start, end = call.span.start - started, call.span.end - started
        if bars and start - bars[-1][1] < gap:
            first = bars[-1]
            bars[-1] = (first[0], end, first[2] + 1, first[3] + call.span.items)
        else:
            bars.append((start, end, 1, call.span.items))
    return bars


def operators(models: Sequence[ModelProfile], top: int) -> Figure | None:
    """The slowest operations of all networks; ``None`` without any operator time."""
    rows: list[tuple[int, LayerProfile]] = []
    for number, model in enumerate(models):
        if not isinstance(model.layers, Unavailable):
            rows.extend((number, layer) for layer in model.layers if layer.seconds)
    rows.sort(key=lambda row: -row[1].seconds)
    rows = rows[:top]
    if not rows:
        return None
    traces: list[dict[str, Any]] = []
    for number, model in enumerate(models):
        own = [(place, layer) for place, (owner, layer) in enumerate(rows) if owner == number]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": f"{model.name} ({model.precision})",
                "marker": {"color": PALETTE[number % len(PALETTE)]},
                "x": [1e3 * layer.seconds for _, layer in own],
                "y": [place + _LANE_SHIFT for place, _ in own],
                "width": [_LANES] * len(own),
                "customdata": [
                    [
                        layer.layer,
                        layer.op or "executor's own",
                        100 * layer.share,
                        layer.flops_per_second / 1e9,
                        ", ".join(layer.kernels[:3]),
                    ]
                    for _, layer in own
                ],
                "hovertemplate": "%{customdata[0]} (%{customdata[1]})<br>%{x:.2f} ms, "
                "%{customdata[2]:.1f} % of the network, %{customdata[3]:.1f} GFLOP/s<br>"
                "%{customdata[4]}<extra></extra>",
            }
        )
    labels = [f"{layer.layer} · {layer.op or 'executor'}" for _, layer in rows]
    return plot(
        traces,
        90 + _ROW_PIXELS * len(rows),
        barmode="overlay",
        margin={"l": 8, "r": 8, "t": 34, "b": 40},
        xaxis=axis(
            "milliseconds in one run, all calls and threads",
            range=[0, 1.04e3 * rows[0][1].seconds],
        ),
        **labelled_rows(labels, _LABEL_SHIFT),
    )


def kinds(models: Sequence[ModelProfile]) -> Figure | None:
    """Time by kind of operation, one bar for each network; ``None`` without operator times."""
    shown = [model for model in models if model.kinds]
    if not shown:
        return None
    totals: dict[str, float] = {}
    for model in shown:
        for kind in model.kinds:
            totals[kind.op] = totals.get(kind.op, 0.0) + kind.seconds
    ordered = sorted(totals, key=lambda op: -totals[op])
    named, rest = ordered[: len(PALETTE) - 1], ordered[len(PALETTE) - 1 :]
    by_model = [{kind.op: kind.share for kind in model.kinds} for model in shown]
    places = [place + _LANE_SHIFT for place in range(len(shown))]

    def trace(name: str, shares: list[float], colour: str) -> dict[str, Any]:
        return {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "marker": {"color": colour},
            "x": [100 * share for share in shares],
            "y": places,
            "width": [_LANES] * len(shown),
            "hovertemplate": f"{name}: %{{x:.1f}} %<extra></extra>",
        }

    traces = [
        trace(op, [shares.get(op, 0.0) for shares in by_model], PALETTE[number])
        for number, op in enumerate(named)
    ]
    if rest:
        others = [sum(shares.get(op, 0.0) for op in rest) for shares in by_model]
        traces.append(trace("others", others, GREY))
    return plot(
        traces,
        150 + 46 * len(shown),
        barmode="stack",
        margin={"l": 8, "r": 8, "t": 8, "b": 40},
        legend={
            "orientation": "h",
            "x": 0,
            "y": -0.3,
            "yanchor": "top",
            "traceorder": "normal",
        },
        xaxis=axis("% of the network's operator time", range=[0, 100]),
        **labelled_rows([model.name for model in shown], _LABEL_SHIFT),
    )


def memory(curve: Sequence[tuple[float, int]], baseline: int) -> Figure:
    """Resident memory over the run, and where it started."""
    end = max((at for at, _ in curve), default=1.0)
    return plot(
        [
            line(
                "resident memory",
                [(at, size / 1e6) for at, size in curve],
                0,
                mode="lines",
                hovertemplate="%{x:.3f} s: %{y:.1f} MB<extra></extra>",
            ),
            line(
                "before the run",
                [(0, baseline / 1e6), (end, baseline / 1e6)],
                0,
                mode="lines",
                line={"color": GREY, "width": 1.5, "dash": "dash"},
                hoverinfo="skip",
            ),
        ],
        280,
        margin={"l": 8, "r": 8, "t": 34, "b": 40},
        xaxis=time_axis("seconds from the start of the run", end),
        yaxis=axis("MB"),
    )


def diarization(timeline: Timeline, seconds: float) -> Figure:
    """Turns by speaker: found, and below it the reference's; then errors by kind."""
    reference = () if isinstance(timeline.reference, Unavailable) else timeline.reference
    speakers = list(
        dict.fromkeys(turn.speaker for turn in (*sorted(reference), *sorted(timeline.hypothesis)))
    )
    names = {turn.speaker for turn in reference}
    labels: list[str] = []
    traces: list[dict[str, Any]] = []

    def row(label: str, spans: Sequence[tuple[float, float]], colour: str, opacity: float) -> None:
        traces.append(_spans(label, spans, len(labels) + _LANE_SHIFT, colour, opacity))
        labels.append(label)

    for number, speaker in enumerate(speakers):
        colour = _SPEAKER_COLOURS[number % len(_SPEAKER_COLOURS)]
        if not reference or speaker in {turn.speaker for turn in timeline.hypothesis}:
            row(f"{speaker} · found", _of(timeline.hypothesis, speaker), colour, 1.0)
        if speaker in names:
            row(f"{speaker} · reference", _of(reference, speaker), colour, 0.5)
    for kind in _ERRORS:
        spans = [(each.start, each.end) for each in timeline.errors if each.kind == kind]
        if spans:
            total = sum(end - start for start, end in spans)
            row(f"error · {kind}, {total:.1f} s", spans, _ERROR_COLOUR, 1.0)
    return plot(
        traces,
        70 + _ROW_PIXELS * max(1, len(labels)),
        barmode="overlay",
        showlegend=False,
        xaxis=time_axis("seconds of the recording", seconds),
        **labelled_rows(labels, _LABEL_SHIFT),
    )


def _of(turns: Sequence[Turn], speaker: str) -> list[tuple[float, float]]:
    return [(turn.start, turn.end) for turn in turns if turn.speaker == speaker]


def _spans(
    label: str, spans: Sequence[tuple[float, float]], place: float, colour: str, opacity: float
) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "name": label,
        "marker": {"color": colour, "opacity": opacity, "line": {"width": 0}},
        "base": [start for start, _ in spans],
        "x": [end - start for start, end in spans],
        "y": [place] * len(spans),
        "width": [_LANES] * len(spans),
        "customdata": [[start, end] for start, end in spans],
        "hovertemplate": "%{customdata[0]:.2f} to %{customdata[1]:.2f} s<extra>"
        + plain_text(label)
        + "</extra>",
    }


def precision(models: Sequence[PrecisionProfile]) -> Figure | None:
    """Relative error layer by layer; ``None`` when no model could be compared."""
    traces: list[dict[str, Any]] = []
    for model in models:
        if isinstance(model.layers, Unavailable):
            continue
        traces.append(
            line(
                f"{model.model} {model.precision}",
                [
                    (100 * place / max(1, len(model.layers) - 1), max(each.relative, _SMALLEST))
                    for place, each in enumerate(model.layers)
                ],
                len(traces),
                mode="lines",
                customdata=[[layer.layer, layer.op] for layer in model.layers],
                hovertemplate="%{customdata[0]} (%{customdata[1]}): %{y:.2e}<extra></extra>",
            )
        )
    if not traces:
        return None
    return plot(
        traces,
        360,
        margin={"l": 8, "r": 8, "t": 34, "b": 110},
        legend={"orientation": "h", "x": 0, "y": -0.22, "yanchor": "top"},
        xaxis=axis("% of the network's operations, in order"),
        yaxis=axis("RMS error / RMS of fp32", type="log", exponentformat="power"),
    )
