"""GitHub Actions: workflow commands (annotations) for what failed or needs a look."""

from __future__ import annotations

from fluidaudio_cli.report.benchmark_report import BenchmarkReport


def annotation_lines(report: BenchmarkReport) -> tuple[str, ...]:
    """Workflow commands, one a line: failed gates and files, then warnings."""
    lines = [
        _command("error", "Performance gate", f"{c.name}: {c.measured}, limit {c.limit}")
        for c in report.failed_checks
    ]
    lines += [
        _command("error", "Benchmark file failed", f"{cell}: {uri}: {error}")
        for cell, uri, error in report.result.failures
    ]
    lines += [_command("warning", "Benchmark", line) for line in report.result.warnings]
    return tuple(lines)


def _command(kind: str, title: str, message: str) -> str:
    # Percent first, or the escapes of the others would be escaped again.
    for character, code in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A")):
        message = message.replace(character, code)
    return f"::{kind} title={title}::{message}"
