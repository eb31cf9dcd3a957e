"""What a drafter is: the one interface behind which all drafting methods stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

from torch import Tensor

from engine.sampling import SamplingParams
from engine.skipping import SkipSet
from engine.tree import TokenTree


class Placement(Enum):
    """Where a drafter runs."""

    TIER = "tier"
    """In a deployment of its own; blocks travel over gRPC."""
    TARGET = "target"
    """Inside the target's step."""


class DraftLaw(Enum):
    """What is known of the law that draft tokens were drawn from; it says which verifiers are lawful."""

    NONE = "none"
    ONE_HOT = "one_hot"
    """Chains chosen without chance."""
    CHAIN_EXACT = "chain_exact"
    """Chains whose tokens were drawn from laws that are at hand."""
    NO_REPLACEMENT = "no_replacement"
    """Trees likewise, each sibling drawn from what those before it left."""


@dataclass(frozen=True, slots=True)
class DraftSession:
    """A sequence to draft for."""

    id: int
    token_ids: tuple[int, ...]
    """Prompt and committed tokens."""
    sampling: SamplingParams
    version: str = ""
    """Of the weights, where a drafter has several (`VersionedDrafter`)."""
    language: str = ""
    """Of the input."""
    keep_for: str = ""
    """A tenant whose later sequences may be drafted from what is committed for this one; empty: nobody's may."""


@dataclass(frozen=True, slots=True)
class DraftWork:
    """One block asked for."""

    session_id: int
    max_nodes: int
    round: int = 0
    """Of the request; what is drawn in one round is not drawn again in another."""
    assumed: tuple[int, ...] = ()
    """Tokens taken for committed in this proposal alone, which follows them."""
    guess: tuple[int, ...] = ()
    """Tokens that another drafter expects. They may spare time; the proposal is the same without."""


@dataclass(frozen=True, slots=True)
class DraftVerdict:
    """Tokens that the target committed after the last proposal: the accepted ones and its own."""

    session_id: int
    token_ids: tuple[int, ...]
    num_accepted: int
    draft_ahead: bool = False
    """Whether `prepare` should use the time until the next verdict."""
    num_verified: int | None = None
    """Nodes of the last proposal that were verified; None: all, or nobody says."""


class Scratch(Protocol):
    """Room behind the committed KV of some sequences; what is written there is gone when a proposal is made."""

    def room(self, session_id: int) -> int:
        """Tokens that may be read there, the last committed one first; 0: none."""

    def read(self, token_ids: Mapping[int, Sequence[int]], skip: SkipSet) -> Tensor:
        """Read further tokens of some sequences without some sublayers; logits [N, V] after the last of each."""


class TargetView(Protocol):
    """The target, as drafters in its step may use it between steps."""

    @property
    def num_layers(self) -> int: ...

    def skip_problem(self, skip: SkipSet) -> str | None:
        """Why these sublayers cannot be left out, or None."""

    def scratch(self, num_tokens: Mapping[int, int]) -> AbstractContextManager[Scratch]:
        """Room for up to so many tokens behind each of some sequences, by their ids."""


@runtime_checkable
class UsesTarget(Protocol):
    """A drafter that drafts with the target itself."""

    def attach(self, target: TargetView) -> None:
        """Called once before anything else; ValueError says why this target does not suit."""


class Drafter(Protocol):
    """Proposes continuations, always batched. Owns its caches; sees of the target at most a `TargetView`.

    Order of calls: `open`, then any number of (`propose`, `observe`) in that order, then `close`. `observe` may come
    without a `propose` before it (the round ran undrafted). Ids are unique among open sessions. A proposal changes no
    committed state: after `observe` the drafter stands on the committed tokens alone. Not thread-safe.
    """

    placement: Placement
    law: DraftLaw

    def open(self, sessions: Sequence[DraftSession]) -> None:
        """Take on sequences; prefill whatever the drafter keeps of them."""

    def propose(self, work: Sequence[DraftWork]) -> list[TokenTree]:
        """One tree a work item, in order; at most `max_nodes` nodes, possibly none."""

    def observe(self, verdicts: Sequence[DraftVerdict]) -> None:
        """Append committed tokens and drop what was rejected."""

    def prepare(self) -> bool:
        """Do one short piece of work for proposals to come; False if there is none worth it. Called when idle."""

    def close(self, session_ids: Sequence[int]) -> None:
        """Forget sequences; unknown ids are ignored."""
