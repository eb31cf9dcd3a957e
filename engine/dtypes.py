"""The number format that `auto` stands for.

A target's step is bound by its weights, so half of their bytes pay as soon as the processor multiplies bf16 at all. A
drafter's are in the cache anyway: with AVX512_BF16 alone the demo drafters take 0.51 ms a token in bf16 and 0.34 ms in
fp32 (`python -m benchmarks.drafter_step --dtype`).
"""

from __future__ import annotations

import torch


def best_target_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on accelerators and on CPUs with AMX or AVX512_BF16, else float32."""
    return torch.bfloat16 if device.type != "cpu" or bf16_features() else torch.float32


def best_drafter_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on accelerators and on CPUs with AMX, else float32."""
    return torch.bfloat16 if device.type != "cpu" or "amx_bf16" in bf16_features() else torch.float32


def bf16_features() -> tuple[str, ...]:
    """What this CPU multiplies bf16 with; empty if it does not."""
    # Older torch cannot tell; fp32 is right everywhere.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return tuple(feature for feature in ("amx_bf16", "avx512_bf16") if capabilities.get(feature))
