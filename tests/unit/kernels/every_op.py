"""One call of every op, for the tests that none of them waits for the device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from polydraft_kernels import ops

from tests.unit.kernels.attention_cases import SHAPES, make_attention_case, make_pools
from tests.unit.kernels.linear_cases import make_linear_case
from tests.unit.kernels.verify_cases import CHAINS, TREES, make_case, make_drawn_case

OPS = (
    "verify_greedy",
    "verify_coupled",
    "verify_chain_rejection",
    "verify_block",
    "verify_multi_round",
    "choose_greedy",
    "choose_coupled",
    "walk_trees",
    "tree_attention",
    "compact_kv",
    "fixed_linear",
)


def call_of(name: str, device: str) -> Callable[[], object]:
    """A call in Triton with inputs that are made already; rows of every rule of sampling."""
    tree = make_case("mixed", 130, torch.float32, device)
    chain = make_drawn_case(CHAINS["mixed_chains"], 130, torch.float32, device)
    chain_inputs = (chain.logits_TV, chain.trees, chain.draft_probs_TV, chain.rows, chain.rounds_B)
    drawn = make_drawn_case(TREES["mixed_trees"], 130, torch.float32, device)
    drawn_inputs = (drawn.logits_TV, drawn.trees, drawn.draft_probs_TV, drawn.rows, drawn.rounds_B)
    choices_T = torch.zeros(tree.trees.num_rows, dtype=torch.int64, device=device)
    attention = make_attention_case(SHAPES["plain"], (3, 70), 128, device)
    kv, slots = make_pools(device), torch.tensor([5, 6], device=device)
    linear = make_linear_case(5, 70, 40, torch.float32, device=device)
    calls: dict[str, Callable[[], object]] = {
        "verify_greedy": lambda: ops.verify_greedy(tree.logits_TV, tree.trees, "triton"),
        "verify_coupled": lambda: ops.verify_coupled(tree.logits_TV, tree.trees, tree.rows, "triton"),
        "verify_chain_rejection": lambda: ops.verify_chain_rejection(*chain_inputs, "triton"),
        "verify_block": lambda: ops.verify_block(*chain_inputs, "triton"),
        "verify_multi_round": lambda: ops.verify_multi_round(*drawn_inputs, "triton"),
        "choose_greedy": lambda: ops.choose_greedy(tree.logits_TV, "triton"),
        "choose_coupled": lambda: ops.choose_coupled(tree.logits_TV, tree.rows, "triton"),
        "walk_trees": lambda: ops.walk_trees(tree.trees, choices_T, "triton"),
        "tree_attention": lambda: ops.tree_attention(*attention.arguments(), "triton"),
        "compact_kv": lambda: ops.compact_kv(kv, slots, slots - 1, "triton"),
        "fixed_linear": lambda: ops.fixed_linear(*linear, backend="triton"),
    }
    return calls[name]
