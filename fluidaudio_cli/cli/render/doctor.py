"""What the doctor found, for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fluidaudio_cli.cli.doctor import Finding, Status
from fluidaudio_cli.cli.models_verify import VerificationReport
from fluidaudio_cli.cli.render.verification import selftest_table

_STYLES = {Status.ok: "green", Status.absent: "yellow", Status.failed: "bold red"}
_SELF_TESTS = "self-tests"


def render_findings(
    console: Console, findings: Sequence[Finding], verified: VerificationReport | None
) -> None:
    """Print one table of findings, the self-tests' figures, then the remedies."""
    table = Table(title="This machine", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("", "", "", ""):
        table.add_column(heading)
    previous = ""
    for one in findings:
        if one.section == _SELF_TESTS:
            continue
        if previous and one.section != previous:
            table.add_section()
        table.add_row(
            "" if one.section == previous else one.section,
            Text(one.name),
            Text(one.status.value, _STYLES[one.status]),
            Text(one.detail),
        )
        previous = one.section
    console.print(table)
    if verified is not None:
        console.print(selftest_table(verified.selftests))
    for one in findings:
        if one.remedy:
            console.print(Text(f"{one.name}: {one.remedy}"), soft_wrap=True)
    if not any(one.status is Status.failed for one in findings):
        console.print("Everything needed is here.")
