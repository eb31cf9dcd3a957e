"""Verifiers that judge drafts by the law they were drawn from, through the engine that serves."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from engine.drafters import DrafterConfig, create_drafter
from engine.drafters.base import DraftLaw, DraftSession, DraftWork
from engine.engine import Engine, EngineConfig
from engine.hashing import EMPTY_HASH, extend_hash
from engine.local import generate
from engine.model import TargetModel, prepare_target
from engine.sampling import SamplingParams
from engine.scheduler import SchedulerConfig
from engine.session import LocalDrafting, OpenRequest
from engine.tree import TokenTree
from engine.verify.verifiers import VERIFIERS
from tests.fakes_drafter import write_tiny_drafter
from tests.unit.verify.toy_tables import Laws, chi_square_p_value, count_texts

VOCAB_SIZE, NUM_TOKENS, NUM_SEEDS = 6, 3, 1_500
PROMPT = (3, 5, 2, 4)
LAWFUL = [("lm", "chain_rejection"), ("lm", "block"), ("lm", "multi_round"), ("multi_candidate", "multi_round")]


@pytest.fixture(scope="module")
def small_target() -> TargetModel:
    """Six tokens, so that the law of a text is known."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(6.0)
    return prepare_target(model, frozenset())


@pytest.fixture(scope="module")
def drafter_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("drafter")
    write_tiny_drafter(path, vocab_size=VOCAB_SIZE, proposable=range(VOCAB_SIZE), input_only=())
    return path


def drafter_config(method: str, model: Path | None, *, draws: bool = True) -> DrafterConfig:
    return DrafterConfig(method, VOCAB_SIZE, model=model, widths=(2, 2), dtype="float32", draws=draws)


def engine_of(target: TargetModel, verifier: str, config: DrafterConfig) -> Engine:
    scheduler = SchedulerConfig(max_context=64, draft_deadline_s=0.0)
    settings = EngineConfig(num_pages=512, measures_drafts=False, scheduler=scheduler)
    return Engine(target, VERIFIERS[verifier], settings, {"drafter": create_drafter(config)})


def requests(count: int, temperature: float, max_tokens: int, max_nodes: int = 6) -> list[OpenRequest]:
    local = LocalDrafting("drafter", max_nodes) if max_nodes else LocalDrafting()
    return [
        OpenRequest(seed, PROMPT, len(PROMPT), SamplingParams(temperature, seed=seed), max_tokens, local=local)
        for seed in range(count)
    ]


def joint_law(target: TargetModel) -> Laws:
    """Of the first tokens behind the prompt."""
    laws = {
        prefix: target.plain_logits([*PROMPT, *prefix])[-1].double().softmax(0).numpy()
        for length in range(NUM_TOKENS)
        for prefix in itertools.product(range(VOCAB_SIZE), repeat=length)
    }
    texts = itertools.product(range(VOCAB_SIZE), repeat=NUM_TOKENS)
    return np.array([np.prod([laws[text[:place]][text[place]] for place in range(NUM_TOKENS)]) for text in texts])


@pytest.mark.parametrize(("method", "verifier"), [("lm", "block"), ("multi_candidate", "multi_round")])
def test_sampled_texts_follow_the_targets_law(
    small_target: TargetModel, drafter_model: Path, method: str, verifier: str
) -> None:
    engine = engine_of(small_target, verifier, drafter_config(method, drafter_model))

    answers = generate(engine, requests(NUM_SEEDS, 1.0, NUM_TOKENS), is_checked=False)

    texts = [tuple(answer.token_ids) for answer in answers.values()]
    assert sum(answer.num_accepted for answer in answers.values()) > NUM_SEEDS / 4
    assert chi_square_p_value(count_texts(texts, VOCAB_SIZE, NUM_TOKENS), joint_law(small_target)) > 1e-4


@pytest.mark.parametrize(("method", "verifier"), [*LAWFUL, ("ngram", "block")])
def test_greedy_texts_are_those_without_drafts(
    small_target: TargetModel, drafter_model: Path, method: str, verifier: str
) -> None:
    model = None if method == "ngram" else drafter_model
    engine = engine_of(small_target, verifier, drafter_config(method, model))

    plain = generate(engine, requests(1, 0.0, 40, max_nodes=0))[0]
    drafted = generate(engine, requests(1, 0.0, 40))[0]

    assert drafted.token_ids == plain.token_ids
    assert drafted.num_accepted > 0


@pytest.mark.parametrize(("method", "verifier"), [("multi_candidate", "block"), ("multi_candidate", "chain_rejection")])
def test_an_unlawful_pair_is_refused_at_load(
    small_target: TargetModel, drafter_model: Path, method: str, verifier: str
) -> None:
    with pytest.raises(
        ValueError, match=f"'{verifier}' cannot judge drafts of law 'no_replacement', as drafter 'drafter'"
    ):
        engine_of(small_target, verifier, drafter_config(method, drafter_model))


def test_coupled_drafts_are_refused_by_a_verifier_that_needs_their_law(
    small_target: TargetModel, drafter_model: Path
) -> None:
    with pytest.raises(ValueError, match="cannot judge drafts of law 'none'"):
        engine_of(small_target, "block", drafter_config("lm", drafter_model, draws=False))


@pytest.mark.parametrize("method", ["graph", "cape"])
def test_methods_that_prune_by_what_they_drew_have_no_law(drafter_model: Path, method: str) -> None:
    with pytest.raises(ValueError, match=f"'{method}' chooses nodes by what was drawn there"):
        create_drafter(drafter_config(method, drafter_model))


def test_a_block_from_outside_is_not_judged_by_a_law_that_it_lacks(
    small_target: TargetModel, drafter_model: Path
) -> None:
    engine = engine_of(small_target, "block", drafter_config("lm", drafter_model))
    (request,) = requests(1, 1.0, 8, max_nodes=0)
    engine.open(request)

    assert not engine.draft(0, len(PROMPT), extend_hash(EMPTY_HASH, PROMPT), TokenTree.chain([1, 2]))


def test_trees_carry_the_law_of_each_node(drafter_model: Path) -> None:
    drafter = create_drafter(drafter_config("multi_candidate", drafter_model))
    drafter.open([DraftSession(0, PROMPT, SamplingParams(1.0, seed=4))])

    first, same, later = (drafter.propose([DraftWork(0, 6, round=r)])[0] for r in (0, 0, 1))

    assert drafter.law is DraftLaw.NO_REPLACEMENT
    assert first.laws is not None
    assert len(first.laws) == 1 + len(first) == 7
    is_parent = torch.tensor([place - 1 in first.parents for place in range(7)])
    assert torch.allclose(first.laws.sum(dim=1), is_parent.float())
    assert first == same
    assert first != later, "what one round drew is not drawn again"
    cut = first.truncated(3, 9)
    assert cut.laws is not None
    assert torch.equal(cut.laws, first.laws[:4])
