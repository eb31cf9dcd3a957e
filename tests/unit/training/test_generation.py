"""Batched writing gives what the model alone would write."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaForCausalLM

from training.generation import batches_of_like_length, write_answers, write_greedily

EOS, TOP_K = 1, 8


def random_prompts(lengths: list[int], vocab_size: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randint(3, vocab_size, (length,), generator=generator).tolist() for length in lengths]


def plain_greedy(model: LlamaForCausalLM, prompt: list[int], eos: int, limit: int) -> list[int]:
    """No cache, no batch."""
    tokens = list(prompt)
    with torch.inference_mode():
        while len(tokens) < len(prompt) + limit:
            tokens.append(int(model(torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax()))
            if tokens[-1] == eos:
                break
    return tokens[len(prompt) :]


def test_batches_hold_every_prompt_and_neighbours_in_length() -> None:
    prompts = random_prompts([3, 5, 3, 3, 5, 9], 50)

    batches = batches_of_like_length(prompts, num_rows=2)

    assert [[len(prompts[i]) for i in batch] for batch in batches] == [[3, 3], [3, 5], [5, 9]]
    assert sorted(index for batch in batches for index in batch) == list(range(6))


@pytest.mark.parametrize("lengths", [[7] * 8, [4, 7, 4, 4, 7, 11, 4, 4]], ids=["equal", "padded"])
def test_greedy_answers_are_the_models_own(tiny_model: LlamaForCausalLM, lengths: list[int]) -> None:
    prompts = random_prompts(lengths, tiny_model.config.vocab_size)
    plain = [plain_greedy(tiny_model, prompt, EOS, 16) for prompt in prompts]
    # An answer's own fifth token as EOS: rows end at different times, and the cache is compacted on the way.
    eos = plain[0][4]

    answers = write_answers(tiny_model, prompts, [0.0] * 8, [eos], 16, torch.Generator(), TOP_K)

    assert [answer.token_ids for answer in answers] == [plain_greedy(tiny_model, p, eos, 16) for p in prompts]
    assert len({len(answer.token_ids) for answer in answers}) > 1
    for answer in answers:
        assert [ids[0] for ids in answer.top_ids] == answer.token_ids
        assert all(len(probs) == TOP_K and probs == sorted(probs, reverse=True) for probs in answer.top_probs)
    assert write_greedily(tiny_model, prompts, [eos], 16) == [answer.token_ids for answer in answers]


def test_only_the_first_ids_are_written_where_there_is_a_bound(tiny_model: LlamaForCausalLM) -> None:
    prompts = random_prompts([5] * 20, tiny_model.config.vocab_size)

    answers = write_answers(tiny_model, prompts, [1.0] * 20, [EOS], 8, torch.Generator(), 1, num_choices=40)

    assert max(token for answer in answers for token in answer.token_ids) in range(30, 40)


def test_a_seed_fixes_the_sampled_answers(tiny_model: LlamaForCausalLM) -> None:
    prompts = random_prompts([5, 5, 5], tiny_model.config.vocab_size)

    def write(seed: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        answers = write_answers(tiny_model, prompts, [0.0, 1.0, 1.0], [EOS], 20, generator, TOP_K)
        return [answer.token_ids for answer in answers]

    assert write(1) == write(1)
    assert write(1)[0] == write(2)[0] == plain_greedy(tiny_model, prompts[0], EOS, 20)
    assert write(1)[1:] != write(2)[1:]


def test_sampling_follows_the_models_law(tiny_model: LlamaForCausalLM) -> None:
    prompt = random_prompts([5], tiny_model.config.vocab_size)[0]
    with torch.inference_mode():
        law_V = (tiny_model(torch.tensor([prompt])).logits[0, -1] / 0.7).softmax(-1)
    count = 4_000

    answers = write_answers(tiny_model, [prompt] * count, [0.7] * count, [EOS], 1, torch.Generator().manual_seed(0), 1)

    drawn_V = torch.bincount(torch.tensor([a.token_ids[0] for a in answers]), minlength=len(law_V)) / count
    # Each share is a binomial mean: five standard deviations and one count.
    bound_V = 5 * (law_V * (1 - law_V) / count).sqrt() + 1 / count
    assert ((drawn_V - law_V).abs() <= bound_V).all()
