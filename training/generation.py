"""Batched generation with a transformers model: prompts of equal length share a batch, so nothing is padded.

Shape letters: B prompts, T tokens, V vocabulary, K likeliest tokens.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import DynamicCache, LlamaForCausalLM

NUM_TOP = 8
"""How much of the target's law is kept at each token, for the drafter to learn from."""
_COMPACT_BELOW = 0.75
"""Finished rows are dropped from the cache when the unfinished share falls below this."""


@dataclass(slots=True)
class Answer:
    """What a model wrote after a prompt, with its likeliest tokens at each place (temperature 1)."""

    token_ids: list[int] = field(default_factory=list)
    """Ends with EOS, unless the limit came first."""
    top_ids: list[list[int]] = field(default_factory=list)
    """[num_tokens][NUM_TOP], likeliest first."""
    top_probs: list[list[float]] = field(default_factory=list)


def groups_of_equal_length(prompts: Sequence[Sequence[int]], max_rows: int) -> list[list[int]]:
    """Indices of prompts that have the same number of tokens, at most `max_rows` a group."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        by_length[len(prompt)].append(index)
    return [
        indices[start : start + max_rows]
        for _, indices in sorted(by_length.items())
        for start in range(0, len(indices), max_rows)
    ]


@torch.inference_mode()
def write_answers(
    model: LlamaForCausalLM,
    prompts: Sequence[Sequence[int]],
    temperatures: Sequence[float],
    eos: int,
    max_new_tokens: int,
    generator: torch.Generator,
) -> list[Answer]:
    """Answers to prompts of one length. Temperature 0 takes the likeliest token; otherwise Gumbel noise is added."""
    assert len({len(prompt) for prompt in prompts}) == 1, "prompts of one batch have one length"
    answers = [Answer() for _ in prompts]
    rows = torch.arange(len(prompts))
    temperatures_B = torch.tensor(temperatures)
    cache = DynamicCache(config=model.config)
    inputs_BT = torch.tensor(prompts)
    open_rows = set(range(len(prompts)))
    for _ in range(max_new_tokens):
        logits_BV = model(inputs_BT, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1].float()
        tokens_B = _choose(logits_BV, temperatures_B[rows], generator)
        top = logits_BV.softmax(-1).topk(NUM_TOP)
        columns = (rows.tolist(), tokens_B.tolist(), top.indices.tolist(), top.values.tolist())
        for row, token, top_ids, top_probs in zip(*columns, strict=True):
            if row in open_rows:
                answers[row].token_ids.append(token)
                answers[row].top_ids.append(top_ids)
                answers[row].top_probs.append([round(prob, 4) for prob in top_probs])
                if token == eos:
                    open_rows.remove(row)
        if not open_rows:
            break
        if len(open_rows) < _COMPACT_BELOW * len(rows):
            kept = torch.tensor([i for i, row in enumerate(rows.tolist()) if row in open_rows])
            cache.batch_select_indices(kept)
            rows, tokens_B = rows[kept], tokens_B[kept]
        inputs_BT = tokens_B[:, None]
    return answers


def _choose(logits_BV: Tensor, temperatures_B: Tensor, generator: torch.Generator) -> Tensor:
    """One token a row, int64 [B]."""
    greedy_B = logits_BV.argmax(-1)
    hot_B = temperatures_B > 0
    if not hot_B.any():
        return greedy_B
    uniform_BV = torch.rand(logits_BV.shape, generator=generator).clamp_min_(math.ulp(0.5))
    gumbel_BV = -(-uniform_BV.log()).log()
    scores_BV = logits_BV / temperatures_B.clamp_min(1e-6)[:, None] + gumbel_BV
    return torch.where(hot_B, scores_BV.argmax(-1), greedy_B)


def write_greedily(
    model: LlamaForCausalLM, prompts: Sequence[Sequence[int]], eos: int, max_new_tokens: int, max_rows: int = 64
) -> list[Answer]:
    """Greedy answers to prompts of any lengths, in order."""
    answers: dict[int, Answer] = {}
    generator = torch.Generator()
    for group in groups_of_equal_length(prompts, max_rows):
        chosen = [prompts[i] for i in group]
        written = write_answers(model, chosen, [0.0] * len(group), eos, max_new_tokens, generator)
        answers.update(zip(group, written, strict=True))
    return [answers[i] for i in range(len(prompts))]
