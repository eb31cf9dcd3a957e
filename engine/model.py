"""Load a local transformers directory as a target and run packed steps through it.

Any decoder with standard attention is served unmodified through `AttentionInterface`; what is not supported is
refused by name, before or after loading.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from engine.attention import IMPLEMENTATION, AttentionRecorder, LayerAttention, lone_block_of
from engine.batch import PackedBatch, WorkItem, pack
from engine.dtypes import best_target_dtype
from engine.fused_projections import fuse_projections
from engine.identity import eos_ids
from engine.kv_cache import KVCache, LayerShape
from engine.lean_decoder import LeanDecoder, why_not_lean
from engine.linears import can_pack, fix_tiles, pack_linears
from engine.shards.group import ShardGroup
from engine.shards.split import load_split
from engine.skipping import NOTHING, SkipSet, Sublayers

logger = logging.getLogger(__name__)


class ModelRefused(ValueError):
    """The directory holds a model that the engine does not serve; the message names the cause."""


def refuse_config(config: PreTrainedConfig) -> None:
    """Raise `ModelRefused` for architectures without standard decoder attention."""
    text = config.get_text_config()
    name = config.model_type
    if config.is_encoder_decoder:
        raise ModelRefused(f"{name}: encoder-decoder models are not supported; use a decoder")
    if text is not config:
        raise ModelRefused(f"{name}: models with an image or audio encoder are not supported; use its text model")
    if getattr(config, "kv_lora_rank", None):
        raise ModelRefused(f"{name}: multi-head latent attention (kv_lora_rank) is not supported")
    kinds = set(getattr(config, "layer_types", None) or []) - {"full_attention", "sliding_attention"}
    if kinds:
        raise ModelRefused(
            f"{name}: layers of type {', '.join(sorted(kinds))} are not supported; only attention layers are"
        )
    states = [
        key for key in ("ssm_cfg", "state_size", "mamba_d_state", "linear_conv_kernel_dim") if hasattr(config, key)
    ]
    if states:
        raise ModelRefused(f"{name}: recurrent or linear-attention layers ({states[0]}) are not supported")


@dataclass(slots=True)
class TargetModel:
    """A loaded target. `forward` is a pure function of the batch and the KV that it reads and writes."""

    model: PreTrainedModel
    device: torch.device
    dtype: torch.dtype
    vocab_size: int
    max_context: int
    eos_ids: frozenset[int]
    attention: tuple[LayerAttention, ...]
    lone_block: int | None
    """For `TiledAttention`; None: attention runs by its specification."""
    lean: LeanDecoder | None
    """None: the step runs through transformers' modules."""
    sublayers: Sublayers
    group: ShardGroup | None = None
    """Of a sharded target: `model` is this rank's part, and what is done with it must be done at all ranks."""

    @property
    def kv_layers(self) -> tuple[LayerShape, ...]:
        return tuple(layer.shape for layer in self.attention)

    def pack(self, items: Sequence[WorkItem], cache: KVCache, min_rows: int) -> PackedBatch:
        """One step for `forward`, padded to at least `min_rows`."""
        return pack(items, cache, min_rows, self.lone_block, self.device)

    @torch.inference_mode()
    def forward(self, batch: PackedBatch, skip: SkipSet = NOTHING) -> Tensor:
        """Logits [R, V] of the batch's logit rows, in the model's dtype; writes the KV of all rows.

        Layers whose attention is left out write none; `sublayers` knows what can be left out.
        """
        if self.lean is not None:
            return self.lean.logits(batch, skip)[: batch.num_logit_rows]
        with self.sublayers.without(skip):
            logits_1RV: Tensor = self.model(
                input_ids=batch.ids_T[None],
                position_ids=batch.positions_T[None],
                use_cache=False,
                logits_to_keep=batch.logit_rows,
                step=batch.context,
            ).logits
        return logits_1RV[0, : batch.num_logit_rows]

    @torch.inference_mode()
    def plain_logits(self, token_ids: list[int]) -> Tensor:
        """Logits [T, V] of one sequence by transformers' own attention: what the engine must agree with."""
        self.model.set_attn_implementation("eager")
        try:
            ids = torch.tensor([token_ids], device=self.device)
            logits_TV: Tensor = self.model(input_ids=ids, use_cache=False).logits[0]
            return logits_TV
        finally:
            self.model.set_attn_implementation(IMPLEMENTATION)


def load_target(
    directory: Path,
    dtype: torch.dtype | None,
    device: torch.device,
    *,
    is_invariant: bool = True,
    group: ShardGroup | None = None,
) -> TargetModel:
    """Load the weights (safetensors only, no remote code), of a `group` of shards this rank's part.

    `is_invariant` prepares for numerics `invariant`. Raises `ModelRefused` naming the cause if the directory is no
    model, or one that the engine does not serve.
    """
    if not (directory / "config.json").is_file():
        raise ModelRefused(f"{directory.name}: no config.json; expected a transformers model directory")
    if not list(directory.glob("*.safetensors")):
        raise ModelRefused(f"{directory.name}: no *.safetensors; other weight formats are not loaded")
    config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    refuse_config(config)
    dtype = dtype or best_target_dtype(device)
    options: dict[str, Any] = {
        "dtype": dtype,
        "attn_implementation": IMPLEMENTATION,
        "local_files_only": True,
        "trust_remote_code": False,
        "use_safetensors": True,
    }
    model: PreTrainedModel
    if group is None:
        model = AutoModelForCausalLM.from_pretrained(directory, config=config, **options)
    else:
        model = load_split(directory, config, group, **options)
    model.to(device)  # type: ignore[arg-type]  # transformers wraps nn.Module.to without its self
    return prepare_target(model, eos_ids(directory), is_invariant=is_invariant, group=group)


def prepare_target(
    model: PreTrainedModel, eos: frozenset[int], *, is_invariant: bool = True, group: ShardGroup | None = None
) -> TargetModel:
    """Make a target of a model that is on its device in its dtype; the model's layers are replaced in place."""
    model.eval()
    model.set_attn_implementation(IMPLEMENTATION)
    config, dtype, device = model.config, model.dtype, model.device
    vocab_size = model.get_output_embeddings().out_features
    fuse_projections(model)
    if can_pack(dtype, device):
        pack_linears(model)
    if is_invariant and device.type == "cuda":
        fix_tiles(model)
    if group is not None:
        group.wait_for_all()
    recorded = _record_attention(model, config, device)
    attention = tuple(recorded.layers[layer] for layer in range(config.num_hidden_layers))
    reason = why_not_lean(model)
    if reason is not None:
        logger.info("%s runs through transformers' modules: %s", config.model_type, reason)
    return TargetModel(
        model=model,
        device=device,
        dtype=dtype,
        vocab_size=vocab_size,
        max_context=config.max_position_embeddings,
        eos_ids=eos,
        attention=attention,
        lone_block=lone_block_of(attention, dtype, device),
        lean=None if reason is not None else LeanDecoder(model, attention),
        sublayers=Sublayers(
            model,
            [recorded.modules[layer] for layer in range(config.num_hidden_layers)],
            run=lambda: _record_attention(model, config, device),
        ),
        group=group,
    )


@torch.inference_mode()
def _record_attention(model: nn.Module, config: PreTrainedConfig, device: torch.device) -> AttentionRecorder:
    """Run one token and note what each attention layer is asked for, and by which module."""
    recorder = AttentionRecorder()
    ids = torch.zeros(1, 1, dtype=torch.int64, device=device)
    try:
        model(input_ids=ids, position_ids=ids, use_cache=False, step=recorder)
    except NotImplementedError as error:
        raise ModelRefused(f"{config.model_type}: {error}") from error
    if sorted(recorder.layers) != list(range(config.num_hidden_layers)):
        raise ModelRefused(
            f"{config.model_type}: {len(recorder.layers)} of {config.num_hidden_layers} layers use attention that "
            "transformers lets us replace; the others are not supported"
        )
    return recorder
