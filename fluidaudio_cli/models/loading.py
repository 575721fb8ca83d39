"""Load models on an executor, and let none run whose self-test fails there."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from fluidaudio_cli.executors.base import CompiledModel, Executor, ExecutorOptions
from fluidaudio_cli.executors.cache import cache_dir
from fluidaudio_cli.executors.machine import cpu_identity
from fluidaudio_cli.executors.selftest import check
from fluidaudio_cli.files import keep_record
from fluidaudio_cli.models.registry import Model


def load_model(model: Model, executor: Executor, options: ExecutorOptions) -> CompiledModel:
    """Load ``model`` and make sure that it computes what it should here.

    The self-test runs the first time a package meets an executor, version, precision, device
    and processor; that it passed is remembered in the cache. Raises ``SelfTestError`` with the
    figures when it fails, and never tries another executor instead. A user's model has none.
    """
    compiled = executor.load(model.package, options)
    test = model.selftest()
    if test is None:
        return compiled
    ran = compiled.ran
    circumstances = json.dumps(
        [
            model.sha256,
            ran.executor,
            ran.version,
            ran.precision,
            ran.device,
            ran.kernel,
            cpu_identity(),
        ]
    )
    key = hashlib.sha256(circumstances.encode()).hexdigest()[:32]
    passed = cache_dir() / "selftests" / f"{model.name}-{key}.json"
    if not passed.is_file():
        report = check(compiled, test)
        record = {
            "model": model.name,
            "ran": asdict(ran),
            "agreements": [asdict(agreement) for agreement in report.agreements],
        }
        keep_record(passed, record)
    return compiled
