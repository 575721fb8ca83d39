"""What the executors have in common: a cache, models that say what they are, times of operators."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from fluidaudio_cli.errors import UsageError
from fluidaudio_cli.executors.base import ExecutorOptions, ExecutorRun, OperatorTime, TensorSpec
from fluidaudio_cli.executors.cache import CompileCache, shared_cache

Label = tuple[str, str, str]  # an operator's name, kind and kernel


@contextmanager
def imported_without(module: str, optional: str) -> Iterator[None]:
    """Where ``module`` is imported for the first time: as if ``optional`` were not installed."""
    hide = module not in sys.modules and optional not in sys.modules
    if hide:
        sys.modules[optional] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hide:
            sys.modules.pop(optional, None)


class CachingExecutor:
    """An executor with a cache of its own, or the process's."""

    def __init__(self, cache: CompileCache | None = None) -> None:
        self._own_cache = cache

    @property
    def _cache(self) -> CompileCache:
        return shared_cache() if self._own_cache is None else self._own_cache


class OperatorTotals:
    """Calls and seconds of operators, added up over runs; safe to share between threads."""

    def __init__(self) -> None:
        self._totals: dict[Label, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def add(self, label: Label, seconds: float) -> None:
        """Count one call."""
        with self._lock:
            calls, total = self._totals.get(label, (0, 0.0))
            self._totals[label] = (calls + 1, total + seconds)

    def times(self, others: Sequence[OperatorTime] = ()) -> tuple[OperatorTime, ...]:
        """Those so far, and ``others``, slowest first."""
        with self._lock:
            own = [OperatorTime(*label, *total) for label, total in self._totals.items()]
        return tuple(sorted((*others, *own), key=lambda each: each.seconds, reverse=True))


@dataclass(eq=False)
class LoadedModel:
    """What all models say of themselves, see ``CompiledModel`` in ``base``."""

    asked: ExecutorOptions
    ran: ExecutorRun
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    cache_hit: bool
    totals: OperatorTotals = field(default_factory=OperatorTotals, init=False)

    def operator_times(self) -> Sequence[OperatorTime]:
        """Times of all runs so far, slowest first."""
        if not self.asked.profile:
            raise UsageError("operator times were not recorded", "load with profile=True")
        return self.totals.times()
