"""The target drafts for itself without some of its sublayers (Draft & Verify, 2309.08168): no weights of its own.

It reads the target's KV of what is committed and writes that of its drafts behind, where verification writes the whole
model's. Which sublayers are left out depends on the language; `polydraft tune layer-skip` finds them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from polydraft_kernels.noise import UInt64s, hash_ids
from torch import Tensor

from engine.drafters.base import (
    DraftLaw,
    DraftSession,
    DraftVerdict,
    DraftWork,
    Placement,
    Scratch,
    TargetView,
)
from engine.drafters.config import DrafterConfig
from engine.drafters.coupling import NoiseRows, coupled_choices
from engine.drafters.early_exit import AdaptiveExit
from engine.drafters.skip_file import SkipFile, read_skip_file
from engine.skipping import SkipSet
from engine.tree import TokenTree


@dataclass(slots=True)
class _Session:
    skip: SkipSet
    noise: NoiseRows
    token_ids: list[int]
    drafted: tuple[int, int] | None = None
    """Tokens of the last proposal, and how many it could have had."""


@dataclass(slots=True)
class _Chain:
    """A proposal that grows."""

    id: int
    session: _Session
    unread: list[int]
    """Tokens that the next pass reads."""
    position: int
    """Of the next token."""
    max_nodes: int
    is_judged: bool
    """Whether the verdict will be about it: not if it follows what another drafter proposed."""
    token_ids: list[int] = field(default_factory=list)


class LayerSkipDrafter:
    """Chains by the target itself; see `Drafter` for the order of calls, `AdaptiveExit` for where a chain ends."""

    placement = Placement.TARGET
    law = DraftLaw.NONE

    def __init__(
        self,
        sets: SkipFile,
        vocab_size: int,
        *,
        max_nodes: int = 12,
        eos_token_ids: Sequence[int] = (),
        exit_rule: AdaptiveExit | None = None,
    ) -> None:
        self.exit_rule = exit_rule or AdaptiveExit()
        self._sets = sets
        self._max_nodes = max_nodes
        self._eos = frozenset(eos_token_ids)
        self._hashed_ids_V: UInt64s = hash_ids(np.arange(vocab_size))
        self._sessions: dict[int, _Session] = {}
        self._target: TargetView | None = None

    @classmethod
    def from_config(cls, config: DrafterConfig) -> LayerSkipDrafter:
        if config.skip_file is None:
            raise ValueError("drafting method 'layer_skip' needs a file of sublayers; see `polydraft tune layer-skip`")
        return cls(
            read_skip_file(config.skip_file),
            config.vocab_size,
            max_nodes=config.max_nodes,
            eos_token_ids=config.eos_token_ids,
            exit_rule=AdaptiveExit(config.exit_confidence),
        )

    def attach(self, target: TargetView) -> None:
        """ValueError if the target has no such sublayers."""
        if self._sets.num_layers != target.num_layers:
            raise ValueError(
                f"the sublayers to skip were chosen for a target of {self._sets.num_layers} layers, this one has "
                f"{target.num_layers}; choose them anew with `polydraft tune layer-skip`"
            )
        for skip in self._sets.sets:
            if (problem := target.skip_problem(skip)) is not None:
                raise ValueError(f"the target cannot leave out {skip}: {problem}")
        self._target = target

    def open(self, sessions: Sequence[DraftSession]) -> None:
        for opened in sessions:
            noise = NoiseRows(opened.sampling, self._hashed_ids_V)
            skip = self._sets.set_for(opened.language)
            self._sessions[opened.id] = _Session(skip, noise, list(opened.token_ids))

    @torch.inference_mode()
    def propose(self, work: Sequence[DraftWork]) -> list[TokenTree]:
        assert self._target is not None, "it drafts when it is attached to a target"
        wanted = {item.session_id: self._wanted(item) for item in work}
        with self._target.scratch(wanted) as scratch:
            chains = [self._begin(item, scratch) for item in work]
            growing = [chain for chain in chains if chain.max_nodes > 0]
            while growing:
                for skip, of_set in _by_set(growing).items():
                    self._extend(of_set, scratch.read({chain.id: chain.unread for chain in of_set}, skip))
                growing = [chain for chain in growing if len(chain.token_ids) < chain.max_nodes]
        return [TokenTree.chain(chain.token_ids) for chain in chains]

    def _wanted(self, item: DraftWork) -> int:
        """Tokens that a proposal reads: the last committed one, what is assumed, and its own but for the last."""
        max_nodes = min(item.max_nodes, self._max_nodes)
        return len(item.assumed) + max_nodes if max_nodes > 0 else 0

    def _begin(self, item: DraftWork, scratch: Scratch) -> _Chain:
        session = self._sessions[item.session_id]
        room = scratch.room(item.session_id) - len(item.assumed)
        max_nodes = max(min(item.max_nodes, self._max_nodes, room), 0)
        unread = [*session.token_ids[-1:], *item.assumed]
        position = len(session.token_ids) + len(item.assumed)
        return _Chain(item.session_id, session, unread, position, max_nodes, is_judged=not item.assumed)

    def _extend(self, chains: Sequence[_Chain], logits_NV: Tensor) -> None:
        """Each by the token that the target is likeliest to choose."""
        for chain, logits_V in zip(chains, logits_NV.float(), strict=True):
            choices = coupled_choices(logits_V[None], chain.session.noise, [chain.position], 1)
            ((token,),), ((confidence,),) = choices.rows, choices.probs
            chain.token_ids.append(token)
            chain.unread = [token]
            chain.position += 1
            limit = chain.max_nodes
            if token in self._eos or self.exit_rule.stops_at(confidence):
                chain.max_nodes = len(chain.token_ids)
            if chain.is_judged:
                chain.session.drafted = len(chain.token_ids), limit

    def observe(self, verdicts: Sequence[DraftVerdict]) -> None:
        for verdict in verdicts:
            session = self._sessions[verdict.session_id]
            session.token_ids += verdict.token_ids
            session.noise.forget(len(session.token_ids))
            if session.drafted is not None:
                num_drafted, limit = session.drafted
                if verdict.num_verified is not None:
                    num_drafted = min(num_drafted, verdict.num_verified)
                self.exit_rule.observe(min(verdict.num_accepted, num_drafted), num_drafted, limit)
                session.drafted = None

    def prepare(self) -> bool:
        return False

    def close(self, session_ids: Sequence[int]) -> None:
        for session_id in session_ids:
            self._sessions.pop(session_id, None)


def _by_set(chains: Sequence[_Chain]) -> Mapping[SkipSet, list[_Chain]]:
    """Chains that go through the same pass."""
    found: dict[SkipSet, list[_Chain]] = {}
    for chain in chains:
        found.setdefault(chain.session.skip, []).append(chain)
    return found
