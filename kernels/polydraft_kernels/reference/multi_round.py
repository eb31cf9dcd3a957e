"""Multi-round rejection of trees whose siblings were drawn without replacement (SpecInfer, 2305.09781; Yang et al.
2401.06706). B sessions, T rows, V vocabulary, K most children of a node.

At each node, with children x_1 .. x_n in the order in which they were drawn, and P = p, Q = q at first:

    accept x_i if u_i < P(x_i) / Q(x_i);  else  P <- norm((P - Q)+),  Q <- norm(Q without x_i)
    none accepted: emit y ~ P

An accepted child is the next node; at a leaf y ~ p. With one child a node it is chain rejection. p is the target's law
after all transforms, q the law that the first child was really drawn from; the second was drawn from q without the
first, and so on. All in float64, the randomness keyed as in `chain_rejection`, and by the place among the siblings.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from polydraft_kernels.noise import Stream
from polydraft_kernels.noise_rows import accept_uniforms, gumbel_rows
from polydraft_kernels.packing import PackedTrees, SamplingRows, Walk
from polydraft_kernels.reference.chains import residual_probs
from polydraft_kernels.reference.support import target_probs


def verify_multi_round(
    logits_TV: Tensor, trees: PackedTrees, draft_probs_TV: Tensor, rows: SamplingRows, rounds_B: Tensor
) -> Walk:
    """Verify trees whose law is known.

    Row t of `draft_probs_TV` is the law that the children of row t were drawn from, in the order of their rows; a
    leaf's is ignored. `rounds_B` int64 counts a request's rounds and never restarts.
    """
    target_probs_TV = target_probs(logits_TV, rows)
    rounds_T = rounds_B[trees.session_of_rows()]
    uniforms = accept_uniforms(rows.keys_T, rows.positions_T, rounds_T, max(trees.max_children, 1)).tolist()
    tokens, parents = trees.tokens_T.tolist(), trees.parents_T.tolist()
    paths: list[list[int]] = []
    ends: list[int] = []
    residuals: list[Tensor] = []
    # On the host: which row is looked at next depends on what was accepted.
    for first, end in pairwise(trees.row_offsets_B1.tolist()):
        children_of: dict[int, list[int]] = {}
        for row in range(1, end - first):
            children_of.setdefault(parents[first + row], []).append(row)
        path: list[int] = []
        here: int | None = 0
        while here is not None:
            at = first + here
            children = children_of.get(here, [])
            drawn = [tokens[first + child] for child in children]
            place, residual_V = _choose(target_probs_TV[at], draft_probs_TV[at], drawn, uniforms[at])
            here = None if place is None else children[place]
            path += [] if here is None else [here]
        paths.append(path)
        ends.append(first + (path[-1] if path else 0))
        residuals.append(residual_V)
    return _walk(paths, ends, residuals, trees, rows, rounds_B)


def candidate_rounds(target_V: Tensor, draft_V: Tensor, drawn: list[int]) -> Iterator[tuple[float, Tensor]]:
    """Of each candidate, once those before it are rejected: P(x) / Q(x), and what P is once it is rejected too, [V]."""
    residual_V, left_V = target_V, draft_V.double()
    for token in drawn:
        # A token that was not drawn from that law is never accepted, and leaves the laws as they are.
        ratio = 0.0
        if float(left_V[token]) > 0:
            now_V = left_V / left_V.sum()
            ratio = float(residual_V[token] / now_V[token])
            residual_V = residual_probs(residual_V[None], now_V[None])[0]
            left_V = left_V.index_fill(0, torch.tensor([token], device=left_V.device), 0.0)
        yield ratio, residual_V


def _choose(target_V: Tensor, draft_V: Tensor, drawn: list[int], uniforms: list[float]) -> tuple[int | None, Tensor]:
    """The place of the accepted one of `drawn`, or None; and the law that the target's own token then has, [V]."""
    residual_V = target_V
    for place, (ratio, residual_V) in enumerate(candidate_rounds(target_V, draft_V, drawn)):
        if uniforms[place] < ratio:
            return place, residual_V
    return None, residual_V


def _walk(
    paths: list[list[int]],
    ends: list[int],
    residuals: list[Tensor],
    trees: PackedTrees,
    rows: SamplingRows,
    rounds_B: Tensor,
) -> Walk:
    """The accepted paths, and a token drawn from the residual law behind each."""
    device = rounds_B.device
    padded = [path + [-1] * (trees.max_draft_len - len(path)) for path in paths]
    num_accepted_B = torch.tensor([len(path) for path in paths], dtype=torch.int64, device=device)
    path_BD = torch.tensor(padded, dtype=torch.int64, device=device).view(len(paths), trees.max_draft_len)
    if not paths:
        return Walk(num_accepted_B, num_accepted_B, path_BD)
    residual_BV, rows_B = torch.stack(residuals), torch.tensor(ends, device=device)
    noise_BV = gumbel_rows(
        rows.keys_T[rows_B], rows.positions_T[rows_B], residual_BV.shape[1], stream=Stream.ACCEPT, rounds_T=rounds_B
    )
    return Walk(num_accepted_B, (residual_BV.log() + noise_BV).argmax(dim=1), path_BD)
