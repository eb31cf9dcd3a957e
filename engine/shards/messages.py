"""What rank 0 tells the other ranks, as numbers: no objects that a process would have to trust.

Stop   0
Move   1, number of pairs, pairs
Step   2, layers whose attention is left out, layers whose MLP is left out (each: number, layers), number of items,
       items: number of tokens, tokens cached, pages, nodes, whether logits are wanted,
       then tokens, pages, the nodes' tokens, their parents
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from engine.attention_plan import Ints
from engine.batch import WorkItem
from engine.pages import PageId
from engine.skipping import NOTHING, SkipSet
from engine.tree import TokenTree

_STOP, _MOVE, _STEP = range(3)


@dataclass(frozen=True, slots=True)
class Step:
    """Run these items. Their trees' ranks among siblings are not told: only verification reads them."""

    items: tuple[WorkItem, ...]
    skip: SkipSet = NOTHING


@dataclass(frozen=True, slots=True)
class Move:
    """Copy slots, from the first of each pair to the second."""

    moves: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """There is nothing more to do."""


Message = Step | Move | Stop


def encode(message: Message) -> Ints:
    """int64, as the module's comment lays it out."""
    match message:
        case Step(items, skip):
            skipped = (len(skip.attention), *skip.attention, len(skip.mlp), *skip.mlp)
            numbers = [_STEP, *skipped, len(items), *chain.from_iterable(map(_numbers_of, items))]
        case Move(moves):
            numbers = [_MOVE, len(moves), *chain.from_iterable(moves)]
        case Stop():
            numbers = [_STOP]
    return np.array(numbers, dtype=np.int64)


def decode(message: Ints) -> Message:
    """The inverse of `encode`."""
    numbers = iter(message.tolist())
    kind = next(numbers)
    if kind == _STEP:
        attention = frozenset(islice(numbers, next(numbers)))
        skip = SkipSet(attention, frozenset(islice(numbers, next(numbers))))
        return Step(tuple(_item_of(numbers) for _ in range(next(numbers))), skip)
    if kind == _MOVE:
        return Move(tuple((next(numbers), next(numbers)) for _ in range(next(numbers))))
    assert kind == _STOP, f"rank 0 told something unknown: {kind}"
    return Stop()


def _numbers_of(item: WorkItem) -> Sequence[int]:
    tree = item.tree
    counts = (len(item.token_ids), item.num_cached, len(item.pages), len(tree), item.wants_logits)
    return (*counts, *item.token_ids, *item.pages, *tree.token_ids, *tree.parents)


def _item_of(numbers: Iterator[int]) -> WorkItem:
    num_tokens, num_cached, num_pages, num_nodes, wants_logits = islice(numbers, 5)
    return WorkItem(
        token_ids=tuple(islice(numbers, num_tokens)),
        num_cached=num_cached,
        pages=[PageId(page) for page in islice(numbers, num_pages)],
        tree=TokenTree(tuple(islice(numbers, num_nodes)), tuple(islice(numbers, num_nodes)), (0,) * num_nodes),
        wants_logits=bool(wants_logits),
    )
