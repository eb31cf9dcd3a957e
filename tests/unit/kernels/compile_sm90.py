"""Compile every kernel for an H100 (sm_90) without a GPU and print the size of each binary.

Run by a test in a process of its own: `python tests/unit/kernels/compile_sm90.py`.
"""

from __future__ import annotations

import json
import sys

import triton
from polydraft_kernels.triton import choose_coupled, choose_greedy
from polydraft_kernels.triton.choose_coupled import NUM_WARPS, recheck_kernel, screen_kernel
from polydraft_kernels.triton.choose_greedy import greedy_kernel
from polydraft_kernels.triton.walk_trees import walk_kernel
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

LOGITS = {"fp32": "*fp32", "bf16": "*bf16"}


ROWS = {
    "temperatures": "*fp64",
    "keys": "*i64",
    "positions": "*i64",
    "end_logits": "*fp32",
    "end_ids": "*i64",
}


def main() -> None:
    sizes: dict[str, int] = {}
    lengths = {"vocab_size": "i32", "row_stride": "i32"}
    for name, pointer in LOGITS.items():
        logits = {"logits": pointer}
        sizes[f"greedy_{name}"] = compiled_bytes(
            greedy_kernel, logits | {"choices": "*i64"} | lengths, {"BLOCK": choose_greedy.BLOCK}
        )
        bounds = {"highs": "*fp32", "lows": "*fp32"}
        blocks = {"BLOCK": choose_coupled.BLOCK}
        sizes[f"screen_{name}"] = compiled_bytes(screen_kernel, logits | ROWS | bounds | lengths, blocks)
        sizes[f"recheck_{name}"] = compiled_bytes(
            recheck_kernel,
            logits | ROWS | bounds | {"choices": "*i64"} | lengths | {"num_blocks": "i32"},
            blocks | {"MAX_BLOCKS": 128},
        )
    pointers = ("tokens", "parents", "row_offsets", "choices", "num_accepted", "free_tokens", "paths")
    sizes["walk"] = compiled_bytes(
        walk_kernel, dict.fromkeys(pointers, "*i64") | {"max_draft_len": "i32"}, {"MAX_ROWS": 16}
    )
    sys.stdout.write(json.dumps(sizes) + "\n")


def compiled_bytes(kernel: triton.JITFunction, signature: dict[str, str], constants: dict[str, int]) -> int:
    """Size of the binary; checks that the assembly is for sm_90."""
    source = ASTSource(kernel, signature=signature | dict.fromkeys(constants, "constexpr"), constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": NUM_WARPS})
    assert ".target sm_90" in compiled.asm["ptx"]
    return len(compiled.asm["cubin"])


if __name__ == "__main__":
    main()
