"""Target and drafter, trained on the spot on synthetic languages until their time is up.

Shape letters: B sequences, T tokens.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaForCausalLM

from benchmarks.gpu.languages import Languages
from benchmarks.gpu.sizes import DecoderSize, Sizes
from benchmarks.gpu.step_share import decoder_config

NUM_WARMUP_STEPS = 100
LANGUAGE = 0
"""The drafter's, and that of the prompts."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A model and how far it came."""

    model: LlamaForCausalLM
    num_steps: int
    loss: float
    """Mean over the last steps, over sources and answers."""

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())


def max_positions(sizes: Sizes) -> int:
    """Room for the longest text and the nodes of a draft behind it."""
    return 2 * sizes.source_words[1] + 64


def train_target(sizes: Sizes) -> Trained:
    """All languages."""
    return _train(sizes, sizes.target, sizes.target_seconds, language=None)


def train_drafter(sizes: Sizes) -> Trained:
    """One language."""
    return _train(sizes, sizes.drafter, sizes.drafter_seconds, language=LANGUAGE)


def _texts(sizes: Sizes, language: int | None) -> Iterator[Tensor]:
    """Batches [B, T], each of one length."""
    languages, rng = Languages(sizes.device), random.Random(0)
    while True:
        yield languages.draw(sizes.batch, rng.randint(*sizes.source_words), language)


def _train(sizes: Sizes, size: DecoderSize, seconds: float, language: int | None) -> Trained:
    """AdamW in bf16 autocast; the rate warms up and falls to zero with the time that is left."""
    torch.manual_seed(0)
    peak_lr = min(0.3 / size.width, 2e-3)
    with torch.device(sizes.device):
        model = LlamaForCausalLM(decoder_config(size, max_positions(sizes)))
    is_cuda = sizes.device.type == "cuda"
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak_lr, betas=(0.9, 0.95), weight_decay=0.05, fused=is_cuda)
    started_s = time.perf_counter()
    losses: list[Tensor] = []
    for texts_BT in _texts(sizes, language):
        gone = (time.perf_counter() - started_s) / seconds
        if gone >= 1:
            break
        optimizer.param_groups[0]["lr"] = peak_lr * min(1.0, (len(losses) + 1) / NUM_WARMUP_STEPS) * (1 - gone)
        with torch.autocast(sizes.device.type, torch.bfloat16, enabled=is_cuda):
            logits_BTV = model(texts_BT[:, :-1], use_cache=False).logits
        loss = F.cross_entropy(logits_BTV.flatten(0, 1).float(), texts_BT[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]  # torch ships it untyped
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.detach())
        if is_cuda and len(losses) % 20 == 0:
            torch.cuda.synchronize()  # the clock counts work that is done
    model.requires_grad_(False).eval()
    return Trained(model, len(losses), float(torch.stack(losses[-20:]).mean()))
