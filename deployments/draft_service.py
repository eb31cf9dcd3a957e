"""A drafter replica without Ray: sessions of routers on one side, the drafter on the other.

It drafts on the event loop: a block takes a few milliseconds, a thread for it would add two changes of threads to each,
and whatever has come in meanwhile is the next batch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import torch

from cluster import catalogue as metrics
from cluster.config import Config
from cluster.errors import InvalidRequest
from cluster.measures import Measures
from cluster.messages import Block, Credit, Heartbeat, Hello, Observe, Open, Resync
from cluster.model_files import target_facts
from cluster.probes import tokenizer_hash
from deployments.adaptation import version_folder
from deployments.draft_load import DraftLoad
from deployments.draft_versions import DraftVersions, TrainerLink, version_name
from deployments.drafters import configured_drafter, trained_for
from deployments.peer_server import PeerServer, SessionKey
from deployments.spans import spans_of
from deployments.trees import tree_to_bytes
from engine.draft_queue import Committed, DraftQueue
from engine.drafters import Drafter
from engine.drafters.base import DraftSession, DraftVerdict
from engine.drafters.versioned import VersionedDrafter
from engine.identity import target_id
from engine.sampling import SamplingParams
from training.online.versions import version_path

if TYPE_CHECKING:
    from deployments.tracing import SessionSpan

logger = logging.getLogger(__name__)

_IDLE_AFTER_S = 0.0005
"""So long after a block nothing else is done, so that it leaves first."""


@dataclass(slots=True)
class _Session:
    key: SessionKey
    epoch: int
    untold_version: str
    """Of its weights; told with its first block."""
    spans: list[SessionSpan]
    num_blocks: int = 0


class DraftService:
    """Implements `SessionHandler` over a drafter. All methods run on the event loop."""

    def __init__(
        self, config: Config, name: str, replica_id: str, token: str, trainer: TrainerLink | None = None
    ) -> None:
        """With a trainer the drafter learns from the tenants that adapt."""
        drafter_config = config.drafters[name]
        torch.set_num_threads(drafter_config.num_threads)
        device = "cuda" if drafter_config.num_gpus > 0 else "cpu"
        self._name = name
        self._vocab_size = target_facts(config).vocab_size
        drafter = configured_drafter(config, name, device)
        self.versions: DraftVersions | None = None
        if trainer is not None:
            drafter = VersionedDrafter(drafter)
            load = partial(_load_version, config, name, device)
            tenants = config.adapting_tenants_of(name)
            self.versions = DraftVersions(name, tenants, drafter, load, trainer, self._vocab_size)
        self._following: asyncio.Task[None] | None = None
        self._queue = DraftQueue(drafter)
        self._events = asyncio.get_running_loop()
        self._load = DraftLoad(self._events.time)
        self._next_turn: asyncio.Handle | None = None
        self._preparing: asyncio.Handle | None = None
        self._error: BaseException | None = None
        self._spans = spans_of(config, replica_id)
        self._measures = Measures()
        self._blocks = self._measures.total(metrics.BLOCKS, name)
        self._turns = self._measures.observations(metrics.TURN, name)
        self._ids = count(1)
        self._sessions: dict[int, _Session] = {}
        self._drafter_ids: dict[SessionKey, int] = {}
        target = config.target.model
        made_for = trained_for(config, name) or (target_id(target), tokenizer_hash(target / "tokenizer.json"))
        self._hello = Hello(peer_id=replica_id, target_id=made_for[0], tokenizer_hash=made_for[1])
        self.server = PeerServer(
            self, token, heartbeat_s=config.limits.heartbeat_s, lease_s=config.limits.lease_s, clock=self._events.time
        )

    def start(self) -> None:
        """Turns follow from what comes in; versions from the trainer."""
        if self.versions is not None:
            self._following = asyncio.create_task(self.versions.follow())

    def stop(self) -> None:
        for handle in (self._next_turn, self._preparing, self._following):
            if handle is not None:
                handle.cancel()
        for source in self._spans:
            source.stop()

    def check_health(self) -> None:
        """Raise if the drafter has failed."""
        if self._error is not None:
            raise RuntimeError("the drafter stopped") from self._error

    def scaling_signals(self) -> dict[str, float]:
        """What its tier is scaled by, since the last call."""
        return self._load.signals(len(self._sessions))

    def measures(self) -> Measures:
        """All that is counted, up to now."""
        self._measures.set(metrics.DRAFTER_SESSIONS, len(self._sessions), self._name)
        if self.versions is not None:
            self._measures.set(metrics.ANSWERS_UNLEARNED, self.versions.num_dropped, self._name)
        return self._measures

    def facts(self) -> dict[str, str]:
        versions = self.versions.current if self.versions is not None else {}
        return {f"version {tenant}": str(number) for tenant, number in versions.items()}

    # -- SessionHandler ------------------------------------------------------------------------------------------

    def hello(self) -> Hello:
        return self._hello

    def load(self) -> Heartbeat:
        return Heartbeat(num_sessions=len(self._sessions))

    def open(self, key: SessionKey, epoch: int, request: Open) -> None:
        self._check_tokens(request.token_ids)
        session_id = next(self._ids)
        version = self.versions.open(session_id, request) if self.versions is not None else ""
        spans = [span for source in self._spans if (span := source.session("drafter", request)) is not None]
        self._sessions[session_id] = _Session(key, epoch, version_name(self._name, version), spans)
        self._drafter_ids[key] = session_id
        self._load.opened(len(self._sessions))
        sampling = request.sampling
        params = SamplingParams(sampling.temperature, sampling.top_k, sampling.top_p, request.seed)
        self._queue.open(
            DraftSession(session_id, request.token_ids, params, version, request.language), request.max_draft_tokens
        )
        self._schedule_turn()

    def message(self, key: SessionKey, body: Block | Credit | Observe | Resync) -> None:
        session_id = self._drafter_ids.get(key)
        if session_id is None:
            return
        if not isinstance(body, Observe):
            logger.warning("a router sent a message for targets")
            return
        self._check_tokens(body.token_ids)
        verdict = DraftVerdict(session_id, body.token_ids, body.num_accepted, body.draft_ahead)
        self._queue.commit(Committed(body.base_length, verdict, body.max_nodes))
        if body.max_nodes:
            self._load.asked(session_id, late=body.late_draft)
        if self.versions is not None:
            self.versions.observe(session_id, body)
        self._schedule_turn()

    def close(self, key: SessionKey) -> None:
        session_id = self._drafter_ids.pop(key, None)
        if session_id is not None:
            session = self._sessions.pop(session_id)
            for span in session.spans:
                span.end({"blocks": session.num_blocks})
            if self.versions is not None:
                self.versions.close(session_id)
            self._queue.close(session_id)
            self._schedule_turn()

    def _check_tokens(self, token_ids: Sequence[int]) -> None:
        """Raise what ends the session; the drafter itself looks nothing up that is not there."""
        if max(token_ids, default=0) >= self._vocab_size:
            raise InvalidRequest(f"a token id is outside the vocabulary of {self._vocab_size}")

    # -- drafting ------------------------------------------------------------------------------------------------

    def _schedule_turn(self) -> None:
        """Draft as soon as all that has come in with the present frame is queued."""
        if self._next_turn is None and self._error is None:
            self._next_turn = self._events.call_soon(self._guarded, self._turn)

    def _turn(self) -> None:
        self._next_turn = None
        if self._preparing is not None:
            self._preparing.cancel()
        begun_s = self._events.time()
        for block in self._queue.turn():
            session = self._sessions.get(block.session_id)
            if session is not None:
                tree, version = tree_to_bytes(block.tree), session.untold_version
                session.untold_version = ""
                body = Block(block.base_length, block.base_hash, tree, drafter_version=version)
                self.server.send(session.key, session.epoch, body)
                self._blocks.value += 1
                session.num_blocks += 1
        self._load.worked(begun_s)
        self._turns.observe(self._events.time() - begun_s)
        self._preparing = self._events.call_later(_IDLE_AFTER_S, self._guarded, self._prepare)

    def _prepare(self) -> None:
        """Draft ahead, pass by pass, until something comes in."""
        self._preparing = None
        if self._queue.is_empty and self._queue.prepare():
            self._preparing = self._events.call_soon(self._guarded, self._prepare)

    def _guarded(self, work: Callable[[], None]) -> None:
        """A drafter that fails drafts no more, and its replica is replaced."""
        try:
            work()
        except Exception as error:
            logger.exception("the drafter stopped")
            self._error = error


def _load_version(config: Config, name: str, device: str, tenant: str, number: int) -> Drafter:
    """A version that the trainer has promoted. ValueError says what is wrong with it."""
    base = config.drafters[name].model
    assert base is not None, name
    return configured_drafter(config, name, device, version_path(version_folder(config, name, tenant), base, number))
