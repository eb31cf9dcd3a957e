"""The session loop under faults in any order: the answer is the target's, with no gap and no repeat."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.events import Event
from cluster.messages import Block, GoAway, Verdict
from cluster.request import Request
from cluster.text import Tokenizer
from tests.unit.cluster.fakes import FakeClock, FakeDrafter, FakeFleet, FakeTarget, byte_tokenizer, make_request
from tests.unit.cluster.sessions import TEXT, finished_of, ids_of, new_session, text_of

NUM_TARGETS = 3
FAULTS = (
    "lose target",
    "drain target",
    "target returns",
    "lose drafter",
    "drafter comes",
    "old verdict",
    "old epoch",
    "verdict from the future",
    "block for another base",
)


@dataclass
class Cluster:
    """Replicas that faults happen to; whoever waits in vain gets a new target."""

    ids: list[int]
    request: Request
    clock: FakeClock = field(default_factory=FakeClock)
    fleet: FakeFleet = field(init=False)

    def __post_init__(self) -> None:
        targets = [FakeTarget(f"t{number}", self.ids) for number in range(NUM_TARGETS)]
        self.fleet = FakeFleet(self.clock, targets, [FakeDrafter("d0", self.ids)])
        self.fleet.on_wait = lambda: self.fleet.all_targets.append(self._new_target())

    def _new_target(self) -> FakeTarget:
        return FakeTarget(f"t{len(self.fleet.all_targets)}", self.ids)

    def happen(self, fault: str, number: int) -> None:
        target, drafters = self.fleet.all_targets[number], self.fleet.all_drafters
        base = len(self.request.prompt_ids)
        match fault:
            case "lose target":
                target.die()
            case "drain target":
                self.fleet.draining.add(target.replica_id)
                self._say(target, GoAway(5.0))
            case "target returns":
                target.alive = True
                self.fleet.draining.discard(target.replica_id)
            case "lose drafter":
                drafters[-1].die()
            case "drafter comes":
                drafters.append(FakeDrafter(f"d{len(drafters)}", self.ids))
            case "old verdict":
                self._say(target, Verdict(base, (7,), 0, 0, base + 1, 0, 1))
            case "old epoch":
                self._say(target, Verdict(base, (7,), 0, 0, base + 1, 0, 1), epoch=0)
            case "verdict from the future":
                self._say(target, Verdict(base + 5_000, (7,), 0, 0, base + 5_001, 0, 1))
            case "block for another base":
                for channel in drafters[-1].channels:
                    channel.answer(Block(base, 0, b"[]"))

    def _say(self, target: FakeTarget, body: Verdict | GoAway, epoch: int | None = None) -> None:
        for channel in target.channels:
            channel.answer(body, epoch)


@pytest.fixture(scope="module")
def one_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return byte_tokenizer(tmp_path_factory.mktemp("tokenizer"))


SCRIPTS = st.lists(st.tuples(st.integers(1, 25), st.sampled_from(FAULTS), st.integers(0, NUM_TARGETS - 1)), max_size=12)
"""After which event, what, and to which target."""


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SCRIPTS, st.sampled_from(["de", None]), st.sampled_from([8, 64]), st.sampled_from([(), ("passengers",)]))
def test_no_order_of_faults_changes_the_answer(
    one_tokenizer: Tokenizer,
    script: list[tuple[int, str, int]],
    drafter: str | None,
    credit: int,
    stop: tuple[str, ...],
) -> None:
    ids = list(one_tokenizer.encode_prompt(TEXT))
    request = make_request(one_tokenizer, drafter=drafter, stop=stop)
    cluster = Cluster(ids, request)
    session = new_session(request, cluster.fleet, one_tokenizer, credit)

    async def run() -> list[Event]:
        events: list[Event] = []
        async with asyncio.timeout(10):
            async for event in session.events():
                events.append(event)
                for when, fault, number in script:
                    if when == len(events):
                        cluster.happen(fault, number)
        return events

    events = asyncio.run(run())

    expected = TEXT.partition(stop[0])[0] if stop else TEXT
    assert text_of(events) == expected
    found = ids_of(events)
    assert found == ids[: len(found)] and (stop or found == ids)
    assert finished_of(events).completion_tokens == len(found)
    for peer in (*cluster.fleet.all_targets, *cluster.fleet.all_drafters):
        assert all(channel.closed or not peer.alive for channel in peer.channels), "a session was left open"
