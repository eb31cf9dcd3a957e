"""What a drafter is: the one interface behind which all drafting methods stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from engine.sampling import SamplingParams
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


class Drafter(Protocol):
    """Proposes continuations, always batched. Owns its caches; never sees the target's weights.

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
