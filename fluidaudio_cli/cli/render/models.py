"""What is in a Core ML package, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fluidaudio_cli.cli.render.tables import titled_table
from fluidaudio_cli.coreml.inspect import PackageReport
from fluidaudio_cli.coreml.ir import Feature

if TYPE_CHECKING:
    from rich.console import Console


def render_report(console: Console, report: PackageReport) -> None:
    """Print the facts, the inputs and outputs, and the operations."""
    facts = titled_table(report.path, "", "", left=2)
    for label, value in _facts(report):
        facts.add_row(label, value)
    console.print(facts)
    headings = ("", "name", "type", "range", "description")
    features = titled_table("Inputs and outputs", *headings, left=5)
    groups = {"input": report.inputs, "state": report.states, "output": report.outputs}
    for role, group in groups.items():
        for each in group:
            features.add_row(role, each.name, _type(each), _ranges(each), each.description)
    console.print(features)
    operations = titled_table("Operations", "kind", "count")
    for kind, count in report.operations.items():
        operations.add_row(kind, str(count))
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
