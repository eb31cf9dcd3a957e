"""Everything that `ops` offers from this folder."""

from __future__ import annotations

from polydraft_kernels.triton.block_verification import verify_block
from polydraft_kernels.triton.chain_rejection import verify_chain_rejection
from polydraft_kernels.triton.choose_coupled import choose_coupled
from polydraft_kernels.triton.choose_greedy import choose_greedy
from polydraft_kernels.triton.fixed_linear import fixed_linear
from polydraft_kernels.triton.kv_compaction import compact_kv
from polydraft_kernels.triton.multi_round import verify_multi_round
from polydraft_kernels.triton.tree_attention import tree_attention
from polydraft_kernels.triton.verify import verify_coupled, verify_greedy
from polydraft_kernels.triton.walk_trees import walk_trees

__all__ = [
    "choose_coupled",
    "choose_greedy",
    "compact_kv",
    "fixed_linear",
    "tree_attention",
    "verify_block",
    "verify_chain_rejection",
    "verify_coupled",
    "verify_greedy",
    "verify_multi_round",
    "walk_trees",
]
