"""Load a local transformers directory as a target and run packed steps through it.

Any decoder with standard attention is served unmodified through `AttentionInterface`; what is not supported is
refused by name, before or after loading.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from engine.attention import IMPLEMENTATION, ShapeRecorder
from engine.batch import PackedBatch
from engine.dtypes import best_target_dtype
from engine.identity import eos_ids
from engine.kv_cache import LayerShape
from engine.packed_linear import can_pack, pack_linears


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
    kv_layers: tuple[LayerShape, ...]

    @torch.inference_mode()
    def forward(self, batch: PackedBatch) -> Tensor:
        """Logits [R, V] of the batch's logit rows, in the model's dtype; writes the KV of all rows."""
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


def load_target(directory: Path, dtype: torch.dtype | None, device: torch.device) -> TargetModel:
    """Load the weights (safetensors only, no remote code).

    Raises `ModelRefused` naming the cause if the directory is no model, or one that the engine does not serve.
    """
    if not (directory / "config.json").is_file():
        raise ModelRefused(f"{directory.name}: no config.json; expected a transformers model directory")
    if not list(directory.glob("*.safetensors")):
        raise ModelRefused(f"{directory.name}: no *.safetensors; other weight formats are not loaded")
    config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    refuse_config(config)
    dtype = dtype or best_target_dtype(device)
    model = AutoModelForCausalLM.from_pretrained(
        directory,
        config=config,
        dtype=dtype,
        attn_implementation=IMPLEMENTATION,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
    )
    model.to(device)  # type: ignore[arg-type]  # transformers wraps nn.Module.to without its self
    model.eval()
    vocab_size = model.get_output_embeddings().weight.shape[0]
    if can_pack(dtype, device):
        pack_linears(model)
    return TargetModel(
        model=model,
        device=device,
        dtype=dtype,
        vocab_size=vocab_size,
        max_context=config.max_position_embeddings,
        eos_ids=eos_ids(directory),
        kv_layers=_kv_layers(model, config, device),
    )


@torch.inference_mode()
def _kv_layers(model: nn.Module, config: PreTrainedConfig, device: torch.device) -> tuple[LayerShape, ...]:
    """Run one token and note what each attention layer would store."""
    recorder = ShapeRecorder()
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
    return tuple(recorder.layers[layer] for layer in range(config.num_hidden_layers))
