"""The target's engine as the configuration describes it, with the drafters that it places in the target's step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from cluster.config import Config
from cluster.text import Tokenizer
from deployments.drafters import check_local_drafters, configured_drafter
from engine.engine import Engine, EngineConfig, Numerics
from engine.model import load_target
from engine.scheduler import SchedulerConfig
from engine.verify.verifiers import VERIFIERS

_DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}


def configured_engine(config: Config) -> Engine:
    """Load target and drafters, and set how many threads torch uses.

    ConfigError or ValueError says which model cannot be served, and why.
    """
    target = config.target
    torch.set_num_threads(target.num_threads)
    device = torch.device(_device_name(target.device))
    is_invariant = Numerics(target.numerics) is Numerics.INVARIANT
    model = load_target(target.model, _DTYPES[target.dtype], device, is_invariant=is_invariant)
    check_local_drafters(config)
    drafters = {name: configured_drafter(config, name, device.type) for name in config.target_drafters}
    return Engine(model, VERIFIERS[target.verifier], _engine_config(config, model.max_context), drafters)


def _device_name(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    return "cuda" if torch.cuda.is_available() else "cpu"


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
