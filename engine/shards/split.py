"""Load this rank's part of a model.

transformers knows for each family which layers are split how, and reads only this rank's part of the weights. Its
layers hold tensors that know of the other ranks, and wrappers that exchange; here they become plain layers of plain
weights again, with `engine.shards.layers` where ranks meet, so that the engine treats them as any others.

Two things are split otherwise than transformers would. The embedding stays whole: a look-up is cheaper than a sum over
ranks. And where the key-value heads cannot be dealt out evenly, attention is loaded whole and each rank keeps its own.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.distributed import DistributedConfig  # type: ignore[attr-defined]  # it is imported lazily

from engine.shards.group import ShardGroup
from engine.shards.layers import GatheredLinear, RowParallelLinear

COLUMNS, ROWS, WHOLE = "colwise", "rowwise", "replicate"
GATHERED, SPLIT_INPUT = "colwise_gather_output", "rowwise_split_input"
_WHOLE_STYLES = (WHOLE, "replicated_with_grad_allreduce")
_INTO_HEADS = ("q_proj", "k_proj", "v_proj")
_FROM_HEADS = "o_proj"


class CannotSplit(ValueError):
    """The model cannot be served by so many shards; the message names the cause."""


def load_split(directory: Path, config: PreTrainedConfig, group: ShardGroup, **options: Any) -> PreTrainedModel:
    """This rank's part as a model of its own; `options` are those of `from_pretrained`. CannotSplit names the cause."""
    with torch.device("meta"):
        shape: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    plan = split_plan(shape, group.size)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        directory, config=config, distributed_config=DistributedConfig(tp_size=group.size, tp_plan=plan), **options
    )
    for name, module in list(model.named_modules()):
        style = plan.get(re.sub(r"\.\d+(?=\.|$)", ".*", name))
        if style is not None:
            _take_over(model, name, module, style, group)
    for module in list(model.modules()):
        if _is_attention(module) and type(module.o_proj) is nn.Linear:
            _keep_own_heads(module, _num_kv_heads(config), group)
    head = model.get_output_embeddings()
    if type(head) is nn.Linear:
        model.set_output_embeddings(_split_head(head, group))
    return model


def split_plan(model: PreTrainedModel, num_shards: int) -> dict[str, str]:
    """How each kind of layer is split, by its name with `*` for numbers. CannotSplit says why a model cannot be."""
    kind, num_heads = model.config.model_type, _num_kv_heads(model.config)
    plan = dict(model.tp_plan or {})
    if not plan:
        raise CannotSplit(f"target.shards: transformers has no plan for splitting {kind}; use 1")
    for name, style in plan.items():
        if style.startswith("embedding"):
            plan[name] = WHOLE
    unknown = {style for style in plan.values() if style not in (COLUMNS, ROWS, GATHERED, SPLIT_INPUT, *_WHOLE_STYLES)}
    if unknown:
        raise CannotSplit(
            f"target.shards: layers of {kind} are split as {', '.join(sorted(unknown))}, which is not supported; use 1"
        )
    if model.config.tie_word_embeddings:
        plan["lm_head"] = WHOLE  # its weight is the embedding's
    heads = [name for name in plan if name.rsplit(".", 1)[-1] in (*_INTO_HEADS, _FROM_HEADS)]
    if all(plan[name] in (COLUMNS, ROWS) for name in heads):
        if num_heads < num_shards:
            raise CannotSplit(f"target.shards: {num_shards} is more than the {num_heads} key-value heads of the model")
        if num_heads % num_shards:
            plan |= dict.fromkeys(heads, WHOLE)
    return plan


def heads_of(rank: int, num_ranks: int, num_heads: int) -> slice:
    """Which heads are a rank's; the first ranks have one more if they cannot be dealt out evenly."""
    few, more = divmod(num_heads, num_ranks)
    start = rank * few + min(rank, more)
    return slice(start, start + few + (rank < more))


def _num_kv_heads(config: PreTrainedConfig) -> int:
    return int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)


def _take_over(model: nn.Module, name: str, module: nn.Module, style: str, group: ShardGroup) -> None:
    """Make a layer plain, and its exchange with the other ranks ours."""
    module.__dict__.pop("forward", None)  # transformers' wrapper
    for key, parameter in module.named_parameters(recurse=False):
        local = parameter.to_local() if hasattr(parameter, "to_local") else parameter
        setattr(module, key, nn.Parameter(local.detach(), requires_grad=False))
    if style in _WHOLE_STYLES:
        return
    assert isinstance(module, nn.Linear), f"{name} is a {type(module).__name__}"
    parent = model.get_submodule(name.rpartition(".")[0])
    if style == COLUMNS:
        module.out_features = module.weight.shape[0]
    elif style == GATHERED:
        setattr(parent, name.rpartition(".")[2], GatheredLinear(module, module.out_features, group))
    else:
        layer = RowParallelLinear(module, group, splits_input=style == SPLIT_INPUT)
        setattr(parent, name.rpartition(".")[2], layer)


def _is_attention(module: nn.Module) -> bool:
    return all(hasattr(module, name) for name in (*_INTO_HEADS, _FROM_HEADS))


def _keep_own_heads(attention: Any, num_kv_heads: int, group: ShardGroup) -> None:
    """Of attention that was loaded whole."""
    own = heads_of(group.rank, group.size, num_kv_heads)
    for name in _INTO_HEADS:
        linear: nn.Linear = getattr(attention, name)
        rows = _scaled(own, linear.out_features // num_kv_heads)
        linear.weight = _part(linear.weight[rows])
        if linear.bias is not None:
            linear.bias = _part(linear.bias[rows])
        linear.out_features = linear.weight.shape[0]
    output: nn.Linear = attention.o_proj
    output.weight = _part(output.weight[:, _scaled(own, output.in_features // num_kv_heads)])
    attention.o_proj = RowParallelLinear(output, group, splits_input=False)


def _split_head(head: nn.Linear, group: ShardGroup) -> GatheredLinear:
    """This rank's rows of a head that was loaded whole, which stay those of the embedding."""
    num_rows = -(-head.out_features // group.size)
    own = nn.Linear(head.in_features, num_rows, bias=False, device="meta")
    own.weight = nn.Parameter(head.weight[group.rank * num_rows :][:num_rows], requires_grad=False)
    if head.bias is not None:
        own.bias = nn.Parameter(head.bias[group.rank * num_rows :][:num_rows], requires_grad=False)
    return GatheredLinear(own, head.out_features, group)


def _scaled(heads: slice, size: int) -> slice:
    return slice(heads.start * size, heads.stop * size)


def _part(weight: Tensor) -> nn.Parameter:
    """A copy, so that the whole can go."""
    return nn.Parameter(weight.detach().clone(memory_format=torch.contiguous_format), requires_grad=False)
