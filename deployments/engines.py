"""The target's engine as the configuration describes it, with the drafters that it places in the target's step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from cluster.config import Config, TargetConfig
from cluster.text import Tokenizer
from deployments.drafters import check_local_drafters, configured_drafter
from engine.engine import Engine, EngineConfig
from engine.executor import Executor
from engine.model import TargetModel, load_target
from engine.numerics import Numerics
from engine.scheduler import SchedulerConfig
from engine.shards.group import ShardGroup
from engine.verify.verifiers import VERIFIERS

_DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}


def configured_engine(config: Config, group: ShardGroup | None = None) -> Engine:
    """Load target and drafters, and set how many threads torch uses; of a `group` of shards as rank 0.

    ConfigError or ValueError says which model cannot be served, and why.
    """
    model = _configured_target(config, group)
    check_local_drafters(config)
    drafters = {name: configured_drafter(config, name, model.device.type) for name in config.target_drafters}
    return Engine(model, VERIFIERS[config.target.verifier], _engine_config(config, model.max_context), drafters)


def configured_executor(config: Config, group: ShardGroup) -> Executor:
    """What another rank of the group runs: as much KV as rank 0 has, for its own heads."""
    model, target = _configured_target(config, group), config.target
    return Executor(model, Numerics(target.numerics), target.num_pages, target.page_size)


def configured_device(target: TargetConfig) -> torch.device:
    """Where a target replica, or one shard of it, runs."""
    if target.device != "auto":
        return torch.device(target.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _configured_target(config: Config, group: ShardGroup | None) -> TargetModel:
    target = config.target
    torch.set_num_threads(target.num_threads)
    is_invariant = Numerics(target.numerics) is Numerics.INVARIANT
    device = configured_device(target)
    return load_target(target.model, _DTYPES[target.dtype], device, is_invariant=is_invariant, group=group)


def _engine_config(config: Config, model_context: int) -> EngineConfig:
    target = config.target
    return EngineConfig(
        num_pages=target.num_pages,
        page_size=target.page_size,
        numerics=Numerics(target.numerics),
        measures_drafts=target.draft_lengths == "measured",
        cuda_graphs=target.cuda_graphs,
        scheduler=SchedulerConfig(
            max_rows=target.token_budget,
            max_running=target.max_sessions,
            prefill_chunk=target.prefill_chunk,
            draft_deadline_s=target.draft_deadline_s,
            max_context=min(model_context, target.max_context or model_context),
            prefix_sharing=target.prefix_sharing,
            shared_prefixes=_prefix_ids(target.model, target.shared_prefixes),
        ),
    )


def _prefix_ids(model: Path, texts: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """The texts as requests would be encoded that begin with them."""
    if not texts:
        return ()
    tokenizer = Tokenizer(model)
    return tuple(tuple(ids) for text in texts for ids in tokenizer.beginnings(text))
