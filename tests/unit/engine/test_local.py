"""What `generate` notes of each round."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from engine.drafters.base import DraftLaw, DraftSession, DraftVerdict, DraftWork, Placement
from engine.local import generate
from engine.session import Finish
from engine.tree import TokenTree
from tests.tiny_targets import VOCAB_SIZE
from tests.unit.engine.conftest import MakeEngine, make_requests

RIGHT = "right"
"""Stands in a tree below for the token that the target will choose at this depth."""


class ScriptedDrafter:
    """Drafts one tree, with right tokens where it says so, then nothing."""

    placement = Placement.TIER
    law = DraftLaw.NONE

    def __init__(self, answer: Sequence[int], tokens: Sequence[str], parents: Sequence[int]) -> None:
        depths = TokenTree((0,) * len(parents), tuple(parents), (0,) * len(parents)).depths()
        rights = [answer[depth] for depth in depths]  # prefill itself gives answer[0]
        ids = [t if kind == RIGHT else (t + 1) % VOCAB_SIZE for kind, t in zip(tokens, rights, strict=True)]
        self._trees = [TokenTree(tuple(ids), tuple(parents), (0,) * len(ids))]

    def open(self, sessions: Sequence[DraftSession]) -> None:
        pass

    def observe(self, verdicts: Sequence[DraftVerdict]) -> None:
        pass

    def prepare(self) -> bool:
        return False

    def close(self, session_ids: Sequence[int]) -> None:
        pass

    def propose(self, work: Sequence[DraftWork]) -> list[TokenTree]:
        return [self._trees.pop() if self._trees else TokenTree() for _ in work]


@pytest.mark.parametrize(
    ("tokens", "parents", "accepted", "compared"),
    [
        ([], [], 0, 0),
        (["wrong"], [-1], 0, 1),
        ([RIGHT], [-1], 1, 1),
        ([RIGHT, RIGHT, "wrong", RIGHT], [-1, 0, 1, 2], 2, 3),
        # The right branch comes second and ends there; the wrong one goes on, which nobody asks about.
        (["wrong", RIGHT, "wrong", "wrong"], [-1, -1, 0, 2], 1, 1),
        (["wrong", RIGHT, "wrong", "wrong"], [-1, -1, 1, 2], 1, 2),
    ],
)
def test_a_round_compares_as_deep_as_the_chosen_path_was_drafted(
    make_engine: MakeEngine, tokens: list[str], parents: list[int], accepted: int, compared: int
) -> None:
    (request,) = make_requests(1)
    (plain,) = generate(make_engine(), [request], ScriptedDrafter([], [], [])).values()
    assert len(plain.token_ids) > 5, "the answer is too short for the trees below"

    (answer,) = generate(make_engine(), [request], ScriptedDrafter(plain.token_ids, tokens, parents)).values()

    first = answer.rounds[0]
    assert answer.token_ids == plain.token_ids
    assert (first.num_tokens, first.num_drafted) == (accepted + 1, len(tokens))
    assert (first.num_accepted, first.num_compared) == (accepted, compared)


def test_an_accepted_eos_is_neither_accepted_nor_compared(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    (request,) = make_requests(1)
    (plain,) = generate(engine, [request], ScriptedDrafter([], [], [])).values()
    end = next(place for place in range(2, 6) if plain.token_ids[place] not in plain.token_ids[:place])
    monkeypatch.setattr(engine.target, "eos_ids", frozenset({plain.token_ids[end]}))

    drafter = ScriptedDrafter(plain.token_ids, [RIGHT] * end, range(-1, end - 1))
    (answer,) = generate(engine, [request], drafter).values()

    (only,) = answer.rounds
    assert (answer.token_ids, answer.finish) == (plain.token_ids[:end], Finish.EOS)
    assert (only.num_tokens, only.num_accepted, only.num_compared) == (end - 1, end - 1, end - 1)
