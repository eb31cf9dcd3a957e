"""Every verifier gives the target's law: exactly by enumeration, and the code that samples by chi-square.

Toy vectors: target (.5, .3, .2), draft (.2, .3, .5).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from polydraft_kernels.noise import Stream
from polydraft_kernels.packing import Walk
from polydraft_kernels.reference.block_verification import acceptance_probs, path_weights
from polydraft_kernels.reference.chains import probability_ratios, residual_probs, surplus

from engine.tree import TokenTree
from engine.verify.verifiers import VERIFIERS, VerifyWork
from tests.unit.verify.toy_tables import (
    Laws,
    Prefix,
    TableModel,
    chi_square_p_value,
    count_texts,
    coupled_joint_law,
    draft_chains,
    first_tokens_law,
    generate,
    verify_work,
)

TARGET = np.array([0.5, 0.3, 0.2])
DRAFT = np.array([0.2, 0.3, 0.5])
EXACT = 1e-12
SIZES = [(2, 1), (2, 4), (3, 2), (3, 3), (4, 2)]
NUM_SEEDS = 50_000


def one_step(target_V: Laws, draft_V: Laws, token: int) -> tuple[float, Laws]:
    """Acceptance probability and residual law, by the functions that the sampler uses."""
    target_1V, draft_1V = torch.from_numpy(target_V)[None], torch.from_numpy(draft_V)[None]
    ratio = probability_ratios(target_1V, draft_1V, torch.tensor([token]))
    return float(ratio.clamp_max(1.0)[0]), residual_probs(target_1V, draft_1V)[0].numpy()


def chain_rejection_round(
    target: TableModel, drafter: TableModel, num_drafted: int
) -> tuple[dict[Prefix, float], float]:
    """Probability of each emitted text of one round, over all drafts and accept patterns; and mean accepted tokens."""
    emitted: dict[Prefix, float] = {}
    mean_accepted = 0.0
    for chain in itertools.product(range(target.vocab_size), repeat=num_drafted):
        reached = drafter.probability(chain, 0)
        for place, token in enumerate(chain):
            prefix = chain[:place]
            acceptance, residual_V = one_step(target.law(prefix), drafter.law(prefix), token)
            for emission, probability in enumerate(residual_V):
                text = (*prefix, emission)
                emitted[text] = emitted.get(text, 0.0) + reached * (1 - acceptance) * probability
            reached *= acceptance
            mean_accepted += reached
        for emission, probability in enumerate(target.law(chain)):
            text = (*chain, emission)
            emitted[text] = emitted.get(text, 0.0) + reached * probability
    return emitted, mean_accepted


def block_round(target: TableModel, drafter: TableModel, num_drafted: int) -> tuple[dict[Prefix, float], float]:
    """The same for block verification, by the functions that the sampler uses."""
    emitted: dict[Prefix, float] = {}
    mean_accepted = 0.0
    for chain in itertools.product(range(target.vocab_size), repeat=num_drafted):
        prefixes = [chain[:place] for place in range(num_drafted + 1)]
        target_NV = torch.from_numpy(np.array([target.law(prefix) for prefix in prefixes]))
        draft_NV = torch.from_numpy(
            np.array([drafter.law(prefix) for prefix in prefixes[:-1]] + [np.zeros(target.vocab_size)])
        )
        weights_N = path_weights(probability_ratios(target_NV[:-1], draft_NV[:-1], torch.tensor(chain))[None])[0]
        acceptance_N = acceptance_probs(weights_N, surplus(target_NV, draft_NV, weights_N).sum(dim=1))
        residual_NV = residual_probs(target_NV, draft_NV, weights_N)
        # The longest prefix whose uniform says yes, so all longer ones said no; the empty one needs no uniform.
        left = drafter.probability(chain, 0)
        for num_accepted in range(num_drafted, -1, -1):
            ends_here = left * (float(acceptance_N[num_accepted]) if num_accepted else 1.0)
            left -= ends_here
            mean_accepted += num_accepted * ends_here
            for emission, probability in enumerate(residual_NV[num_accepted].tolist()):
                text = (*chain[:num_accepted], emission)
                emitted[text] = emitted.get(text, 0.0) + ends_here * probability
    return emitted, mean_accepted


@pytest.mark.parametrize(("vocab_size", "num_drafted"), SIZES)
@pytest.mark.parametrize("seed", range(3))
def test_block_verification_has_the_target_law_and_accepts_no_less(
    seed: int, vocab_size: int, num_drafted: int
) -> None:
    target, drafter = TableModel(vocab_size, num_drafted, 20 + seed), TableModel(vocab_size, num_drafted, 30 + seed)

    emitted, mean_accepted = block_round(target, drafter, num_drafted)

    law = first_tokens_law(emitted, target, num_drafted + 1)
    assert np.abs(law - target.joint_law(num_drafted + 1)).max() < EXACT
    by_rejection = chain_rejection_round(target, drafter, num_drafted)[1]
    assert mean_accepted >= by_rejection - EXACT
    assert num_drafted == 1 or mean_accepted > by_rejection + 1e-4


def test_block_verification_of_equal_laws_accepts_everything() -> None:
    target = TableModel(3, 2, 1)

    assert block_round(target, target, 2)[1] == pytest.approx(2.0, abs=EXACT)


@pytest.mark.parametrize(("vocab_size", "num_drafted"), SIZES)
def test_chain_rejection_has_the_target_law(vocab_size: int, num_drafted: int) -> None:
    target, drafter = TableModel(vocab_size, num_drafted, 1), TableModel(vocab_size, num_drafted, 2)

    emitted, mean_accepted = chain_rejection_round(target, drafter, num_drafted)

    law = first_tokens_law(emitted, target, num_drafted + 1)
    assert np.abs(law - target.joint_law(num_drafted + 1)).max() < EXACT
    overlap = sum(
        np.prod([min(target.law(text[:i])[text[i]], drafter.law(text[:i])[text[i]]) for i in range(length)])
        for length in range(1, num_drafted + 1)
        for text in itertools.product(range(vocab_size), repeat=length)
    )
    assert mean_accepted == pytest.approx(overlap, abs=EXACT)


@pytest.mark.parametrize(("vocab_size", "num_drafted"), SIZES)
def test_coupled_verification_has_the_target_law(vocab_size: int, num_drafted: int) -> None:
    """Noise of different positions is independent, so a round is a product of exact joint laws of (draft, target)."""
    target, drafter = TableModel(vocab_size, num_drafted, 3), TableModel(vocab_size, num_drafted, 4)
    emitted: dict[Prefix, float] = {}
    reached: dict[Prefix, float] = {(): 1.0}
    for _ in range(num_drafted):
        going_on: dict[Prefix, float] = {}
        for prefix, probability in reached.items():
            joint_VV = coupled_joint_law(target.law(prefix), drafter.law(prefix))
            for drafted, chosen in itertools.product(range(vocab_size), repeat=2):
                where = going_on if drafted == chosen else emitted
                text = (*prefix, chosen)
                where[text] = where.get(text, 0.0) + probability * joint_VV[drafted, chosen]
        reached = going_on
    for prefix, probability in reached.items():
        for chosen in range(vocab_size):
            emitted[(*prefix, chosen)] = probability * target.law(prefix)[chosen]

    law = first_tokens_law(emitted, target, num_drafted + 1)

    assert np.abs(law - target.joint_law(num_drafted + 1)).max() < EXACT


@pytest.mark.parametrize(("vocab_size", "num_drafted"), SIZES)
def test_greedy_verification_writes_the_greedy_text_for_every_draft(vocab_size: int, num_drafted: int) -> None:
    """All chains that there are, through the real verifier: its law is one-hot."""
    target = TableModel(vocab_size, num_drafted, 5)
    greedy: Prefix = ()
    for _ in range(num_drafted + 1):
        greedy = (*greedy, int(target.law(greedy).argmax()))
    chains = list(itertools.product(range(vocab_size), repeat=num_drafted))
    trees = [TokenTree.chain(chain) for chain in chains]

    for name in VERIFIERS:
        work = verify_work(target, [()] * len(chains), trees, range(len(chains)), temperature=0.0)
        walk = VERIFIERS[name].verify(work)
        for session, chain in enumerate(chains):
            num_accepted = int(walk.num_accepted_B[session])
            agreed = [drafted == wanted for drafted, wanted in zip(chain, greedy, strict=False)]
            assert num_accepted == ([*agreed, False].index(False))
            assert (*chain[:num_accepted], int(walk.free_token_B[session])) == greedy[: num_accepted + 1]


def test_toy_vector_chain_rejection() -> None:
    accepted = sum(DRAFT[token] * one_step(TARGET, DRAFT, token)[0] for token in range(3))
    _, residual_V = one_step(TARGET, DRAFT, 0)

    assert accepted == pytest.approx(0.7, abs=EXACT)
    assert residual_V == pytest.approx([1.0, 0.0, 0.0], abs=EXACT)


def test_toy_vector_mean_accepted_of_a_stationary_chain() -> None:
    target, drafter = TableModel(2, 2, 0), TableModel(2, 2, 0)
    target.laws_NV[:] = [1 / 3, 2 / 3]
    drafter.laws_NV[:] = [2 / 3, 1 / 3]

    assert chain_rejection_round(target, drafter, 2)[1] == pytest.approx(10 / 9, abs=EXACT)
    assert block_round(target, drafter, 2)[1] == pytest.approx(11 / 9, abs=EXACT)


def test_toy_vector_coupling() -> None:
    joint_VV = coupled_joint_law(TARGET, DRAFT)

    assert np.diag(joint_VV) == pytest.approx([0.2, 3 / 13, 0.2], abs=EXACT)
    assert np.trace(joint_VV) == pytest.approx(0.630769, abs=5e-7)
    assert joint_VV.sum(axis=0) == pytest.approx(TARGET, abs=EXACT)
    assert joint_VV.sum(axis=1) == pytest.approx(DRAFT, abs=EXACT)


@pytest.mark.parametrize("seed", range(20))
def test_coupled_match_probability_lies_between_its_bounds(seed: int) -> None:
    target_V, draft_V = np.random.default_rng(seed).dirichlet([0.7] * 4, 2)
    distance = np.abs(target_V - draft_V).sum() / 2

    matched = np.trace(coupled_joint_law(target_V, draft_V))

    assert (1 - distance) / (1 + distance) - EXACT <= matched <= 1 - distance + EXACT


def test_a_token_that_the_draft_law_excludes_is_rejected() -> None:
    acceptance, residual_V = one_step(TARGET, np.array([0.0, 0.5, 0.5]), 0)

    assert acceptance == 0.0
    assert residual_V == pytest.approx([1.0, 0.0, 0.0])


def test_equal_laws_leave_the_target_law_as_residual() -> None:
    acceptance, residual_V = one_step(TARGET, TARGET, 1)

    assert acceptance == 1.0
    assert residual_V == pytest.approx(TARGET)


def test_negative_greedy_drafts_under_a_soft_draft_law_are_lossy() -> None:
    """What the check of lawfulness is for: the token was not drawn from the law that it is judged by."""
    token = int(DRAFT.argmax())
    acceptance, residual_V = one_step(TARGET, DRAFT, token)

    law = (1 - acceptance) * residual_V + acceptance * np.eye(3)[token]

    assert law == pytest.approx([0.6, 0.0, 0.4], abs=EXACT)


def test_negative_discarding_unsure_tokens_is_lossy() -> None:
    law = np.zeros(3)
    for token in range(3):
        acceptance, residual_V = one_step(TARGET, DRAFT, token)
        kept = (1 - acceptance) * residual_V + acceptance * np.eye(3)[token]
        law += DRAFT[token] * (TARGET if DRAFT[token] < 0.25 else kept)

    assert law == pytest.approx([0.4, 0.36, 0.24], abs=EXACT)
    assert np.abs(law - TARGET).sum() / 2 == pytest.approx(0.1, abs=EXACT)


def test_negative_a_lenient_review_within_a_cascade_is_lossy() -> None:
    """Its tokens no longer follow the reviewer's law by which they are judged then."""
    inner, reviewer, leniency = np.array([0.7, 0.2, 0.1]), DRAFT, 2.0
    accepted = np.minimum(1.0, leniency * reviewer / inner)
    rejected = float((inner * (1 - accepted)).sum())
    residual = np.maximum(reviewer - inner, 0.0) / np.maximum(reviewer - inner, 0.0).sum()
    leaves = inner * accepted + rejected * residual

    law = np.zeros(3)
    for token in range(3):
        acceptance, residual_V = one_step(TARGET, reviewer, token)
        law += leaves[token] * (acceptance * np.eye(3)[token] + (1 - acceptance) * residual_V)

    assert law == pytest.approx([0.604, 0.260, 0.136], abs=5e-4)


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        ("coupled", Stream.SHARED),
        ("coupled", Stream.DRAFTER),
        ("chain_rejection", Stream.DRAFTER),
        ("block", Stream.DRAFTER),
    ],
)
def test_sampled_texts_follow_the_target_law(name: str, stream: Stream) -> None:
    """Texts of three tokens over 50,000 seeds, written in rounds of two drafted tokens by the code that serves."""
    target, drafter = TableModel(3, 6, 6), TableModel(3, 6, 7)

    texts, _ = generate(
        target, draft_chains(drafter, 2, stream), VERIFIERS[name], range(NUM_SEEDS), 3, draft_model=drafter
    )

    counts, law = count_texts(texts, 3, 3), target.joint_law(3)
    assert chi_square_p_value(counts, law) > 1e-4
    assert np.abs(counts / NUM_SEEDS - law).sum() / 2 < 3 * (27 / NUM_SEEDS) ** 0.5


@pytest.mark.parametrize(
    ("name", "stream", "accepted"),
    [
        ("coupled", Stream.SHARED, 0.630769),
        ("coupled", Stream.DRAFTER, 0.29),
        ("chain_rejection", Stream.DRAFTER, 0.7),
        ("block", Stream.DRAFTER, 0.7),
    ],
)
def test_sampled_acceptance_of_the_toy_vector(name: str, stream: Stream, accepted: float) -> None:
    target, drafter = TableModel(3, 2, 0), TableModel(3, 2, 0)
    target.laws_NV[:], drafter.laws_NV[:] = TARGET, DRAFT

    texts, num_accepted = generate(
        target, draft_chains(drafter, 1, stream), VERIFIERS[name], range(NUM_SEEDS), 1, draft_model=drafter
    )

    assert chi_square_p_value(count_texts(texts, 3, 1), TARGET) > 1e-4
    # Four standard deviations of a proportion.
    assert abs(num_accepted / NUM_SEEDS - accepted) < 4 * (accepted * (1 - accepted) / NUM_SEEDS) ** 0.5


def test_sampled_acceptance_of_a_stationary_chain_under_block_verification() -> None:
    """The toy vector with 11/9 accepted tokens a round, through the code that serves."""
    target, drafter = TableModel(2, 5, 0), TableModel(2, 5, 0)
    target.laws_NV[:], drafter.laws_NV[:] = [1 / 3, 2 / 3], [2 / 3, 1 / 3]

    _, num_accepted = generate(
        target, draft_chains(drafter, 2, Stream.DRAFTER), VERIFIERS["block"], range(NUM_SEEDS), 1, draft_model=drafter
    )

    # Four standard deviations of a mean of numbers between 0 and 2.
    assert abs(num_accepted / NUM_SEEDS - 11 / 9) < 4 / NUM_SEEDS**0.5


def test_randomness_keyed_by_position_alone_would_bias_block_verification() -> None:
    """Why the round is part of the key: numbers that decided on dropped tokens must not decide again."""
    target, drafter = TableModel(3, 6, 6), TableModel(3, 6, 7)
    block = VERIFIERS["block"]

    def forget_the_round(work: VerifyWork) -> Walk:
        assert work.rounds_B is not None
        return block.verify(replace(work, rounds_B=torch.zeros_like(work.rounds_B)))

    def draft_in_round_zero(texts: Sequence[Prefix], seeds: Sequence[int], round_index: int) -> list[TokenTree]:
        return draft_chains(drafter, 2, Stream.DRAFTER)(texts, seeds, 0)

    forgetful = replace(block, verify=forget_the_round)
    texts, _ = generate(target, draft_in_round_zero, forgetful, range(NUM_SEEDS), 3, draft_model=drafter)

    assert chi_square_p_value(count_texts(texts, 3, 3), target.joint_law(3)) < 1e-6


def test_the_statistical_test_sees_a_wrong_law() -> None:
    """Greedy drafts judged by a soft law, through the real verifier: the negative control of the tests above."""
    target, drafter = TableModel(3, 2, 0), TableModel(3, 2, 0)
    target.laws_NV[:], drafter.laws_NV[:] = TARGET, DRAFT

    def draft_most_likely(texts: Sequence[Prefix], seeds: Sequence[int], round_index: int) -> list[TokenTree]:
        return [TokenTree.chain([2])] * len(texts)

    texts, _ = generate(
        target, draft_most_likely, VERIFIERS["chain_rejection"], range(NUM_SEEDS), 1, draft_model=drafter
    )

    assert count_texts(texts, 3, 1) / NUM_SEEDS == pytest.approx([0.6, 0.0, 0.4], abs=0.01)


@pytest.mark.parametrize("name", ["chain_rejection", "block"])
def test_one_hot_drafts_have_the_target_law(name: str) -> None:
    target = TableModel(3, 6, 8)

    def draft_fixed(texts: Sequence[Prefix], seeds: Sequence[int], round_index: int) -> list[TokenTree]:
        return [TokenTree.chain([2, 0])] * len(texts)

    texts, num_accepted = generate(target, draft_fixed, VERIFIERS[name], range(NUM_SEEDS), 3)

    assert num_accepted > 0
    assert chi_square_p_value(count_texts(texts, 3, 3), target.joint_law(3)) > 1e-4
