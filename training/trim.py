"""Which of the target's tokens a language's drafter knows (VocabTrim, 2506.22694), and what the list covers."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.distil import Record
from training.drafter import TrimmedVocabulary, choose_vocabulary, whole_vocabulary
from training.files import write_whole


@dataclass(frozen=True, slots=True)
class Coverage:
    """Share of the tokens that have a row."""

    answers: float
    """That the drafter can propose: the rest costs at most so much acceptance."""
    prompts: float
    """That it can tell from others."""


def count_tokens(records: Iterable[Record]) -> tuple[Counter[int], Counter[int]]:
    """How often each token occurs in answers and in prompts."""
    answers: Counter[int] = Counter()
    prompts: Counter[int] = Counter()
    for record in records:
        answers.update(record.answer_ids)
        prompts.update(record.prompt_ids)
    return answers, prompts


def trim_to(
    records: Sequence[Record], num_rows: int | None, always: Sequence[int], min_answer_count: int, vocab_size: int
) -> TrimmedVocabulary:
    """The list for one language, counted on what the target wrote; all tokens without `num_rows`.

    `always` (EOS, byte tokens) has rows whatever was counted.
    """
    if num_rows is None or num_rows > vocab_size:
        return whole_vocabulary(vocab_size)
    if num_rows <= len(always) + 1:
        raise ValueError(f"trim.rows: {num_rows} leaves no row for words; {len(always)} tokens are always kept")
    return choose_vocabulary(*count_tokens(records), always, num_rows, min_answer_count)


def coverage(vocabulary: TrimmedVocabulary, records: Iterable[Record]) -> Coverage:
    """Of the tokens in `records`."""
    answers, prompts = count_tokens(records)
    head = set(vocabulary.token_ids[: vocabulary.num_head_tokens])
    known = set(vocabulary.token_ids)
    return Coverage(
        sum(count for token, count in answers.items() if token in head) / max(1, answers.total()),
        sum(count for token, count in prompts.items() if token in known) / max(1, prompts.total()),
    )


def list_hash(vocabulary: TrimmedVocabulary) -> str:
    """Names a list in provenance."""
    told = json.dumps([vocabulary.num_head_tokens, *vocabulary.token_ids])
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def write_vocabulary(path: Path, vocabulary: TrimmedVocabulary, covered: Coverage) -> None:
    """The list with its hash and what it covers."""
    told = {"hash": list_hash(vocabulary), "covers_answers": covered.answers, "covers_prompts": covered.prompts}
    lists = {"num_head_tokens": vocabulary.num_head_tokens, "token_ids": vocabulary.token_ids}
    write_whole(path, told | lists)


def read_vocabulary(path: Path) -> TrimmedVocabulary:
    """A list that `write_vocabulary` left."""
    saved = json.loads(path.read_text())
    return TrimmedVocabulary(tuple(saved["token_ids"]), saved["num_head_tokens"])
