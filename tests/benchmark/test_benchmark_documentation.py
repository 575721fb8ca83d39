"""The benchmark's page names every metric and every top-level key of the result."""

from __future__ import annotations

from pathlib import Path

from fluidaudio_cli.benchmark.metrics import METRICS
from fluidaudio_cli.benchmark.results import json_schema

PAGE = Path(__file__).parents[2] / "docs" / "benchmark.md"


def test_every_metric_and_every_key_is_documented() -> None:
    text = PAGE.read_text(encoding="utf-8")
    keys = [*METRICS, *json_schema()["properties"]]
    missing = [key for key in keys if f"`{key}`" not in text and f"`{key}[]`" not in text]
    assert missing == []
