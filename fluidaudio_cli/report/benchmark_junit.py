"""A benchmark report as JUnit XML: one suite per variant, one for the gates."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from fluidaudio_cli.benchmark.gates import Check
from fluidaudio_cli.benchmark.results import FileRecord, VariantRecord
from fluidaudio_cli.report.benchmark_report import BenchmarkReport, remarks

# XML 1.0 has no way to write these, not even escaped.
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def to_junit(report: BenchmarkReport) -> str:
    """XML text. A failed file is an ``error``, a failed gate a ``failure``, absent is skipped."""
    root = ElementTree.Element("testsuites", name="fluidaudio benchmark")
    for variant in report.result.variants:
        _add_variant(root, variant, report.result.created)
    if report.all_checks:
        suite = ElementTree.SubElement(root, "testsuite", name="gates")
        for check in report.all_checks:
            _add_check(suite, check)
        _count(suite)
    if notes := remarks(report):
        last = root[-1] if len(root) else ElementTree.SubElement(root, "testsuite", name="remarks")
        ElementTree.SubElement(last, "system-out").text = _clean("\n".join(notes))
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _add_variant(root: ElementTree.Element, variant: VariantRecord, created: str) -> None:
    suite = ElementTree.SubElement(root, "testsuite", name=variant.name, timestamp=created)
    if variant.unavailable is not None:
        case = ElementTree.SubElement(suite, "testcase", name=variant.name, classname=variant.mode)
        ElementTree.SubElement(case, "skipped", message=_clean(variant.unavailable))
    for record in variant.files:
        _add_file(suite, variant, record)
    _count(suite)


def _add_file(suite: ElementTree.Element, variant: VariantRecord, record: FileRecord) -> None:
    seconds = sum(sample.wall_seconds for sample in record.iterations)
    case = ElementTree.SubElement(
        suite,
        "testcase",
        name=_clean(record.uri),
        classname=f"benchmark.{variant.name}",
        time=f"{seconds:.6f}",
    )
    if record.error is not None:
        ElementTree.SubElement(case, "error", message=_clean(record.error))


def _add_check(suite: ElementTree.Element, check: Check) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", name=_clean(check.name), classname="benchmark.gates", time="0"
    )
    line = f"{check.measured} (limit {check.limit})"
    if not check.passed:
        ElementTree.SubElement(case, "failure", message=_clean(line))
    ElementTree.SubElement(case, "system-out").text = _clean(line)


def _count(suite: ElementTree.Element) -> None:
    suite.set("tests", str(len(suite.findall("testcase"))))
    for plural, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(plural, str(len(suite.findall(f"testcase/{tag}"))))


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
