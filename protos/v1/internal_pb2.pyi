from protos.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Frame(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[Message]
    def __init__(self, messages: _Optional[_Iterable[_Union[Message, _Mapping]]] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("session", "epoch", "hello", "open", "block", "verdict", "resync", "credit", "heartbeat", "go_away", "close", "observe")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    RESYNC_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    GO_AWAY_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    OBSERVE_FIELD_NUMBER: _ClassVar[int]
    session: int
    epoch: int
    hello: Hello
    open: Open
    block: Block
    verdict: Verdict
    resync: Resync
    credit: Credit
    heartbeat: Heartbeat
    go_away: GoAway
    close: Close
    observe: Observe
    def __init__(self, session: _Optional[int] = ..., epoch: _Optional[int] = ..., hello: _Optional[_Union[Hello, _Mapping]] = ..., open: _Optional[_Union[Open, _Mapping]] = ..., block: _Optional[_Union[Block, _Mapping]] = ..., verdict: _Optional[_Union[Verdict, _Mapping]] = ..., resync: _Optional[_Union[Resync, _Mapping]] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., go_away: _Optional[_Union[GoAway, _Mapping]] = ..., close: _Optional[_Union[Close, _Mapping]] = ..., observe: _Optional[_Union[Observe, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "peer_id", "target_id", "tokenizer_hash", "numerics_id", "vocab_size", "max_context", "eos_ids")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_ID_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_HASH_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_ID_FIELD_NUMBER: _ClassVar[int]
    VOCAB_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    EOS_IDS_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    peer_id: str
    target_id: str
    tokenizer_hash: str
    numerics_id: str
    vocab_size: int
    max_context: int
    eos_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, protocol: _Optional[int] = ..., peer_id: _Optional[str] = ..., target_id: _Optional[str] = ..., tokenizer_hash: _Optional[str] = ..., numerics_id: _Optional[str] = ..., vocab_size: _Optional[int] = ..., max_context: _Optional[int] = ..., eos_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("token_ids", "prompt_length", "sampling", "seed", "round", "max_tokens", "tenant", "max_draft_tokens", "local", "credit_tokens", "drafter", "correction_top_k", "weight", "logprobs", "request_id", "traceparent", "language", "shadows", "keeps_text")
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    MAX_DRAFT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    CREDIT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DRAFTER_FIELD_NUMBER: _ClassVar[int]
    CORRECTION_TOP_K_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    SHADOWS_FIELD_NUMBER: _ClassVar[int]
    KEEPS_TEXT_FIELD_NUMBER: _ClassVar[int]
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    prompt_length: int
    sampling: _types_pb2.Sampling
    seed: int
    round: int
    max_tokens: int
    tenant: str
    max_draft_tokens: int
    local: LocalDraft
    credit_tokens: int
    drafter: str
    correction_top_k: int
    weight: float
    logprobs: int
    request_id: str
    traceparent: str
    language: str
    shadows: _containers.RepeatedScalarFieldContainer[str]
    keeps_text: bool
    def __init__(self, token_ids: _Optional[_Iterable[int]] = ..., prompt_length: _Optional[int] = ..., sampling: _Optional[_Union[_types_pb2.Sampling, _Mapping]] = ..., seed: _Optional[int] = ..., round: _Optional[int] = ..., max_tokens: _Optional[int] = ..., tenant: _Optional[str] = ..., max_draft_tokens: _Optional[int] = ..., local: _Optional[_Union[LocalDraft, _Mapping]] = ..., credit_tokens: _Optional[int] = ..., drafter: _Optional[str] = ..., correction_top_k: _Optional[int] = ..., weight: _Optional[float] = ..., logprobs: _Optional[int] = ..., request_id: _Optional[str] = ..., traceparent: _Optional[str] = ..., language: _Optional[str] = ..., shadows: _Optional[_Iterable[str]] = ..., keeps_text: _Optional[bool] = ...) -> None: ...

class LocalDraft(_message.Message):
    __slots__ = ("method", "max_nodes")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    MAX_NODES_FIELD_NUMBER: _ClassVar[int]
    method: str
    max_nodes: int
    def __init__(self, method: _Optional[str] = ..., max_nodes: _Optional[int] = ...) -> None: ...

class Block(_message.Message):
    __slots__ = ("base_length", "base_hash", "tree", "local", "drafter_version", "drafter")
    BASE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    BASE_HASH_FIELD_NUMBER: _ClassVar[int]
    TREE_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    DRAFTER_VERSION_FIELD_NUMBER: _ClassVar[int]
    DRAFTER_FIELD_NUMBER: _ClassVar[int]
    base_length: int
    base_hash: int
    tree: bytes
    local: LocalDraft
    drafter_version: str
    drafter: str
    def __init__(self, base_length: _Optional[int] = ..., base_hash: _Optional[int] = ..., tree: _Optional[bytes] = ..., local: _Optional[_Union[LocalDraft, _Mapping]] = ..., drafter_version: _Optional[str] = ..., drafter: _Optional[str] = ...) -> None: ...

class TokenTree(_message.Message):
    __slots__ = ("token_ids", "parents", "ranks")
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    PARENTS_FIELD_NUMBER: _ClassVar[int]
    RANKS_FIELD_NUMBER: _ClassVar[int]
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    parents: _containers.RepeatedScalarFieldContainer[int]
    ranks: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, token_ids: _Optional[_Iterable[int]] = ..., parents: _Optional[_Iterable[int]] = ..., ranks: _Optional[_Iterable[int]] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("base_length", "token_ids", "num_accepted", "num_drafted", "length", "hash", "finish_reason", "round", "late_draft", "error", "error_message", "draft_nodes", "draft_ahead", "cached_prompt_tokens", "correction", "logprobs", "drafter", "seconds", "plain_seconds", "shadows")
    BASE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    NUM_ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    NUM_DRAFTED_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    LATE_DRAFT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DRAFT_NODES_FIELD_NUMBER: _ClassVar[int]
    DRAFT_AHEAD_FIELD_NUMBER: _ClassVar[int]
    CACHED_PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CORRECTION_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    DRAFTER_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    PLAIN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SHADOWS_FIELD_NUMBER: _ClassVar[int]
    base_length: int
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    num_accepted: int
    num_drafted: int
    length: int
    hash: int
    finish_reason: _types_pb2.FinishReason
    round: int
    late_draft: bool
    error: _types_pb2.ErrorCode
    error_message: str
    draft_nodes: int
    draft_ahead: bool
    cached_prompt_tokens: int
    correction: bytes
    logprobs: _containers.RepeatedCompositeFieldContainer[_types_pb2.TokenLogprobs]
    drafter: str
    seconds: float
    plain_seconds: float
    shadows: _containers.RepeatedCompositeFieldContainer[ShadowScore]
    def __init__(self, base_length: _Optional[int] = ..., token_ids: _Optional[_Iterable[int]] = ..., num_accepted: _Optional[int] = ..., num_drafted: _Optional[int] = ..., length: _Optional[int] = ..., hash: _Optional[int] = ..., finish_reason: _Optional[_Union[_types_pb2.FinishReason, str]] = ..., round: _Optional[int] = ..., late_draft: _Optional[bool] = ..., error: _Optional[_Union[_types_pb2.ErrorCode, str]] = ..., error_message: _Optional[str] = ..., draft_nodes: _Optional[int] = ..., draft_ahead: _Optional[bool] = ..., cached_prompt_tokens: _Optional[int] = ..., correction: _Optional[bytes] = ..., logprobs: _Optional[_Iterable[_Union[_types_pb2.TokenLogprobs, _Mapping]]] = ..., drafter: _Optional[str] = ..., seconds: _Optional[float] = ..., plain_seconds: _Optional[float] = ..., shadows: _Optional[_Iterable[_Union[ShadowScore, _Mapping]]] = ...) -> None: ...

class ShadowScore(_message.Message):
    __slots__ = ("drafter", "rounds", "tokens")
    DRAFTER_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    drafter: str
    rounds: int
    tokens: int
    def __init__(self, drafter: _Optional[str] = ..., rounds: _Optional[int] = ..., tokens: _Optional[int] = ...) -> None: ...

class Correction(_message.Message):
    __slots__ = ("position", "token_ids", "probs")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    PROBS_FIELD_NUMBER: _ClassVar[int]
    position: int
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    probs: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, position: _Optional[int] = ..., token_ids: _Optional[_Iterable[int]] = ..., probs: _Optional[_Iterable[float]] = ...) -> None: ...

class Observe(_message.Message):
    __slots__ = ("base_length", "token_ids", "num_accepted", "max_nodes", "draft_ahead", "correction", "late_draft")
    BASE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    NUM_ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    MAX_NODES_FIELD_NUMBER: _ClassVar[int]
    DRAFT_AHEAD_FIELD_NUMBER: _ClassVar[int]
    CORRECTION_FIELD_NUMBER: _ClassVar[int]
    LATE_DRAFT_FIELD_NUMBER: _ClassVar[int]
    base_length: int
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    num_accepted: int
    max_nodes: int
    draft_ahead: bool
    correction: bytes
    late_draft: bool
    def __init__(self, base_length: _Optional[int] = ..., token_ids: _Optional[_Iterable[int]] = ..., num_accepted: _Optional[int] = ..., max_nodes: _Optional[int] = ..., draft_ahead: _Optional[bool] = ..., correction: _Optional[bytes] = ..., late_draft: _Optional[bool] = ...) -> None: ...

class Resync(_message.Message):
    __slots__ = ("have_length",)
    HAVE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    have_length: int
    def __init__(self, have_length: _Optional[int] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: int
    def __init__(self, tokens: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("num_sessions", "free_pages", "queue_length", "is_plain")
    NUM_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    FREE_PAGES_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    IS_PLAIN_FIELD_NUMBER: _ClassVar[int]
    num_sessions: int
    free_pages: int
    queue_length: int
    is_plain: bool
    def __init__(self, num_sessions: _Optional[int] = ..., free_pages: _Optional[int] = ..., queue_length: _Optional[int] = ..., is_plain: _Optional[bool] = ...) -> None: ...

class GoAway(_message.Message):
    __slots__ = ("deadline_s",)
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    deadline_s: float
    def __init__(self, deadline_s: _Optional[float] = ...) -> None: ...

class Close(_message.Message):
    __slots__ = ("error", "error_message")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    error: _types_pb2.ErrorCode
    error_message: str
    def __init__(self, error: _Optional[_Union[_types_pb2.ErrorCode, str]] = ..., error_message: _Optional[str] = ...) -> None: ...
