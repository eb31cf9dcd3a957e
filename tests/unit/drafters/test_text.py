"""Drafting from text: what repeats is found, what others said is not, and bounds hold."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.drafters import DrafterConfig, create_drafter
from engine.drafters.base import DraftSession, DraftVerdict, DraftWork
from engine.drafters.text.history import TextHistory
from engine.drafters.text.ngram_tree import NGramTreeDrafter
from engine.drafters.text.recent_ngrams import RecentNGrams
from engine.drafters.text.suffix_automaton import SuffixAutomaton
from engine.drafters.text.table import SCALE, NGramTable, TableManifest, pack, write_table
from engine.sampling import SamplingParams
from engine.tree import TokenTree

GREEDY = SamplingParams()
VOCAB = 50


def automaton_of(tokens: Sequence[int]) -> SuffixAutomaton:
    automaton = SuffixAutomaton()
    for token in tokens:
        automaton.append(token)
    return automaton


def longest_repeated(tokens: list[int], more: list[int]) -> tuple[int, set[int]] | None:
    """By trying all: length of the longest suffix that stood before, and where it was followed."""
    whole = tokens + more
    for length in range(len(whole) - 1, 0, -1):
        places = range(length, len(tokens))
        if found := {place for place in places if tokens[place - length : place] == whole[-length:]}:
            return length, found
    return None


@given(st.lists(st.integers(0, 2), max_size=30), st.lists(st.integers(0, 3), max_size=4))
def test_the_automaton_finds_what_a_search_finds(tokens: list[int], more: list[int]) -> None:
    expected = longest_repeated(tokens, more)
    found = automaton_of(tokens).occurrences(more, 3)

    assert [place.length for place in found] == sorted({place.length for place in found}, reverse=True)
    if expected is None:
        assert not found
    else:
        assert found[0].length == expected[0] and found[0].follower in expected[1]
    repeated = longest_repeated(tokens, [])
    assert automaton_of(tokens).longest_repeated() == (None if repeated is None else (repeated[0], max(repeated[1])))
    for place in found:
        assert (tokens + more)[-place.length :] == tokens[place.follower - place.length : place.follower]


def drafted(drafter: NGramTreeDrafter, tokens: Sequence[int], max_nodes: int = 8, keep_for: str = "") -> TokenTree:
    drafter.open([DraftSession(77, tuple(tokens), GREEDY, keep_for=keep_for)])
    (tree,) = drafter.propose([DraftWork(77, max_nodes)])
    drafter.close([77])
    return tree


def test_a_text_that_repeats_itself_is_drafted_whole() -> None:
    period = [5, 9, 3, 7, 11, 4]
    tree = drafted(NGramTreeDrafter(None, 8), period * 6)

    assert len(tree.follow((period * 3)[:8])) >= 7


def test_nothing_to_go_by_is_an_empty_draft() -> None:
    assert len(drafted(NGramTreeDrafter(None, 8), [4, 8, 15, 16, 23, 42])) == 0


def test_a_sequence_learns_how_far_its_repetitions_are_true() -> None:
    rng = random.Random(3)
    faithful = TextHistory([*range(10, 20)] * 6)
    faithless = TextHistory([token for _ in range(30) for token in (10, 11, rng.randrange(20, 50))])

    assert faithful.repeats(12) > 0.9
    assert faithless.repeats(2) < 0.2


def test_a_draft_branches_where_the_text_did_the_likelier_first() -> None:
    tokens = [1, 2, 3, 1, 2, 3, 1, 2, 4, 1, 2, 3, 9, 1, 2]

    tree = drafted(NGramTreeDrafter(None, 20), tokens, max_nodes=20)

    roots = [token for token, parent in zip(tree.token_ids, tree.parents, strict=True) if parent < 0]
    assert roots == [3, 4]


def test_two_interleaved_sequences_are_drafted_for_as_if_alone() -> None:
    rng = random.Random(1)
    texts = {1: [rng.randrange(6) for _ in range(60)], 2: [rng.randrange(6) for _ in range(60)]}
    drafter = NGramTreeDrafter(None, 8)
    drafter.open([DraftSession(number, tuple(text[:10]), GREEDY) for number, text in texts.items()])
    for length in range(10, 60, 5):
        for number, text in texts.items():
            (tree,) = drafter.propose([DraftWork(number, 8)])
            assert tree == drafted(NGramTreeDrafter(None, 8), text[:length])
            drafter.observe([DraftVerdict(number, tuple(text[length : length + 5]), 0)])


def served(drafter: NGramTreeDrafter, tokens: Sequence[int], keep_for: str) -> None:
    """A request that ends: the first two tokens were its prompt."""
    drafter.open([DraftSession(5, tuple(tokens[:2]), GREEDY, keep_for=keep_for)])
    drafter.observe([DraftVerdict(5, tuple(tokens[2:]), 0)])
    drafter.close([5])


def test_what_was_served_to_a_tenant_drafts_for_that_tenant_alone() -> None:
    drafter = NGramTreeDrafter(None, 8)
    served(drafter, [40, 41, 10, 11, 12, 13, 14], "acme")
    served(drafter, [40, 41, 20, 21, 22, 23, 24], "")

    assert drafted(drafter, [30, 10, 11], keep_for="acme").token_ids == (12, 13, 14)
    for other in ("", "globex"):
        assert len(drafted(drafter, [30, 10, 11], keep_for=other)) == 0
    for allowed in ("", "acme", "globex"):
        assert len(drafted(drafter, [30, 20, 21], keep_for=allowed)) == 0, "the tenant did not allow it"
    assert len(drafted(drafter, [40, 41], keep_for="acme")) == 0, "a prompt is not what was served"


def test_memory_is_bounded_and_the_oldest_go_first() -> None:
    ngrams = RecentNGrams(max_contexts=100)
    for number in range(1_000):
        ngrams.add(number, number, number + 1)
        for follower in range(10):
            ngrams.add(1_000_000, 1_000_000, follower)

    assert len(ngrams) == 100
    assert not ngrams.following(0, 0) and ngrams.following(999, 999) == {1_000: 0.5}
    assert len(ngrams.following(1_000_000, 1_000_000)) <= 6


# -- tables ------------------------------------------------------------------------------------------------------


def arrays_of(ngrams: dict[tuple[int, ...], dict[int, float]]) -> dict[str, np.ndarray]:
    contexts = sorted(ngrams, key=pack)
    shares = [sorted(ngrams[context].items(), key=lambda item: -item[1]) for context in contexts]
    ends = [context[-1] for context in contexts]
    return {
        "ranges": np.searchsorted(ends, np.arange(VOCAB + 1)).astype(np.uint32),
        "contexts": np.array([pack(context) for context in contexts], dtype=np.uint64),
        "starts": np.cumsum([0, *map(len, shares)]).astype(np.uint32),
        "followers": np.array([token for some in shares for token, _ in some], dtype=np.uint16),
        "probabilities": np.array([round(SCALE * prob) for some in shares for _, prob in some], dtype=np.uint8),
    }


@pytest.fixture
def table(tmp_path: Path) -> Path:
    write_table(
        tmp_path / "de",
        TableManifest("de", "target", "tokenizer", 2, 20, 5),
        {
            1: arrays_of({(3,): {7: 0.6}, (9,): {4: 0.8}}),
            2: arrays_of({(3, 9): {5: 0.4, 6: 0.2}}),
            3: arrays_of({(2, 3, 9): {6: 0.8}}),
        },
    )
    return tmp_path / "de"


def test_shorter_contexts_have_what_longer_ones_leave(table: Path) -> None:
    found = dict(NGramTable(table, VOCAB).following((2, 3, 9)))

    assert found == pytest.approx({6: 0.8 + 0.2 * 0.2, 5: 0.2 * 0.4, 4: 0.2 * 0.4 * 0.8}, abs=0.01)
    assert next(iter(found)) == 6
    assert NGramTable(table, VOCAB).following((8, 8, 8)) == ()


def test_a_table_drafts_where_the_sequence_says_nothing(table: Path) -> None:
    drafter = create_drafter(DrafterConfig("ngram_tree", VOCAB, model=table, max_nodes=8))
    assert isinstance(drafter, NGramTreeDrafter)

    tree = drafted(drafter, [2, 3, 9])

    assert tree.token_ids[0] == 6 and set(tree.token_ids) == {6, 5, 4}


def test_broken_tables_are_refused_by_name(table: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere/ngrams\.json is no manifest .*polydraft build ngram"):
        NGramTable(tmp_path / "nowhere", VOCAB)
    with pytest.raises(ValueError, match="contexts of 1 do not fit"):
        NGramTable(table, vocab_size=49)
    np.save(table / "starts.2.npy", np.zeros(5, dtype=np.uint32))
    with pytest.raises(ValueError, match=r"contexts of 2 do not fit each other .*build it again"):
        NGramTable(table, VOCAB)
    (table / "followers.3.npy").write_bytes(b"nonsense")
    np.save(table / "starts.2.npy", np.array([0, 2], dtype=np.uint32))
    with pytest.raises(ValueError, match=r"followers\.3\.npy cannot be read"):
        NGramTable(table, VOCAB)
    (table / "ngrams.json").write_text((table / "ngrams.json").read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(ValueError, match=r"has format 9, this release reads 1"):
        NGramTable(table, VOCAB)
