"""A target over two CUDA devices, which exchange through NCCL."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.engine import EngineConfig
from engine.model import load_target
from engine.scheduler import SchedulerConfig
from engine.session import LocalDrafting
from tests.shard_ranks import answers_at, logits_at, running_ranks
from tests.tiny_targets import MAX_CONTEXT, write_tiny_target
from tests.unit.engine.conftest import make_requests

pytestmark = pytest.mark.multi_gpu

CUDA = torch.device("cuda")
IDS = [3 + (7 * position) % 90 for position in range(60)]


def test_two_devices_compute_what_one_does_and_drafting_changes_no_token(tmp_path: Path) -> None:
    directory = write_tiny_target(tmp_path)
    scheduler = SchedulerConfig(max_context=MAX_CONTEXT, prefill_chunk=16, draft_deadline_s=0.0)
    config = EngineConfig(num_pages=14, scheduler=scheduler)
    plain, drafted = make_requests(5, 0.9, local=LocalDrafting()), make_requests(5, 0.9)
    whole = load_target(directory, torch.float32, CUDA).plain_logits(IDS)[-5:].cpu()
    with running_ranks(2, CUDA) as ranks:
        found = ranks.call(logits_at, directory, torch.float32, IDS)
        undrafted = ranks.call(answers_at, directory, config, plain, {})[0]

        assert torch.equal(found[0], found[1])
        assert (found[0] - whole).abs().max() <= 1e-5 * whole.abs().max()
        assert ranks.call(answers_at, directory, config, drafted, undrafted)[0] == undrafted
