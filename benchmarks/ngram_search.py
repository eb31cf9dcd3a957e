"""Best-first search against PUCT, by which ADED (2407.12021) builds its trees, over the same probabilities.

    python -m benchmarks.ngram_search runs/demo/distil [--table models/ngrams] [--count 30]

Replays greedy answers that nothing was counted from: tokens a round, and microseconds a tree, with trees of equal
budget.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.drafters.text.best_first import likeliest_tree
from engine.drafters.text.history import TextHistory
from engine.drafters.text.sources import Place, Sources
from engine.drafters.text.table import NGramTable
from engine.tree import TokenTree
from training.demo_family.corpus import LANGUAGES
from training.distil import Record, read_records

NUM_DESCENTS, MAX_DEPTH = 150, 4
C1, C2 = 32.0, 8.0
Search = Callable[[Sources, int], TokenTree]


def puct_value(value_sum: float, visits: int, prior: float, parent_visits: int) -> float:
    """What a child promises: its mean value, and its prior the more the less it was visited."""
    if visits == 0:
        return math.inf
    exploration = C1 + math.log((parent_visits + C2 + 1) / C2)
    return value_sum / visits + exploration * prior * math.sqrt(parent_visits) / (1 + visits)


@dataclass(slots=True)
class _Node:
    """A draft token, its visits and what they brought."""

    place: Place
    prior: float = 1.0
    visits: int = 0
    value_sum: float = 0.0
    children: dict[int, _Node] | None = None


class Puct:
    """One tree that is searched for."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._rng = random.Random(0)
        self.root = _Node(sources.end(()))

    def descend(self) -> None:
        """Go where it promises most, then on by chance, and tell all on the way what came of it."""
        path, weight = [self.root], 0.0
        while len(path) <= MAX_DEPTH and (children := self._expanded(path[-1])):
            visits = path[-1].visits
            node = max(children.values(), key=lambda c: puct_value(c.value_sum, c.visits, c.prior, visits))
            path.append(node)
            weight += node.prior
            if node.visits == 0:
                break
        weight += self._rollout(path[-1], MAX_DEPTH - len(path) + 1)
        for node in path:
            node.visits += 1
            node.value_sum += 1.0 + weight

    def tree(self, max_nodes: int) -> TokenTree:
        """The nodes that were visited most, parents first."""
        tokens: list[int] = []
        parents: list[int] = []
        waiting = [(-1, token, node) for token, node in (self.root.children or {}).items()]
        while waiting and len(tokens) < max_nodes:
            chosen = max(waiting, key=lambda one: one[2].visits)
            waiting.remove(chosen)
            parent, token, node = chosen
            waiting += [(len(tokens), child, below) for child, below in (node.children or {}).items()]
            tokens.append(token)
            parents.append(parent)
        return TokenTree(tuple(tokens), tuple(parents), (0,) * len(tokens))

    def _expanded(self, node: _Node) -> dict[int, _Node]:
        if node.children is None:
            likely = self._sources.following(node.place)
            node.children = {token: _Node(self._sources.behind(node.place, token), p) for token, p in likely}
        return node.children

    def _rollout(self, node: _Node, depth: int) -> float:
        weight = 0.0
        for _ in range(depth):
            children = [*self._expanded(node).values()]
            if not children:
                break
            (node,) = self._rng.choices(children, [child.prior for child in children])
            weight += node.prior
        return weight


def by_puct(sources: Sources, max_nodes: int) -> TokenTree:
    search = Puct(sources)
    for _ in range(NUM_DESCENTS):
        search.descend()
    return search.tree(max_nodes)


def best_first(sources: Sources, max_nodes: int) -> TokenTree:
    return likeliest_tree(sources, sources.end(()), max_nodes, frozenset())


def replay(search: Search, records: Sequence[Record], table: NGramTable, max_nodes: int) -> tuple[float, float]:
    """Tokens a round, and microseconds a tree."""
    num_tokens, num_rounds, seconds = 0, 0, 0.0
    for record in records:
        history = TextHistory([*record.prompt_ids, *record.answer_ids[:1]])
        coming = record.answer_ids[1:]
        while coming:
            started_s = time.perf_counter()
            tree = search(Sources(history, None, table), max_nodes)
            seconds += time.perf_counter() - started_s
            num_taken = min(len(tree.follow(coming)) + 1, len(coming))
            for token in coming[:num_taken]:
                history.append(token)
            coming = coming[num_taken:]
            num_tokens += num_taken
            num_rounds += 1
    return num_tokens / num_rounds, 1e6 * seconds / num_rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", type=Path, help="that `polydraft train distil` wrote, a folder a language")
    parser.add_argument("--target", type=Path, default=Path("models/target"))
    parser.add_argument("--table", type=Path, default=Path("models/ngrams"))
    parser.add_argument("--count", type=int, default=30, help="answers a language")
    args = parser.parse_args()
    vocab_size = int(json.loads((args.target / "config.json").read_text())["vocab_size"])
    table = NGramTable(args.table, vocab_size)
    for language in LANGUAGES:
        held_out = [r for r in read_records(args.answers / language, language) if r.is_for_judging]
        records = [record for record in held_out if record.temperature == 0][: args.count]
        for max_nodes in (4, 8, 16):
            best, puct = (replay(search, records, table, max_nodes) for search in (best_first, by_puct))
            print(
                f"{language} {max_nodes:2} nodes: best first {best[0]:.3f} tokens a round, {best[1]:.0f} us a tree; "
                f"PUCT {puct[0]:.3f}, {puct[1]:.0f} us",
                flush=True,
            )


if __name__ == "__main__":
    main()
