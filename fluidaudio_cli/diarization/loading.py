"""Load the networks of a plan, and make a pipeline of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fluidaudio_cli.diarization.modes import ModeConfig, load_mode
from fluidaudio_cli.diarization.networks import check_supported
from fluidaudio_cli.diarization.pipeline import Loading, Pipeline
from fluidaudio_cli.diarization.plan import EXACT_EMBEDDING, Asked, Machine, Plan, resolve
from fluidaudio_cli.diarization.tuning import load_tuning
from fluidaudio_cli.executors.base import CompiledModel
from fluidaudio_cli.executors.machine import limit_malloc_arenas
from fluidaudio_cli.executors.select import executor as executor_called
from fluidaudio_cli.models.card import BUNDLED, NARROW_EMBEDDING, load_card
from fluidaudio_cli.models.loading import load_model
from fluidaudio_cli.models.registry import packages_of

# In which order models begin to load.
_LARGEST_FIRST = (EXACT_EMBEDDING, "embedding", "segmentation", "fbank")


def make_plan(
    mode: str | Path | ModeConfig,
    *,
    executor: str = "auto",
    precision: str = "auto",
    compute_units: str = "all",
    threads: int | None = None,
    low_latency: bool = False,
    audio_seconds: float | None = None,
    models: str | Path | None = None,
    tuning: bool = True,
) -> Plan:
    """The plan for a mode on this machine; arguments as for :func:`load_pipeline`."""
    card = load_card(models or BUNDLED)
    asked = Asked(
        mode=mode if isinstance(mode, ModeConfig) else load_mode(mode, card),
        card=card,
        executor=executor,
        precision=precision,
        compute_units=compute_units,
        threads=threads,
        low_latency=low_latency,
        audio_seconds=audio_seconds,
    )
    stored = load_tuning() if tuning and asked.open else None
    return resolve(asked, Machine.here(), stored)


def load_pipeline(
    mode: str | Path | ModeConfig,
    *,
    executor: str = "auto",
    precision: str = "auto",
    compute_units: str = "all",
    threads: int | None = None,
    profile: bool = False,
    low_latency: bool = False,
    audio_seconds: float | None = None,
    meanwhile: Callable[[], object] | None = None,
    models: str | Path | None = None,
    tuning: bool = True,
) -> Pipeline:
    """Plan, then load.

    ``executor`` and ``precision`` of ``auto`` leave the choice to the mode, and that to what
    ``fluidaudio tune`` found here (unless ``tuning`` is off) or, untuned, to the executors' own
    defaults. ``threads``: processors to use, all of them by default. ``low_latency``: for
    :meth:`Pipeline.process_window`. ``audio_seconds``: length of all there will be to diarize, if
    that is known. ``models``: name or path of a model card. ``profile`` and ``meanwhile`` as for
    :func:`load`.

    Raises ``ExecutorUnavailableError`` for what this machine does not have, ``SelfTestError``
    when a model does not compute here what it should.
    """
    plan = make_plan(
        mode,
        executor=executor,
        precision=precision,
        compute_units=compute_units,
        threads=threads,
        low_latency=low_latency,
        audio_seconds=audio_seconds,
        models=models,
        tuning=tuning,
    )
    return load(plan, profile=profile, meanwhile=meanwhile)


def load(
    plan: Plan, *, profile: bool = False, meanwhile: Callable[[], object] | None = None
) -> Pipeline:
    """Load what ``plan`` says.

    ``profile``: keep times of operators. ``meanwhile`` is called while the models load. Raises
    as :func:`load_pipeline`.
    """
    card = load_card(plan.models)
    check_supported(card)
    limit_malloc_arenas()
    chosen = executor_called(plan.executor)
    started = time.perf_counter()

    packages = packages_of(card)
    packages[EXACT_EMBEDDING] = packages["embedding"]
    if plan.networks["embedding"].narrow:
        packages["embedding"] = packages[NARROW_EMBEDDING]

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
    hashes = {role: package.sha256 for role, package in packages.items()}
    return Pipeline(plan, card, networks, Loading(seconds, cached, hashes))
