"""A drafter: a Llama of one layer over a trimmed vocabulary, and its directory format.

The rows of the tied embedding: first the head, tokens the target writes for the drafter's language (EOS among
them); then tokens that only prompts hold; the last row stands for every other token. Rows map to target ids by
`token_ids`, which has an entry for each row but the last. Trimming as in VocabTrim (2506.22694).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from engine.identity import target_id, tokenizer_hash
from training.examples import IGNORED

if TYPE_CHECKING:  # the recipe needs pydantic, drafters on a bare GPU machine do not
    from training.recipe import DrafterShape

TOKEN_IDS_TENSOR = "vocabulary.token_ids"
EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"


@dataclass(frozen=True)
class TrimmedVocabulary:
    """Which target ids have a row, in row order; the row after them is the unknown token's."""

    token_ids: tuple[int, ...]
    num_head_tokens: int
    """The drafter proposes tokens of the first so many rows."""

    @property
    def num_rows(self) -> int:
        return len(self.token_ids) + 1

    @property
    def unknown_row(self) -> int:
        return len(self.token_ids)

    @cached_property
    def row_of_id(self) -> dict[int, int]:
        return {token: row for row, token in enumerate(self.token_ids)}

    def rows(self, token_ids: Iterable[int]) -> list[int]:
        """Embedding rows of target ids."""
        return [self.row_of_id.get(token, self.unknown_row) for token in token_ids]

    def label_table(self, vocab_size: int) -> NDArray[np.int64]:
        """Target id -> head row, `IGNORED` for tokens the drafter cannot propose; int64 [vocab_size]."""
        table = np.full(vocab_size, IGNORED, dtype=np.int64)
        table[list(self.token_ids[: self.num_head_tokens])] = np.arange(self.num_head_tokens)
        return table


def choose_vocabulary(
    answer_counts: Counter[int],
    prompt_counts: Counter[int],
    always: Sequence[int],
    num_rows: int,
    min_answer_count: int,
) -> TrimmedVocabulary:
    """The most frequent tokens of answers and prompts together, in at most `num_rows` rows with the unknown one.

    A row counts alike where it is proposed and where it is read: an unknown source word spoils about one drafted
    token. Head are those that answers hold at least `min_answer_count` times, `always` (EOS) first; each part is
    ordered by frequency, then by id.
    """

    def ranked(tokens: Iterable[int], counts: Counter[int]) -> list[int]:
        return sorted(tokens, key=lambda token: (-counts[token], token))

    both = answer_counts + prompt_counts
    others = [token for token in ranked(both, both) if token not in always]
    kept = others[: num_rows - 1 - len(always)]
    head = [*always, *ranked((t for t in kept if answer_counts[t] >= min_answer_count), answer_counts)]
    inputs = ranked((t for t in kept if answer_counts[t] < min_answer_count), prompt_counts)
    return TrimmedVocabulary((*head, *inputs), len(head))


def whole_vocabulary(vocab_size: int) -> TrimmedVocabulary:
    """Every token of the target, each in the row of its id."""
    return TrimmedVocabulary(tuple(range(vocab_size)), vocab_size)


def drafter_config(shape: DrafterShape, num_rows: int) -> LlamaConfig:
    """With a tied embedding of `num_rows`."""
    return LlamaConfig(
        vocab_size=num_rows,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.max_positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )


def trim(state: dict[str, Tensor], vocabulary: TrimmedVocabulary) -> dict[str, Tensor]:
    """The state of a full-vocabulary drafter with the chosen rows kept as they are.

    The unknown row is the mean of the rows that go, so that a dropped token means about what it did.
    """
    full_VD = state[EMBEDDING]
    kept = torch.tensor(vocabulary.token_ids)
    dropped_V = torch.ones(full_VD.shape[0], dtype=torch.bool)
    dropped_V[kept] = False
    unknown_D = full_VD[dropped_V].mean(0) if dropped_V.any() else torch.zeros_like(full_VD[0])
    rows_RD = torch.cat([full_VD[kept], unknown_D[None]])
    trimmed = {name: tensor for name, tensor in state.items() if name != HEAD}
    return trimmed | {EMBEDDING: rows_RD, HEAD: rows_RD}


def export_drafter(
    model: LlamaForCausalLM, vocabulary: TrimmedVocabulary, language: str, target_dir: Path, output: Path
) -> None:
    """Write a drafter for the target in `target_dir`; see `write_drafter`."""
    tokenizer = tokenizer_hash(target_dir / "tokenizer.json")
    write_drafter(model, vocabulary, language, target_id(target_dir), tokenizer, output)


def write_drafter(
    model: LlamaForCausalLM,
    vocabulary: TrimmedVocabulary,
    language: str,
    target: str,
    tokenizer: str,
    output: Path,
) -> None:
    """Write `config.json`, `model.safetensors` (bf16) and `drafter.json`; `target` and `tokenizer` are hashes."""
    output.mkdir(parents=True, exist_ok=True)
    model.config.to_json_file(output / "config.json")
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items() if name != HEAD}
    tensors[TOKEN_IDS_TENSOR] = torch.tensor(vocabulary.token_ids, dtype=torch.int32)
    save_file(tensors, output / "model.safetensors", metadata={"format": "pt"})
    about = {
        "language": language,
        "target_id": target,
        "tokenizer_hash": tokenizer,
        "num_head_tokens": vocabulary.num_head_tokens,
        "token_ids": TOKEN_IDS_TENSOR,
    }
    (output / "drafter.json").write_text(json.dumps(about, indent=2) + "\n")


def load_drafter(directory: Path) -> tuple[LlamaForCausalLM, TrimmedVocabulary]:
    """The exported drafter as a transformers model in fp32, for evaluation and further training."""
    about = json.loads((directory / "drafter.json").read_text())
    tensors = load_file(directory / "model.safetensors")
    token_ids = tensors.pop(about["token_ids"]).tolist()
    model = LlamaForCausalLM(LlamaConfig.from_json_file(directory / "config.json"))
    state = {name: tensor.float() for name, tensor in tensors.items()}
    model.load_state_dict(state | {HEAD: state[EMBEDDING]})
    return model, TrimmedVocabulary(tuple(token_ids), about["num_head_tokens"])


def draft_logits(model: LlamaForCausalLM, vocabulary: TrimmedVocabulary, rows_BT: Tensor) -> Tensor:
    """Scores over the head tokens, [B, T, num_head_tokens]."""
    hidden_BTD = model.model(rows_BT, use_cache=False).last_hidden_state
    logits_BTH: Tensor = hidden_BTD @ model.lm_head.weight[: vocabulary.num_head_tokens].T
    return logits_BTH
