"""Trimming keeps what it keeps bit for bit, and a written drafter reads back the same."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from engine.identity import target_id, tokenizer_hash
from training.drafter import (
    EMBEDDING,
    TrimmedVocabulary,
    choose_vocabulary,
    draft_logits,
    drafter_config,
    export_drafter,
    load_drafter,
    trim,
)
from training.examples import IGNORED
from training.recipe import DrafterShape

VOCABULARY = TrimmedVocabulary((1, 40, 7, 33, 12), num_head_tokens=3)


@pytest.fixture(scope="module")
def full() -> LlamaForCausalLM:
    torch.manual_seed(3)
    model = LlamaForCausalLM(drafter_config(DrafterShape(), 50))
    model.eval()
    return model


@pytest.fixture(scope="module")
def trimmed(full: LlamaForCausalLM) -> LlamaForCausalLM:
    model = LlamaForCausalLM(drafter_config(DrafterShape(), VOCABULARY.num_rows))
    model.load_state_dict(trim(full.state_dict(), VOCABULARY))
    model.eval()
    return model


def test_vocabulary_is_head_then_inputs() -> None:
    answers = Counter({9: 50, 4: 50, 6: 20, 8: 1, 7: 2})
    prompts = Counter({30: 9, 8: 30, 9: 99, 31: 12})

    chosen = choose_vocabulary(answers, prompts, always=[1], num_rows=7, min_answer_count=2)

    # 7 and 30 are the rarest; 8 is written once only, so it is read but not proposed.
    assert chosen.token_ids == (1, 4, 9, 6, 8, 31)
    assert (chosen.num_head_tokens, chosen.num_rows) == (4, 7)


def test_ids_map_to_rows_and_labels() -> None:
    assert VOCABULARY.rows([40, 2, 12, 1]) == [1, VOCABULARY.unknown_row, 4, 0]

    table = VOCABULARY.label_table(50)
    assert [table[token] for token in (1, 40, 7)] == [0, 1, 2]
    assert (table != IGNORED).sum() == VOCABULARY.num_head_tokens


def test_trimming_keeps_rows_and_scores_bit_for_bit(full: LlamaForCausalLM, trimmed: LlamaForCausalLM) -> None:
    tokens = [40, 7, 12, 33, 1, 12]
    kept = list(VOCABULARY.token_ids)
    assert torch.equal(trimmed.state_dict()[EMBEDDING][:-1], full.state_dict()[EMBEDDING][kept])

    with torch.inference_mode():
        hidden_BTD = full.model(torch.tensor([tokens]), use_cache=False).last_hidden_state
        expected_BTH = hidden_BTD @ full.lm_head.weight[kept[: VOCABULARY.num_head_tokens]].T
        found_BTH = draft_logits(trimmed, VOCABULARY, torch.tensor([VOCABULARY.rows(tokens)]))
    assert torch.equal(found_BTH, expected_BTH)


def test_unknown_row_is_the_mean_of_what_was_dropped(full: LlamaForCausalLM, trimmed: LlamaForCausalLM) -> None:
    dropped = [token for token in range(50) if token not in VOCABULARY.token_ids]

    expected_D = full.state_dict()[EMBEDDING][dropped].mean(0)
    assert torch.equal(trimmed.state_dict()[EMBEDDING][-1], expected_D)


def test_export_and_load(trimmed: LlamaForCausalLM, tiny_target: Path, tmp_path: Path) -> None:
    export_drafter(trimmed, VOCABULARY, "fr", tiny_target, tmp_path)

    loaded, vocabulary = load_drafter(tmp_path)
    assert vocabulary == VOCABULARY
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, trimmed.state_dict()[name].bfloat16().float()), name
    assert json.loads((tmp_path / "drafter.json").read_text()) == {
        "language": "fr",
        "target_id": target_id(tiny_target),
        "tokenizer_hash": tokenizer_hash(tiny_target / "tokenizer.json"),
        "num_head_tokens": 3,
        "token_ids": "vocabulary.token_ids",
    }


def test_written_tensors_are_bf16_with_int32_ids(trimmed: LlamaForCausalLM, tiny_target: Path, tmp_path: Path) -> None:
    export_drafter(trimmed, VOCABULARY, "fr", tiny_target, tmp_path)

    tensors = load_file(tmp_path / "model.safetensors")
    ids = tensors.pop("vocabulary.token_ids")
    assert (ids.dtype, ids.tolist()) == (torch.int32, list(VOCABULARY.token_ids))
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert "lm_head.weight" not in tensors
    assert tensors[EMBEDDING].shape == (VOCABULARY.num_rows, 256)
