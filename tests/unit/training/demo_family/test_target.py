"""A target's training that goes on from an exported one."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlamaForCausalLM

from training.checkpoints import read_weights
from training.demo_family.target import SHAPES, export_target, train_target
from training.loop import Budget, Schedule


def test_a_second_run_begins_with_the_weights_of_the_exported_target(
    tiny_corpus: Path, tiny_target: Path, tiny_model: LlamaForCausalLM, tmp_path: Path
) -> None:
    one_step = Schedule(Budget(steps=1))

    train_target(
        tiny_corpus, tiny_target, SHAPES["5m"], tmp_path, one_step, 300, packing_from=0.0, start_from=tiny_target
    )

    trained = read_weights(tmp_path)
    for name, before in tiny_model.state_dict().items():
        assert torch.allclose(trained[name], before, atol=0.01), name
    assert any(not torch.equal(trained[name], before) for name, before in tiny_model.state_dict().items())


def test_an_exported_target_has_its_tokenizer(tiny_corpus: Path, tiny_target: Path, tmp_path: Path) -> None:
    work, output = tmp_path / "work", tmp_path / "target"
    train_target(tiny_corpus, tiny_target, SHAPES["5m"], work, Schedule(Budget(steps=1)), 300)

    export_target(work, tiny_target, SHAPES["5m"], output)

    assert (output / "tokenizer.json").read_bytes() == (tiny_target / "tokenizer.json").read_bytes()
    LlamaForCausalLM.from_pretrained(output, local_files_only=True)
