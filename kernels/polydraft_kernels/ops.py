"""The kernels for callers: Triton on a CUDA device, torch elsewhere; the same results from both.

In Triton nothing waits for the device and no shape depends on data, so that a CUDA graph can hold every call. What a
graph then fixes is what is known on the host: shapes, `max_draft_len`, `max_children`, `may_sample`, `may_truncate`,
window, scale and soft cap.

`backend`: "auto" chooses by the device of the logits, "triton" and "reference" insist. Triton takes CPU tensors only
in its interpreter (TRITON_INTERPRET=1 set before the process starts).
"""

from __future__ import annotations

import os
import warnings
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Literal

from torch import Tensor

from polydraft_kernels.kv_pools import KVPools
from polydraft_kernels.packing import PackedTrees, SamplingRows, Walk
from polydraft_kernels.reference import catalogue as reference

Backend = Literal["auto", "triton", "reference"]


def verify_greedy(logits_TV: Tensor, trees: PackedTrees, backend: Backend = "auto") -> Walk:
    """Accept while the draft is the argmax (lowest id on ties). `logits_TV` float32, bfloat16 or float16."""
    walk: Walk = _implementation(logits_TV, backend).verify_greedy(logits_TV, trees)
    return walk


def verify_coupled(logits_TV: Tensor, trees: PackedTrees, rows: SamplingRows, backend: Backend = "auto") -> Walk:
    """Accept while the draft is the target's own sampled choice; rows of temperature 0 as `verify_greedy`."""
    walk: Walk = _implementation(logits_TV, backend).verify_coupled(logits_TV, trees, rows)
    return walk


def verify_chain_rejection(
    logits_TV: Tensor,
    trees: PackedTrees,
    draft_probs_TV: Tensor,
    rows: SamplingRows,
    rounds_B: Tensor,
    backend: Backend = "auto",
) -> Walk:
    """Rejection sampling of chains; row t of `draft_probs_TV` is the law that the token of row t + 1 was drawn from.

    `draft_probs_TV` float64 or float32; a session's last row of it is ignored. `rounds_B` int64 counts a request's
    rounds and never restarts. ValueError if a tree is not a chain.
    """
    implementation = _implementation(logits_TV, backend)
    walk: Walk = implementation.verify_chain_rejection(logits_TV, trees, draft_probs_TV, rows, rounds_B)
    return walk


def verify_block(
    logits_TV: Tensor,
    trees: PackedTrees,
    draft_probs_TV: Tensor,
    rows: SamplingRows,
    rounds_B: Tensor,
    backend: Backend = "auto",
) -> Walk:
    """Block verification of chains, which accepts no less than rejection sampling; arguments as there."""
    walk: Walk = _implementation(logits_TV, backend).verify_block(logits_TV, trees, draft_probs_TV, rows, rounds_B)
    return walk


def verify_multi_round(
    logits_TV: Tensor,
    trees: PackedTrees,
    draft_probs_TV: Tensor,
    rows: SamplingRows,
    rounds_B: Tensor,
    backend: Backend = "auto",
) -> Walk:
    """Multi-round rejection of trees whose siblings were drawn without replacement; of chains chain rejection.

    Row t of `draft_probs_TV` is the law that the children of row t were drawn from, in the order of their rows; a
    leaf's is ignored. The rest is as there.
    """
    implementation = _implementation(logits_TV, backend)
    walk: Walk = implementation.verify_multi_round(logits_TV, trees, draft_probs_TV, rows, rounds_B)
    return walk


def choose_greedy(logits_TV: Tensor, backend: Backend = "auto") -> Tensor:
    """Most likely token of each row, int64 [T]."""
    choices_T: Tensor = _implementation(logits_TV, backend).choose_greedy(logits_TV)
    return choices_T


def choose_coupled(logits_TV: Tensor, rows: SamplingRows, backend: Backend = "auto") -> Tensor:
    """Sampled token of each row, int64 [T]."""
    choices_T: Tensor = _implementation(logits_TV, backend).choose_coupled(logits_TV, rows)
    return choices_T


def walk_trees(trees: PackedTrees, choices_T: Tensor, backend: Backend = "auto") -> Walk:
    """Accepted path of each session, given the choice at each row."""
    walk: Walk = _implementation(choices_T, backend).walk_trees(trees, choices_T)
    return walk


def tree_attention(
    query_QTD: Tensor,
    keys_HSD: Tensor,
    values_HSD: Tensor,
    slots_TL: Tensor,
    lengths_T: Tensor,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Attention in which row t sees the slots `slots_TL[t, :lengths_T[t]]` in order of positions, float32 [T, Q, D].

    Query heads hG to hG + G - 1 read KV head h. Floats of any dtype, their last dimension contiguous; slots and lengths
    (at least 1) int64. A window leaves the last positions visible. A row's bits depend on its own query and keys alone.
    """
    implementation = _implementation(query_QTD, backend)
    inputs = (query_QTD, keys_HSD, values_HSD, slots_TL, lengths_T)
    output_TQD: Tensor = implementation.tree_attention(*inputs, scale, window, softcap)
    return output_TQD


def fixed_linear(rows_RI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None, backend: Backend = "auto") -> Tensor:
    """`rows_RI @ weight_OI.T + bias_O` [R, O], summed in float32 and rounded once; one dtype, rows contiguous.

    On a CUDA device the bits of a row do not depend on the other rows or their number.
    """
    output_RO: Tensor = _implementation(rows_RI, backend).fixed_linear(rows_RI, weight_OI, bias_O)
    return output_RO


def compact_kv(kv: KVPools, from_slots_N: Tensor, to_slots_N: Tensor, backend: Backend = "auto") -> None:
    """Copy slots within every KV pool, in place; no target may be the source of a later move."""
    _implementation(from_slots_N, backend).compact_kv(kv, from_slots_N, to_slots_N)


def _implementation(tensor: Tensor, backend: Backend) -> ModuleType:
    if backend == "reference" or (backend == "auto" and tensor.device.type != "cuda"):
        return reference
    if backend == "triton" and tensor.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(
            f"backend 'triton' was asked for with tensors on {tensor.device.type}; "
            "move them to a CUDA device, set TRITON_INTERPRET=1, or use 'auto'"
        )
    module = _triton_module()
    if module is not None:
        return module
    if backend == "triton":
        raise ValueError("backend 'triton' was asked for but Triton is not installed; install it or use 'auto'")
    return reference


@lru_cache(maxsize=1)
def _triton_module() -> ModuleType | None:
    """The Triton implementation, or None with one warning a process."""
    try:
        return import_module("polydraft_kernels.triton.catalogue")
    except ImportError as error:
        warnings.warn(f"kernels run in torch because Triton cannot be imported: {error}", stacklevel=4)
        return None
