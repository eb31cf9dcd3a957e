"""Compile the tensor calls of a step into one call.

On small models the two hundred calls of a step cost as much in Python as their arithmetic does, and between them the
interpreter's lock changes hands with the threads that carry messages. A compiled step is one call without the lock.
TorchScript is no longer developed, but it compiles in a moment and for every shape at once; its successors take over a
minute for each number of rows.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

logger = logging.getLogger(__name__)


def compiled(module: nn.Module, device: torch.device) -> Callable[..., Any]:
    """The module's `forward`, compiled for CPUs; the module itself on other devices and if a part does not compile."""
    if device.type != "cpu":
        return module
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            script = torch.jit.script(module)
    except RuntimeError as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
        logger.warning("%s runs without TorchScript, more slowly: %s", type(module).__name__, reason)
        return module

    def run(*inputs: object) -> Any:
        # Its optimiser is slow in the first runs of each shape, and gains nothing later.
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]  # torch does not list it
            return script(*inputs)

    return run
