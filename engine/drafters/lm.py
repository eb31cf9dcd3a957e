"""Drafts by a small language model of one language: trees of its likeliest continuations under the target's own noise.

A session's slot holds its committed tokens as far as they were seen, then the nodes of its tree that were run. What a
verdict adds and was not run is fed in the next block's first pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from polydraft_kernels.noise import Stream, hash_ids
from torch import Tensor

from engine.drafters.base import DraftLaw, DraftSession, DraftVerdict, DraftWork, Placement
from engine.drafters.checkpoint import DrafterCheckpoint, DrafterManifest, load_checkpoint
from engine.drafters.config import DrafterConfig
from engine.drafters.coupling import NoiseRows, coupled_choices, drawn_choices
from engine.drafters.growing_tree import NO_NODE, NOT_RUN, ROOT, GrowingTree
from engine.drafters.lean_llama import MAX_TREE_NODES, LeanLlama, Rows
from engine.drafters.shapes import SHAPES, Block, Bounds, LikeliestPaths, Shape, drawn_shape
from engine.dtypes import best_drafter_dtype
from engine.tree import TokenTree

# Shape letters: N rows whose logits are wanted, V tokens the drafter may propose, K children a node, Q rows, L places

PREPARED_WIDTH, PREPARED_NODES, PREPARED_CONFIDENCE = 8, 16, 0.01
"""Ahead of a verdict: nodes of one pass, nodes run in all, and how likely a node must be to be run."""
NOISE_AHEAD = 8
"""Positions whose noise is drawn before a block asks for it."""
_LEAST_HITS = 0.15
"""Of verdicts that a tree foresaw, so that preparing pays."""
_FORGET_HITS = 0.95


@dataclass(slots=True)
class _Session:
    slot: int
    rows: list[int]
    """Embedding rows of the prompt and the committed tokens."""
    noise: NoiseRows
    num_cached: int = 0
    """Leading rows whose keys and values are in the slot."""
    tree: GrowingTree = field(default_factory=GrowingTree)
    """Its nodes that were run lie in the slot behind the rows."""
    laws: dict[int, Tensor] = field(default_factory=dict)
    """q [V] behind the nodes that were run, where tokens are drawn."""
    draft_ahead: bool = False
    hits: float = 0.5
    """How often of late the tree had run the node that a verdict ended at."""


@dataclass(frozen=True, slots=True)
class _Growth:
    """One block on its way."""

    session: _Session
    bounds: Bounds
    guess: list[int]
    """Rows that another drafter expects behind the root."""
    num_assumed: int
    """Rows at the end of the session's that are taken for committed until the block is complete."""


class LMDrafter:
    """A trained drafter; see `Drafter` for the order of calls."""

    placement = Placement.TIER

    def __init__(
        self,
        checkpoint: DrafterCheckpoint,
        *,
        vocab_size: int,
        eos_token_ids: Sequence[int] = (),
        max_nodes: int = 16,
        shape: Shape | None = None,
        law: DraftLaw = DraftLaw.NONE,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> None:
        """With a `law` other than NONE tokens are drawn from the drafter's own, and trees come with their laws."""
        self.law = law
        self.manifest: DrafterManifest = checkpoint.manifest
        self._model = LeanLlama(checkpoint, dtype, device)
        self._row_of_token = checkpoint.row_of_token(vocab_size)
        self._vocab_size = vocab_size
        self._token_ids = checkpoint.token_ids[: checkpoint.manifest.num_head_tokens]
        self._hashed_ids_V = hash_ids(np.array(self._token_ids, dtype=np.int64))
        self._eos_rows = frozenset(self._row_of_token[token] for token in eos_token_ids)
        self._max_nodes = max_nodes
        self._shape: Shape = shape or LikeliestPaths()
        self._choose = coupled_choices if law is DraftLaw.NONE else drawn_choices
        self._head_ids = torch.tensor(self._token_ids, device=device)
        self._sessions: dict[int, _Session] = {}

    @classmethod
    def from_config(cls, config: DrafterConfig) -> LMDrafter:
        if config.model is None:
            raise ValueError("drafting method 'lm' needs a model: give the directory of a trained drafter")
        checkpoint = load_checkpoint(config.model)
        law, shape = DraftLaw.NONE, SHAPES[config.method](config)
        if config.draws:
            law, shape = drawn_shape(config.method, shape)
        return cls(
            checkpoint,
            vocab_size=config.vocab_size,
            eos_token_ids=config.eos_token_ids,
            max_nodes=config.max_nodes,
            shape=shape,
            law=law,
            dtype=resolve_dtype(config.dtype, config.device),
            device=config.device,
        )

    def open(self, sessions: Sequence[DraftSession]) -> None:
        for opened in sessions:
            noise = NoiseRows(opened.sampling, self._hashed_ids_V)
            session = _Session(self._model.cache.allocate(), self._rows(opened.token_ids), noise)
            self._sessions[opened.id] = session
            num_prefilled = len(session.rows) - 1
            if 0 < num_prefilled < self._model.shape.context_length:
                self._model.prefill(session.slot, session.rows[:-1])
                session.num_cached = num_prefilled

    @torch.inference_mode()
    def propose(self, work: Sequence[DraftWork]) -> list[TokenTree]:
        growths = [self._begin(item) for item in work]
        if new := [one for one in growths if one.bounds.max_nodes and not one.session.tree.root_was_run]:
            self._run_roots(new)
        while growing := [(one.session, nodes) for one in growths if (nodes := self._missing(one))]:
            self._run(growing)
        return [self._end(one) for one in growths]

    def observe(self, verdicts: Sequence[DraftVerdict]) -> None:
        for verdict in verdicts:
            session = self._sessions[verdict.session_id]
            session.draft_ahead = verdict.draft_ahead
            self._advance(session, self._rows(verdict.token_ids))

    @torch.inference_mode()
    def prepare(self) -> bool:
        """Grow a tree that waits for a verdict, so that what is behind the verdict is known by then; draw noise ahead.

        Only for sessions whose target wants it, and whose verdicts are foreseen often enough.
        """
        if self.law is not DraftLaw.NONE:
            return False
        growing = [
            (session, nodes)
            for session in self._sessions.values()
            if session.draft_ahead and session.hits > _LEAST_HITS and (nodes := self._nodes_ahead(session))
        ]
        if growing:
            self._run(growing)
            return True
        return any(s.noise.draw_ahead(len(s.rows), NOISE_AHEAD) for s in self._sessions.values() if s.draft_ahead)

    def _nodes_ahead(self, session: _Session) -> list[int]:
        tree = session.tree
        if not tree.root_was_run or tree.num_places >= PREPARED_NODES:
            return []
        return tree.frontier(PREPARED_WIDTH, PREPARED_CONFIDENCE, self._room(session), self._eos_rows)

    def close(self, session_ids: Sequence[int]) -> None:
        for session_id in session_ids:
            session = self._sessions.pop(session_id, None)
            if session is not None:
                self._model.cache.release(session.slot)

    def _begin(self, item: DraftWork) -> _Growth:
        session = self._sessions[item.session_id]
        if self.law is not DraftLaw.NONE:
            # What was drawn in another round, or looked at there, is not used again.
            session.noise = NoiseRows(session.noise.sampling, self._hashed_ids_V, Stream.DRAFTER, item.round)
            session.tree, session.laws = GrowingTree(), {}
        if item.assumed:
            session.rows += self._rows(item.assumed)
            session.tree = GrowingTree()
        room = self._room(session)
        max_nodes = min(item.max_nodes, self._max_nodes) if session.rows and room > 0 else 0
        bounds = Bounds(max_nodes, room, self._eos_rows)
        is_of_use = not session.tree.root_was_run and not self._shape.minds_order
        guess = self._rows(item.guess[: max(min(room, MAX_TREE_NODES) - 1, 0)]) if is_of_use else []
        return _Growth(session, bounds, guess, len(item.assumed))

    def _missing(self, growth: _Growth) -> list[int]:
        """The nodes to run next; none when the block is complete."""
        tree = growth.session.tree
        if growth.bounds.max_nodes == 0:
            return []
        return self._shape.next_nodes(tree, growth.bounds)[: MAX_TREE_NODES - tree.num_places]

    def _run(self, growing: Sequence[tuple[_Session, list[int]]]) -> None:
        """One pass over nodes of many sessions; each gets its children."""
        rows = [self._node_rows(session, nodes) for session, nodes in growing]
        logits_NV = self._model.next_logits(rows, [len(nodes) for _, nodes in growing])
        first = 0
        for session, nodes in growing:
            session.tree.run(nodes)
            self._add_children(session, nodes, logits_NV[first : first + len(nodes)])
            first += len(nodes)

    def _run_roots(self, growing: Sequence[_Growth]) -> None:
        """The first pass of some trees, with the tokens that others expect behind their roots."""
        rows = [self._pending(growth.session, growth.guess) for growth in growing]
        logits_NV = self._model.next_logits(rows, [1 + len(growth.guess) for growth in growing])
        first = 0
        for growth in growing:
            session = growth.session
            session.tree = GrowingTree(root_was_run=True)
            session.num_cached = len(session.rows)
            self._add_children(session, [ROOT], logits_NV[first : first + 1])
            node = ROOT
            for place, row in enumerate(growth.guess):
                node = session.tree.child(node, row)
                # Only what would be run anyway counts, so that the block is the same without a guess.
                if node == NO_NODE or node not in self._shape.next_nodes(session.tree, growth.bounds):
                    break
                session.tree.run([node])
                self._add_children(session, [node], logits_NV[first + 1 + place : first + 2 + place])
            first += 1 + len(growth.guess)

    def _add_children(self, session: _Session, nodes: Sequence[int], logits_NV: Tensor) -> None:
        depths = [0 if node == ROOT else session.tree.nodes[node].depth for node in nodes]
        positions = [len(session.rows) + depth for depth in depths]
        choices = self._choose(logits_NV, session.noise, positions, self._shape.max_children())
        for node, depth, rows_K, probs_K in zip(nodes, depths, choices.rows, choices.probs, strict=True):
            count = self._shape.num_children(depth, probs_K)
            session.tree.add_children(node, rows_K[:count], probs_K[:count])
        if choices.laws_NV is not None:
            session.laws |= dict(zip(nodes, choices.laws_NV, strict=True))

    def _end(self, growth: _Growth) -> TokenTree:
        session = growth.session
        block = self._shape.block(session.tree, growth.bounds)
        tree = session.tree.token_tree(block, self._token_ids)
        if self.law is not DraftLaw.NONE:
            tree = replace(tree, laws=self._laws(session, block))
        if growth.num_assumed:
            del session.rows[-growth.num_assumed :]
            session.num_cached = min(session.num_cached, len(session.rows))
            session.tree = GrowingTree()
        return tree

    def _laws(self, session: _Session, block: Block) -> Tensor:
        """[1 + nodes, V]; 0 behind nodes that were not run."""
        laws_NV = torch.zeros(len(block) + 1, self._vocab_size, device=self._head_ids.device)
        for place, node in enumerate((ROOT, *(index for index, _ in block))):
            if node in session.laws:
                laws_NV[place, self._head_ids] = session.laws[node]
        return laws_NV

    def _room(self, session: _Session) -> int:
        """How deep the tree may become."""
        return self._model.shape.context_length - len(session.rows)

    def _pending(self, session: _Session, guess: Sequence[int]) -> Rows:
        """The committed rows that were not seen yet, the last one at least: its logits are not kept; then a guess."""
        start = min(session.num_cached, len(session.rows) - 1)
        rows = [*session.rows[start:], *guess]
        return Rows(session.slot, start, rows, range(start, start + len(rows)))

    def _node_rows(self, session: _Session, nodes: Sequence[int]) -> Rows:
        tree, base = session.tree, len(session.rows)
        start = base + tree.num_places
        positions = [base - 1 + tree.nodes[node].depth for node in nodes]
        visible_QL: NDArray[np.bool_] = np.zeros((len(nodes), start + len(nodes)), dtype=np.bool_)
        visible_QL[:, :base] = True
        for index, node in enumerate(nodes):
            visible_QL[index, start + index] = True
            visible_QL[index, [base + place for place in tree.ancestors(tree.nodes[node].parent)]] = True
        tokens = [tree.nodes[node].row for node in nodes]
        return Rows(session.slot, start, tokens, positions, None if visible_QL.all() else visible_QL)

    def _advance(self, session: _Session, committed: list[int]) -> None:
        """Keep the keys and values along the committed path."""
        tree, base = session.tree, len(session.rows)
        path = tree.follow(committed)
        kept = [place for node in path if (place := tree.nodes[node].place) != NOT_RUN]
        if tree.root_was_run:
            session.num_cached = base + len(kept)
        is_hit = 0 < len(kept) == len(committed)
        session.hits += (1 - _FORGET_HITS) * (is_hit - session.hits)
        session.tree = GrowingTree()
        if is_hit and self.law is DraftLaw.NONE:
            session.tree, behind = tree.below(path[-1])
            kept += behind
        if kept != list(range(len(kept))):
            self._model.cache.move(session.slot, [base + place for place in kept], base)
        session.rows += committed
        session.noise.forget(len(session.rows))

    def _rows(self, token_ids: Sequence[int]) -> list[int]:
        return [self._row_of_token[token] for token in token_ids]


def resolve_dtype(name: str, device: str) -> torch.dtype:
    """The dtype of that name; ValueError if there is none."""
    named = {"float32": torch.float32, "bfloat16": torch.bfloat16, "auto": best_drafter_dtype(torch.device(device))}
    if name not in named:
        raise ValueError(f"unknown dtype {name!r}; use auto, float32 or bfloat16")
    return named[name]
