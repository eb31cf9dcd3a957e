"""Drafters that draft for each other: who is asked for what, what it spares, and what its law is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from engine.drafters import DrafterConfig, create_drafter
from engine.drafters.allocation import Allocation, Judged
from engine.drafters.base import Drafter, DraftLaw, DraftSession, DraftVerdict, DraftWork, Placement
from engine.drafters.cascade import CascadeDrafter
from engine.drafters.lean_llama import Rows
from engine.drafters.lm import LMDrafter
from engine.sampling import SamplingParams
from engine.tree import TokenTree
from tests.fakes_drafter import EOS, VOCAB_SIZE, write_tiny_drafter

PROMPT = (3, 95, 41, 4, 7)
GREEDY = SamplingParams()


class Reciter:
    """Proposes what it was told follows, wherever it stands; notes what it was asked."""

    placement = Placement.TARGET
    law = DraftLaw.NONE

    def __init__(self, text: Sequence[int]) -> None:
        self._text = tuple(text)
        self.asked: list[DraftWork] = []
        self._lengths: dict[int, int] = {}

    def open(self, sessions: Sequence[DraftSession]) -> None:
        self._lengths |= {session.id: len(session.token_ids) - len(PROMPT) for session in sessions}

    def propose(self, work: Sequence[DraftWork]) -> list[TokenTree]:
        self.asked += work
        starts = [self._lengths[item.session_id] + len(item.assumed) for item in work]
        return [
            TokenTree.chain(self._text[start : start + item.max_nodes])
            for start, item in zip(starts, work, strict=True)
        ]

    def observe(self, verdicts: Sequence[DraftVerdict]) -> None:
        for verdict in verdicts:
            self._lengths[verdict.session_id] += len(verdict.token_ids)

    def prepare(self) -> bool:
        return False

    def close(self, session_ids: Sequence[int]) -> None:
        """Nothing to forget."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("drafter")
    write_tiny_drafter(path)
    return path


def chain_drafter(directory: Path, *, draws: bool = False) -> LMDrafter:
    config = DrafterConfig(
        "lm", VOCAB_SIZE, model=directory, dtype="float32", branching=1, min_confidence=0.0, draws=draws
    )
    drafter = create_drafter(config)
    assert isinstance(drafter, LMDrafter)
    return drafter


def count_passes(drafter: LMDrafter, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the rows of each pass."""
    passes: list[int] = []
    run = drafter._model.next_logits

    def counted(rows: Sequence[Rows], counts: Sequence[int]) -> torch.Tensor:
        passes.append(sum(counts))
        return run(rows, counts)

    monkeypatch.setattr(drafter._model, "next_logits", counted)
    return passes


def propose(drafter: Drafter, max_nodes: int, sampling: SamplingParams = GREEDY) -> TokenTree:
    drafter.open([DraftSession(0, PROMPT, sampling)])
    (tree,) = drafter.propose([DraftWork(0, max_nodes)])
    return tree


@pytest.mark.parametrize(
    ("num_right", "passes"),
    [(4, [5, 1]), (2, [5, 1, 1, 1]), (0, [5, 1, 1, 1, 1, 1])],
    ids=["all right", "two right", "none right"],
)
def test_what_the_second_expects_spares_the_first_passes(
    directory: Path, monkeypatch: pytest.MonkeyPatch, num_right: int, passes: list[int]
) -> None:
    alone = propose(chain_drafter(directory), 6)
    first = chain_drafter(directory)
    second = Reciter([*alone.token_ids[:num_right], *[EOS] * 8])
    found = count_passes(first, monkeypatch)

    tree = propose(CascadeDrafter(first, second, 6, allocation=Allocation(6)), 6)

    assert tree == alone
    assert found == passes


def test_the_second_goes_on_where_the_first_ends(directory: Path) -> None:
    alone = propose(chain_drafter(directory), 2)
    second = Reciter([50, 51, 52, 53, 54, 55])

    tree = propose(CascadeDrafter(chain_drafter(directory), second, 8, allocation=Allocation(2)), 5)

    assert tree == TokenTree.chain((*alone.token_ids, 52, 53, 54))
    assert second.asked[-1].assumed == alone.token_ids
    assert second.asked[-1].max_nodes == 3


def test_three_in_a_row(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third's guess goes along in the second's pass, the second's in the first's, and each goes on behind."""
    text = propose(chain_drafter(directory), 12).token_ids
    first, second, third = chain_drafter(directory), chain_drafter(directory), Reciter(text)
    passes = [count_passes(drafter, monkeypatch) for drafter in (first, second)]

    inner = CascadeDrafter(second, third, 12, allocation=Allocation(3))
    tree = propose(CascadeDrafter(first, inner, 12, allocation=Allocation(4)), 10)

    assert tree == TokenTree.chain(text[:10])
    assert passes[0] == [5], "four of its own in one pass"
    assert passes[1] == [5, 5], "a guess of four for the first, then three behind its four"


def test_nothing_goes_on_behind_the_end(directory: Path) -> None:
    text = (*propose(chain_drafter(directory), 2).token_ids,)
    second = Reciter(range(10))

    cascade = CascadeDrafter(chain_drafter(directory), second, 8, allocation=Allocation(2), eos_token_ids=[text[-1]])

    assert propose(cascade, 8).token_ids == text


def test_a_drawn_block_is_the_first_ones_own(directory: Path) -> None:
    """Exact review: with or without hints the law of what leaves the cascade is the first drafter's."""
    sampling = SamplingParams(1.0, seed=5)
    alone = propose(chain_drafter(directory, draws=True), 6, sampling)
    cascade = CascadeDrafter(chain_drafter(directory, draws=True), Reciter(alone.token_ids), 6)

    tree = propose(cascade, 6, sampling)

    assert cascade.law is DraftLaw.CHAIN_EXACT
    assert tree == alone
    assert tree.laws is not None
    assert alone.laws is not None
    assert torch.allclose(tree.laws, alone.laws, atol=1e-6)


def test_a_cascade_of_one_is_refused(directory: Path) -> None:
    with pytest.raises(ValueError, match="a cascade of 1 drafters is none"):
        create_drafter(DrafterConfig("cascade", VOCAB_SIZE, stages=(DrafterConfig("ngram", VOCAB_SIZE),)))


@pytest.mark.parametrize(
    ("tail_is_right", "pass_s", "expected"),
    [(True, 0.02, 0), (True, 0.0, 0), (False, 0.0, 6), (False, 1.0, 0)],
    ids=["dear and no better", "free but no better", "free and better", "never worth its time"],
)
def test_blocks_are_divided_by_what_pays(*, tail_is_right: bool, pass_s: float, expected: int) -> None:
    """The first drafter is right nine times of ten; the second always, or never."""
    allocation = Allocation()
    for number in range(400):
        num_own = allocation.num_own(6)
        is_right = number % 10 > 0
        own = list(range(num_own)) if is_right else []
        num_tail = 6 - num_own
        right = list(range(num_tail)) if tail_is_right else []
        tail = Judged(num_tail, num_tail, right) if is_right or not num_own else None
        allocation.observe_pass(num_own, pass_s)
        allocation.observe_round(Judged(num_own, num_own, own), tail)
        allocation.observe_wait(0.01)

    assert int(allocation.promised(6).argmax()) == expected
