"""Rounds are counted as the cluster would take them."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaForCausalLM

from training.drafter import whole_vocabulary
from training.examples import Example
from training.generation import write_greedily
from training.replay import Replay, count_rounds, hits, interval, mean_difference, replay


@pytest.fixture(scope="module")
def answered(tiny_model: LlamaForCausalLM) -> list[Example]:
    generator = torch.Generator().manual_seed(3)
    prompts = torch.randint(3, tiny_model.config.vocab_size, (8, 6), generator=generator).tolist()
    answers = write_greedily(tiny_model, prompts, [1], 20)
    return [Example(tuple(prompt), tuple(answer)) for prompt, answer in zip(prompts, answers, strict=True)]


@pytest.mark.parametrize(
    ("answer_hits", "max_drafted", "rounds"),
    [
        ([], 4, 0),
        ([False] * 3, 4, 3),
        ([True] * 10, 4, 2),
        ([True] * 11, 4, 3),
        ([True] * 4, 4, 1),
        ([True, True, False, True], 4, 2),
        ([True, False, True, True, True], 1, 3),
        ([True] * 3, 0, 3),
    ],
)
def test_rounds(answer_hits: list[bool], max_drafted: int, rounds: int) -> None:
    assert count_rounds(answer_hits, max_drafted) == rounds


def test_the_target_as_its_own_drafter_is_always_right(tiny_model: LlamaForCausalLM, answered: list[Example]) -> None:
    found = replay(tiny_model, whole_vocabulary(tiny_model.config.vocab_size), answered, max_drafted=4)

    assert found.agreement == 1.0
    assert found.tokens == tuple(len(example.answer_ids) for example in answered)
    assert found.rounds == tuple(-(-len(example.answer_ids) // 5) for example in answered)


def test_hits_follow_the_order_of_the_answers(tiny_model: LlamaForCausalLM, answered: list[Example]) -> None:
    changed = [Example(e.prompt_ids, (*e.answer_ids[:i], 2, *e.answer_ids[i + 1 :])) for i, e in enumerate(answered)]

    found = hits(tiny_model, whole_vocabulary(tiny_model.config.vocab_size), changed)

    assert [len(of_answer) for of_answer in found] == [len(example.answer_ids) for example in changed]
    for place, of_answer in enumerate(found):
        assert of_answer[: place + 1] == [True] * place + [False]


def test_an_interval_holds_the_figure_and_shrinks_with_more_answers() -> None:
    few = Replay((10, 20, 12, 16), (5, 18, 8, 12), (5, 4, 4, 4))
    many = Replay(few.tokens * 25, few.hits * 25, few.rounds * 25)

    for found in (few, many):
        low, high = interval(found)
        assert low < found.tokens_per_round < high
    assert interval(many)[1] - interval(many)[0] < interval(few)[1] - interval(few)[0]


def test_a_difference_between_drafters_is_paired_by_answer() -> None:
    worse = Replay((10, 30, 12) * 10, (0,) * 30, (5, 10, 6) * 10)
    better = Replay(worse.tokens, worse.hits, tuple(rounds - 1 for rounds in worse.rounds))

    difference, (low, high) = mean_difference([better, worse], [worse, worse])

    assert difference == pytest.approx((520 / 180 - 520 / 210) / 2)
    assert 0 < low < difference < high
    assert mean_difference([worse], [worse]) == (0, (0, 0))
