"""Short forms of the scripts under ``tools/``; what they find is worth a test of its own."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parent.parent / "tools"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the scripts need Linux")


def tool(name: str, *options: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, str(TOOLS / name), *options], stdout=subprocess.PIPE, text=True
    )
    return done.returncode, done.stdout.splitlines()


def test_mutated_inputs_of_every_kind_are_answered() -> None:
    code, lines = tool("fuzz_inputs.py", "--count", "120", "--seed", "7", "--no-result")
    assert len(lines) == 10, lines
    assert lines[-1].startswith("seed 7: 120 inputs, 0 findings, ")
    assert code == 0


def test_what_is_killed_loses_nothing() -> None:
    code, lines = tool(
        "kill_storm.py", "--kills", "5", "--seed", "7", "--only", "download", "--only", "diarize"
    )
    assert len(lines) == 3, lines
    assert lines[-1].startswith("seed 7: 5 kills, ")
    assert ", 0 findings, " in lines[-1]
    assert code == 0


def test_unseen_conversations_are_of_readers_that_nothing_was_trained_on(tmp_path: Path) -> None:
    namespace = runpy.run_path(str(TOOLS / "unseen_conversations.py"))
    (tmp_path / "voices").mkdir()
    (tmp_path / "sim-meetings").mkdir()
    for name in ("libri-1081", "libri-103", "libri-1040"):
        (tmp_path / "voices" / f"{name}.flac").touch()
    line = "SPEAKER a 1 0.0 1.0 <NA> <NA> 103 <NA> <NA>\n"
    (tmp_path / "sim-meetings" / "a.rttm").write_text(line)
    assert "libri-1081" in namespace["trained_on"]()
    for known, name in ((False, "libri-1040"), (True, "libri-103")):
        (file,) = namespace["readers"](tmp_path, known=known)
        assert file.stem == name
    unseen, others = (namespace["recipes"](more) for more in (0, 1000))
    assert sum(recipe.conversations for recipe in unseen) == 105
    assert {recipe.seed for recipe in unseen}.isdisjoint(recipe.seed for recipe in others)
