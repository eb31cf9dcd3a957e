"""A target replica without Ray: sessions of routers on one side, the engine's thread on the other."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from cluster.config import Config
from cluster.errors import ContextTooLong, InternalError, Overloaded, PolydraftError
from cluster.measures import Measures
from cluster.messages import (
    Block,
    Credit,
    FinishReason,
    Heartbeat,
    Hello,
    LocalDraft,
    Observe,
    Open,
    Resync,
    Sampling,
    ShadowScore,
    TokenLogprobs,
    Verdict,
)
from cluster.probes import tokenizer_hash
from deployments.corrections import correction_to_bytes
from deployments.engines import configured_engine
from deployments.peer_server import PeerServer, SessionKey
from deployments.spans import spans_of
from deployments.target_metrics import TargetMetrics
from deployments.trees import tree_from_bytes
from engine.engine import CannotServe, Engine, StepOutcome
from engine.identity import numerics_id, target_id
from engine.loop import Command, EngineLoop
from engine.sampling import SamplingParams
from engine.session import Finish, LocalDrafting, OpenRequest
from engine.tree import TokenTree
from engine.verify.verifiers import DEFAULT_VERIFIER

if TYPE_CHECKING:
    from deployments.tracing import SessionSpan

logger = logging.getLogger(__name__)

_NO_NUMBERS = "the model gave no numbers for this request; it is given up"
_FINISH = {Finish.EOS: FinishReason.EOS, Finish.LENGTH: FinishReason.LENGTH}


@dataclass(slots=True)
class _Session:
    """A router's session and its sequence in the engine; verdicts are kept for `Resync`."""

    key: SessionKey
    epoch: int
    tenant: str
    request_id: str
    spans: list[SessionSpan]
    verdicts: list[Verdict] = field(default_factory=list)


class TargetService:
    """Implements `SessionHandler` over an engine. All methods run on the event loop; the engine has its own thread."""

    def __init__(self, config: Config, replica_id: str, token: str, engine: Engine | None = None) -> None:
        """Without an `engine` the target is loaded as configured, in this process alone."""
        target = config.target
        self._engine = engine or configured_engine(config)
        self._spans = spans_of(config, replica_id)
        self._metrics = TargetMetrics(self._engine)
        self._loop = EngineLoop(self._engine, self._hand_over)
        self._events = asyncio.get_running_loop()
        self._ids = count(1)
        self._sessions: dict[int, _Session] = {}
        self._engine_ids: dict[SessionKey, int] = {}
        self._num_sessions: Counter[str] = Counter()
        """By tenant."""
        self._num_unreadable = 0
        """Blocks without a tree."""
        self._max_of_tenant = target.max_sessions + target.max_waiting
        self._load = Heartbeat()
        model, identity = self._engine.target, target_id(target.model)
        tokenizer = tokenizer_hash(target.model / "tokenizer.json")
        # Texts by the default verifier depend on nothing but what the id names; those by others are of their kind.
        mode = target.numerics if target.verifier == DEFAULT_VERIFIER else f"{target.numerics} {target.verifier}"
        self._hello = Hello(
            peer_id=replica_id,
            target_id=identity,
            tokenizer_hash=tokenizer,
            numerics_id=numerics_id(identity, tokenizer, model.dtype, model.device, mode, target.shards),
            vocab_size=model.vocab_size,
            max_context=self._engine.config.scheduler.max_context,
            eos_ids=tuple(sorted(model.eos_ids)),
        )
        self.server = PeerServer(
            self, token, heartbeat_s=config.limits.heartbeat_s, lease_s=config.limits.lease_s, clock=self._events.time
        )

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        self._loop.stop()
        for source in self._spans:
            source.stop()

    def check_health(self) -> None:
        """Raise if the engine's thread has died."""
        self._loop.check_health()

    def measures(self) -> Measures:
        """All that is counted, up to now."""
        self._metrics.refresh(len(self._sessions), self._num_unreadable)
        return self._metrics.measures

    def facts(self) -> dict[str, str]:
        return {"target": self._hello.target_id}

    def scaling_signals(self) -> dict[str, float]:
        """What its tier is scaled by: the fields of `cluster.demand.TargetSignals` at this moment."""
        engine = self._engine
        config, pool = engine.scheduler.config, engine.scheduler.pool
        num_chunks = engine.num_prefill_tokens / config.prefill_chunk
        return {
            "sessions": len(self._sessions) / config.max_running,
            "kv": 1 - engine.num_free_pages / pool.num_usable,
            "prefilling": float(num_chunks > 0),
            "prefill_s": num_chunks * engine.scheduler.predicted_step_s,
        }

    # -- SessionHandler ------------------------------------------------------------------------------------------

    def hello(self) -> Hello:
        return self._hello

    def load(self) -> Heartbeat:
        engine = self._engine
        return Heartbeat(
            num_sessions=len(self._sessions),
            free_pages=engine.num_free_pages,
            queue_length=engine.num_waiting,
            is_plain=not engine.draft_lengths.drafts,
        )

    def open(self, key: SessionKey, epoch: int, request: Open) -> None:
        if self._num_sessions[request.tenant] >= self._max_of_tenant:
            raise Overloaded(f"all {self._max_of_tenant} sessions of one tenant at a target are taken; try again later")
        session_id = next(self._ids)
        spans = [span for source in self._spans if (span := source.session("target", request)) is not None]
        self._sessions[session_id] = _Session(key, epoch, request.tenant, request.request_id, spans)
        self._num_sessions[request.tenant] += 1
        self._metrics.opened(request.drafter)
        self._engine_ids[key] = session_id
        opened = OpenRequest(
            session_id=session_id,
            token_ids=request.token_ids,
            prompt_length=request.prompt_length,
            sampling=_sampling(request.sampling, request.seed),
            max_tokens=request.max_tokens,
            round=request.round,
            tenant=request.tenant,
            local=None if request.local is None else _local(request.local),
            drafter=request.drafter,
            language=request.language,
            shadows=tuple(dict.fromkeys(request.shadows)),
            keeps_text=request.keeps_text,
            max_draft_nodes=request.max_draft_tokens,
            credit_tokens=request.credit_tokens,
            correction_top_k=min(request.correction_top_k, self._hello.vocab_size),
            weight=request.weight,
            top_logprobs=request.logprobs,
        )
        self._submit(session_id, lambda engine: engine.open(opened))

    def message(self, key: SessionKey, body: Block | Credit | Observe | Resync) -> None:
        session_id = self._engine_ids.get(key)
        if session_id is None:
            return
        match body:
            case Block(local=LocalDraft() as local):
                self._submit(session_id, lambda engine: engine.draft_locally(session_id, _local(local)))
            case Block():
                self._draft(session_id, body)
            case Credit(tokens):
                self._submit(session_id, lambda engine: engine.add_credit(session_id, tokens))
            case Resync(have_length):
                self._resend(self._sessions[session_id], have_length)
            case Observe():
                logger.warning("a router sent a message for drafters")

    def close(self, key: SessionKey) -> None:
        session_id = self._engine_ids.pop(key, None)
        if session_id is not None:
            self._forget(session_id)
            self._loop.submit(lambda engine: engine.close(session_id))

    def _forget(self, session_id: int) -> _Session | None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            self._num_sessions[session.tenant] -= 1
            for span in session.spans:
                span.end({"verdicts": len(session.verdicts)})
        return session

    # -- between the loop and the engine -------------------------------------------------------------------------

    def _submit(self, session_id: int, command: Command) -> None:
        """Run a command in the engine's thread; what it refuses ends the session with the reason."""

        def run(engine: Engine) -> None:
            try:
                command(engine)
            except CannotServe as error:
                engine.close(session_id)
                self._events.call_soon_threadsafe(self._refuse, session_id, ContextTooLong(str(error)))

        self._loop.submit(run)

    def _refuse(self, session_id: int, error: PolydraftError) -> None:
        session = self._forget(session_id)
        if session is not None:
            self._engine_ids.pop(session.key, None)
            self.server.fail(session.key, session.epoch, error)

    def _draft(self, session_id: int, block: Block) -> None:
        tree = tree_from_bytes(block.tree)
        if tree is None:
            logger.warning("session %d: a block holds no tree", session_id)
            self._num_unreadable += 1
            return
        if block.drafter:
            self._metrics.opened(block.drafter)
        self._loop.submit(lambda engine: _offer(engine, session_id, block, tree))

    def _resend(self, session: _Session, have_length: int) -> None:
        for verdict in session.verdicts:
            if verdict.length > have_length:
                self.server.send(session.key, session.epoch, verdict)

    def _hand_over(self, outcomes: Sequence[StepOutcome]) -> None:
        """Called in the engine's thread."""
        self._events.call_soon_threadsafe(self._deliver, outcomes)

    def _deliver(self, outcomes: Sequence[StepOutcome]) -> None:
        for outcome in outcomes:
            session = self._sessions.get(outcome.session_id)
            if session is None:
                continue
            self._metrics.count(outcome)
            if outcome.finish is Finish.FAILED:
                logger.error(
                    "session %d of %s: the model gave no numbers after %d tokens",
                    session.key.session,
                    session.key.router_id,
                    outcome.length,
                    extra={"about": {"request_id": session.request_id, "tenant": session.tenant}},
                )
                self._refuse(outcome.session_id, InternalError(_NO_NUMBERS))
            else:
                session.verdicts.append(_verdict(outcome))
                self.server.send(session.key, session.epoch, session.verdicts[-1])


def _offer(engine: Engine, session_id: int, block: Block, tree: TokenTree) -> None:
    engine.draft(session_id, block.base_length, block.base_hash, tree, block.drafter)


def _sampling(sampling: Sampling, seed: int) -> SamplingParams:
    return SamplingParams(sampling.temperature, sampling.top_k, sampling.top_p, seed)


def _local(local: LocalDraft) -> LocalDrafting:
    return LocalDrafting(local.method, local.max_nodes)


def _verdict(outcome: StepOutcome) -> Verdict:
    return Verdict(
        base_length=outcome.base_length,
        token_ids=outcome.token_ids,
        num_accepted=outcome.num_accepted,
        num_drafted=outcome.num_drafted,
        length=outcome.length,
        hash=outcome.hash,
        round=outcome.round,
        draft_nodes=outcome.draft_nodes,
        finish_reason=_FINISH[outcome.finish] if outcome.finish is not None else None,
        late_draft=outcome.late_draft,
        draft_ahead=outcome.draft_ahead,
        cached_prompt_tokens=outcome.num_found,
        correction=correction_to_bytes(outcome.correction),
        logprobs=tuple(TokenLogprobs(one.logprob, one.top_ids, one.top_logprobs) for one in outcome.logprobs),
        drafter=outcome.drafter,
        seconds=outcome.seconds,
        plain_seconds=outcome.plain_seconds,
        shadows=tuple(ShadowScore(name, score.num_rounds, score.num_tokens) for name, score in outcome.shadows.items()),
    )
