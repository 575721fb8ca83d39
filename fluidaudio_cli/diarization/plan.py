"""What will run, settled before anything is loaded: mode, machine and tuning become a plan.

:func:`resolve` is pure. What was asked for is in the plan or an error, never left out silently;
what the plan had to leave out of a mode is in its ``notes``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fluidaudio_cli.diarization.frames import CROP_SECONDS, SAMPLE_RATE, WINDOW_SECONDS
from fluidaudio_cli.diarization.local_speakers import CropRules
from fluidaudio_cli.diarization.modes import ModeConfig
from fluidaudio_cli.diarization.tuning import Tuning
from fluidaudio_cli.diarization.windows import window_count
from fluidaudio_cli.errors import ExecutorUnavailableError, ModelFormatError, UsageError
from fluidaudio_cli.executors.base import (
    COMPUTE_UNITS,
    PRECISIONS,
    Availability,
    ExecutorOptions,
    Traits,
)
from fluidaudio_cli.executors.machine import processors
from fluidaudio_cli.executors.select import Availabilities, choose, traits_of
from fluidaudio_cli.models.card import DISTILLED, NARROW, ModelCard, NetworkCard
from fluidaudio_cli.settings import build

# The embedding network once more, for voices that need it more exactly.
EXACT_EMBEDDING = "exact embedding"
# Voices at a time there: it stands in memory beside the usual one, and with 8 took 50 MB more for
# 4 % less of its time.
_EXACT_BATCH = 2
# Whether they help is the machine's matter, on a cluster another one's; more are a slip.
_MOST_THREADS = 1024
# A network that pools under a mask hears all of a window, whatever the mode cuts for others.
_WHOLE_WINDOW_CROPS = round(WINDOW_SECONDS / CROP_SECONDS)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the user wants; ``auto`` leaves a choice to the mode, the tuning and the machine.

    ``threads``: processors to use, all by default. ``audio_seconds``: length of all there will be
    to diarize, if known. ``low_latency``: windows come one at a time.
    """

    mode: ModeConfig
    card: ModelCard
    executor: str = "auto"
    precision: str = "auto"
    compute_units: str = "all"
    threads: int | None = None
    low_latency: bool = False
    audio_seconds: float | None = None

    def __post_init__(self) -> None:
        """Refuse names that nothing has."""
        for option, value, known in (
            ("--precision", self.precision, PRECISIONS),
            ("--compute-units", self.compute_units, COMPUTE_UNITS),
        ):
            if value not in known:
                raise UsageError(f"{option} {value} is not known", f"use {', '.join(known)}")
        if self.threads is not None and not 1 <= self.threads <= _MOST_THREADS:
            raise UsageError(
                f"--threads is {self.threads}", f"give a whole number of 1 to {_MOST_THREADS}"
            )

    @property
    def open(self) -> bool:
        """Whether executor and precision are left to a tuning, by command line and mode."""
        rules = self.mode.execution
        return self.executor == self.precision == rules.executor == rules.precision == "auto"


@dataclass(frozen=True)
class Machine:
    """What a plan depends on; ``executors``: what each can do here, by name, fastest first."""

    processors: int
    executors: Mapping[str, Availability]

    @classmethod
    def here(cls) -> Machine:
        """This machine; an executor is imported when it is looked up."""
        return cls(processors(), Availabilities())


@dataclass(frozen=True, kw_only=True)
class NetworkPlan:
    """How one network runs: ``auto`` precision is the one that its package was built in.

    ``fixed``: whether the package takes no other batch. ``variant``: which of the card's packages
    for the role, ``narrow`` or ``distilled``, empty for the usual one. ``precision`` is what the
    rest of a narrow one computes in.
    """

    precision: str
    batch: int
    fixed: bool = False
    variant: str = ""

    def with_batch(self, batch: int) -> NetworkPlan:
        """The same with another batch, if the package takes one."""
        return self if self.fixed else replace(self, batch=batch)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a pipeline runs.

    ``mode`` has the batches and workers that run. ``models``: name or path of the model card.
    ``networks``: by role. ``threads`` processors work on ``workers`` batches of windows at a
    time; ``one_thread_each``: on each inference a single one, since its sums depend on how many.
    ``tuning``: what ``fluidaudio tune`` stored and this plan follows, else empty. ``asked``: as
    on the command line. ``notes``: sentences for the user.
    """

    mode: ModeConfig
    models: str
    executor: str
    compute_units: str
    networks: Mapping[str, NetworkPlan]
    threads: int
    workers: int
    one_thread_each: bool
    tuning: str
    asked: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, in a fixed order, that :func:`plan_of` takes back."""
        calibration = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self.mode.calibration).items()
        }
        return vars(self) | {
            "mode": self.mode.as_dict() | {"calibration": calibration},
            "networks": {role: asdict(network) for role, network in self.networks.items()},
            "asked": dict(self.asked),
            "notes": list(self.notes),
        }

    def summary(self) -> dict[str, Any]:
        """:meth:`as_dict` for results, which have mode, asked and notes at places of their own."""
        elsewhere = ("mode", "asked", "notes")
        return {key: value for key, value in self.as_dict().items() if key not in elsewhere}

    def options(self, role: str, *, profile: bool = False) -> ExecutorOptions:
        """What the executor is asked for."""
        network = self.networks[role]
        return ExecutorOptions(
            precision=network.precision,  # type: ignore[arg-type]
            threads=self.workers if self.one_thread_each else self.threads,
            streams=self.workers,
            compute_units=self.compute_units,  # type: ignore[arg-type]
            batch=network.batch,
            profile=profile,
            kernels=self.mode.execution.kernels,
        )

    def with_workers(self, workers: int) -> Plan:
        """The same with fewer workers: the same turns, less memory, less side by side."""
        execution = replace(self.mode.execution, workers=workers)
        return replace(self, workers=workers, mode=replace(self.mode, execution=execution))

    def with_batches(self, windows: int, crops: int) -> Plan:
        """The same with other batches, where networks take them."""
        mode = replace(
            self.mode,
            windows=replace(self.mode.windows, batch=windows),
            embedding=replace(self.mode.embedding, batch=crops),
        )
        networks = {
            role: network.with_batch(_batch(mode, role)) for role, network in self.networks.items()
        }
        return replace(self, mode=mode, networks=networks)

    def for_audio(self, seconds: float | None) -> Plan:
        """The same for so much audio: no more workers than there are batches of windows.

        Fewer workers have more threads each; what a further one would do with less than a batch
        saves less than its own copy of the networks takes to load.
        """
        if seconds is None:
            return self
        windows = window_count(round(seconds * SAMPLE_RATE), self.mode.windows.step_samples)
        most = max(1, math.ceil(windows / self.mode.windows.batch))
        return self if self.workers <= most else replace(self, workers=most)


def plan_of(content: Any) -> Plan:
    """The plan that :meth:`Plan.as_dict` gave; ``ModelFormatError`` for anything else."""
    return build(Plan, content, "", Path("plan"), ModelFormatError)


def resolve(asked: Asked, machine: Machine, tuning: Tuning | None) -> Plan:
    """Settle executor, precisions, batches, workers.

    ``tuning`` is followed where command line and mode leave executor and precision to ``auto``.
    Raises ``ExecutorUnavailableError`` for an executor or a precision that this machine does not
    have, whoever asked for it, and ``UsageError`` for what does not go together.
    """
    tuning = tuning if asked.open else None
    mode = asked.mode if tuning is None else tuning.apply(asked.mode)
    if asked.low_latency:
        mode = mode.for_low_latency()
    embedding = asked.card.embedding
    if embedding is not None and embedding.pooling == "mask":
        mode = replace(mode, crops=CropRules(_WHOLE_WINDOW_CROPS))
    elif not mode.calibration.tells_utterances:
        mode = replace(mode, crops=replace(mode.crops, utterances=False))
    rules = mode.execution
    wanted = rules.executor if asked.executor == "auto" else asked.executor
    executor = choose(tuning.executor if tuning else wanted, machine.executors)
    traits = traits_of(executor)
    chooser = _Precisions(asked, tuning, executor, traits, machine.executors[executor])
    networks = {
        role: NetworkPlan(
            precision=chooser.of(role, network),
            batch=network.fixed_batch or _batch(mode, role),
            fixed=network.fixed_batch is not None,
        )
        for role, network in asked.card.networks.items()
    }
    notes = _of_card(asked.card)
    hearing = asked.card.segmentation or asked.card.diarizer
    narrow = traits.joins_kernels and rules.kernels == "narrow"
    if hearing and narrow and (reason := chooser.no_integers(hearing)):
        mode = replace(mode, execution=replace(rules, kernels="auto"))
        notes.append(f"no layer is computed in 8-bit integers: {reason}")
    for role, variant, wanted_so in (
        ("segmentation", DISTILLED, mode.segmentation.distilled),
        ("embedding", NARROW, chooser.narrow()),
    ):
        if wanted_so and role in networks:
            if f"{variant} {role}" in asked.card.packages:
                networks[role] = replace(networks[role], variant=variant)
            elif wanted_so != "auto":
                notes.append(
                    f"model card {asked.card.name} has no {role}.{variant}_file: "
                    "its usual network runs"
                )
    exact = chooser.exact(networks)
    if exact:
        usual = replace(networks["embedding"], precision=exact, variant="")
        networks[EXACT_EMBEDDING] = usual.with_batch(_batch(mode, EXACT_EMBEDDING))
    threads = asked.threads or machine.processors
    plan = Plan(
        mode=mode,
        models=asked.card.name if asked.card.ships else str(asked.card.path),
        executor=executor,
        compute_units=_compute_units(asked, tuning, executor, traits),
        networks=networks,
        threads=threads,
        # One network for all goes through a recording chunk after chunk.
        workers=1 if asked.card.diarizer else min(rules.workers or threads, threads),
        one_thread_each=traits.sums_follow_threads,
        tuning="" if tuning is None else str(tuning),
        asked={
            "executor": asked.executor,
            "precision": asked.precision,
            "compute_units": asked.compute_units,
            "threads": asked.threads,
            "low_latency": asked.low_latency,
        },
        notes=(*chooser.notes, *notes),
    )
    return plan.for_audio(asked.audio_seconds)


@dataclass
class _Precisions:
    """Chooses precisions on one executor; ``notes`` tells what a mode's rules gave way to."""

    asked: Asked
    tuning: Tuning | None
    executor: str
    traits: Traits
    available: Availability
    notes: list[str] = field(default_factory=list)

    def of(self, role: str, network: NetworkCard) -> str:
        """What ``role`` runs in: never less exact than its card allows."""
        wanted, source = self._wanted(role)
        if wanted == "auto":
            wanted = self.available.fastest
            if not wanted:
                return "auto"
        else:
            self._check(wanted, source)
        if network.stands(wanted):
            return wanted
        lowest = network.lowest_precision
        self._check(lowest, f"the model card's {role}.lowest_precision")
        if source == "--precision":
            self.notes.append(f"{role} runs in {lowest}, the lowest its model card allows")
        return lowest

    def narrow(self) -> bool | str:
        """Whether voices are embedded in 8-bit integers; ``auto``: if the card has the network."""
        wanted = self.asked.mode.embedding.narrow
        if wanted != "auto":
            return wanted
        asked = self.asked
        left_open = {asked.precision, asked.mode.execution.precision} == {"auto"}
        # What tune stored was measured, and its error compared, with the usual network. One window
        # at a time has time to spare, and no more exact network for short voices.
        usual = self.tuning is not None or asked.low_latency
        return "auto" if left_open and not usual and self.available.integers else False

    def no_integers(self, network: NetworkCard) -> str:
        """Why no layer of ``network`` may be computed in 8-bit integers; empty if one may."""
        if self.asked.precision != "auto":
            return f"--precision asks for {self.asked.precision}"
        if not network.stands("bf16"):
            return f"the model card allows nothing below {network.lowest_precision}"
        return ""

    def exact(self, networks: Mapping[str, NetworkPlan]) -> str:
        """What voices with little speech are embedded in; empty for the same as the others."""
        rules = self.asked.mode.embedding
        usual = networks.get("embedding")
        if usual is None or rules.exact_below_seconds <= 0 or self.asked.low_latency:
            return ""
        if self.traits.package_precision:
            self.notes.append(
                f"no voice is embedded more exactly than others: {self.executor} runs each "
                "package in the precision it was built in"
            )
            return ""
        if rules.exact_precision == usual.precision and not usual.variant:
            return ""
        if self.asked.precision != "auto":
            self.notes.append(
                f"--precision {self.asked.precision} holds for all voices: "
                "embedding.exact_below_seconds of the mode is left out"
            )
            return ""
        self._check(rules.exact_precision, "the mode's embedding.exact_precision")
        return rules.exact_precision

    def _wanted(self, role: str) -> tuple[str, str]:
        """The precision wanted of ``role``, and by what."""
        if self.asked.precision != "auto":
            return self.asked.precision, "--precision"
        if self.tuning is not None and role in ("segmentation", "embedding"):
            return self.tuning.network(role).precision, "the stored tuning"
        return self.asked.mode.execution.precision, "the mode's execution.precision"

    def _check(self, precision: str, source: str) -> None:
        if precision not in self.available.precisions:
            raise ExecutorUnavailableError(
                f"{source}: {self.executor} does not run {precision} on this processor",
                f"use {' or '.join(self.available.precisions)}, or another --executor",
            )


def _of_card(card: ModelCard) -> list[str]:
    """What a user's card leaves open, which is then as with the bundled networks."""
    if card.ships:
        return []
    parts = {"thresholds": card.thresholds}
    if card.diarizer is None:
        parts["calibration"] = card.calibration
    open_parts = [name for name, values in parts.items() if not values]
    if not open_parts:
        return []
    return [
        f"model card {card.name} has no {' and no '.join(open_parts)}: "
        "those of the bundled networks are used"
    ]


def _compute_units(asked: Asked, tuning: Tuning | None, executor: str, traits: Traits) -> str:
    units = asked.compute_units
    if tuning is not None and units == "all":
        units = tuning.compute_units
    if units not in traits.compute_units:
        raise UsageError(
            f"--compute-units {units} has no meaning for {executor}, which runs on the CPU",
            "leave it out, or use --executor coreml",
        )
    return units


def _batch(mode: ModeConfig, role: str) -> int:
    if role == EXACT_EMBEDDING:
        return min(_EXACT_BATCH, mode.embedding.batch)
    return mode.windows.batch if role == "segmentation" else mode.embedding.batch
