"""Choosing the sublayers that a target's own drafts leave out."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from engine.drafters.early_exit import AdaptiveExit
from engine.drafters.layer_skip import LayerSkipDrafter
from engine.drafters.skip_file import ChosenSet, SkipFile, read_skip_file
from engine.engine import Engine, EngineConfig
from engine.identity import target_id
from engine.local import generate
from engine.model import TargetModel, prepare_target
from engine.sampling import SamplingParams
from engine.scheduler import SchedulerConfig
from engine.session import Finish, LocalDrafting, OpenRequest
from engine.skipping import NOTHING, SkipSet
from engine.verify.verifiers import VERIFIERS
from polydraft.cli import main
from training.layer_skip.costs import StepCosts
from training.layer_skip.rehearsal import Answer, Rehearsal
from training.layer_skip.search import Space, search

VOCAB_SIZE, EOS, NUM_LAYERS, MAX_NODES, MAX_TOKENS = 97, 1, 6, 5, 40
COSTS = StepCosts(NUM_LAYERS, base=0.5, attention=0.5, mlp=0.5, row=0.05)
IDLE = (2, 4)
"""Layers whose attention and MLP add nothing."""


@pytest.fixture(scope="module")
def target() -> TargetModel:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=NUM_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4.0)
    for layer in IDLE:
        nn.init.zeros_(model.model.layers[layer].self_attn.o_proj.weight)
        nn.init.zeros_(model.model.layers[layer].mlp.down_proj.weight)
    return prepare_target(model, frozenset({EOS}))


def engine_with(target: TargetModel, skip: SkipSet) -> Engine:
    sets = SkipFile("tiny", NUM_LAYERS, ChosenSet(skip))
    drafter = LayerSkipDrafter(sets, VOCAB_SIZE, max_nodes=MAX_NODES, eos_token_ids=[EOS], exit_rule=AdaptiveExit(0.0))
    config = EngineConfig(num_pages=64, measures_drafts=False, scheduler=SchedulerConfig(max_context=128))
    return Engine(target, VERIFIERS["coupled"], config, {"layer_skip": drafter})


def requests(method: str) -> list[OpenRequest]:
    local, rng = LocalDrafting(method, MAX_NODES if method else 0), random.Random(5)
    prompts = [tuple(rng.randrange(3, VOCAB_SIZE) for _ in range(length)) for length in (5, 16, 30)]
    return [OpenRequest(i, p, len(p), SamplingParams(), MAX_TOKENS, local=local) for i, p in enumerate(prompts)]


@pytest.fixture(scope="module")
def answers(target: TargetModel) -> list[Answer]:
    plain = requests("")
    found = generate(engine_with(target, NOTHING), plain)
    ends = {i: (EOS,) if answer.finish is Finish.EOS else () for i, answer in found.items()}
    return [Answer((*r.token_ids, *found[i].token_ids, *ends[i]), r.prompt_length) for i, r in enumerate(plain)]


@pytest.fixture(scope="module")
def rehearsal(target: TargetModel, answers: Sequence[Answer]) -> Rehearsal:
    return Rehearsal(target, answers, MAX_NODES, min_rows=8)


@pytest.mark.parametrize(
    "skip",
    [NOTHING, SkipSet.of([2, 4], [2, 4]), SkipSet.of([], [3]), SkipSet.of([1]), SkipSet.of([0, 5], [5])],
    ids=str,
)
def test_a_rehearsal_foretells_the_rounds_that_serving_takes(
    target: TargetModel, answers: Sequence[Answer], rehearsal: Rehearsal, skip: SkipSet
) -> None:
    served = generate(engine_with(target, skip), requests("layer_skip"))
    num_tokens = sum(len(answer.token_ids) - answer.prompt_length - 1 for answer in answers)

    foretold = rehearsal.outcome(skip, COSTS, exit_confidence=0.0)

    assert foretold.tokens_per_round == num_tokens / sum(len(answer.rounds) for answer in served.values())


def test_the_model_of_time_is_that_of_its_formula(rehearsal: Rehearsal) -> None:
    """Nothing left out: all drafts are right, so that only lengths count."""
    outcome = rehearsal.outcome(NOTHING, COSTS, exit_confidence=0.0)
    drafted, tokens = outcome.drafted_per_round, outcome.tokens_per_round

    assert outcome.acceptance == 1.0
    assert outcome.seconds_per_token == pytest.approx((drafted * 6.5 + 6.5 + 0.05 * drafted) / tokens)
    assert COSTS.draft_s(SkipSet.of([1], [1, 2])) == pytest.approx(5.0)


def test_sublayers_that_add_nothing_are_found_and_sooner_than_by_chance(rehearsal: Rehearsal) -> None:
    space = Space(NUM_LAYERS, range(NUM_LAYERS))

    def speedup(skip: SkipSet) -> float:
        return COSTS.verify_s(1) / rehearsal.outcome(skip, COSTS, exit_confidence=0.6).seconds_per_token

    found = search(space, speedup, num_looks=120, seed=1)
    rng = random.Random(0)
    by_chance = [
        max(speedup(space.skip_of(tuple(rng.random() < 0.5 for _ in range(space.num_bits)))) for _ in range(120))
        for _ in range(3)
    ]

    best = space.skip_of(found.best)
    assert best.attention >= {*IDLE}
    assert best.mlp >= {*IDLE}
    assert found.score > median(by_chance)


def test_a_search_is_its_seed_and_looks_at_nothing_twice() -> None:
    space = Space(4, [0, 2, 3])
    looked: list[SkipSet] = []

    def score(skip: SkipSet) -> float:
        looked.append(skip)
        return len(skip.attention) - 2.0 * len(skip.mlp)

    first = search(space, score, num_looks=30, seed=7)
    second = search(space, score, num_looks=30, seed=7)

    assert first.scores == second.scores
    assert len(set(looked[:30])) == 30
    assert space.skip_of(first.best) == SkipSet.of(range(4))
    assert all(skip.mlp <= {0, 2, 3} for skip in looked)
    assert len(search(Space(1, [0]), score, num_looks=99, seed=0).scores) == 4, "there are no more"


def test_the_command_writes_a_file_for_the_target(
    tiny_target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {tag: tmp_path / f"{tag}.jsonl" for tag in ("de", "fr")}
    for tag, file in files.items():
        file.write_text("".join(json.dumps({"text": f"{tag} {n} der Hund und die Katze"}) + "\n" for n in range(4)))
    prompts = [f"{tag}={file}" for tag, file in files.items()]
    output = tmp_path / "sets.json"
    words = ["tune", "layer-skip", str(tiny_target), "--template", "{text}", "--output", str(output)]
    few = ["--evaluations", "8", "--limit", "3", "--max-tokens", "12", "--prompts", *prompts]

    assert main([*words, *few]) == 0

    found = read_skip_file(output)
    assert found.target_id == target_id(tiny_target)
    assert set(found.languages) == {"de", "fr"}
    assert found.default.figures["modelled_speedup"] > 0
    assert "fr: " in capsys.readouterr().out

    assert main([*words, "--prompts", f"de={tmp_path}/none.jsonl"]) == 2
    assert "none.jsonl: no such file" in capsys.readouterr().err
    assert main([*words, "--languages", "ru", *few]) == 2
    assert "no prompts for ru; there are some for de, fr" in capsys.readouterr().err
