"""Scores as JSON ("fluidaudio.score/1") and as CSV.

Rates are ratios (0.125 is 12.5 %), times are seconds, and a figure that does not exist (the
overlap missed where there is none) is ``null`` in JSON and empty in CSV.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from fluidaudio_cli import __version__
from fluidaudio_cli.scoring.metrics import FileScore, Scores

SCHEMA = "fluidaudio.score/1"
POOLED = "POOLED"
"""First cell of the CSV row that pools all recordings."""


def scores_as_dict(scores: Scores) -> dict[str, Any]:
    """The figures of one recording or of the pool, for any JSON document that embeds them."""
    boundaries = scores.boundaries
    return {
        "scored_seconds": scores.scored_seconds,
        "conditions": {
            item.condition.name: {
                "der": {"rate": _number(item.der.rate), **asdict(item.der)},
                "jer": {"rate": _number(item.jer.rate), **asdict(item.jer)},
            }
            for item in scores.conditions
        },
        "speakers": asdict(scores.speakers),
        "overlap": asdict(scores.overlap),
        "boundaries": {
            "reference": boundaries.reference,
            "hypothesis": boundaries.hypothesis,
            "matched": len(boundaries.offsets),
            "precision": _number(boundaries.precision),
            "recall": _number(boundaries.recall),
            "median_seconds": _number(boundaries.median_seconds),
            "p90_seconds": _number(boundaries.p90_seconds),
            "bias_seconds": _number(boundaries.bias_seconds),
        },
    }


def format_json(
    files: Sequence[FileScore],
    pooled: Scores,
    *,
    regions: str,
    tolerance: float,
    notes: Sequence[str] = (),
) -> str:
    """The whole result as a "fluidaudio.score/1" document."""
    document = {
        "schema": SCHEMA,
        "fluidaudio_version": __version__,
        "scorer": {"name": "pyannote.metrics", "version": version("pyannote.metrics")},
        "conditions": {
            item.condition.name: {
                "collar_per_side_seconds": item.condition.collar_per_side,
                "skip_overlap": item.condition.skip_overlap,
            }
            for item in pooled.conditions
        },
        "regions": regions,
        "boundary_tolerance_seconds": tolerance,
        "files": [
            {
                "uri": item.uri,
                "uem": {"source": item.uem_source, "intervals": item.uem},
                **scores_as_dict(item),
            }
            for item in files
        ],
        "pooled": scores_as_dict(pooled),
        "notes": list(notes),
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def format_csv(files: Sequence[FileScore], pooled: Scores) -> str:
    """One row per recording and one, ``POOLED``, for all; columns named by path in the JSON."""
    rows = [{"uri": item.uri, "uem_source": item.uem_source, **_flat(item)} for item in files]
    rows.append({"uri": POOLED, "uem_source": "", **_flat(pooled)})
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(scores: Scores) -> dict[str, Any]:
    figures = scores_as_dict(scores)
    figures.update(figures.pop("conditions"))
    return dict(_leaves(figures, ""))


def _leaves(tree: dict[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in tree.items():
        path = f"{prefix}{name}"
        found.extend(_leaves(value, f"{path}.") if isinstance(value, dict) else [(path, value)])
    return found


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
