"""Multi-round rejection gives the target's law whatever tree was drawn: exactly by enumeration, and as it is served."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch
from polydraft_kernels.noise import Stream, signed_key
from polydraft_kernels.noise_rows import gumbel_rows
from polydraft_kernels.reference.multi_round import candidate_rounds

from engine.tree import TokenTree
from engine.verify.verifiers import VERIFIERS
from tests.unit.verify.toy_tables import (
    Draft,
    Laws,
    Prefix,
    TableModel,
    chi_square_p_value,
    count_texts,
    draft_chains,
    first_tokens_law,
    generate,
    verify_work,
)

TARGET = np.array([0.5, 0.3, 0.2])
DRAFT = np.array([0.2, 0.3, 0.5])
EXACT = 1e-12
NUM_SEEDS = 10_000

Draws = Callable[[Laws, int], Iterator[tuple[tuple[int, ...], float]]]
"""(law, count) -> each way to draw so many siblings, and its probability."""


def without_replacement(law_V: Laws, count: int) -> Iterator[tuple[tuple[int, ...], float]]:
    for drawn in itertools.permutations(range(len(law_V)), count):
        probability, left = 1.0, 1.0
        for token in drawn:
            probability *= law_V[token] / left
            left -= law_V[token]
        yield drawn, probability


def likeliest(law_V: Laws, count: int) -> Iterator[tuple[tuple[int, ...], float]]:
    yield tuple(np.argsort(-law_V)[:count].tolist()), 1.0


def emitted_by(
    target: TableModel, drafter: TableModel, widths: Sequence[int], draws: Draws, prefix: Prefix = ()
) -> dict[Prefix, float]:
    """Probability of each text that one round emits behind a prefix, over all trees and accept patterns."""
    emitted: dict[Prefix, float] = {}

    def add(texts: dict[Prefix, float], weight: float) -> None:
        for text, probability in texts.items():
            emitted[text] = emitted.get(text, 0.0) + weight * probability

    target_V = torch.from_numpy(target.law(prefix))
    draft_V = torch.from_numpy(drafter.law(prefix)) if widths else target_V
    for drawn, probability in draws(draft_V.numpy(), widths[0]) if widths else [((), 1.0)]:
        left, free_V = probability, target_V
        for token, (ratio, residual_V) in zip(drawn, candidate_rounds(target_V, draft_V, [*drawn]), strict=True):
            accepted = min(ratio, 1.0)
            add(emitted_by(target, drafter, widths[1:], draws, (*prefix, token)), left * accepted)
            left, free_V = left * (1 - accepted), residual_V
        add({(*prefix, token): chance for token, chance in enumerate(free_V.tolist())}, left)
    return emitted


@pytest.mark.parametrize(
    ("vocab_size", "widths"), [(3, (1,)), (3, (2,)), (4, (3,)), (3, (2, 2)), (4, (2, 2)), (3, (3, 1, 2))]
)
@pytest.mark.parametrize("seed", range(3))
def test_the_law_is_the_targets(seed: int, vocab_size: int, widths: tuple[int, ...]) -> None:
    depth = len(widths)
    target, drafter = TableModel(vocab_size, depth, 40 + seed), TableModel(vocab_size, depth, 50 + seed)

    law = first_tokens_law(emitted_by(target, drafter, widths, without_replacement), target, depth + 1)

    assert np.abs(law - target.joint_law(depth + 1)).max() < EXACT


def stationary(law_V: Laws, depth: int) -> TableModel:
    model = TableModel(len(law_V), depth, 0)
    model.laws_NV[:] = law_V
    return model


@pytest.mark.parametrize(("count", "accepted"), [(1, 0.70), (2, 0.82)])
def test_toy_vector(count: int, accepted: float) -> None:
    total = 0.0
    for drawn, probability in without_replacement(DRAFT, count):
        left = 1.0
        for ratio, _ in candidate_rounds(torch.from_numpy(TARGET), torch.from_numpy(DRAFT), [*drawn]):
            left *= 1 - min(ratio, 1.0)
        total += probability * (1 - left)

    assert total == pytest.approx(accepted, abs=EXACT)


def test_negative_likeliest_children_under_a_soft_law_are_lossy() -> None:
    """Released code drafts the top k at temperature 0 and judges them by the soft law: right at temperature 0 only."""
    target, drafter = stationary(TARGET, 1), stationary(DRAFT, 1)

    law = first_tokens_law(emitted_by(target, drafter, (2,), likeliest), target, 1)

    assert np.abs(law - TARGET).sum() / 2 > 0.05


def test_negative_dropping_children_by_their_value_is_lossy() -> None:
    def pruned(law_V: Laws, count: int) -> Iterator[tuple[tuple[int, ...], float]]:
        for drawn, probability in without_replacement(law_V, count):
            yield tuple(token for token in drawn if law_V[token] >= 0.25), probability

    target, drafter = stationary(TARGET, 1), stationary(DRAFT, 1)

    law = first_tokens_law(emitted_by(target, drafter, (2,), pruned), target, 1)

    assert np.abs(law - TARGET).sum() / 2 > 0.02


def draft_trees(model: TableModel, widths: Sequence[int]) -> Draft:
    """Trees whose siblings are the largest of log q + Gumbel noise of the drafter's own: drawn without replacement.

    Nodes of one depth share their noise: only one of them is ever gone on from, and which one their noise has not told.
    """
    log_laws_NV = torch.from_numpy(model.laws_NV).log()

    def draft(texts: Sequence[Prefix], seeds: Sequence[int], round_index: int) -> list[TokenTree]:
        keys_B = torch.tensor([signed_key(seed) for seed in seeds])
        noise_DBV = [
            gumbel_rows(
                keys_B,
                torch.tensor([len(text) + depth for text in texts]),
                model.vocab_size,
                stream=Stream.DRAFTER,
                rounds_T=torch.full_like(keys_B, round_index),
            )
            for depth in range(len(widths))
        ]
        return [grow(text, [noise_BV[session] for noise_BV in noise_DBV]) for session, text in enumerate(texts)]

    def grow(text: Prefix, noise_DV: Sequence[torch.Tensor]) -> TokenTree:
        token_ids: list[int] = []
        parents: list[int] = []
        level: list[tuple[int, Prefix]] = [(-1, text)]
        for width, noise_V in zip(widths, noise_DV, strict=True):
            below: list[tuple[int, Prefix]] = []
            for parent, prefix in level:
                for token in (log_laws_NV[model.index[prefix]] + noise_V).topk(width).indices.tolist():
                    below.append((len(parents), (*prefix, token)))
                    token_ids.append(token)
                    parents.append(parent)
            level = below
        return TokenTree(tuple(token_ids), tuple(parents), (0,) * len(parents))

    return draft


def test_sampled_texts_follow_the_target_law() -> None:
    target, drafter = TableModel(3, 6, 6), TableModel(3, 6, 7)
    texts, num_accepted = generate(
        target, draft_trees(drafter, (2, 2)), VERIFIERS["multi_round"], range(NUM_SEEDS), 3, draft_model=drafter
    )

    assert chi_square_p_value(count_texts(texts, 3, 3), target.joint_law(3)) > 1e-4
    _, by_chains = generate(
        target,
        draft_chains(drafter, 2, Stream.DRAFTER),
        VERIFIERS["multi_round"],
        range(NUM_SEEDS),
        3,
        draft_model=drafter,
    )
    assert num_accepted > by_chains


def test_of_chains_it_is_chain_rejection() -> None:
    target, drafter = TableModel(3, 6, 6), TableModel(3, 6, 7)
    trees = draft_chains(drafter, 3, Stream.DRAFTER)([()] * 200, range(200), 0)

    work = verify_work(target, [()] * 200, trees, range(200), temperature=1.0, draft_model=drafter)
    walks = [VERIFIERS[name].verify(work) for name in ("multi_round", "chain_rejection")]

    assert walks[0].path_BD.tolist() == walks[1].path_BD.tolist()
    assert walks[0].free_token_B.tolist() == walks[1].free_token_B.tolist()
