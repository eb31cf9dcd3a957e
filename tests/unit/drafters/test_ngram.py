"""What the lookup finds."""

from __future__ import annotations

import random

import pytest

from engine.drafters.base import DraftSession, DraftVerdict, DraftWork
from engine.drafters.ngram import NGramDrafter
from engine.sampling import SamplingParams

EOS = 1


def proposed(tokens: tuple[int, ...], max_nodes: int = 4, sizes: tuple[int, ...] = (2, 3, 4)) -> tuple[int, ...]:
    drafter = NGramDrafter(sizes, max_nodes=16, eos_token_ids=(EOS,))
    drafter.open([DraftSession(0, tokens, SamplingParams())])
    return drafter.propose([DraftWork(0, max_nodes)])[0].token_ids


def brute_force(tokens: list[int], max_nodes: int, sizes: tuple[int, ...]) -> list[int]:
    """The definition: the longest suffix, its last earlier place, what follows read on into the draft."""
    for size in sorted(sizes, reverse=True):
        for start in range(len(tokens) - size - 1, -1, -1):
            if tokens[start : start + size] == tokens[-size:]:
                extended = list(tokens)
                for position in range(start + size, start + size + max_nodes):
                    extended.append(extended[position])
                return extended[len(tokens) :]
    return []


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ((5, 6, 7, 8, 9, 2, 5, 6), (7, 8, 9, 2)),
        ((5, 6, 7, 2, 5, 6, 8, 3, 5, 6), (8, 3, 5, 6)),
        ((9, 5, 6, 7, 2, 4, 5, 6, 8, 3, 9, 5, 6), (7, 2, 4, 5)),
        ((5, 6, 7, 8), ()),
        ((5, 6, 2, 6), ()),
        ((5,), ()),
    ],
    ids=["found", "most-recent-wins", "longest-wins", "nothing-recurs", "one-token-is-too-short", "one-token"],
)
def test_lookup(tokens: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert proposed(tokens) == expected


def test_a_loop_is_read_round_and_round() -> None:
    assert proposed((5, 6, 7, 5, 6, 7), max_nodes=8) == (5, 6, 7, 5, 6, 7, 5, 6)


def test_a_draft_ends_with_the_end_of_sequence() -> None:
    assert proposed((5, 6, 7, EOS, 9, 5, 6)) == (7, EOS)


def test_its_own_output_is_searched_too() -> None:
    drafter = NGramDrafter((2,), max_nodes=16)
    drafter.open([DraftSession(0, (2, 3, 4), SamplingParams())])

    drafter.observe([DraftVerdict(0, (5, 6, 7), 0)])
    drafter.observe([DraftVerdict(0, (5, 6), 0)])

    assert drafter.propose([DraftWork(0, 2)])[0].token_ids == (7, 5)


def test_the_index_finds_what_a_search_finds() -> None:
    rng = random.Random(0)
    num_found = 0
    for _ in range(300):
        tokens = [rng.randrange(2, 6) for _ in range(rng.randrange(1, 25))]
        sizes = rng.choice([(2,), (1, 2), (2, 3, 4), (3,)])
        expected = brute_force(tokens, 5, sizes)
        num_found += bool(expected)

        assert proposed(tuple(tokens), 5, sizes) == tuple(expected)

    assert num_found > 100


def test_sessions_do_not_see_each_other() -> None:
    drafter = NGramDrafter((2,), max_nodes=4)
    drafter.open([DraftSession(0, (5, 6, 7, 8), SamplingParams()), DraftSession(1, (5, 6), SamplingParams())])

    assert drafter.propose([DraftWork(1, 4)])[0].token_ids == ()
