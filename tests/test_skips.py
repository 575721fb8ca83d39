"""Tests that are left out are few and say why."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.skips import REASONS, kind_of

TESTS = Path(__file__).resolve().parent
_WITHOUT_REASON = ("pytest.mark.skip", "pytest.mark.xfail", "pytest.xfail")
_WITH_REASON = ("pytest.skip", "pytest.mark.skipif", "pytest.importorskip")
# Above the 69 there are; whoever needs more asks first whether the test could run everywhere.
_MOST = 71


def skips() -> Iterator[tuple[str, str]]:
    """Place and reason, as its source, of everything in the tests that leaves one out."""
    for path in sorted(TESTS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            call, place = ast.unparse(node.func), f"{path.relative_to(TESTS)}:{node.lineno}"
            if call in _WITHOUT_REASON:
                yield place, call
            elif call in _WITH_REASON:
                given = [word.value for word in node.keywords if word.arg == "reason"]
                given += node.args[:1] if call == "pytest.skip" else []
                yield place, ast.unparse(given[0]) if given else "no reason"


def test_what_leaves_a_test_out_is_few_and_named() -> None:
    found = list(skips())
    assert [(place, reason) for place, reason in found if kind_of(reason) is None] == []
    assert 30 < len(found) < _MOST


def test_every_named_reason_is_in_use() -> None:
    reasons = [reason for _, reason in skips()]
    texts = [text for kind in REASONS.values() for text in kind]
    assert [text for text in texts if not any(text in reason for reason in reasons)] == []
