"""Kernels of this project: plug-ins that run a part of a model faster than the runtimes do.

An executor that can run a model in parts asks :func:`kernel_for` and knows no kernel by name. A
kernel cuts its layers out of the lowered model; the executor compiles what lies before and after,
and the kernel joins the three.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from fluidaudio_cli.executors.base import Kernels

if TYPE_CHECKING:
    from fluidaudio_cli.executors.lstm.plugin import LstmKernel

# Precision of kernels that compute in 8-bit integers, whatever the rest of a model computes in.
NARROW = "int8"


@lru_cache(maxsize=1)
def kernels() -> tuple[LstmKernel, ...]:
    """Every kernel there is, whether or not it runs here."""
    from fluidaudio_cli.executors.lstm.plugin import AMX_LSTM, INT8_LSTM

    return (AMX_LSTM, INT8_LSTM)


def kernel_for(precision: str, allowed: Kernels) -> LstmKernel | None:
    """The kernel that runs here in ``precision`` or, if that is allowed, in integers."""
    wanted = {"auto": (precision,), "narrow": (precision, NARROW), "runtime": ()}[allowed]
    return next(
        (
            each
            for own in wanted
            for each in kernels()
            if each.precision == own and not each.unavailable()
        ),
        None,
    )
