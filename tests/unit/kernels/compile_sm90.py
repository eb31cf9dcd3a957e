"""Compile every kernel for an H100 (sm_90) without a GPU and print the size of each binary.

Run by a test in a process of its own: `python tests/unit/kernels/compile_sm90.py`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

import torch
import triton
import triton.language as tl
from polydraft_kernels.triton import (
    block_verification,
    chain_rejection,
    chains,
    choose_coupled,
    choose_greedy,
    fixed_linear,
    kv_compaction,
    multi_round,
    row_laws,
    tree_attention,
)
from polydraft_kernels.triton.choose_coupled import NUM_WARPS, recheck_kernel, screen_kernel
from polydraft_kernels.triton.choose_greedy import greedy_kernel
from polydraft_kernels.triton.walk_trees import walk_kernel
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

LOGITS = {"fp32": "*fp32", "bf16": "*bf16"}
DTYPES = {"*fp32": torch.float32, "*bf16": torch.bfloat16}

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
        bounds = {"highs": "*fp32", "leaders": "*i32"}
        blocks = {"BLOCK": choose_coupled.BLOCK}
        sizes[f"screen_{name}"] = compiled_bytes(
            screen_kernel,
            logits | ROWS | bounds | {"num_rows": "i32"} | lengths,
            blocks | {"ROWS": choose_coupled.ROWS, "HAS_ENDS": True},
            choose_coupled.SCREEN_WARPS,
        )
        sizes[f"recheck_{name}"] = compiled_bytes(
            recheck_kernel,
            logits | ROWS | bounds | {"choices": "*i64"} | lengths | {"num_blocks": "i32"},
            blocks | {"MAX_BLOCKS": 128},
        )
    sizes |= law_kernels({"logits": "*bf16"})
    pointers = ("tokens", "parents", "row_offsets", "choices", "num_accepted", "free_tokens", "paths")
    sizes["walk"] = compiled_bytes(
        walk_kernel, dict.fromkeys(pointers, "*i64") | {"max_draft_len": "i32"}, {"MAX_ROWS": 16}
    )
    for name, pointer in LOGITS.items():
        sizes |= {f"{kernel}_{name}": size for kernel, size in attention_kernels(pointer).items()}
        sizes |= {f"linear_{tile}_{name}": linear_kernel(pointer, tile) for tile in fixed_linear.TILE_OUTPUTS}
    sizes["compact"] = compiled_bytes(
        kv_compaction.compact_kernel,
        {"table": "*i64", "from_slots": "*i64", "to_slots": "*i64", "num_moves": "i32"},
        {"UNIT": tl.int64, "ROW_UNITS": 32, "MOVES": kv_compaction.MOVES},
    )
    sys.stdout.write(json.dumps(sizes) + "\n")


def law_kernels(logits: dict[str, str]) -> dict[str, int]:
    """The kernels of chain rejection, block verification and multi-round rejection."""
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
    rounds = whole_law | draft | {"tokens": "*i64", "left_totals": "*fp64", "surplus_totals": "*fp64"}
    children, few = {"num_children": "*i64"}, {"MAX_CHILDREN": 4}
    return {
        "left": compiled_bytes(
            multi_round.left_kernel,
            draft | {"vocab_size": "i32", "tokens": "*i64"} | children | {"parts": "*fp64"},
            few | block,
        ),
        "surplus_of_round": compiled_bytes(
            multi_round.surplus_kernel, rounds | {"parts": "*fp64", "place": "i32"}, few | block
        ),
        "ratios": compiled_bytes(multi_round.ratios_kernel, rounds | {"ratios": "*fp64"}, few),
        "accept_of_children": compiled_bytes(
            multi_round.accept_kernel,
            {"children": "*i64", "ratios": "*fp64", "row_offsets": "*i64"}
            | keyed
            | {"num_accepted": "*i64", "ends": "*i64", "paths": "*i64", "max_draft_len": "i32"},
            few,
        ),
        "resample_of_children": compiled_bytes(
            multi_round.resample_kernel, rounds | children | keyed | {"ends": "*i64"} | bests, few | block
        ),
        "best": compiled_bytes(
            multi_round.best_kernel, bests | {"free_tokens": "*i64", "num_blocks": "i32"}, max_blocks
        ),
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


def attention_kernels(pointer: str) -> dict[str, int]:
    """A group of four query heads of size 128; query and KV of one dtype."""
    partials = dict.fromkeys(("partial_outputs", "partial_peaks", "partial_totals"), "*fp32")
    strides = ("query_head", "query_row", "key_head", "key_slot", "value_head", "value_slot", "slots_row")
    sizes = {"GROUP": 4, "VALUE_SIZE": 128, "PADDED_GROUP": 16, "PADDED_VALUE_SIZE": 128, "SPLIT": tree_attention.SPLIT}
    return {
        "attention": compiled_bytes(
            tree_attention.split_kernel,
            dict.fromkeys(("query", "keys", "values"), pointer)
            | {"slots": "*i64", "lengths": "*i64"}
            | partials
            | {f"{name}_stride": "i32" for name in strides}
            | {"scale": "fp32", "window": "i32", "softcap": "fp32"},
            sizes
            | {"KEY_SIZE": 128, "PADDED_KEY_SIZE": 128, "TILE": tree_attention.TILE}
            | {"HAS_SOFTCAP": True, "KEEP_HALVES": pointer != "*fp32"},
            tree_attention.SPLIT_WARPS,
        ),
        "attention_merge": compiled_bytes(
            tree_attention.merge_kernel,
            partials | {"lengths": "*i64", "output": "*fp32", "num_splits": "i32", "window": "i32"},
            sizes,
            tree_attention.MERGE_WARPS,
        ),
    }


def linear_kernel(pointer: str, tile_outputs: int) -> int:
    """One width of output tiles, with a bias."""
    numbers = ("num_rows", "num_inputs", "num_outputs", "rows_stride", "weight_stride")
    return compiled_bytes(
        fixed_linear.fixed_linear_kernel,
        dict.fromkeys(("rows", "weight", "bias", "output"), pointer) | dict.fromkeys(numbers, "i32"),
        {"HAS_BIAS": True, "KEEP_HALVES": pointer != "*fp32", "TILE_ROWS": fixed_linear.TILE_ROWS}
        | {"TILE_OUTPUTS": tile_outputs, "TILE_INPUTS": fixed_linear.TILE_INPUTS[DTYPES[pointer]]},
        fixed_linear.NUM_WARPS,
    )


def compiled_bytes(
    kernel: triton.JITFunction, signature: dict[str, str], constants: Mapping[str, object], num_warps: int = NUM_WARPS
) -> int:
    """Size of the binary; checks that the assembly is for sm_90."""
    source = ASTSource(kernel, signature=signature | dict.fromkeys(constants, "constexpr"), constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": num_warps})
    assert ".target sm_90" in compiled.asm["ptx"]
    return len(compiled.asm["cubin"])


if __name__ == "__main__":
    main()
