"""Batched generation with a transformers model.

Shape letters: B prompts, T tokens, V vocabulary, K likeliest tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

_COMPACT_BELOW = 0.75
"""Finished rows are dropped from the cache when the unfinished share falls below this."""


@dataclass(slots=True)
class Answer:
    """What a model wrote after a prompt, with its likeliest tokens at each place (temperature 1)."""

    token_ids: list[int] = field(default_factory=list)
    """Ends with EOS, unless the limit came first."""
    top_ids: list[list[int]] = field(default_factory=list)
    """[num_tokens][K], likeliest first."""
    top_probs: list[list[float]] = field(default_factory=list)


def batches_of_like_length(prompts: Sequence[Sequence[int]], num_rows: int) -> list[list[int]]:
    """Indices of all prompts, `num_rows` a batch, shortest first: little or nothing is padded."""
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    return [order[start : start + num_rows] for start in range(0, len(order), num_rows)]


@torch.inference_mode()
def write_answers(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    temperatures: Sequence[float],
    eos_ids: Sequence[int],
    max_new_tokens: int,
    generator: torch.Generator,
    top_k: int,
    num_choices: int | None = None,
) -> list[Answer]:
    """Answers to the prompts. Temperature 0 takes the likeliest token; otherwise Gumbel noise is added.

    With `num_choices` only ids below it may be written.
    """
    answers = [Answer() for _ in prompts]
    rows = torch.arange(len(prompts))
    temperatures_B = torch.tensor(temperatures, device=model.device)
    cache = DynamicCache(config=model.config)
    inputs_BT, mask_BT = _left_padded(prompts, model.device)
    open_rows = set(range(len(prompts)))
    for _ in range(max_new_tokens):
        logits_BV = _next_logits(model, inputs_BT, mask_BT, cache)[:, :num_choices]
        tokens_B = _choose(logits_BV, temperatures_B[rows], generator)
        top = logits_BV.softmax(-1).topk(top_k)
        columns = (rows.tolist(), tokens_B.tolist(), top.indices.tolist(), top.values.tolist())
        for row, token, top_ids, top_probs in zip(*columns, strict=True):
            if row in open_rows:
                answers[row].token_ids.append(token)
                answers[row].top_ids.append(top_ids)
                answers[row].top_probs.append([round(prob, 4) for prob in top_probs])
                if token in eos_ids:
                    open_rows.remove(row)
        if not open_rows:
            break
        if len(open_rows) < _COMPACT_BELOW * len(rows):
            kept = torch.tensor([i for i, row in enumerate(rows.tolist()) if row in open_rows])
            cache.batch_select_indices(kept.to(model.device))
            rows, tokens_B = rows[kept], tokens_B[kept]
            mask_BT = None if mask_BT is None else mask_BT[kept]
        inputs_BT = tokens_B[:, None]
        mask_BT = None if mask_BT is None else torch.cat([mask_BT, mask_BT.new_ones(len(mask_BT), 1)], dim=1)
    return answers


def _left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Ids, and which of them are real; no mask where the prompts have one length."""
    longest = max(len(prompt) for prompt in prompts)
    if all(len(prompt) == longest for prompt in prompts):
        return torch.tensor(prompts, device=device), None
    ids_BT = torch.zeros(len(prompts), longest, dtype=torch.int64)
    mask_BT = torch.zeros_like(ids_BT)
    for row, prompt in enumerate(prompts):
        ids_BT[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask_BT[row, longest - len(prompt) :] = 1
    return ids_BT.to(device), mask_BT.to(device)


def _next_logits(model: PreTrainedModel, inputs_BT: Tensor, mask_BT: Tensor | None, cache: DynamicCache) -> Tensor:
    """After the last input, float32 [B, V]."""
    about_padding = {}
    if mask_BT is not None:
        positions_BT = (mask_BT.cumsum(1) - 1).clamp_min(0)
        about_padding = {"attention_mask": mask_BT, "position_ids": positions_BT[:, -inputs_BT.shape[1] :]}
    outputs = model(inputs_BT, past_key_values=cache, use_cache=True, logits_to_keep=1, **about_padding)
    logits_BV: Tensor = outputs.logits[:, -1].float()
    return logits_BV


def _choose(logits_BV: Tensor, temperatures_B: Tensor, generator: torch.Generator) -> Tensor:
    """One token a row, int64 [B]."""
    greedy_B = logits_BV.argmax(-1)
    hot_B = temperatures_B > 0
    if not hot_B.any():
        return greedy_B
    uniform_BV = torch.rand(logits_BV.shape, generator=generator, device=logits_BV.device).clamp_min_(math.ulp(0.5))
    gumbel_BV = -(-uniform_BV.log()).log()
    scores_BV = logits_BV / temperatures_B.clamp_min(1e-6)[:, None] + gumbel_BV
    return torch.where(hot_B, scores_BV.argmax(-1), greedy_B)


def write_greedily(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], eos_ids: Sequence[int], max_new_tokens: int
) -> list[list[int]]:
    """Greedy answers to prompts of any lengths, in order."""
    answers: dict[int, list[int]] = {}
    generator = torch.Generator(model.device)
    for batch in batches_of_like_length(prompts, num_rows=64):
        chosen = [prompts[i] for i in batch]
        written = write_answers(model, chosen, [0.0] * len(batch), eos_ids, max_new_tokens, generator, top_k=1)
        answers |= {i: answer.token_ids for i, answer in zip(batch, written, strict=True)}
    return [answers[i] for i in range(len(prompts))]
