"""A drafter as the peers get it drafts what it drafts here."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlamaConfig

from benchmarks.peers.export import plain_drafter
from engine.drafters.checkpoint import load_checkpoint
from tests.fakes_drafter import VOCAB_SIZE, head_tokens, write_tiny_drafter

TOLERANCE = 1e-5  # fp32: only the order of sums differs, within a matrix of another height


def test_plain_drafter_scores_the_head_as_the_trimmed_one_and_all_else_with_its_mean(tmp_path: Path) -> None:
    trimmed = write_tiny_drafter(tmp_path / "drafter")
    LlamaConfig(vocab_size=VOCAB_SIZE).save_pretrained(tmp_path / "target")
    ids_BT = torch.arange(VOCAB_SIZE)[None]  # tokens without a row of their own among them
    rows_BT = torch.tensor([load_checkpoint(tmp_path / "drafter").row_of_token(VOCAB_SIZE)])
    head = head_tokens()
    others = sorted(set(range(VOCAB_SIZE)) - set(head))

    with torch.no_grad():
        plain_BTV = plain_drafter(tmp_path / "drafter", tmp_path / "target")(ids_BT).logits
        head_BTH = trimmed(rows_BT).logits[..., : len(head)]

    assert torch.allclose(plain_BTV[..., head], head_BTH, atol=TOLERANCE)
    mean_BTO = head_BTH.mean(-1, keepdim=True).expand(-1, -1, len(others))
    assert torch.allclose(plain_BTV[..., others], mean_BTO, atol=TOLERANCE)
    assert torch.equal(plain_BTV.argmax(-1), torch.tensor(head)[head_BTH.argmax(-1)])
