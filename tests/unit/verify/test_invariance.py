"""Under the coupled verifier the text depends on the target and the seed alone, whatever was drafted."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from polydraft_kernels.noise import Stream

from engine.tree import TokenTree
from engine.verify.verifiers import VERIFIERS
from tests.unit.verify.toy_tables import Draft, Prefix, TableModel, draft_chains, generate

VOCAB_SIZE = 3
NUM_TOKENS = 6
SEEDS = [0, 1, 2, 2**63, 2**64 - 1, *range(100, 135)]
TARGET = TableModel(VOCAB_SIZE, 10, 11)
DRAFTER = TableModel(VOCAB_SIZE, 10, 12)


def same_tree(tree: TokenTree) -> Draft:
    """The same tree for every text."""

    def draft(texts: Sequence[Prefix], seeds: Sequence[int], round_index: int) -> list[TokenTree]:
        return [tree.without_duplicate_siblings()] * len(texts)

    return draft


def least_likely(texts: Sequence[Prefix], seeds: Sequence[int], round_index: int) -> list[TokenTree]:
    """Tokens that the target is least likely to choose."""
    trees: list[TokenTree] = []
    for text in texts:
        first = int(TARGET.law(text).argmin())
        trees.append(TokenTree.chain([first, int(TARGET.law((*text, first)).argmin())]))
    return trees


def now_and_then(texts: Sequence[Prefix], seeds: Sequence[int], round_index: int) -> list[TokenTree]:
    """Drafts of another length each round, none in every third."""
    chains = draft_chains(DRAFTER, round_index % 3, Stream.DRAFTER)
    return chains(texts, seeds, round_index)


EMPTY = same_tree(TokenTree())
DRAFTS: dict[str, Draft] = {
    "coupled_chain": draft_chains(DRAFTER, 3, Stream.SHARED),
    "private_chain": draft_chains(DRAFTER, 2, Stream.DRAFTER),
    "always_right": draft_chains(TARGET, 4, Stream.SHARED),
    "least_likely": least_likely,
    "now_and_then": now_and_then,
    "full_tree": same_tree(TokenTree((0, 1, 2, 0, 1, 2), (-1, -1, -1, 0, 0, 1), (0, 1, 2, 0, 1, 0))),
    "duplicated_siblings": same_tree(TokenTree((1, 1, 0, 2, 2), (-1, -1, 0, 1, 1), (0, 1, 0, 0, 1))),
}


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("name", DRAFTS)
def test_drafts_do_not_change_the_text(name: str, temperature: float) -> None:
    undrafted, _ = generate(TARGET, EMPTY, VERIFIERS["coupled"], SEEDS, NUM_TOKENS, temperature=temperature)

    drafted, _ = generate(TARGET, DRAFTS[name], VERIFIERS["coupled"], SEEDS, NUM_TOKENS, temperature=temperature)

    assert drafted == undrafted
    assert len(set(drafted)) > 1 or temperature == 0.0


def test_drafts_of_the_target_itself_are_all_accepted() -> None:
    """Chains of four reach past the end of six tokens in the second round; the text is cut, not changed."""
    num_rounds = 2

    _, num_accepted = generate(TARGET, DRAFTS["always_right"], VERIFIERS["coupled"], SEEDS, NUM_TOKENS)

    assert num_accepted == 4 * num_rounds * len(SEEDS)


def test_always_wrong_drafts_are_never_accepted() -> None:
    written, _ = generate(TARGET, EMPTY, VERIFIERS["coupled"], SEEDS, NUM_TOKENS + 1)
    texts = dict(zip(SEEDS, written, strict=True))

    def wrong(prefixes: Sequence[Prefix], seeds: Sequence[int], round_index: int) -> list[TokenTree]:
        return [
            TokenTree.chain([(texts[seed][len(prefix)] + 1) % VOCAB_SIZE, 0])
            for prefix, seed in zip(prefixes, seeds, strict=True)
        ]

    drafted, num_accepted = generate(TARGET, wrong, VERIFIERS["coupled"], SEEDS, NUM_TOKENS)

    assert num_accepted == 0
    assert drafted == [text[:NUM_TOKENS] for text in written]


def test_a_session_alone_writes_what_it_writes_among_others() -> None:
    together, _ = generate(TARGET, DRAFTS["full_tree"], VERIFIERS["coupled"], SEEDS, NUM_TOKENS)

    for seed, text in zip(SEEDS, together, strict=True):
        alone, _ = generate(TARGET, DRAFTS["coupled_chain"], VERIFIERS["coupled"], [seed], NUM_TOKENS)
        assert alone == [text]


def test_chain_rejection_depends_on_the_drafts() -> None:
    """The opposite, so that the tests above are known to see a difference."""
    verifier = VERIFIERS["chain_rejection"]
    texts = [
        generate(TARGET, draft_chains(drafter, 2, Stream.DRAFTER), verifier, SEEDS, NUM_TOKENS, draft_model=drafter)[0]
        for drafter in (DRAFTER, TARGET)
    ]

    assert texts[0] != texts[1]
