"""What is in a Core ML package, as tables."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fluidaudio_cli.coreml.inspect import PackageReport
from fluidaudio_cli.coreml.ir import Feature


def render_report(console: Console, report: PackageReport) -> None:
    """Print the facts, the inputs and outputs, and the operations."""
    facts = Table(show_header=False, title=Text(report.path))
    facts.add_column("fact", no_wrap=True)
    facts.add_column("value")
    for label, value in _facts(report):
        facts.add_row(label, Text(value))
    console.print(facts)
    features = Table(title="Inputs and outputs")
    for heading in ("", "name", "type", "range", "description"):
        features.add_column(heading)
    for role, group in (
        ("input", report.inputs),
        ("state", report.states),
        ("output", report.outputs),
    ):
        for feature in group:
            features.add_row(
                role,
                Text(feature.name),
                Text(_type(feature)),
                _ranges(feature),
                Text(feature.description),
            )
    console.print(features)
    operations = Table(title="Operations")
    operations.add_column("kind")
    operations.add_column("count", justify="right")
    for kind, count in report.operations.items():
        operations.add_row(Text(kind), str(count))
    console.print(operations)


def _facts(report: PackageReport) -> list[tuple[str, str]]:
    several = len(report.functions) > 1
    return [
        ("kind", f"{report.kind}, specification {report.specification_version}, {report.opset}"),
        ("size", f"{report.size_bytes / 1e6:.2f} MB"),
        ("sha256", report.sha256),
        ("parameters", f"{report.parameters:,}"),
        ("weights stored as", _shares(report.weights)),
        ("computed in", _shares(report.compute, "operations")),
        ("slice_by_index", str(report.slice_by_index)),
        ("runs off the Mac", "yes" if report.refusal is None else f"no: {report.refusal}"),
        *([("functions", ", ".join(report.functions))] if several else []),
        *([("shown function", report.function)] if several else []),
        *report.metadata.items(),
    ]


def _shares(counts: Mapping[str, int], unit: str = "") -> str:
    return ", ".join(
        f"{name} ({count:,}{' ' * bool(unit)}{unit})" for name, count in counts.items()
    )


def _type(feature: Feature) -> str:
    sizes = " \u00d7 ".join("?" if size is None else str(size) for size in feature.type.shape)
    return f"{feature.type.dtype} {sizes}"


def _ranges(feature: Feature) -> str:
    flexible = [(low, high) for low, high in feature.ranges if low != high]
    return ", ".join(f"{low}…{high if high >= 0 else ''}" for low, high in flexible)
