"""What a tier drafter drafts, and for which sequence."""

from __future__ import annotations

import pytest

from engine.draft_queue import Committed, DraftQueue
from engine.drafters.base import DraftSession, DraftVerdict
from engine.drafters.ngram import NGramDrafter
from engine.hashing import EMPTY_HASH, extend_hash
from engine.sampling import SamplingParams


@pytest.fixture
def queue() -> DraftQueue:
    """One session of a drafter that repeats what followed last time."""
    queue = DraftQueue(NGramDrafter([1], max_nodes=8))
    queue.open(DraftSession(1, (5, 6, 7), SamplingParams()), max_nodes=2)
    assert queue.turn() == []
    return queue


def committed(base_length: int, token: int, max_nodes: int = 2) -> Committed:
    return Committed(base_length, DraftVerdict(1, (token,), 0), max_nodes)


def test_blocks_are_labelled_with_the_sequence_they_build_on(queue: DraftQueue) -> None:
    queue.commit(committed(3, 5))

    (block,) = queue.turn()

    assert (block.base_length, block.base_hash) == (4, extend_hash(EMPTY_HASH, (5, 6, 7, 5)))
    assert block.tree.token_ids == (6, 7)
    assert queue.is_empty


def test_a_block_has_as_many_nodes_as_the_target_wants(queue: DraftQueue) -> None:
    queue.commit(committed(3, 5, max_nodes=1))
    (block,) = queue.turn()
    assert block.tree.token_ids == (6,)

    queue.commit(committed(4, 6, max_nodes=0))
    assert queue.turn() == []

    queue.commit(committed(5, 7, max_nodes=9))  # more than the session may have
    (block,) = queue.turn()
    assert (block.base_length, block.tree.token_ids) == (6, (5, 6))


def test_what_is_told_twice_counts_once(queue: DraftQueue) -> None:
    queue.commit(committed(3, 5))
    queue.commit(committed(3, 5))
    (block,) = queue.turn()
    assert block.base_length == 4

    queue.commit(committed(4, 6))
    (block,) = queue.turn()
    assert (block.base_length, block.base_hash) == (5, extend_hash(EMPTY_HASH, (5, 6, 7, 5, 6)))


def test_a_session_out_of_step_is_closed(queue: DraftQueue) -> None:
    queue.commit(committed(99, 9))
    assert queue.turn() == []

    queue.commit(committed(3, 5))
    queue.close(1)
    assert queue.turn() == []


def test_a_session_that_falls_out_of_step_in_the_same_turn_stops_nobody_else(queue: DraftQueue) -> None:
    queue.open(DraftSession(2, (5, 6, 7), SamplingParams()), max_nodes=2)
    queue.commit(committed(3, 5))
    queue.commit(committed(99, 9))
    queue.commit(Committed(3, DraftVerdict(2, (5,), 0), 2))

    (block,) = queue.turn()

    assert (block.session_id, block.tree.token_ids) == (2, (6, 7))
