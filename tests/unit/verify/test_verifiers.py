"""Which verifier may judge which drafts."""

from __future__ import annotations

import pytest
import torch
from polydraft_kernels.packing import PackedTrees, SamplingRows

from engine.drafters.base import DraftLaw
from engine.verify.verifiers import DEFAULT_VERIFIER, VERIFIERS, VerifyWork, one_hot_draft_probs, select_verifier

LAWFUL = {
    "greedy": set(DraftLaw),
    "coupled": set(DraftLaw),
    "chain_rejection": {DraftLaw.ONE_HOT, DraftLaw.CHAIN_EXACT},
    "block": {DraftLaw.ONE_HOT, DraftLaw.CHAIN_EXACT},
    "multi_round": {DraftLaw.ONE_HOT, DraftLaw.CHAIN_EXACT, DraftLaw.NO_REPLACEMENT},
}


@pytest.mark.parametrize("law", DraftLaw)
@pytest.mark.parametrize("name", VERIFIERS)
def test_a_verifier_is_selected_exactly_for_lawful_drafts(name: str, law: DraftLaw) -> None:
    if law in LAWFUL[name]:
        assert select_verifier(name, law, is_greedy=True) is VERIFIERS[name]
    else:
        with pytest.raises(ValueError, match=f"'{name}' cannot judge drafts of law '{law.value}'.*use 'coupled'"):
            select_verifier(name, law, is_greedy=True)


@pytest.mark.parametrize("law", DraftLaw)
@pytest.mark.parametrize("is_greedy", [True, False])
def test_the_default_is_lawful_for_everything(law: DraftLaw, is_greedy: bool) -> None:
    assert select_verifier(DEFAULT_VERIFIER, law, is_greedy=is_greedy).name == "coupled"


def test_greedy_is_refused_for_requests_that_sample() -> None:
    with pytest.raises(ValueError, match="the request samples"):
        select_verifier("greedy", DraftLaw.ONE_HOT, is_greedy=False)


def test_an_unknown_verifier_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="use one of greedy, coupled, chain_rejection, block, multi_round"):
        select_verifier("typical", DraftLaw.NONE, is_greedy=True)


def work(parents: list[int], rounds: list[int] | None) -> VerifyWork:
    trees = PackedTrees.pack([0], [[1] * len(parents)], [parents])
    num_rows = trees.num_rows
    rows = SamplingRows.build([1.0] * num_rows, [0] * num_rows, [1.0] * num_rows, [0] * num_rows, list(range(num_rows)))
    return VerifyWork(torch.zeros(num_rows, 3), trees, rows, rounds_B=None if rounds is None else torch.tensor(rounds))


@pytest.mark.parametrize("name", ["chain_rejection", "block"])
def test_verifiers_of_chains_refuse_a_tree(name: str) -> None:
    with pytest.raises(ValueError, match="tree has branches"):
        VERIFIERS[name].verify(work([-1, -1], [0]))


@pytest.mark.parametrize("name", ["chain_rejection", "block", "multi_round"])
def test_verifiers_by_law_refuse_work_without_rounds(name: str) -> None:
    with pytest.raises(ValueError, match="round counter"):
        VERIFIERS[name].verify(work([-1, 0], None))


def test_a_tree_that_branches_is_not_judged_as_if_drawn_without_chance() -> None:
    with pytest.raises(ValueError, match="no law of its drafts is given"):
        VERIFIERS["multi_round"].verify(work([-1, -1], [0]))


def test_one_hot_law_is_on_the_next_token_of_the_chain() -> None:
    trees = PackedTrees.pack([0, 0], [[2, 1], [1]], [[-1, 0], [-1]])

    probs_TV = one_hot_draft_probs(trees, 3)

    assert [probs_TV[row].tolist().index(1.0) for row in (0, 1, 3)] == [2, 1, 1]
    assert probs_TV.sum(dim=1).tolist() == [1.0] * 5
