"""A target's training that goes on from an exported one."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlamaForCausalLM

from training.loop import Schedule
from training.target import train_target


def test_a_second_run_begins_with_the_weights_of_the_exported_target(
    tiny_corpus: Path, tiny_target: Path, tiny_model: LlamaForCausalLM, tmp_path: Path
) -> None:
    one_step = Schedule(minutes=1e-6)

    train_target(tiny_corpus, tiny_target, tmp_path, one_step, 300, packing_from=0.0, start_from=tiny_target)

    trained = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["model"]
    for name, before in tiny_model.state_dict().items():
        assert torch.allclose(trained[name], before, atol=0.01), name
    assert any(not torch.equal(trained[name], before) for name, before in tiny_model.state_dict().items())
