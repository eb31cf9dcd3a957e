"""Table models small enough to know every law exactly, and a speculative loop over them. float64 throughout.

V tokens, N prefixes, B sessions, T packed rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from polydraft_kernels.noise import signed_key
from polydraft_kernels.noise_rows import gumbel_rows
from polydraft_kernels.packing import PackedTrees, SamplingRows
from torch import Tensor

from engine.tree import TokenTree
from engine.verify.verifiers import Verifier, VerifyWork, one_hot_laws

Prefix = tuple[int, ...]
Laws = NDArray[np.float64]
Draft = Callable[[Sequence[Prefix], Sequence[int], int], list[TokenTree]]
"""(texts, seeds, round) -> one tree a text."""


class TableModel:
    """A next-token law for every prefix up to a length, drawn from Dirichlet(0.7)."""

    def __init__(self, vocab_size: int, max_prefix: int, seed: int) -> None:
        self.vocab_size = vocab_size
        self.prefixes = [
            prefix for length in range(max_prefix + 1) for prefix in itertools.product(range(vocab_size), repeat=length)
        ]
        self.index = {prefix: number for number, prefix in enumerate(self.prefixes)}
        self.laws_NV: Laws = np.random.default_rng(seed).dirichlet([0.7] * vocab_size, len(self.prefixes))

    def law(self, prefix: Prefix) -> Laws:
        law_V: Laws = self.laws_NV[self.index[prefix]]
        return law_V

    def joint_law(self, num_tokens: int) -> Laws:
        """Probability of each text of that many tokens, in the order of `itertools.product`."""
        texts = itertools.product(range(self.vocab_size), repeat=num_tokens)
        return np.array([self.probability(text, 0) for text in texts])

    def probability(self, text: Prefix, start: int) -> float:
        """Of the tokens of `text` from `start` on, given those before."""
        return float(np.prod([self.law(text[:place])[text[place]] for place in range(start, len(text))]))


def coupled_joint_law(target_V: Laws, draft_V: Laws) -> Laws:
    """Pr[draft = i, target = j] when both are argmin of E / probability over the same exponential noise, [V, V].

    Diagonal: 1 / sum_k max(p_k / p_j, q_k / q_j). Beside it, with r = E_i / E_j and everything else integrated out:
    the integral over q_i / q_j > r > p_i / p_j of dr / c(r)^2, c(r) = 1 + r + sum_k max(p_k / p_j, r q_k / q_i), which
    is piecewise linear.
    """
    vocab_size = len(target_V)
    joint_VV = np.zeros((vocab_size, vocab_size))
    for draft, target in itertools.product(range(vocab_size), repeat=2):
        by_target_V, by_draft_V = target_V / target_V[target], draft_V / draft_V[draft]
        if draft == target:
            joint_VV[draft, target] = 1 / np.maximum(by_target_V, by_draft_V).sum()
            continue
        low, high = by_target_V[draft], 1 / by_draft_V[target]
        others = [token for token in range(vocab_size) if token not in (draft, target)]
        breaks = [by_target_V[token] / by_draft_V[token] for token in others]
        edges = [low, *sorted(edge for edge in breaks if low < edge < high), high]
        for left, right in itertools.pairwise(edges) if high > low else ():
            middle = (left + right) / 2
            grows = [token for token in others if by_draft_V[token] * middle > by_target_V[token]]
            constant = 1 + sum(by_target_V[token] for token in others if token not in grows)
            slope = 1 + sum(by_draft_V[token] for token in grows)
            joint_VV[draft, target] += (1 / (constant + slope * left) - 1 / (constant + slope * right)) / slope
    return joint_VV


def first_tokens_law(emitted: dict[Prefix, float], model: TableModel, num_tokens: int) -> Laws:
    """Law of the first tokens when the target goes on alone after what a round emitted."""
    law = np.zeros(model.vocab_size**num_tokens)
    for number, text in enumerate(itertools.product(range(model.vocab_size), repeat=num_tokens)):
        for start in range(num_tokens + 1):
            law[number] += emitted.get(text[:start], 0.0) * model.probability(text, start)
    return law


def draft_chains(model: TableModel, num_tokens: int, stream: int) -> Draft:
    """Chains drawn from the model by Gumbel argmax; stream 0 shares the target's noise, others are keyed by round."""
    log_laws_NV = torch.from_numpy(model.laws_NV).log()

    def draft(texts: Sequence[Prefix], seeds: Sequence[int], round_index: int) -> list[TokenTree]:
        keys_B = torch.tensor([signed_key(seed) for seed in seeds])
        grown = list(texts)
        for _ in range(num_tokens):
            positions_B = torch.tensor([len(text) for text in grown])
            rounds_B = torch.full_like(keys_B, 0 if stream == 0 else round_index)
            noise_BV = gumbel_rows(keys_B, positions_B, model.vocab_size, stream=stream, rounds_T=rounds_B)
            scores_BV = log_laws_NV[[model.index[text] for text in grown]] + noise_BV
            grown = [(*text, token) for text, token in zip(grown, scores_BV.argmax(dim=1).tolist(), strict=True)]
        return [TokenTree.chain(new[len(old) :]) for old, new in zip(texts, grown, strict=True)]

    return draft


def generate(
    model: TableModel,
    draft: Draft,
    verifier: Verifier,
    seeds: Sequence[int],
    num_tokens: int,
    *,
    temperature: float = 1.0,
    draft_model: TableModel | None = None,
) -> tuple[list[Prefix], int]:
    """Texts of `num_tokens` tokens, one a seed, written in speculative rounds; and how many drafts were accepted."""
    texts: list[Prefix] = [() for _ in seeds]
    num_accepted = 0
    round_index = 0
    while True:
        active = [session for session, text in enumerate(texts) if len(text) < num_tokens]
        if not active:
            return [text[:num_tokens] for text in texts], num_accepted
        prefixes, keys = [texts[session] for session in active], [seeds[session] for session in active]
        trees = draft(prefixes, keys, round_index)
        work = verify_work(
            model,
            prefixes,
            trees,
            keys,
            temperature=temperature,
            round_index=round_index,
            draft_model=draft_model,
        )
        walk = verifier.verify(work)
        paths, free_tokens = walk.path_BD.tolist(), walk.free_token_B.tolist()
        for session, tree, path, free_token in zip(active, trees, paths, free_tokens, strict=True):
            accepted = [tree.token_ids[row - 1] for row in path if row >= 0]
            num_accepted += len(accepted)
            texts[session] = (*texts[session], *accepted, free_token)
        round_index += 1


def row_prefixes(texts: Sequence[Prefix], trees: Sequence[TokenTree]) -> list[Prefix]:
    """What each packed row has read."""
    prefixes: list[Prefix] = []
    for text, tree in zip(texts, trees, strict=True):
        of_nodes: list[Prefix] = []
        for token, parent in zip(tree.token_ids, tree.parents, strict=True):
            of_nodes.append((*(text if parent < 0 else of_nodes[parent]), token))
        prefixes += [text, *of_nodes]
    return prefixes


def laws_of_rows(model: TableModel, texts: Sequence[Prefix], trees: Sequence[TokenTree]) -> Tensor:
    """float64 [T, V]; rows beyond the longest prefix of the model get the law of its last one."""
    last = len(model.prefixes) - 1
    return torch.from_numpy(model.laws_NV)[[model.index.get(prefix, last) for prefix in row_prefixes(texts, trees)]]


def verify_work(
    model: TableModel,
    texts: Sequence[Prefix],
    trees: Sequence[TokenTree],
    seeds: Sequence[int],
    *,
    temperature: float,
    round_index: int = 0,
    draft_model: TableModel | None = None,
) -> VerifyWork:
    """One round: the trees drafted on the texts, packed, with the target's logits."""
    row_seeds = [seed for seed, tree in zip(seeds, trees, strict=True) for _ in range(len(tree) + 1)]
    positions = [len(prefix) for prefix in row_prefixes(texts, trees)]
    num_rows = len(positions)
    return VerifyWork(
        logits_TV=laws_of_rows(model, texts, trees).log(),
        trees=PackedTrees.pack(
            [text[-1] if text else 0 for text in texts],
            [tree.token_ids for tree in trees],
            [tree.parents for tree in trees],
        ),
        rows=SamplingRows.build([temperature] * num_rows, [0] * num_rows, [1.0] * num_rows, row_seeds, positions),
        draft_probs_TV=torch.cat([one_hot_laws(tree.token_ids, model.vocab_size) for tree in trees])
        if draft_model is None
        else laws_of_rows(draft_model, texts, trees),
        rounds_B=torch.full((len(texts),), round_index),
    )


def chi_square_p_value(counts: NDArray[np.int64], law: Laws) -> float:
    """Probability of counts at least as far from the law; cells with less than five to be expected are one."""
    is_rare = law * counts.sum() < 5
    counts = np.append(counts[~is_rare], counts[is_rare].sum())
    expected = np.append(law[~is_rare], law[is_rare].sum()) * counts.sum()
    if not is_rare.any():
        counts, expected = counts[:-1], expected[:-1]
    statistic = float(((counts - expected) ** 2 / expected).sum())
    half_freedom = torch.tensor((len(expected) - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(half_freedom, torch.tensor(statistic / 2, dtype=torch.float64)))


def count_texts(texts: Sequence[Prefix], vocab_size: int, num_tokens: int) -> NDArray[np.int64]:
    """How often each text came, in the order of `itertools.product`."""
    weights = vocab_size ** np.arange(num_tokens - 1, -1, -1)
    return np.bincount(np.array(texts) @ weights, minlength=vocab_size**num_tokens)
