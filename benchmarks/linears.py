"""Time of a target's linear layers, plain and packed: `python -m benchmarks.linears [--target DIR] [--json FILE]`.

All layers of the target once, bf16, one thread; medians over interleaved repeats, milliseconds.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from engine.linears import PackedLinear, can_pack

ROW_COUNTS = (1, 2, 5, 8, 16, 64)
WARMUPS = 5


def time_ms(layers: Sequence[nn.Module], inputs: Sequence[Tensor]) -> float:
    """One pass through all layers."""
    started = time.perf_counter()
    for layer, rows_RI in zip(layers, inputs, strict=True):
        layer(rows_RI)
    return (time.perf_counter() - started) * 1e3


@torch.inference_mode()
def compare(linears: Sequence[nn.Linear], num_rows: int, repeats: int) -> dict[str, float]:
    """Medians of both forms at one number of rows."""
    packed = [PackedLinear(linear) for linear in linears]
    inputs = [torch.randn(num_rows, linear.in_features).bfloat16() for linear in linears]
    times_ms: dict[str, list[float]] = {"plain": [], "packed": []}
    for _ in range(WARMUPS + repeats):
        times_ms["plain"].append(time_ms(linears, inputs))
        times_ms["packed"].append(time_ms(packed, inputs))
    return {form: statistics.median(values[WARMUPS:]) for form, values in times_ms.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", type=Path, default=Path("models/target"))
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not can_pack(torch.bfloat16, torch.device("cpu")):
        raise SystemExit("this CPU has no bf16 kernels to pack for")
    model = AutoModelForCausalLM.from_pretrained(arguments.target, dtype=torch.bfloat16, local_files_only=True)
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    results = {}
    for num_rows in ROW_COUNTS:
        results[num_rows] = compare(linears, num_rows, arguments.repeats)
        plain_ms, packed_ms = results[num_rows]["plain"], results[num_rows]["packed"]
        print(f"{num_rows:3d} rows  plain {plain_ms:6.2f} ms  packed {packed_ms:6.2f} ms  {plain_ms / packed_ms:.2f}x")
    if arguments.json:
        record = {"num_layers": len(linears), "times_ms": results, "torch": torch.__version__}
        arguments.json.write_text(json.dumps(record | {"python": platform.python_version()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
