"""Every kernel that is timed against its reference, at the sizes that are timed, on inputs of its own."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from polydraft_kernels import ops
from polydraft_kernels.kv_pools import KVPools
from polydraft_kernels.packing import PackedTrees, SamplingRows, Walk
from torch import Tensor

from benchmarks.gpu import inputs
from benchmarks.gpu.figures import Figure, truth
from benchmarks.gpu.sizes import Sizes

SECTION = "Correctness"
ROW_COUNTS = (1, 2, 5, 17, 64, 300)
MAX_ERRORS = {torch.float32: 1e-5, torch.bfloat16: 4e-3, torch.float16: 5e-4}
"""|| out - ref || / || ref || of a linear layer: one rounding to the dtype."""
MAX_ATTENTION_ERROR = 1e-5
"""Float32 throughout."""


def check_kernels(sizes: Sizes) -> Iterator[Figure]:
    """One figure a kernel and property."""
    yield from _verification(sizes)
    yield from _attention(sizes)
    yield _compaction(sizes)
    yield from _linear(sizes)


def _verification(sizes: Sizes) -> Iterator[Figure]:
    logits_TV = inputs.random_logits(sizes, seed=101)
    trees = inputs.likely_trees(sizes, logits_TV)
    on_host = PackedTrees(
        trees.tokens_T.cpu(), trees.parents_T.cpu(), trees.row_offsets_B1.cpu(), trees.max_draft_len, trees.max_children
    )
    expected = ops.verify_greedy(logits_TV.cpu(), on_host)
    found = ops.verify_greedy(logits_TV, trees)
    yield truth(SECTION, "greedy verification equals the reference", _same_walk(found, expected))
    yield truth(SECTION, "and accepts all but the last token", bool((found.num_accepted_B > 0).any()))
    for temperature, top_k, top_p in ((0.8, 0, 1.0), (1.0, 50, 0.9)):
        rules = inputs.sampled_rows(sizes, temperature, top_k, top_p)
        expected = ops.verify_coupled(logits_TV.cpu(), on_host, _rows_on_host(rules))
        found = ops.verify_coupled(logits_TV, trees, rules)
        name = f"coupled verification at T = {temperature}, top-k {top_k}, top-p {top_p} equals the reference"
        yield truth(SECTION, name, _same_walk(found, expected))


def _attention(sizes: Sizes) -> Iterator[Figure]:
    case = inputs.attention_inputs(sizes, seed=102)
    arguments = (case.query_QTD, case.keys_HSD, case.values_HSD, case.slots_TL, case.lengths_T, case.scale)
    found_TQD = ops.tree_attention(*arguments)
    error = _relative_error(found_TQD, ops.tree_attention(*arguments, backend="reference"))
    yield truth(SECTION, "tree attention is near the reference", error <= MAX_ATTENTION_ERROR, f"error {error:.2g}")
    row = sizes.num_rows // 2
    alone = ops.tree_attention(
        case.query_QTD[:, row : row + 1],
        case.keys_HSD,
        case.values_HSD,
        case.slots_TL[row : row + 1],
        case.lengths_T[row : row + 1],
        case.scale,
    )
    is_same = torch.equal(alone[0], found_TQD[row]) or sizes.device.type == "cpu"
    yield truth(SECTION, "a row of it alone has the same bits", is_same, "promised on CUDA devices")


def _compaction(sizes: Sizes) -> Figure:
    kv = inputs.kv_pools(sizes, seed=103)
    expected = KVPools.of([pool.clone() for pool in kv.pools])
    moves = inputs.path_moves(sizes)
    ops.compact_kv(kv, *moves)
    ops.compact_kv(expected, *moves, backend="reference")
    is_same = all(map(torch.equal, kv.pools, expected.pools))
    return truth(SECTION, "compaction equals the reference", is_same)


def _linear(sizes: Sizes) -> Iterator[Figure]:
    for name, (num_inputs, num_outputs) in inputs.linear_shapes(sizes).items():
        rows_RI, weight_OI = inputs.linear_inputs(sizes, max(ROW_COUNTS), num_inputs, num_outputs, seed=104)
        found_RO = ops.fixed_linear(rows_RI, weight_OI)
        error = _relative_error(found_RO, rows_RI.double() @ weight_OI.double().T)
        yield truth(
            SECTION, f"fixed tiles, {name}: near float64", error <= MAX_ERRORS[sizes.dtype], f"error {error:.2g}"
        )
        if sizes.device.type == "cuda":
            is_same = all(
                torch.equal(ops.fixed_linear(rows_RI[:count], weight_OI), found_RO[:count]) for count in ROW_COUNTS
            )
            yield truth(SECTION, f"fixed tiles, {name}: bits do not depend on the number of rows", is_same)
            whole_RO = F.linear(rows_RI, weight_OI)
            num_same = sum(torch.equal(F.linear(rows_RI[:count], weight_OI), whole_RO[:count]) for count in ROW_COUNTS)
            note = "cuBLAS promises none of it"
            yield Figure(
                SECTION, f"cuBLAS, {name}: of {len(ROW_COUNTS)} row counts the same bits", num_same, "", note=note
            )


def _relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def _same_walk(found: Walk, expected: Walk) -> bool:
    pairs = (
        (found.num_accepted_B, expected.num_accepted_B),
        (found.free_token_B, expected.free_token_B),
        (found.path_BD, expected.path_BD),
    )
    return all(torch.equal(one.cpu(), other) for one, other in pairs)


def _rows_on_host(rules: SamplingRows) -> SamplingRows:
    return SamplingRows(
        rules.temperature_T.cpu(),
        rules.top_k_T.cpu(),
        rules.top_p_T.cpu(),
        rules.keys_T.cpu(),
        rules.positions_T.cpu(),
        rules.may_sample,
        rules.may_truncate,
    )
