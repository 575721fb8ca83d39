"""What every executor offers: load a Core ML package, then run it on arrays.

An :class:`Executor` turns a package into a :class:`CompiledModel`; a model gives out
:class:`InferRequest` objects, each used by one thread at a time, whose buffers are reused from
run to run. The records here (:class:`ExecutorOptions`, :class:`ExecutorRun`) keep what was asked
for apart from what ran, so that no difference between the two can stay silent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.errors import UsageError

Array = NDArray[np.generic]
Feeds = Mapping[str, Array]

Precision = Literal["auto", "fp32", "bf16", "fp16"]
ComputeUnits = Literal["all", "cpu-only", "cpu-and-gpu", "cpu-and-ne"]
Kernels = Literal["auto", "narrow", "runtime"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
COMPUTE_UNITS: tuple[str, ...] = get_args(ComputeUnits)
KERNEL_CHOICES: tuple[str, ...] = get_args(Kernels)


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    ``shape`` has ``None`` where any size is taken (the batch, as a rule); ``dtype`` is a NumPy
    dtype name such as ``float32``.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def __str__(self) -> str:
        """As in ``audio float32[*, 1, 160000]``, the star for any size."""
        sizes = ", ".join("*" if size is None else str(size) for size in self.shape)
        return f"{self.name} {self.dtype}[{sizes}]"


@dataclass(frozen=True)
class ExecutorOptions:
    """What is asked of an executor.

    Attributes:
        precision: arithmetic inside the network; inputs and outputs keep their own dtype.
        threads: processor threads of all streams together; ``None`` takes every processor this
            process may use.
        streams: inferences that run at the same time; each gets its share of the threads.
        compute_units: Core ML only, the processors it may use.
        batch: a fixed batch size to compile for; ``None`` leaves the batch free where the
            executor can (Core ML then compiles for a batch of one).
        profile: keep a time for each operator, at some cost in speed.
        kernels: ``auto`` lets this project's kernels run what they can
            (:mod:`fluidaudio_cli.executors.kernels`), ``narrow`` those too that round to 8-bit
            integers, ``runtime`` leaves all to the runtime.
    """

    precision: Precision = "auto"
    threads: int | None = None
    streams: int = 1
    compute_units: ComputeUnits = "all"
    batch: int | None = None
    profile: bool = False
    kernels: Kernels = "auto"

    def __post_init__(self) -> None:
        """Refuse values no executor can honour."""
        for what, given, known in (
            (f"precision {self.precision!r} is", self.precision, PRECISIONS),
            (f"compute units {self.compute_units!r} are", self.compute_units, COMPUTE_UNITS),
            (f"kernels {self.kernels!r} is", self.kernels, KERNEL_CHOICES),
        ):
            if given not in known:
                raise UsageError(f"{what} not known", f"use {', '.join(known)}")
        for name, value in (
            ("threads", self.threads),
            ("streams", self.streams),
            ("batch", self.batch),
        ):
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}", "give a whole number of at least 1")


@dataclass(frozen=True)
class ExecutorRun:
    """What actually runs a model, as the executor itself reports it after loading.

    ``threads`` is ``None`` where the executor decides and does not tell (Core ML). ``device`` is
    ``CPU``, or for Core ML the compute units it was allowed, which it need not all use.
    ``kernel``: which of this project's runs a part of it, with version, else ``runtime``.
    """

    executor: str
    version: str
    precision: str
    device: str
    threads: int | None
    streams: int
    batch: int | None = None
    kernel: str = "runtime"


@dataclass(frozen=True)
class Availability:
    """Whether an executor can run on this machine and, if not, why and what would help.

    ``precisions`` are those that may be asked for here, the most exact first; ``fastest`` is the
    one that ``auto`` takes, empty where that is each package's own. ``integers``: products of
    8-bit integers are faster still.
    """

    ok: bool
    reason: str = ""
    remedy: str = ""
    version: str = ""
    precisions: tuple[str, ...] = ()
    fastest: str = ""
    integers: bool = False


@dataclass(frozen=True)
class Traits:
    """What holds of an executor on every machine, so that nobody need know it by name.

    Attributes:
        compute_units: choices of processors that make a difference to it or are true of it.
        sums_follow_threads: results depend on how many threads share one inference.
        computes_in_caller: an inference with one thread runs in the thread that asked for it.
        loads_side_by_side: several models may be loaded at once.
        package_precision: a model runs in the precision it was built in, and in no other.
        operator_times_once: times of operators can be read once, and hold all runs.
        joins_kernels: this project's kernels can run a part of a model between two of its own.
        says_device: whether it tells which processor ran a model.
    """

    compute_units: tuple[str, ...] = ("all", "cpu-only")
    sums_follow_threads: bool = False
    computes_in_caller: bool = False
    loads_side_by_side: bool = True
    package_precision: bool = False
    operator_times_once: bool = False
    joins_kernels: bool = False
    says_device: bool = True


@dataclass(frozen=True)
class OperatorTime:
    """Time spent in one operator over all runs of a model loaded with ``profile=True``.

    ``name`` is the executor's name of the operator, ``kind`` its type, ``kernel`` the
    executor's implementation.
    """

    name: str
    kind: str
    kernel: str
    calls: int
    seconds: float

    @property
    def layer(self) -> str:
        """Name of the operation in the package that this operator came from.

        The lowering names operators ``LAYER`` or ``LAYER/PART``, and the executors add endings of
        their own. OpenVINO's operators made in its own passes (``LSTMSequence_12``, reorders)
        have no layer of the package, and keep their name.
        """
        return self.name.split("/", 1)[0].removesuffix("_nchwc")


@runtime_checkable
class InferRequest(Protocol):
    """One inference at a time, with buffers of its own; for one thread at a time."""

    @property
    def copied_bytes(self) -> int:
        """Bytes of input that had to be copied since the request was made.

        An input is used where it lies when it is C-contiguous and (OpenVINO) writable.
        """

    def run(self, feeds: Feeds, outputs: Feeds | None = None) -> Mapping[str, Array]:
        """Run on ``feeds`` and wait.

        Args:
            feeds: an array for every input, of the input's dtype; used in place, not copied.
            outputs: arrays to write results into (C-contiguous, right shape and dtype), so that
                a result lands where the next step reads it. Outputs not named here go to
                64-byte-aligned buffers of the request.

        Returns:
            Every output by name. The request's own buffers are valid until its next run.

        Raises:
            UsageError: an input is missing, unknown, or of the wrong shape or dtype.
            HostError: the executor failed.
        """


@runtime_checkable
class CompiledModel(Protocol):
    """A package loaded by an executor. Safe to share between threads; requests are not."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The model's inputs, in its own order."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The model's outputs, in its own order."""

    @property
    def asked(self) -> ExecutorOptions:
        """The options that were asked for."""

    @property
    def ran(self) -> ExecutorRun:
        """What the executor reports it runs."""

    @property
    def cache_hit(self) -> bool:
        """Whether the compiled form came from the cache."""

    def request(self) -> InferRequest:
        """A new request with buffers of its own."""

    def operator_times(self) -> Sequence[OperatorTime]:
        """Times of all finished runs, slowest first.

        Raises:
            UsageError: the model was loaded without ``profile=True``.
        """

    def close(self) -> None:
        """Free what the model holds. Its requests must not be used afterwards."""


@runtime_checkable
class Executor(Protocol):
    """A runtime that can run Core ML packages on this or some other machine."""

    @property
    def name(self) -> str:
        """As in ``--executor``: ``coreml``, ``openvino`` or ``onnxruntime``."""

    @property
    def traits(self) -> Traits:
        """What holds of it everywhere."""

    def availability(self) -> Availability:
        """Whether and with what precisions it runs here; never raises."""

    def load(self, package: Path, options: ExecutorOptions) -> CompiledModel:
        """Load a ``.mlpackage`` or ``.mlmodelc``, from the cache if it was loaded before.

        Raises:
            ModelFormatError: the package cannot be read or lowered.
            ExecutorUnavailableError: the executor or the precision is not on this machine.
            HostError: the runtime failed to load the model.
        """
