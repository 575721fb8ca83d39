"""Which options mean something only beside another, and which do not go together.

What is asked for and could not be done is refused before any work, never left out silently. Options
are called by their parameters; those of one command that have no rule here stand alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fluidaudio_cli.errors import UsageError

# By command: what an option is of. It is refused where that is not given.
NEEDS: Mapping[str, Mapping[str, str]] = {
    "diarization-benchmark": {
        "quick": "robustness",
        "suite": "robustness",
        "voices": "identify",
        "latency": "streaming",
        "pairs": "against",
        "max_slowdown": "against",
        "peer_threshold": "peer",
        "scaling_lengths": "scaling",
        "allow_different": "baseline",
        "auto_download": "dataset",
    },
    "diarize": {
        "max_false_accept": "known",
        "store": "known",
        "learn": "known",
        "uem": "reference",
    },
    "profile": {"uem": "reference"},
    "stream": {
        "max_false_accept": "known",
        "store": "known",
        "channels": "rate",
        "format_of_samples": "rate",
    },
    "models check": {
        "held_out": "calibrate",
        "voices": "calibrate",
        "performance_mode": "calibrate",
        "search": "calibrate",
        "seed": "search",
    },
}

_AS_THEY_ARE = ("against", "scaling", "roofline", "ablation")
_PASSES = ("iterations", "warmup", "processes", "latency_windows", "measure_memory")
_IN_WORKERS = (*_PASSES, "measure_power", "timeout", "memory_limit", "peer")
_NO_ERRORS = (*_AS_THEY_ARE, *_PASSES, "measure_power", "memory_limit", "peer", "threads")
# By command and option: what does not go with it, and why; {} is what was given besides.
APART: Mapping[str, Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "diarization-benchmark": {
        "single_file": ("is one recording, without {}", ("max_files",)),
        "memory_limit": ("does not reach what {} runs", _AS_THEY_ARE),
        "ablation": ("switches those itself, without {}", ("executor", "precision")),
        "robustness": (
            "has recordings and passes of its own, without {}",
            ("dataset", "condition", "against", "ablation", *_PASSES),
        ),
        "identify": (
            "measures voices alone, without {}",
            (*_AS_THEY_ARE, "dataset", "single_file", "condition", "robustness", *_IN_WORKERS),
        ),
        "streaming": (
            "measures streams alone, without {}",
            (
                "against",
                "roofline",
                "ablation",
                "condition",
                "robustness",
                "identify",
                *_IN_WORKERS,
            ),
        ),
        **dict.fromkeys(
            ("workers", "cluster"),
            ("finds errors only, without {}", (*_NO_ERRORS, "identify", "streaming")),
        ),
    },
    "models check": {
        "calibrate": ("writes a part of a card, without {}", ("output", "output_format")),
    },
    "speakers enrol": {
        "again": (
            "hears what was kept, without {}",
            ("files", "add", "keep_audio", "speaker", "turns", "start", "end"),
        ),
    },
    "speakers remove": {
        "damaged": ("drops lines that are no voices, without {}", ("recording", "learned")),
    },
    "tune": {
        "show": ("measures nothing, without {}", ("forget", "measured", "timeout")),
        "forget": ("says nothing, without {}", ("measured", "timeout", "output", "output_format")),
    },
}
# Of diarize and identify: what says how recordings are heard, which evidence has behind it.
HEARING = (
    *("performance_mode", "models", "executor", "precision", "compute_units", "threads"),
    *("memory_limit", "no_tuning", "track", "salvage", "save_evidence", "workers", "cluster"),
    "resume",
)


# An empty value says something there: all voices of the store, and no difference.
_MAY_BE_EMPTY = ("known", "allow_different")


def check_values(given: Mapping[str, Any], order: Sequence[Any]) -> None:
    """Refuse an empty value, and a second place where an option takes one.

    Empty is a shell's variable that is not set, and as a path would be the current folder. Of two
    values the last counts, which is meant of settings, but not of two outputs, references or known
    voices. ``given``: as written, by parameter; ``order``: the parameters of the command line, each
    as often as it is there.
    """
    seen = set()
    for each in order:
        is_option = each.param_type_name == "option"
        name = each.opts[0] if is_option else each.human_readable_name
        value = given.get(each.name)
        values = value if isinstance(value, list | tuple) else (value,)
        if "" in values and each.name not in _MAY_BE_EMPTY:
            raise UsageError(f"{name} is empty", "give a value, or leave it out")
        adds = each.type.name == "path" or each.name == "known"
        if is_option and adds and not each.multiple and each.name in seen:
            raise UsageError(f"{name} is given twice", "give it once")
        seen.add(each.name)


def check(ctx: Any, command: str) -> None:
    """Refuse what the rules of ``command`` refuse among the options of a parsed ``ctx``.

    Of any command: a number that is none, or has no end.
    """
    for option, value in ctx.params.items():
        for each in value if isinstance(value, list | tuple) else (value,):
            if isinstance(each, float) and not math.isfinite(each):
                raise UsageError(f"{_shown(ctx, option)} {each}", "give a number")
    for option, needed in NEEDS.get(command, {}).items():
        if given(ctx, [option]) and not given(ctx, [needed]):
            name, other = _shown(ctx, option), _shown(ctx, needed)
            raise UsageError(f"{name} is of {other}", f"add {other}")
    for option, (why, others) in APART.get(command, {}).items():
        beside = given(ctx, others) if given(ctx, [option]) else []
        if beside:
            name = _shown(ctx, option)
            raise UsageError(f"{name} {why.format(beside[0])}", "give one without the other")


def given(ctx: Any, options: Iterable[str]) -> list[str]:
    """Those of ``options`` that the command line holds, as they are written there."""
    return [
        _shown(ctx, option)
        for option in options
        if getattr(ctx.get_parameter_source(option), "name", "") == "COMMANDLINE"
    ]


def _shown(ctx: Any, option: str) -> str:
    (parameter,) = (each for each in ctx.command.params if each.name == option)
    value = ctx.params[option]
    if parameter.param_type_name != "option":
        return " ".join(str(each) for each in (value if isinstance(value, tuple) else (value,)))
    negated = value is False and parameter.secondary_opts
    return str((negated or parameter.opts)[0])
