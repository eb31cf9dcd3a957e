"""A target over several ranks: what one rank computes, however its layers are split."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, DeepseekV3Config, PreTrainedConfig, PreTrainedModel

from engine.batch import WorkItem
from engine.drafters.skip_file import ChosenSet, SkipFile
from engine.engine import Engine, EngineConfig
from engine.local import generate
from engine.model import load_target
from engine.pages import PageId
from engine.scheduler import SchedulerConfig
from engine.session import LocalDrafting
from engine.shards.messages import Message, Move, Step, Stop, decode, encode
from engine.shards.split import CannotSplit, heads_of, split_plan
from engine.skipping import SkipSet
from engine.tree import TokenTree
from engine.verify.verifiers import VERIFIERS
from tests.shard_ranks import CPU, RankFailed, Ranks, agree_at, answers_at, logits_at, lose_a_rank, running_ranks
from tests.tiny_targets import FAMILIES, MAX_CONTEXT, write_tiny_target
from tests.unit.engine.conftest import make_requests

IDS = [3 + (7 * position) % 90 for position in range(60)]


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    with running_ranks(2) as ranks:
        yield ranks


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_logits_are_those_of_one_rank(ranks: Ranks, tmp_path: Path, family: str) -> None:
    # Among them: attention that transformers does not split (phi3), and three key-value heads for two ranks, below a
    # head that is the embedding (uneven). No vocabulary can be halved.
    directory = write_tiny_target(tmp_path, family)
    whole = logits_at_one_rank(directory, torch.float32)
    found = ranks.call(logits_at, directory, torch.float32, IDS)

    assert torch.equal(found[0], found[1])
    assert (found[0] - whole).abs().max() <= 1e-5 * whole.abs().max()


def test_bf16_is_served_too(ranks: Ranks, tmp_path: Path) -> None:
    directory = write_tiny_target(tmp_path)
    whole = logits_at_one_rank(directory, torch.bfloat16)
    found = ranks.call(logits_at, directory, torch.bfloat16, IDS)

    assert torch.equal(found[0], found[1])
    assert (found[0] - whole).abs().max() <= 0.05 * whole.abs().max()


def logits_at_one_rank(directory: Path, dtype: torch.dtype) -> torch.Tensor:
    """[5, V], by transformers' own attention."""
    return load_target(directory, dtype, CPU).plain_logits(IDS)[-5:]


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_text_is_that_of_one_rank_whatever_is_drafted(ranks: Ranks, tmp_path: Path, temperature: float) -> None:
    # Few pages and short chunks: sequences are preempted and read their prompts in pieces; trees make KV move.
    directory = write_tiny_target(tmp_path)
    scheduler = SchedulerConfig(max_context=MAX_CONTEXT, prefill_chunk=16, draft_deadline_s=0.0)
    config = EngineConfig(num_pages=14, scheduler=scheduler)
    plain = make_requests(5, temperature, local=LocalDrafting())
    drafted = make_requests(5, temperature)
    engine = Engine(load_target(directory, torch.float32, CPU), VERIFIERS["coupled"], config)
    expected = {number: answer.token_ids for number, answer in generate(engine, plain).items()}

    undrafted = ranks.call(answers_at, directory, config, plain, {})[0]

    assert ranks.call(answers_at, directory, config, drafted, expected)[0] == undrafted
    assert undrafted == expected
    skips = SkipFile("tiny", 2, ChosenSet(SkipSet.of([], [1])))
    skipping = make_requests(5, temperature, local=LocalDrafting("layer_skip", 4))
    assert ranks.call(answers_at, directory, config, skipping, {}, skips)[0] == expected


def test_what_ranks_find_holds_for_all(ranks: Ranks) -> None:
    found = ranks.call(agree_at, [[True, False, True], [True, True, False]], [4, 16])

    assert found == [([True, False, False], 16)] * 2


@pytest.mark.parametrize("lost", [0, 1])
def test_a_rank_that_is_gone_is_noticed(lost: int) -> None:
    with running_ranks(2) as ranks, pytest.raises(RankFailed) as failed:
        ranks.call(lose_a_rank, lost)

    assert "a rank is gone" in str(failed.value)
    assert "RuntimeError" in str(failed.value), "and the other rank does not wait for ever"


def test_a_model_is_refused_at_every_rank(ranks: Ranks, tmp_path: Path) -> None:
    with pytest.raises(RankFailed, match=r"no config\.json"):
        ranks.call(logits_at, tmp_path, torch.float32, IDS)


@given(num_ranks=st.integers(1, 12), num_heads=st.integers(1, 70))
def test_heads_are_dealt_out_evenly_and_in_order(num_ranks: int, num_heads: int) -> None:
    dealt = [range(num_heads)[heads_of(rank, num_ranks, num_heads)] for rank in range(num_ranks)]

    assert [head for own in dealt for head in own] == [*range(num_heads)]
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


def _shape(config: PreTrainedConfig) -> PreTrainedModel:
    with torch.device("meta"):
        shape: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return shape


def test_models_that_cannot_be_split_are_refused_by_name() -> None:
    with pytest.raises(CannotSplit, match="3 is more than the 2 key-value heads"):
        split_plan(_shape(FAMILIES["llama"]()), 3)
    with pytest.raises(CannotSplit, match="deepseek_v3 are split as"):
        split_plan(_shape(DeepseekV3Config(num_hidden_layers=1, hidden_size=32, n_routed_experts=2)), 2)


items = st.builds(
    lambda tokens, num_cached, pages, tree, wants: WorkItem(
        tuple(tokens), num_cached, [PageId(page) for page in pages], TokenTree.chain(tree), wants
    ),
    st.lists(st.integers(0, 1 << 40), max_size=40),
    st.integers(0, 1 << 40),
    st.lists(st.integers(0, 1 << 40), max_size=20),
    st.lists(st.integers(0, 1 << 40), max_size=9),
    st.booleans(),
)
moves = st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(0, 1 << 40)), max_size=30)
skips = st.builds(SkipSet, st.frozensets(st.integers(0, 99)), st.frozensets(st.integers(0, 99)))
messages = st.one_of(
    st.builds(lambda items, skip: Step(tuple(items), skip), st.lists(items, max_size=8), skips),
    st.builds(lambda moves: Move(tuple(moves)), moves),
    st.just(Stop()),
)


@given(message=messages)
def test_what_rank_0_tells_is_what_the_others_hear(message: Message) -> None:
    assert decode(encode(message)) == message
