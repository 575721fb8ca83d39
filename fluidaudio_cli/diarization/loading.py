"""Load the networks of a plan, and make a pipeline of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from fluidaudio_cli.diarization.modes import ModeConfig, load_mode
from fluidaudio_cli.diarization.networks import check_supported
from fluidaudio_cli.diarization.pipeline import Loading, Pipeline, usual
from fluidaudio_cli.diarization.plan import EXACT_EMBEDDING, Asked, Machine, Plan, resolve
from fluidaudio_cli.diarization.tuning import load_tuning
from fluidaudio_cli.executors.base import CompiledModel
from fluidaudio_cli.executors.machine import limit_malloc_arenas
from fluidaudio_cli.executors.select import executor as executor_called
from fluidaudio_cli.models.card import BUNDLED, load_card
from fluidaudio_cli.models.loading import load_model
from fluidaudio_cli.models.registry import packages_of

if TYPE_CHECKING:
    from typing_extensions import Unpack  # in typing from Python 3.11 on

# In which order models begin to load.
_LARGEST_FIRST = (EXACT_EMBEDDING, "embedding", "segmentation", "fbank", "diarizer")


class Wishes(TypedDict, total=False):
    """Fields of :class:`Asked` beside mode and card, which has the defaults.

    ``executor`` and ``precision`` of ``auto`` leave the choice to the mode, and that to what
    ``fluidaudio tune`` found here or, untuned, to the executors' own defaults. ``threads``:
    processors to use, all of them by default. ``low_latency``: windows come one at a time.
    ``audio_seconds``: length of all there will be to diarize, if that is known.
    """

    executor: str
    precision: str
    compute_units: str
    threads: int | None
    low_latency: bool
    audio_seconds: float | None


class PlanOptions(Wishes, total=False):
    """What :func:`make_plan` takes: ``models`` and ``tuning`` as there."""

    models: str | Path | None
    tuning: bool


def make_plan(
    mode: str | Path | ModeConfig,
    *,
    models: str | Path | None = None,
    tuning: bool = True,
    **wishes: Unpack[Wishes],
) -> Plan:
    """The plan for a mode on this machine.

    ``models``: name or path of a model card. ``tuning``: whether what ``fluidaudio tune`` stored
    is followed. Raises ``ExecutorUnavailableError`` for what this machine does not have.
    """
    card = load_card(models or BUNDLED)
    if not isinstance(mode, ModeConfig):
        mode = load_mode(mode, card)
    asked = Asked(mode=mode, card=card, **wishes)
    stored = load_tuning() if tuning and asked.open else None
    return resolve(asked, Machine.here(), stored)


def load_pipeline(
    mode: str | Path | ModeConfig,
    *,
    profile: bool = False,
    meanwhile: Callable[[], object] | None = None,
    **options: Unpack[PlanOptions],
) -> Pipeline:
    """Plan as :func:`make_plan`, then :func:`load`; raises as both."""
    return load(make_plan(mode, **options), profile=profile, meanwhile=meanwhile)


def load(
    plan: Plan, *, profile: bool = False, meanwhile: Callable[[], object] | None = None
) -> Pipeline:
    """Load what ``plan`` says.

    ``profile``: keep times of operators. ``meanwhile`` is called while the models load. Raises
    ``SelfTestError`` when a model does not compute here what it should.
    """
    card = load_card(plan.models)
    check_supported(card)
    limit_malloc_arenas()
    chosen = executor_called(plan.executor)
    started = time.perf_counter()

    packages = packages_of(card)
    if EXACT_EMBEDDING in plan.networks:
        packages[EXACT_EMBEDDING] = packages["embedding"]
    for role, network in plan.networks.items():
        if network.variant:
            packages[usual(role)] = packages[role]
            packages[role] = packages[f"{network.variant} {role}"]

    def load_network(role: str) -> CompiledModel:
        return load_model(packages[role], chosen, plan.options(role, profile=profile))

    order = [role for role in _LARGEST_FIRST if role in plan.networks]
    # Runtimes load outside Python's lock: side by side, all take as long as the largest.
    together = min(plan.threads, len(order)) if chosen.traits.loads_side_by_side else 1
    with ThreadPoolExecutor(together, "load") as pool:
        loaded = pool.map(load_network, order)
        if meanwhile is not None:
            meanwhile()
        by_role = dict(zip(order, loaded, strict=True))
    networks = {role: by_role[role] for role in plan.networks}
    cached = all(model.cache_hit for model in networks.values())
    seconds = time.perf_counter() - started
    return Pipeline(plan, card, networks, Loading(seconds, cached, packages))
