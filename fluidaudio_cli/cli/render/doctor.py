"""What the doctor found, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fluidaudio_cli.cli.doctor import Finding, Status
from fluidaudio_cli.cli.models_verify import VerificationReport
from fluidaudio_cli.cli.render.tables import add_row, coloured, print_line, titled_table
from fluidaudio_cli.cli.render.verification import selftest_table

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {Status.ok: "green", Status.absent: "yellow", Status.failed: "bold red"}
_SELF_TESTS = "self-tests"


def render_findings(
    console: Console, findings: Sequence[Finding], verified: VerificationReport | None
) -> None:
    """Print one table of findings, the self-tests' figures, then the remedies."""
    table = titled_table("This machine", "", "", "", "", left=4)
    previous = ""
    for one in findings:
        if one.section == _SELF_TESTS:
            continue
        if previous and one.section != previous:
            table.add_section()
        status = coloured(one.status.value, _STYLES[one.status])
        section = "" if one.section == previous else one.section
        add_row(table, section, one.name, status, one.detail)
        previous = one.section
    console.print(table)
    if verified is not None:
        console.print(selftest_table(verified.selftests))
    for one in findings:
        if one.remedy:
            print_line(console, f"{one.name}: {one.remedy}")
    if not any(one.status is Status.failed for one in findings):
        console.print("Everything needed is here.")
