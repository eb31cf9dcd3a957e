"""Between the messages of the internal streams and plain types, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cluster.messages import (
    Block,
    Body,
    Close,
    Credit,
    FinishReason,
    GoAway,
    Heartbeat,
    Hello,
    LocalDraft,
    Message,
    Observe,
    Open,
    Resync,
    Sampling,
    ShadowScore,
    TokenLogprobs,
    Verdict,
)
from deployments.status import code_to_pb, error_from_pb
from protos.v1 import internal_pb2 as pb
from protos.v1 import types_pb2


def frame_to_pb(messages: Sequence[Message]) -> pb.Frame:
    """Messages that travel together."""
    return pb.Frame(messages=[message_to_pb(message) for message in messages])


def frame_from_pb(frame: pb.Frame) -> list[Message]:
    """The messages of a frame; one whose body this version does not know is left out."""
    return [message for item in frame.messages if (message := message_from_pb(item)) is not None]


def finish_reason_to_pb(reason: FinishReason | None) -> str:
    """Name of the enum value, UNSPECIFIED while the answer goes on."""
    return "FINISH_REASON_" + ("UNSPECIFIED" if reason is None else reason.name)


def message_to_pb(message: Message) -> pb.Message:
    """One message with its envelope."""
    session, epoch = message.session, message.epoch
    match message.body:
        case Hello() as body:
            return pb.Message(session=session, epoch=epoch, hello=_hello_to_pb(body))
        case Open() as body:
            return pb.Message(session=session, epoch=epoch, open=_open_to_pb(body))
        case Block() as body:
            return pb.Message(session=session, epoch=epoch, block=_block_to_pb(body))
        case Verdict() as body:
            return pb.Message(session=session, epoch=epoch, verdict=_verdict_to_pb(body))
        case Observe() as body:
            return pb.Message(session=session, epoch=epoch, observe=_observe_to_pb(body))
        case Credit(tokens):
            return pb.Message(session=session, epoch=epoch, credit=pb.Credit(tokens=tokens))
        case Resync(have_length):
            return pb.Message(session=session, epoch=epoch, resync=pb.Resync(have_length=have_length))
        case Heartbeat() as body:
            beat = pb.Heartbeat(
                num_sessions=body.num_sessions,
                free_pages=body.free_pages,
                queue_length=body.queue_length,
                is_plain=body.is_plain,
            )
            return pb.Message(session=session, epoch=epoch, heartbeat=beat)
        case GoAway(deadline_s):
            return pb.Message(session=session, epoch=epoch, go_away=pb.GoAway(deadline_s=deadline_s))
        case Close(error):
            close = pb.Close(error=code_to_pb(error), error_message=error.message if error is not None else "")
            return pb.Message(session=session, epoch=epoch, close=close)


def message_from_pb(message: pb.Message) -> Message | None:
    """One message with its envelope; None if its body is unknown."""
    body = _body_from_pb(message)
    return Message(message.session, message.epoch, body) if body is not None else None


def _body_from_pb(message: pb.Message) -> Body | None:
    match message.WhichOneof("body"):
        case "hello":
            return _hello_from_pb(message.hello)
        case "open":
            return _open_from_pb(message.open)
        case "block":
            return _block_from_pb(message.block)
        case "verdict":
            return _verdict_from_pb(message.verdict)
        case "observe":
            return _observe_from_pb(message.observe)
        case "credit":
            return Credit(message.credit.tokens)
        case "resync":
            return Resync(message.resync.have_length)
        case "heartbeat":
            beat = message.heartbeat
            return Heartbeat(beat.num_sessions, beat.free_pages, beat.queue_length, beat.is_plain)
        case "go_away":
            return GoAway(message.go_away.deadline_s)
        case "close":
            return Close(error_from_pb(message.close.error, message.close.error_message))
        case _:
            return None


def _hello_to_pb(hello: Hello) -> pb.Hello:
    return pb.Hello(
        protocol=hello.protocol,
        peer_id=hello.peer_id,
        target_id=hello.target_id,
        tokenizer_hash=hello.tokenizer_hash,
        numerics_id=hello.numerics_id,
        vocab_size=hello.vocab_size,
        max_context=hello.max_context,
        eos_ids=hello.eos_ids,
    )


def _hello_from_pb(hello: pb.Hello) -> Hello:
    return Hello(
        peer_id=hello.peer_id,
        target_id=hello.target_id,
        tokenizer_hash=hello.tokenizer_hash,
        numerics_id=hello.numerics_id,
        vocab_size=hello.vocab_size,
        max_context=hello.max_context,
        eos_ids=tuple(hello.eos_ids),
        protocol=hello.protocol,
    )


def _open_to_pb(body: Open) -> pb.Open:
    sampling = body.sampling
    return pb.Open(
        token_ids=body.token_ids,
        prompt_length=body.prompt_length,
        sampling=types_pb2.Sampling(temperature=sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p),
        seed=body.seed,
        round=body.round,
        max_tokens=body.max_tokens,
        tenant=body.tenant,
        max_draft_tokens=body.max_draft_tokens,
        drafter=body.drafter,
        local=_local_to_pb(body.local) if body.local is not None else None,
        credit_tokens=body.credit_tokens,
        correction_top_k=body.correction_top_k,
        weight=body.weight,
        logprobs=body.logprobs,
        request_id=body.request_id,
        traceparent=body.traceparent,
        language=body.language,
        shadows=body.shadows,
        keeps_text=body.keeps_text,
    )


def _open_from_pb(body: pb.Open) -> Open:
    return Open(
        token_ids=tuple(body.token_ids),
        prompt_length=body.prompt_length,
        sampling=sampling_from_pb(body.sampling),
        seed=body.seed,
        round=body.round,
        max_tokens=body.max_tokens,
        tenant=body.tenant,
        max_draft_tokens=body.max_draft_tokens,
        drafter=body.drafter,
        local=_local_from_pb(body.local) if body.HasField("local") else None,
        credit_tokens=body.credit_tokens,
        correction_top_k=body.correction_top_k,
        weight=body.weight if math.isfinite(body.weight) and body.weight > 0 else 1.0,
        logprobs=body.logprobs if body.HasField("logprobs") else None,
        request_id=body.request_id,
        traceparent=body.traceparent,
        language=body.language,
        shadows=tuple(body.shadows),
        keeps_text=body.keeps_text,
    )


def sampling_from_pb(sampling: types_pb2.Sampling) -> Sampling:
    """The rule with absent fields at their defaults; values are not checked."""
    return Sampling(
        temperature=sampling.temperature if sampling.HasField("temperature") else 0.0,
        top_k=sampling.top_k,
        top_p=sampling.top_p if sampling.HasField("top_p") else 1.0,
    )


def _block_to_pb(block: Block) -> pb.Block:
    if block.local is not None:
        return pb.Block(base_length=block.base_length, base_hash=block.base_hash, local=_local_to_pb(block.local))
    return pb.Block(
        base_length=block.base_length,
        base_hash=block.base_hash,
        tree=block.tree,
        drafter_version=block.drafter_version,
        drafter=block.drafter,
    )


def _block_from_pb(block: pb.Block) -> Block:
    local = _local_from_pb(block.local) if block.HasField("local") else None
    tree = b"" if local is not None else block.tree
    return Block(block.base_length, block.base_hash, tree, local, block.drafter_version, block.drafter)


def _local_to_pb(local: LocalDraft) -> pb.LocalDraft:
    return pb.LocalDraft(method=local.method, max_nodes=local.max_nodes)


def _local_from_pb(local: pb.LocalDraft) -> LocalDraft:
    return LocalDraft(local.method, local.max_nodes)


def _verdict_to_pb(verdict: Verdict) -> pb.Verdict:
    return pb.Verdict(
        base_length=verdict.base_length,
        token_ids=verdict.token_ids,
        num_accepted=verdict.num_accepted,
        num_drafted=verdict.num_drafted,
        length=verdict.length,
        hash=verdict.hash,
        round=verdict.round,
        draft_nodes=verdict.draft_nodes,
        finish_reason=finish_reason_to_pb(verdict.finish_reason),
        late_draft=verdict.late_draft,
        draft_ahead=verdict.draft_ahead,
        error=code_to_pb(verdict.error),
        error_message=verdict.error.message if verdict.error is not None else "",
        cached_prompt_tokens=verdict.cached_prompt_tokens,
        correction=verdict.correction,
        logprobs=map(logprobs_to_pb, verdict.logprobs),
        drafter=verdict.drafter,
        seconds=verdict.seconds,
        plain_seconds=verdict.plain_seconds,
        shadows=[
            pb.ShadowScore(drafter=score.drafter, rounds=score.num_rounds, tokens=score.num_tokens)
            for score in verdict.shadows
        ],
    )


def _verdict_from_pb(verdict: pb.Verdict) -> Verdict:
    return Verdict(
        base_length=verdict.base_length,
        token_ids=tuple(verdict.token_ids),
        num_accepted=verdict.num_accepted,
        num_drafted=verdict.num_drafted,
        length=verdict.length,
        hash=verdict.hash,
        round=verdict.round,
        draft_nodes=verdict.draft_nodes,
        finish_reason=_finish_reason_from_pb(verdict.finish_reason),
        late_draft=verdict.late_draft,
        draft_ahead=verdict.draft_ahead,
        error=error_from_pb(verdict.error, verdict.error_message),
        cached_prompt_tokens=verdict.cached_prompt_tokens,
        correction=verdict.correction,
        logprobs=tuple(map(_logprobs_from_pb, verdict.logprobs)),
        drafter=verdict.drafter,
        seconds=verdict.seconds if math.isfinite(verdict.seconds) else 0.0,
        plain_seconds=verdict.plain_seconds if math.isfinite(verdict.plain_seconds) else 0.0,
        shadows=tuple(ShadowScore(score.drafter, score.rounds, score.tokens) for score in verdict.shadows),
    )


def logprobs_to_pb(logprobs: TokenLogprobs) -> types_pb2.TokenLogprobs:
    """Of one token; public events hold the same message."""
    return types_pb2.TokenLogprobs(
        logprob=logprobs.logprob, top_ids=logprobs.top_ids, top_logprobs=logprobs.top_logprobs
    )


def _logprobs_from_pb(logprobs: types_pb2.TokenLogprobs) -> TokenLogprobs:
    return TokenLogprobs(logprobs.logprob, tuple(logprobs.top_ids), tuple(logprobs.top_logprobs))


def _observe_to_pb(observe: Observe) -> pb.Observe:
    return pb.Observe(
        base_length=observe.base_length,
        token_ids=observe.token_ids,
        num_accepted=observe.num_accepted,
        max_nodes=observe.max_nodes,
        draft_ahead=observe.draft_ahead,
        correction=observe.correction,
        late_draft=observe.late_draft,
    )


def _observe_from_pb(observe: pb.Observe) -> Observe:
    return Observe(
        base_length=observe.base_length,
        token_ids=tuple(observe.token_ids),
        num_accepted=observe.num_accepted,
        max_nodes=observe.max_nodes,
        draft_ahead=observe.draft_ahead,
        correction=observe.correction,
        late_draft=observe.late_draft,
    )


def _finish_reason_from_pb(reason: types_pb2.FinishReason) -> FinishReason | None:
    if reason == types_pb2.FINISH_REASON_UNSPECIFIED or reason not in types_pb2.FinishReason.values():
        return None
    return FinishReason[types_pb2.FinishReason.Name(reason).removeprefix("FINISH_REASON_")]
