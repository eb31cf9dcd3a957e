"""A drafter replica without Ray: sessions of routers on one side, the drafter's thread on the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import torch

from cluster.config import Config
from cluster.messages import Block, Credit, Heartbeat, Hello, Observe, Open, Resync
from cluster.model_files import target_facts
from deployments.peer_server import PeerServer, SessionKey
from deployments.trees import tree_to_bytes
from engine.draft_loop import DraftedBlock, DraftLoop
from engine.drafters.base import DraftSession, DraftVerdict
from engine.drafters.config import DrafterConfig
from engine.drafters.lm import LMDrafter
from engine.identity import eos_ids
from engine.sampling import SamplingParams

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Session:
    key: SessionKey
    epoch: int


class DraftService:
    """Implements `SessionHandler` over a drafter. All methods run on the event loop; the drafter has its own thread."""

    def __init__(self, config: Config, name: str, replica_id: str, token: str) -> None:
        drafter_config = config.drafters[name]
        torch.set_num_threads(drafter_config.num_threads)
        drafter = LMDrafter.from_config(
            DrafterConfig(
                method=drafter_config.method,
                vocab_size=target_facts(config).vocab_size,
                eos_token_ids=tuple(eos_ids(config.target.model)),
                model=drafter_config.model,
                device="cuda" if drafter_config.num_gpus > 0 else "cpu",
            )
        )
        self._loop = DraftLoop(drafter, self._hand_over)
        self._events = asyncio.get_running_loop()
        self._ids = count(1)
        self._sessions: dict[int, _Session] = {}
        self._drafter_ids: dict[SessionKey, int] = {}
        self._hello = Hello(
            peer_id=replica_id,
            target_id=drafter.manifest.target_id,
            tokenizer_hash=drafter.manifest.tokenizer_hash,
        )
        self.server = PeerServer(
            self, token, heartbeat_s=config.limits.heartbeat_s, lease_s=config.limits.lease_s, clock=self._events.time
        )

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        self._loop.stop()

    def check_health(self) -> None:
        """Raise if the drafter's thread has died."""
        self._loop.check_health()

    # -- SessionHandler ------------------------------------------------------------------------------------------

    def hello(self) -> Hello:
        return self._hello

    def load(self) -> Heartbeat:
        return Heartbeat(num_sessions=len(self._sessions))

    def open(self, key: SessionKey, epoch: int, request: Open) -> None:
        session_id = next(self._ids)
        self._sessions[session_id] = _Session(key, epoch)
        self._drafter_ids[key] = session_id
        sampling = request.sampling
        params = SamplingParams(sampling.temperature, sampling.top_k, sampling.top_p, request.seed)
        self._loop.open(DraftSession(session_id, request.token_ids, params), request.max_draft_tokens)

    def message(self, key: SessionKey, body: Block | Credit | Observe | Resync) -> None:
        session_id = self._drafter_ids.get(key)
        if session_id is None:
            return
        if not isinstance(body, Observe):
            logger.warning("a router sent a message for targets")
            return
        verdict = DraftVerdict(session_id, body.token_ids, body.num_accepted)
        self._loop.observe(body.base_length, verdict)

    def close(self, key: SessionKey) -> None:
        session_id = self._drafter_ids.pop(key, None)
        if session_id is not None:
            del self._sessions[session_id]
            self._loop.close(session_id)

    # -- between the loop and the drafter ------------------------------------------------------------------------

    def _hand_over(self, blocks: Sequence[DraftedBlock]) -> None:
        """Called in the drafter's thread."""
        self._events.call_soon_threadsafe(self._deliver, blocks)

    def _deliver(self, blocks: Sequence[DraftedBlock]) -> None:
        for block in blocks:
            session = self._sessions.get(block.session_id)
            if session is not None:
                body = Block(block.base_length, block.base_hash, tree_to_bytes(block.tree))
                self.server.send(session.key, session.epoch, body)
