"""A benchmark report as JUnit XML: one suite per cell, one for the gates."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from fluidaudio_cli.benchmark.gates import Check
from fluidaudio_cli.benchmark.results import CellRecord
from fluidaudio_cli.report.benchmark_report import BenchmarkReport, remarks
from fluidaudio_cli.report.benchmark_tables import summary_tables

# XML 1.0 has no way to write these, not even escaped.
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def to_junit(report: BenchmarkReport) -> str:
    """XML text. A failed file is an ``error``, a failed gate a ``failure``, absent is skipped."""
    root = ElementTree.Element("testsuites", name="fluidaudio benchmark")
    for cell in report.result.cells:
        _add_cell(root, cell, report.result.created)
    if report.all_checks:
        suite = ElementTree.SubElement(root, "testsuite", name="gates")
        for check in report.all_checks:
            _add_check(suite, check)
        _count(suite)
    # Tables that are about several cells, or about none.
    if findings := [table for table in summary_tables(report) if table.title != "Gates"]:
        suite = ElementTree.SubElement(root, "testsuite", name="findings")
        for table in findings:
            case = _case(suite, table.title, "benchmark.findings", time="0")
            rows = ("\t".join(row) for row in (table.header, *table.texts))
            text = "\n".join((*rows, *table.notes))
            ElementTree.SubElement(case, "system-out").text = _clean(text)
        _count(suite)
    if notes := remarks(report):
        last = root[-1] if len(root) else ElementTree.SubElement(root, "testsuite", name="remarks")
        ElementTree.SubElement(last, "system-out").text = _clean("\n".join(notes))
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _add_cell(root: ElementTree.Element, cell: CellRecord, created: str) -> None:
    suite = ElementTree.SubElement(root, "testsuite", name=_clean(cell.name), timestamp=created)
    if cell.unavailable is not None:
        case = _case(suite, cell.name, cell.study)
        ElementTree.SubElement(case, "skipped", message=_clean(cell.unavailable))
    for uri, reason in cell.failures:
        case = _case(suite, uri or "load", f"benchmark.{cell.name}")
        ElementTree.SubElement(case, "error", message=_clean(reason))
    for record in cell.finished:
        seconds = sum(sample.wall_seconds for sample in record.iterations)
        _case(suite, record.uri, f"benchmark.{cell.name}", time=f"{seconds:.6f}")
    _count(suite)


def _add_check(suite: ElementTree.Element, check: Check) -> None:
    case = _case(suite, check.name, "benchmark.gates", time="0")
    line = f"{check.measured} (limit {check.limit})"
    if not check.passed:
        ElementTree.SubElement(case, "failure", message=_clean(line))
    ElementTree.SubElement(case, "system-out").text = _clean(line)


def _case(
    suite: ElementTree.Element, name: str, classname: str, **more: str
) -> ElementTree.Element:
    facts = {"name": _clean(name), "classname": classname, **more}
    return ElementTree.SubElement(suite, "testcase", facts)


def _count(suite: ElementTree.Element) -> None:
    suite.set("tests", str(len(suite.findall("testcase"))))
    for plural, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(plural, str(len(suite.findall(f"testcase/{tag}"))))


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
