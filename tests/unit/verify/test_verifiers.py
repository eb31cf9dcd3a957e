"""Which verifier may judge which drafts."""

from __future__ import annotations

import pytest
import torch
from polydraft_kernels.packing import PackedTrees, SamplingRows
from torch import Tensor

from engine.drafters.base import DraftLaw
from engine.verify.verifiers import DEFAULT_VERIFIER, VERIFIERS, VerifyWork, one_hot_laws, select_verifier

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


def work(parents: list[int], rounds: list[int] | None, laws: Tensor | None) -> VerifyWork:
    trees = PackedTrees.pack([0], [[1] * len(parents)], [parents])
    num_rows = trees.num_rows
    rows = SamplingRows.build([1.0] * num_rows, [0] * num_rows, [1.0] * num_rows, [0] * num_rows, list(range(num_rows)))
    return VerifyWork(torch.zeros(num_rows, 3), trees, rows, laws, None if rounds is None else torch.tensor(rounds))


@pytest.mark.parametrize("name", ["chain_rejection", "block"])
def test_verifiers_of_chains_refuse_a_tree(name: str) -> None:
    with pytest.raises(ValueError, match="tree has branches"):
        VERIFIERS[name].verify(work([-1, -1], [0], torch.zeros(3, 3)))


@pytest.mark.parametrize("name", ["chain_rejection", "block", "multi_round"])
def test_verifiers_by_law_refuse_work_without_rounds_or_law(name: str) -> None:
    with pytest.raises(ValueError, match="round counter"):
        VERIFIERS[name].verify(work([-1, 0], None, torch.zeros(3, 3)))
    with pytest.raises(ValueError, match="needs that law"):
        VERIFIERS[name].verify(work([-1, 0], [0], None))


def test_one_hot_laws_are_on_the_next_token_of_the_chain() -> None:
    assert one_hot_laws([2, 1], 3).tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]
