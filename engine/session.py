"""The state of one sequence in the engine: what is committed, what is in the KV pool, what it waits for."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from engine.draft_length import MAX_NODES, Drafting
from engine.hashing import EMPTY_HASH, extend_hash
from engine.logprobs import MAX_TOP_LOGPROBS
from engine.pages import PageId
from engine.sampling import SamplingParams
from engine.tree import TokenTree

MAX_ROUNDS = 1 << 62
"""Round counters are signed 64-bit on the device."""


class Finish(Enum):
    """Why the engine ended a sequence."""

    EOS = "eos"
    LENGTH = "length"
    FAILED = "failed"
    """The model gave no numbers for it."""


@dataclass(frozen=True, slots=True)
class LocalDrafting:
    """Drafting inside the target's step; method "" is plain decoding."""

    method: str = ""
    max_nodes: int = 0


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """A sequence to decode. `token_ids` are prompt and tokens committed elsewhere before."""

    session_id: int
    token_ids: tuple[int, ...]
    prompt_length: int
    sampling: SamplingParams
    max_tokens: int
    """Length of the whole answer, tokens committed elsewhere included."""
    round: int = 0
    tenant: str = ""
    weight: float = 1.0
    """Of the tenant: its share of the engine while others want theirs."""
    local: LocalDrafting | None = None
    """None waits for a block before each round."""
    drafter: str = ""
    """Whose blocks will come; rounds are measured by it."""
    max_draft_nodes: int = MAX_NODES
    """Of a block."""
    credit_tokens: int = 1 << 30
    """Tokens that may be committed before `add_credit`; at 0 the sequence pauses."""
    correction_top_k: int = 0
    """Where a draft is overruled, so many of the target's likeliest tokens are told; 0: none."""
    language: str = ""
    """Of the input; drafters of several languages choose by it."""
    shadows: tuple[str, ...] = ()
    """Drafters in the target's step that are told how they would have fared; such as cost next to nothing."""
    keeps_text: bool = False
    """Whether drafters may draft for later sequences of the tenant from what is committed for this one."""
    top_logprobs: int | None = None
    """Log-probabilities are told of each token and of so many likeliest ones beside it; None: of none."""

    def problem(self, vocab_size: int, max_context: int) -> str | None:
        """Why this can never be decoded, or None. It comes from elsewhere and may hold anything."""
        length = len(self.token_ids)
        if not 0 < length < max_context:
            return f"{length} tokens do not fit a context of {max_context}"
        if not all(0 <= token < vocab_size for token in self.token_ids):
            return f"a token id is outside the vocabulary of {vocab_size}"
        if not 0 <= self.prompt_length <= length:
            return f"a prompt of {self.prompt_length} tokens is longer than the {length} that are there"
        if length - self.prompt_length >= self.max_tokens:
            return f"the answer already has all of its {self.max_tokens} tokens"
        if not 0 <= (self.top_logprobs or 0) <= MAX_TOP_LOGPROBS:
            return f"{self.top_logprobs} likeliest tokens are more than {MAX_TOP_LOGPROBS}"
        if not 0 <= self.round <= MAX_ROUNDS:
            return f"round {self.round} is none"
        return self.sampling.problem()


@dataclass(slots=True)
class Sequence:
    """An open sequence. Counters are stored, the rest is derived."""

    request: OpenRequest
    arrival: int
    """Order of opening; the youngest is preempted first."""
    token_ids: list[int]
    hash: int
    round: int
    credit_tokens: int
    local: LocalDrafting | None
    drafter: str
    """Whose blocks come, if they come from outside."""
    drafting: Drafting
    asked_nodes: int
    """What the last verdict asked for; 0: no block will come, and none is waited for."""
    pages: list[PageId] = field(default_factory=list)
    num_cached: int = 0
    """Leading tokens whose KV is in the pool. Never the last token: its KV is written by the step that reads it."""
    num_known_pages: int = 0
    """Leading pages that others may share: full, in the prefix index, never written again."""
    num_public_pages: int = 0
    """Leading pages that sequences of other tenants may share too."""
    num_found: int = 0
    """Tokens whose KV was found in known pages since its last round."""
    admitted: bool = False
    """Whether it holds pages and may run; False while it waits, also after a preemption."""
    draft: TokenTree | None = None
    """The block for the next round, if it has come."""
    waiting_since_s: float = 0.0
    """When its last round ended."""
    ready_since_s: float = 0.0
    """When its block came."""
    sat_out: bool = False
    """Whether a step ran without it because its block was missing."""
    without_draft: bool = False
    """Whether its round runs once more, undrafted, because with its draft the model gave no numbers."""

    @classmethod
    def open(cls, request: OpenRequest, arrival: int, now_s: float) -> Sequence:
        return cls(
            request=request,
            arrival=arrival,
            token_ids=list(request.token_ids),
            hash=extend_hash(EMPTY_HASH, request.token_ids),
            round=request.round,
            credit_tokens=request.credit_tokens,
            local=request.local,
            drafter=request.drafter,
            drafting=_drafting(request, request.local, request.drafter),
            asked_nodes=request.max_draft_nodes,
            waiting_since_s=now_s,
            ready_since_s=now_s,
        )

    @property
    def id(self) -> int:
        return self.request.session_id

    @property
    def num_pending(self) -> int:
        """Committed tokens that are not in the KV pool: 1 between rounds, more before and during prefill."""
        return len(self.token_ids) - self.num_cached

    @property
    def is_prefilling(self) -> bool:
        return self.num_pending > 1 or len(self.token_ids) == len(self.request.token_ids)

    @property
    def num_answer_tokens(self) -> int:
        return len(self.token_ids) - self.request.prompt_length

    @property
    def num_remaining(self) -> int:
        """Tokens that the answer may still grow by."""
        return self.request.max_tokens - self.num_answer_tokens

    @property
    def awaits_block(self) -> bool:
        """Whether the next round waits for a block from outside."""
        waits = self.local is None and self.asked_nodes > 0 and not self.without_draft
        return waits and not self.is_prefilling and self.draft is None

    @property
    def is_paused(self) -> bool:
        """Whether it may not commit anything before `add_credit`."""
        return self.credit_tokens <= 0

    @property
    def is_running(self) -> bool:
        return self.admitted and not self.is_paused

    @property
    def can_draft(self) -> bool:
        """Whether a block would be used by the next round."""
        return self.is_running and not self.is_prefilling

    def draft_by(self, local: LocalDrafting | None, drafter: str = "") -> None:
        """Draft inside the target's step from now on, or (None) wait for blocks from outside.

        `drafter`: whose these are; empty: the same as before.
        """
        drafter = drafter or self.drafter
        if local != self.local or (local is None and drafter != self.drafter):
            self.local = local
            self.drafter = drafter
            self.drafting = _drafting(self.request, local, drafter)
            self.draft = None

    def append(self, token_ids: list[int]) -> None:
        """Commit tokens."""
        self.token_ids += token_ids
        self.hash = extend_hash(self.hash, token_ids)
        self.credit_tokens -= len(token_ids)


def _drafting(request: OpenRequest, local: LocalDrafting | None, drafter: str) -> Drafting:
    """A new record of a session's drafting."""
    if local is None:
        max_nodes = min(request.max_draft_nodes, MAX_NODES)
        return Drafting(drafter, max_nodes, num_nodes=max_nodes)
    max_nodes = min(local.max_nodes, MAX_NODES) if local.method else 0
    return Drafting(local.method, max_nodes, num_nodes=max_nodes)
