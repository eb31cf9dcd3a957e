"""Between the public contract's messages and plain types, and nothing else."""

from __future__ import annotations

from dataclasses import asdict

from cluster.events import Chunk, Event, Finished, Started
from cluster.request import RawRequest, RawResume
from deployments.convert import finish_reason_to_pb, logprobs_to_pb
from protos.v1 import generate_pb2 as pb
from protos.v1 import types_pb2

_NOT_BUILT = (
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "n",
)


def request_from_pb(request: pb.GenerateRequest) -> RawRequest:
    """The request as it arrived, unchecked. What is repeated is not copied: there may be millions of it."""
    kind = request.WhichOneof("input")
    sampling = request.sampling
    names = {field.name for field, _ in request.ListFields()}
    return RawRequest(
        prompt=request.prompt if kind == "prompt" else None,
        chat=request.chat.messages if kind == "chat" else None,
        language=request.language,
        max_tokens=request.max_tokens if request.HasField("max_tokens") else None,
        temperature=sampling.temperature if sampling.HasField("temperature") else None,
        top_k=sampling.top_k,
        top_p=sampling.top_p if sampling.HasField("top_p") else None,
        seed=request.seed if request.HasField("seed") else None,
        stop=request.stop,
        time_budget_s=request.time_budget_s,
        speculation=request.speculation,
        max_draft_tokens=request.max_draft_tokens if request.HasField("max_draft_tokens") else None,
        logprobs=request.logprobs if request.HasField("logprobs") else None,
        resume=_resume_from_pb(request.resume) if request.HasField("resume") else None,
        not_built=tuple(name for name in _NOT_BUILT if name in names),
    )


def event_to_pb(event: Event) -> pb.GenerateEvent:
    """One event of a stream."""
    match event:
        case Started():
            return pb.GenerateEvent(started=_started_to_pb(event))
        case Chunk():
            return pb.GenerateEvent(chunk=_chunk_to_pb(event))
        case Finished():
            return pb.GenerateEvent(finished=_finished_to_pb(event))


def join_events(events: list[pb.GenerateEvent]) -> pb.GenerateResponse:
    """The events of a whole answer as one message."""
    response = pb.GenerateResponse()
    for event in events:
        match event.WhichOneof("event"):
            case "started":
                response.started.CopyFrom(event.started)
            case "chunk":
                response.text += event.chunk.text
                response.token_ids.extend(event.chunk.token_ids)
                response.logprobs.extend(event.chunk.logprobs)
            case "finished":
                response.finished.CopyFrom(event.finished)
    return response


def _resume_from_pb(resume: pb.Resume) -> RawResume:
    return RawResume(
        token_ids=resume.token_ids,
        effective_seed=resume.effective_seed,
        numerics_id=resume.numerics_id,
        next_round=resume.next_round,
        text_bytes=resume.text_bytes,
    )


def _started_to_pb(started: Started) -> pb.Started:
    return pb.Started(
        request_id=started.request_id,
        effective_seed=started.effective_seed,
        target_id=started.target_id,
        numerics_id=started.numerics_id,
        language=started.language,
        drafter=started.drafter,
        prompt_tokens=started.prompt_tokens,
    )


def _chunk_to_pb(chunk: Chunk) -> pb.Chunk:
    return pb.Chunk(
        first_token_index=chunk.first_token_index,
        token_ids=chunk.token_ids,
        text=chunk.text.encode(),
        sources=[f"TOKEN_SOURCE_{source.name}" for source in chunk.sources],
        next_round=chunk.next_round,
        logprobs=map(logprobs_to_pb, chunk.logprobs),
    )


def _finished_to_pb(finished: Finished) -> pb.Finished:
    figures = finished.figures
    return pb.Finished(
        finish_reason=finish_reason_to_pb(finished.finish_reason),
        usage=types_pb2.Usage(
            prompt_tokens=finished.prompt_tokens,
            completion_tokens=finished.completion_tokens,
            cached_prompt_tokens=finished.cached_prompt_tokens,
        ),
        speculation=types_pb2.SpeculationFigures(
            rounds=figures.rounds,
            drafted=figures.drafted,
            accepted=figures.accepted,
            late_drafts=figures.late_drafts,
            failovers=figures.failovers,
            drafter_version=figures.drafter_version,
            drafters=[types_pb2.DrafterUse(**asdict(use)) for use in figures.drafters],
            drafter_changes=figures.drafter_changes,
        ),
    )
