"""What every drafter must do. A new method is a row in `CONFIGS`."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from engine.drafters import DRAFTERS, Drafter, DrafterConfig, create_drafter
from engine.drafters.base import DraftLaw, DraftSession, DraftVerdict, DraftWork, Placement, UsesTarget
from engine.sampling import SamplingParams
from engine.tree import TokenTree
from tests.fakes_drafter import CONTEXT, EOS, VOCAB_SIZE, write_tiny_drafter
from tests.lone_target import WithTarget, lone_target, write_skip_file


def _model_drafter(method: str, directory: Path) -> DrafterConfig:
    return DrafterConfig(method, VOCAB_SIZE, (EOS,), model=directory, dtype="float32", min_confidence=0.0)


CONFIGS: dict[str, Callable[[Path], DrafterConfig]] = {
    "lm": partial(_model_drafter, "lm"),
    "multi_candidate": partial(_model_drafter, "multi_candidate"),
    "cape": partial(_model_drafter, "cape"),
    "graph": partial(_model_drafter, "graph"),
    "ngram": lambda directory: DrafterConfig("ngram", VOCAB_SIZE, (EOS,)),
    "ngram_tree": lambda directory: DrafterConfig("ngram_tree", VOCAB_SIZE, (EOS,)),
    "cascade": lambda directory: DrafterConfig(
        "cascade",
        VOCAB_SIZE,
        (EOS,),
        stages=(_model_drafter("lm", directory), DrafterConfig("ngram", VOCAB_SIZE, (EOS,))),
        hand_over_after=3,
    ),
    "layer_skip": lambda directory: DrafterConfig(
        "layer_skip", VOCAB_SIZE, (EOS,), skip_file=write_skip_file(directory), exit_confidence=0.0
    ),
}
GREEDY = SamplingParams()
SAMPLED = SamplingParams(temperature=0.8, top_p=0.95, seed=11)
MAX_NODES = 6


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("drafter")
    write_tiny_drafter(path)
    return path


@pytest.fixture(params=sorted(DRAFTERS))
def build(request: pytest.FixtureRequest, directory: Path) -> Callable[[], Drafter]:
    config = CONFIGS[request.param](directory)
    return lambda: with_target(create_drafter(config))


def with_target(drafter: Drafter) -> Drafter:
    """Those that draft with the target get one."""
    return WithTarget(drafter, lone_target()) if isinstance(drafter, UsesTarget) else drafter


def sequence(length: int, seed: int = 0) -> tuple[int, ...]:
    """Two tokens only, so that n-grams recur."""
    rng = random.Random(seed)
    return tuple(rng.choice((3, 8)) for _ in range(length))


def propose_fresh(drafter: Drafter, tokens: Sequence[int], sampling: SamplingParams = GREEDY) -> TokenTree:
    """What a session opened with these tokens is proposed."""
    drafter.open([DraftSession(10_000, tuple(tokens), sampling)])
    (tree,) = drafter.propose([DraftWork(10_000, MAX_NODES)])
    drafter.close([10_000])
    return tree


def path_to(tree: TokenTree, node: int) -> list[int]:
    """Tokens from the root to a node."""
    tokens: list[int] = []
    while node >= 0:
        tokens.append(tree.token_ids[node])
        node = tree.parents[node]
    return tokens[::-1]


def test_every_method_has_a_row_here() -> None:
    assert CONFIGS.keys() == DRAFTERS.keys()


def test_unknown_methods_are_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match="'telepathy'; use one of cape, cascade, graph, layer_skip, lm, multi_candidate, ngram"
    ):
        create_drafter(DrafterConfig("telepathy", VOCAB_SIZE))


def test_placement_and_law_are_declared(build: Callable[[], Drafter]) -> None:
    drafter = build()

    assert isinstance(drafter.placement, Placement)
    assert isinstance(drafter.law, DraftLaw)


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("max_nodes", [1, 3, 100])
def test_trees_are_valid_and_within_the_limit(
    build: Callable[[], Drafter], sampling: SamplingParams, max_nodes: int
) -> None:
    drafter = build()
    drafter.open([DraftSession(0, sequence(40), sampling)])

    (tree,) = drafter.propose([DraftWork(0, max_nodes)])

    assert tree.problem(VOCAB_SIZE) is None
    assert 0 < len(tree) <= max_nodes


def test_zero_nodes_make_an_empty_tree_and_change_nothing(build: Callable[[], Drafter]) -> None:
    drafter = build()
    drafter.open([DraftSession(0, sequence(40), GREEDY)])

    (empty,) = drafter.propose([DraftWork(0, 0)])
    drafter.observe([DraftVerdict(0, (8,), 0)])
    (tree,) = drafter.propose([DraftWork(0, MAX_NODES)])

    assert empty == TokenTree()
    assert tree == propose_fresh(build(), (*sequence(40), 8))


def test_no_work_makes_no_trees(build: Callable[[], Drafter]) -> None:
    drafter = build()
    drafter.open([])

    assert drafter.propose([]) == []
    drafter.observe([])
    drafter.close([])


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_batch_gets_what_each_session_gets_alone(build: Callable[[], Drafter], sampling: SamplingParams) -> None:
    sessions = [
        DraftSession(index, sequence(length, seed=index), sampling) for index, length in enumerate((1, 7, 30, 61))
    ]
    drafter = build()
    drafter.open(sessions)
    work = [DraftWork(index, nodes) for index, nodes in ((2, 6), (0, 2), (3, 0), (1, 4))]

    for round_index in range(3):
        trees = drafter.propose(work)
        alone = [propose_alone(build(), sessions[item.session_id], round_index, item.max_nodes) for item in work]
        drafter.observe([DraftVerdict(index, (3, 8), 0) for index in range(4)])

        assert trees == alone


def propose_alone(drafter: Drafter, session: DraftSession, num_rounds: int, max_nodes: int) -> TokenTree:
    tokens = session.token_ids + (3, 8) * num_rounds
    drafter.open([DraftSession(0, tokens, session.sampling)])
    return drafter.propose([DraftWork(0, max_nodes)])[0]


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("num_accepted", [0, 1, 2, 6])
def test_after_a_verdict_only_committed_tokens_count(
    build: Callable[[], Drafter], sampling: SamplingParams, num_accepted: int
) -> None:
    drafter, fresh = build(), build()
    tokens = list(sequence(30))
    drafter.open([DraftSession(0, tuple(tokens), sampling)])

    for round_index in range(4):
        (tree,) = drafter.propose([DraftWork(0, MAX_NODES)])
        assert tree == propose_fresh(fresh, tokens, sampling)

        accepted = path_to(tree, min(num_accepted, len(tree)) - 1)
        committed = [*accepted, (3, 8, 8, 3)[round_index]]
        tokens += committed
        drafter.observe([DraftVerdict(0, tuple(committed), len(accepted))])


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_assumed_tokens_are_followed_and_forgotten(build: Callable[[], Drafter], sampling: SamplingParams) -> None:
    drafter, fresh = build(), build()
    tokens, assumed = sequence(30), (8, 3, 3)
    drafter.open([DraftSession(0, tokens, sampling)])

    before = drafter.propose([DraftWork(0, MAX_NODES)])
    behind = drafter.propose([DraftWork(0, MAX_NODES, assumed=assumed)])
    again = drafter.propose([DraftWork(0, MAX_NODES)])
    drafter.observe([DraftVerdict(0, (3,), 0)])

    assert before == again == [propose_fresh(fresh, tokens, sampling)]
    assert behind == [propose_fresh(fresh, (*tokens, *assumed), sampling)]
    assert drafter.propose([DraftWork(0, MAX_NODES)]) == [propose_fresh(fresh, (*tokens, 3), sampling)]


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_guess_changes_no_proposal(build: Callable[[], Drafter], sampling: SamplingParams) -> None:
    drafter, fresh = build(), build()
    tokens = sequence(30)
    drafter.open([DraftSession(0, tokens, sampling)])

    for num_right in (0, 1, 2, MAX_NODES):
        expected = propose_fresh(fresh, tokens, sampling)
        right = path_to(expected, len(expected) - 1)[:num_right]
        (tree,) = drafter.propose([DraftWork(0, MAX_NODES, guess=(*right, 8, 3, 8))])
        assert tree == expected
        tokens = (*tokens, 3, 8)
        drafter.observe([DraftVerdict(0, (3, 8), 0)])


def test_a_round_may_run_undrafted(build: Callable[[], Drafter]) -> None:
    drafter = build()
    tokens = sequence(20)
    drafter.open([DraftSession(0, tokens, GREEDY)])
    added: tuple[int, ...] = ()

    drafter.propose([DraftWork(0, MAX_NODES)])
    for committed in ((3,), (8, 8), (3,), (3, 8, 8, 3, 3, 8)):
        drafter.observe([DraftVerdict(0, committed, 0)])
        added += committed

    assert drafter.propose([DraftWork(0, MAX_NODES)])[0] == propose_fresh(build(), tokens + added)


def test_a_closed_session_leaves_nothing_to_the_next(build: Callable[[], Drafter]) -> None:
    drafter = build()
    for seed in range(12):
        drafter.open([DraftSession(seed, sequence(50, seed), GREEDY)])
        drafter.propose([DraftWork(seed, MAX_NODES)])
    drafter.close(range(12))

    tokens = sequence(9, seed=99)
    drafter.open([DraftSession(3, tokens, GREEDY)])

    assert drafter.propose([DraftWork(3, MAX_NODES)])[0] == propose_fresh(build(), tokens)


def test_closing_unknown_or_closed_ids_is_ignored(build: Callable[[], Drafter]) -> None:
    drafter = build()
    drafter.open([DraftSession(0, sequence(20), GREEDY), DraftSession(1, sequence(20, seed=1), GREEDY)])

    drafter.close([7, 0])
    drafter.close([0])

    assert drafter.propose([DraftWork(1, MAX_NODES)])[0] == propose_fresh(build(), sequence(20, seed=1))


def test_sequences_grow_up_to_and_past_the_context(build: Callable[[], Drafter]) -> None:
    drafter = build()
    tokens = list(sequence(CONTEXT - 10))
    drafter.open([DraftSession(0, tuple(tokens), GREEDY), DraftSession(1, sequence(8), GREEDY)])

    for _ in range(20):
        long, short = drafter.propose([DraftWork(0, MAX_NODES), DraftWork(1, MAX_NODES)])
        assert long.problem(VOCAB_SIZE) is None
        assert long == propose_fresh(build(), tokens)
        assert short == propose_fresh(build(), sequence(8))
        tokens.append(8)
        drafter.observe([DraftVerdict(0, (8,), 0)])

    assert len(tokens) > CONTEXT


def test_a_prompt_longer_than_any_context_is_no_error(build: Callable[[], Drafter]) -> None:
    drafter = build()
    drafter.open([DraftSession(0, sequence(3 * CONTEXT), GREEDY)])

    (tree,) = drafter.propose([DraftWork(0, MAX_NODES)])

    assert tree.problem(VOCAB_SIZE) is None


def test_an_empty_sequence_is_no_error(build: Callable[[], Drafter]) -> None:
    drafter = build()
    drafter.open([DraftSession(0, (), GREEDY)])

    (tree,) = drafter.propose([DraftWork(0, MAX_NODES)])
    drafter.observe([DraftVerdict(0, sequence(20), 0)])

    assert tree.problem(VOCAB_SIZE) is None
    assert drafter.propose([DraftWork(0, MAX_NODES)])[0] == propose_fresh(build(), sequence(20))
