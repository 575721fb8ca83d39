"""Load the networks of a mode on an executor, and make a pipeline of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fluidaudio_cli.diarization.config import ModeConfig, load_mode
from fluidaudio_cli.diarization.frames import SAMPLE_RATE
from fluidaudio_cli.diarization.pipeline import Loading, Pipeline
from fluidaudio_cli.diarization.tuning import tuning_unless_asked
from fluidaudio_cli.diarization.windows import window_count
from fluidaudio_cli.executors.base import CompiledModel, ExecutorOptions
from fluidaudio_cli.executors.machine import limit_malloc_arenas, processors
from fluidaudio_cli.executors.select import select_executor
from fluidaudio_cli.models.loading import load_model
from fluidaudio_cli.models.registry import MODEL_NAMES, bundled_models

# In which order models begin to load.
_LARGEST_FIRST = ("embedding", "segmentation", "fbank")


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
) -> Pipeline:
    """Load the models of a mode.

    ``executor`` and ``precision`` of ``auto`` leave the choice to the mode file, and that to
    what ``fluidaudio tune`` found here or, untuned, to the executors' own defaults. Asking for
    an executor or a precision sets the tuning aside. ``threads``: processors to use, all of
    them by default. ``low_latency``: for :meth:`Pipeline.process_window`. ``audio_seconds``:
    length of all there will be to diarize, if that is known; short work gets fewer workers,
    because each takes time to load. ``meanwhile`` is called while the models load.

    Raises ``ExecutorUnavailableError`` for what this machine does not have, ``SelfTestError``
    when a model does not compute here what it should.
    """
    config = mode if isinstance(mode, ModeConfig) else load_mode(mode)
    tuning = tuning_unless_asked(executor, precision)
    if tuning is not None and (tuned := tuning.apply(config)) is not config:
        config = tuned
        compute_units = tuning.compute_units if compute_units == "all" else compute_units
    if low_latency:
        config = config.for_low_latency()
    rules = config.execution
    chosen = select_executor(rules.executor if executor == "auto" else executor)
    precisions = dict.fromkeys(MODEL_NAMES, rules.precision if precision == "auto" else precision)
    # The filter bank needs fp32's range: quiet speech drowns in half precision.
    precisions["fbank"] = "fp32"
    # Core ML runs a package in the precision it was built in, and in no other.
    if precision == "auto" and rules.embedding_precision in chosen.availability().precisions:
        precisions["embedding"] = rules.embedding_precision
    count = threads or processors()
    workers = min(rules.workers or count, count)
    if audio_seconds is not None:
        # Fewer workers have more threads each: what one would do with less than a whole batch
        # saves less than its own copy of the networks takes to load.
        windows = window_count(
            round(audio_seconds * SAMPLE_RATE), round(config.windows.step_seconds * SAMPLE_RATE)
        )
        workers = min(workers, max(1, math.ceil(windows / config.windows.batch)))
    # ONNX Runtime's sums depend on how many threads share one inference: one thread for each,
    # so that results do not depend on --threads. OpenVINO's are the same for any number.
    inference_threads = workers if chosen.name == "onnxruntime" else count
    batches = dict.fromkeys(MODEL_NAMES, config.embedding.batch)
    batches["segmentation"] = config.windows.batch
    limit_malloc_arenas()
    started = time.perf_counter()

    def load(name: str, exactly: str = "") -> CompiledModel:
        options = ExecutorOptions(
            precision=exactly or precisions[name],  # type: ignore[arg-type]
            threads=inference_threads,
            streams=workers,
            compute_units=compute_units,  # type: ignore[arg-type]
            batch=batches[name],
            profile=profile,
            lstm=rules.lstm,  # type: ignore[arg-type]
        )
        return load_model(bundled_models()[name], chosen, options)

    # Runtimes load outside Python's lock: side by side, all take as long as the largest. Not
    # tried with Core ML.
    together = 1 if chosen.name == "coreml" else min(count, len(MODEL_NAMES))
    with ThreadPoolExecutor(together, "load") as pool:
        loaded = pool.map(load, _LARGEST_FIRST)
        if meanwhile is not None:
            meanwhile()
        by_name = dict(zip(_LARGEST_FIRST, loaded, strict=True))
    models = {name: by_name[name] for name in MODEL_NAMES}
    exact = None
    rules_of_crops = config.embedding
    if (
        precision == "auto"
        and rules_of_crops.exact_below_seconds > 0
        and rules_of_crops.exact_precision in chosen.availability().precisions
        and rules_of_crops.exact_precision != models["embedding"].ran.precision
        and not low_latency
    ):
        exact = load("embedding", rules_of_crops.exact_precision)
    every = [*models.values(), exact] if exact is not None else list(models.values())
    loading = Loading(time.perf_counter() - started, all(model.cache_hit for model in every))
    return Pipeline(config, models, workers, loading, exact)
