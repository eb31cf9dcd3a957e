"""Models of given sizes that have learned nothing: what is timed of them depends on the sizes alone."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from engine.drafters.checkpoint import DrafterCheckpoint, DrafterManifest, LlamaShape
from engine.dtypes import best_target_dtype
from engine.model import TargetModel, prepare_target
from training.drafter import HEAD
from training.planning.shapes import DecoderShape

MAX_CONTEXT = 1024


def llama_config(shape: DecoderShape) -> LlamaConfig:
    """A Llama of that shape, tied, without special tokens."""
    return LlamaConfig(
        vocab_size=shape.rows,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=MAX_CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )


def random_target(shape: DecoderShape) -> TargetModel:
    """As the engine runs a target on this processor; no token ends an answer."""
    device = torch.device("cpu")
    model = AutoModelForCausalLM.from_config(llama_config(shape), dtype=best_target_dtype(device))
    return prepare_target(model.requires_grad_(False), frozenset())


def random_drafter(shape: DecoderShape) -> DrafterCheckpoint:
    """A drafter that may propose the first `rows - 1` tokens; the last row stands for the others."""
    config = llama_config(shape)
    weights = {name: tensor for name, tensor in LlamaForCausalLM(config).state_dict().items() if name != HEAD}
    manifest = DrafterManifest("", "", "", shape.rows - 1)
    return DrafterCheckpoint(manifest, LlamaShape.from_config(config.to_dict()), tuple(range(shape.rows - 1)), weights)
