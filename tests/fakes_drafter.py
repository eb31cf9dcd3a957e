"""Tiny random drafters in the directory format of trained ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

VOCAB_SIZE = 97
EOS = 1
CONTEXT = 96


def head_tokens(vocab_size: int = VOCAB_SIZE) -> list[int]:
    """EOS and every second token, in no order of ids."""
    return [EOS, *range(vocab_size - 1, 1, -2)]


def write_tiny_drafter(
    directory: Path,
    *,
    vocab_size: int = VOCAB_SIZE,
    proposable: Sequence[int] | None = None,
    input_only: Sequence[int] = (2, 4, 6),
    num_layers: int = 2,
    context_length: int = CONTEXT,
    seed: int = 0,
    scale: float = 0.3,
    dtype: torch.dtype = torch.float32,
) -> LlamaForCausalLM:
    """Write a drafter; returns transformers' model of the same weights (its rows, not the target's token ids).

    `scale` is the standard deviation of its weights: large ones make neighbouring logits differ clearly.
    """
    proposable = head_tokens(vocab_size) if proposable is None else list(proposable)
    known = [*proposable, *(token for token in input_only if token not in proposable)]
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(known) + 1,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=context_length,
        rope_parameters={"rope_type": "default", "rope_theta": 5_000.0},
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=EOS,
    )
    model = LlamaForCausalLM(config)
    model.eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(1.0 if "norm" in name else 0.0, scale)
            weight.copy_(weight.to(dtype))

    directory.mkdir(parents=True, exist_ok=True)
    tensors = {name: weight.detach().to(dtype).clone() for name, weight in model.named_parameters()}
    tensors["vocabulary.token_ids"] = torch.tensor(known, dtype=torch.int32)
    save_file(tensors, directory / "model.safetensors")
    config.save_pretrained(directory)
    manifest = {
        "language": "de",
        "target_id": "tiny",
        "tokenizer_hash": "tiny",
        "num_head_tokens": len(proposable),
        "token_ids": "vocabulary.token_ids",
    }
    (directory / "drafter.json").write_text(json.dumps(manifest), encoding="utf-8")
    return model
