"""Documents that a pydantic model checks: YAML read, and what is wrong in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from fluidaudio_cli.errors import InputError

if TYPE_CHECKING:
    from pydantic import ValidationError


def read_yaml(path: Path, what: str) -> Any:
    """The content, unchecked; raises ``InputError`` that calls the file ``what``."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    # ValueError: bytes that are no text, a date that is none.
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read {what} {path}: {reason}", "check the file") from error


def first_problem(error: ValidationError) -> str:
    """Where a document breaks its schema and how, on one line."""
    first, *rest = error.errors(include_url=False, include_context=False)
    place = ".".join(str(part) for part in first["loc"]) or "the document"
    more = f" (and {len(rest)} more)" if rest else ""
    return f"{place}: {first['msg']}{more}"
