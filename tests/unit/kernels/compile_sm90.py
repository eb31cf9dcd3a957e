"""Compile every kernel for an H100 (sm_90) without a GPU and print the size of each binary.

Run by a test in a process of its own: `python tests/unit/kernels/compile_sm90.py`.
"""

from __future__ import annotations

import json
import sys

import triton
from polydraft_kernels.triton import (
    block_verification,
    chain_rejection,
    chains,
    choose_coupled,
    choose_greedy,
    row_laws,
)
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
    sizes |= chain_kernels({"logits": "*bf16"})
    pointers = ("tokens", "parents", "row_offsets", "choices", "num_accepted", "free_tokens", "paths")
    sizes["walk"] = compiled_bytes(
        walk_kernel, dict.fromkeys(pointers, "*i64") | {"max_draft_len": "i32"}, {"MAX_ROWS": 16}
    )
    sys.stdout.write(json.dumps(sizes) + "\n")


def chain_kernels(logits: dict[str, str]) -> dict[str, int]:
    """The kernels of chain rejection and block verification."""
    law = logits | {"row_stride": "i32", "vocab_size": "i32", "temperatures": "*fp64", "end_logits": "*fp32"}
    law |= {"end_ids": "*i64"}
    whole_law = law | {"peaks": "*fp64", "totals": "*fp64", "choices": "*i64"}
    draft = {"draft_probs": "*fp64", "draft_stride": "i32"}
    sessions = {"sessions": "*i64", "row_offsets": "*i64"}
    keyed = {"keys": "*i64", "positions": "*i64", "rounds": "*i64"}
    block_laws = {"block_peaks": "*fp64", "block_totals": "*fp64", "block_choices": "*i32"}
    weights = {"weights": "*fp64"}
    accepted = {"num_accepted": "*i64"}
    bests = {"best_scores": "*fp64", "best_ids": "*i32"}
    block, max_blocks = {"BLOCK": row_laws.BLOCK}, {"MAX_BLOCKS": 256}
    lengths = {"num_blocks": "i32", "max_draft_len": "i32"}
    return {
        "partial_laws": compiled_bytes(row_laws.partial_laws_kernel, law | block_laws, block),
        "merge_laws": compiled_bytes(
            row_laws.merge_laws_kernel,
            block_laws | {"peaks": "*fp64", "totals": "*fp64", "choices": "*i64", "num_blocks": "i32"},
            max_blocks,
        ),
        "draws": compiled_bytes(
            chains.draws_kernel,
            whole_law | draft | {"tokens": "*i64"} | sessions | keyed | {"ratios": "*fp64", "uniforms": "*fp64"},
            {},
        ),
        "resample": compiled_bytes(
            chains.resample_kernel,
            whole_law | draft | {"row_offsets": "*i64"} | keyed | accepted | weights | bests,
            block,
        ),
        "finish": compiled_bytes(
            chains.finish_kernel, bests | accepted | {"free_tokens": "*i64", "paths": "*i64"} | lengths, max_blocks
        ),
        "reject": compiled_bytes(
            chain_rejection.reject_kernel,
            {"ratios": "*fp64", "uniforms": "*fp64", "row_offsets": "*i64"} | accepted,
            {"MAX_ROWS": 8},
        ),
        "weights": compiled_bytes(
            block_verification.weights_kernel, {"ratios": "*fp64", "row_offsets": "*i64"} | weights, {}
        ),
        "surplus": compiled_bytes(
            block_verification.surplus_kernel, whole_law | draft | sessions | weights | {"surpluses": "*fp64"}, block
        ),
        "accept": compiled_bytes(
            block_verification.accept_kernel,
            {"uniforms": "*fp64", "weights": "*fp64", "surpluses": "*fp64", "row_offsets": "*i64"}
            | accepted
            | {"weights_of_sessions": "*fp64", "num_blocks": "i32"},
            max_blocks,
        ),
    }


def compiled_bytes(kernel: triton.JITFunction, signature: dict[str, str], constants: dict[str, int]) -> int:
    """Size of the binary; checks that the assembly is for sm_90."""
    source = ASTSource(kernel, signature=signature | dict.fromkeys(constants, "constexpr"), constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": NUM_WARPS})
    assert ".target sm_90" in compiled.asm["ptx"]
    return len(compiled.asm["cubin"])


if __name__ == "__main__":
    main()
