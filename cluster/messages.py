"""What travels between the tiers, as plain types: the session loop sees these, never protobuf.

One type a message of `protos/v1/internal.proto`, with its field names; `deployments/convert.py` maps them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cluster.errors import PolydraftError


class FinishReason(Enum):
    """Why an answer ended; values are the names on the wire."""

    EOS = "eos"
    LENGTH = "length"
    STOP = "stop"
    TIME_BUDGET = "time_budget"


@dataclass(frozen=True, slots=True)
class Sampling:
    """The sampling rule of a request, checked."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log-probabilities of one committed token and of the likeliest ones of its place, best first."""

    logprob: float
    top_ids: tuple[int, ...] = ()
    top_logprobs: tuple[float, ...] = ()


PROTOCOL = 1
"""Version of the internal streams; a peer of another one is refused."""
TOKEN_METADATA = "polydraft-token"
"""Key of the cluster's token in a stream's metadata."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Who a peer is. A router compares what it was told before with what it finds."""

    peer_id: str
    target_id: str = ""
    tokenizer_hash: str = ""
    numerics_id: str = ""
    vocab_size: int = 0
    max_context: int = 0
    eos_ids: tuple[int, ...] = ()
    protocol: int = PROTOCOL


@dataclass(frozen=True, slots=True)
class LocalDraft:
    """Drafting inside the target: `method` is the name of a target-placed drafter, "" is plain decoding."""

    method: str = ""
    max_nodes: int = 0


@dataclass(frozen=True, slots=True)
class Open:
    """Begin a session at a peer, or begin it again after a loss."""

    token_ids: tuple[int, ...]
    prompt_length: int
    sampling: Sampling
    seed: int
    round: int
    max_tokens: int
    tenant: str
    max_draft_tokens: int = 0
    drafter: str = ""
    """Whose blocks a target will get."""
    local: LocalDraft | None = None
    credit_tokens: int = 0
    correction_top_k: int = 0
    """Of a target: how many likely tokens to tell where it overrules a draft; 0: nothing."""
    weight: float = 1.0
    """Of a target: the tenant's share of it while others want theirs."""
    logprobs: int | None = None
    """Of a target: tell log-probabilities of each token and of so many likeliest ones; None: of none."""
    request_id: str = ""
    """As the caller was told it; for logs."""
    traceparent: str = ""
    """W3C trace context of the request's span; empty: it is not traced."""
    language: str = ""
    """Of the input; drafters of several languages choose by it."""
    shadows: tuple[str, ...] = ()
    """Of a target: drafters in its step that are scored on what it commits."""
    keeps_text: bool = False
    """Of a target: drafters in its step may draft for later sessions of the tenant from what this one commits."""


@dataclass(frozen=True, slots=True)
class ShadowScore:
    """How a drafter would have fared, had its proposals been verified."""

    drafter: str
    num_rounds: int
    num_tokens: int
    """That these rounds would have committed, the target's own included."""


@dataclass(frozen=True, slots=True)
class Block:
    """Draft tokens for a sequence of `base_length` tokens; `tree` is a serialised TokenTree that routers do not open.

    With `local` the target drafts by itself from now on, whatever base it stands at. A block without `local`, even an
    empty or stale one, makes it wait for blocks again.
    """

    base_length: int
    base_hash: int
    tree: bytes = b""
    local: LocalDraft | None = None
    drafter_version: str = ""
    """Of the weights that draft; on the first block of an opening."""
    drafter: str = ""
    """Whose blocks come from now on, where that changes."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one round committed, or why the session failed."""

    base_length: int
    token_ids: tuple[int, ...]
    num_accepted: int
    num_drafted: int
    length: int
    hash: int
    round: int
    draft_nodes: int = 0
    """What the next block should have; 0: the target does not wait for one."""
    finish_reason: FinishReason | None = None
    late_draft: bool = False
    draft_ahead: bool = False
    """Whether the drafter should use the time of the next round to prepare what follows."""
    error: PolydraftError | None = None
    cached_prompt_tokens: int = 0
    """Of a prefill: prompt tokens whose KV was found, not computed."""
    correction: bytes = b""
    """What the target thought where it overruled the draft, serialised; routers do not open it."""
    logprobs: tuple[TokenLogprobs, ...] = ()
    """One a token, if they were asked for."""
    drafter: str = ""
    """Whose block the round had, be it empty, or waited for; empty: it was not to be drafted."""
    seconds: float = 0.0
    """That the round took at the target, its wait for the block included."""
    plain_seconds: float = 0.0
    """That it would have taken without any drafts; 0: the target does not know yet."""
    shadows: tuple[ShadowScore, ...] = ()
    """Found out since the last verdict, if they were asked for."""

    @property
    def is_consistent(self) -> bool:
        """Whether its numbers fit each other."""
        num_tokens = len(self.token_ids)
        return self.length == self.base_length + num_tokens and self.num_accepted <= num_tokens


@dataclass(frozen=True, slots=True)
class Resync:
    """Send again what came after this length."""

    have_length: int


@dataclass(frozen=True, slots=True)
class Credit:
    """So many more tokens may be committed."""

    tokens: int


@dataclass(frozen=True, slots=True)
class Observe:
    """Tokens that the target committed, for the drafter; asks for the next block."""

    base_length: int
    token_ids: tuple[int, ...]
    num_accepted: int
    max_nodes: int
    """Of the block; 0 asks for none."""
    draft_ahead: bool = False
    """Whether to use the time until the verdict to prepare what follows."""
    correction: bytes = b""
    """Of the verdict."""
    late_draft: bool = False
    """Of the verdict: the block before came too late, or never."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sign of life, and how busy a replica is."""

    num_sessions: int = 0
    free_pages: int = 0
    queue_length: int = 0
    is_plain: bool = False
    """Of a target: drafts do not pay at present, so none are asked for."""


@dataclass(frozen=True, slots=True)
class GoAway:
    """A replica that is about to leave: open nothing new there, move within the deadline."""

    deadline_s: float


@dataclass(frozen=True, slots=True)
class Close:
    """The session is over."""

    error: PolydraftError | None = None


Body = Hello | Open | Block | Verdict | Resync | Credit | Heartbeat | GoAway | Close | Observe


@dataclass(frozen=True, slots=True)
class Message:
    """One message on a stream between a router and a peer; session 0 is the stream itself."""

    session: int
    epoch: int
    body: Body
