"""Tokens that a trimmed drafter comes to know while it serves.

A drafter of another language reads much of a prompt as the unknown token, and no update of its weights tells it what
stands there. So tokens that the traffic holds get rows of their own (`training.rows`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from training.drafter import TrimmedVocabulary
from training.online.replay import Transcript

MIN_COUNT = 2
"""A token that came once may never come again."""


def grown(vocabulary: TrimmedVocabulary, transcripts: Sequence[Transcript], max_new: int) -> TrimmedVocabulary:
    """The vocabulary with at most `max_new` tokens more in its two parts together, the most frequent ones.

    Tokens of answers join the head, those of prompts are only read. Tokens in it keep their order.
    """
    read: Counter[int] = Counter()
    written: Counter[int] = Counter()
    for transcript in transcripts:
        read.update(transcript.token_ids[: transcript.prompt_length])
        written.update(transcript.token_ids[transcript.prompt_length :])
    head = vocabulary.token_ids[: vocabulary.num_head_tokens]
    proposed = set(head)
    candidates = [(count, token, True) for token, count in written.items() if token not in proposed]
    candidates += [
        (count, token, False)
        for token, count in read.items()
        if token not in vocabulary.row_of_id and written[token] < MIN_COUNT
    ]
    frequent = sorted((item for item in candidates if item[0] >= MIN_COUNT), key=lambda item: (-item[0], item[1]))
    chosen = frequent[: max(max_new, 0)]
    new_head = [token for _, token, is_written in chosen if is_written]
    inputs = [token for token in vocabulary.token_ids[len(head) :] if token not in new_head]
    new_inputs = [token for _, token, is_written in chosen if not is_written]
    return TrimmedVocabulary((*head, *new_head, *inputs, *new_inputs), len(head) + len(new_head))
