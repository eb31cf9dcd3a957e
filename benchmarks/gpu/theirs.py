"""transformers' own generation, plain and assisted, on the same weights and prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from benchmarks.gpu.languages import EOS
from benchmarks.gpu.ours import SEED, Ids


@dataclass(slots=True)
class TheirSystem:
    """Prompts of one length as one batch; assisted generation takes one at a time."""

    model: LlamaForCausalLM
    assistant: LlamaForCausalLM | None
    temperature: float

    @torch.inference_mode()
    def answer(self, prompts: Sequence[Ids], max_tokens: int) -> list[Ids]:
        """Answers without EOS."""
        if self.assistant is not None and len(prompts) > 1:
            return [self.answer([prompt], max_tokens)[0] for prompt in prompts]
        torch.manual_seed(SEED)
        ids_BT = torch.tensor(prompts, device=self.model.device)
        law = {"temperature": self.temperature, "top_k": 0, "top_p": 1.0} if self.temperature else {}
        model: Any = self.model  # transformers types `generate` for its own mix-ins only
        texts_BT: Tensor = model.generate(
            ids_BT,
            attention_mask=torch.ones_like(ids_BT),
            max_new_tokens=max_tokens,
            assistant_model=self.assistant,
            do_sample=self.temperature > 0,
            **law,
        )
        return [_before_eos(text[ids_BT.shape[1] :]) for text in texts_BT.tolist()]


def _before_eos(ids: list[int]) -> Ids:
    return tuple(ids[: ids.index(EOS)] if EOS in ids else ids)
