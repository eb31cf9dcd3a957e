"""The directory's table, with a clock of the test's own."""

from __future__ import annotations

from cluster.ledger import Claim, Grant, Meter, Settled
from cluster.status import Report
from deployments.directory import Directory, Registration

TARGET = Registration("target", "target", "t1", "127.0.0.1:1", "n1")
DRAFTER = Registration("drafter", "de", "d1", "127.0.0.1:2")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_registrations_expire_unless_repeated() -> None:
    clock = Clock()
    directory = Directory("token", clock, expiry_s=5.0)
    directory.register(TARGET)
    directory.register(DRAFTER)

    clock.now += 4.0
    directory.register(TARGET)
    clock.now += 3.0

    assert directory.replicas() == [TARGET]


def test_leaving_replicas_are_gone_at_once() -> None:
    directory = Directory("token", Clock())
    directory.register(TARGET)
    directory.register(DRAFTER)

    directory.unregister("t1")
    directory.unregister("unknown")

    assert directory.replicas() == [DRAFTER]


def test_routers_share_a_limit_by_how_many_are_there() -> None:
    directory = Directory("token", Clock())
    for name in ("r1", "r2"):
        directory.register(Registration("router", "router", name, "127.0.0.1:3"))
    directory.register(TARGET)

    settled = directory.settle("r1", [Claim("acme", Meter.REQUESTS, limit=10.0, burst=10.0)])

    assert settled == Settled([Grant(5.0)], num_routers=2)


def test_streams_are_held_until_their_router_has_ended_them_or_is_gone() -> None:
    clock = Clock()
    directory = Directory("token", clock)

    def claim(in_use: int, *, wants: bool) -> Claim:
        return Claim("acme", Meter.STREAMS, limit=4, burst=0.0, in_use=in_use, wants=wants)

    directory.settle("r1", [claim(3, wants=False)])
    directory.settle("r2", [claim(0, wants=True)])
    assert directory.num_held_streams() == 4
    directory.settle("r2", [claim(0, wants=False)])
    assert directory.num_held_streams() == 3
    clock.now += 5.0
    assert directory.num_held_streams() == 0


def test_status_has_what_replicas_told_last_and_forgets_those_that_are_gone() -> None:
    clock = Clock()
    directory = Directory("token", clock, expiry_s=5.0)
    directory.register(TARGET)
    directory.register(DRAFTER)
    directory.tell(TARGET.replica_id, Report(1.0))
    directory.tell(TARGET.replica_id, Report(2.0))
    directory.tell("stranger", Report(3.0))

    told = {status.replica_id: status.report for status in directory.status()}

    assert told == {TARGET.replica_id: Report(2.0), DRAFTER.replica_id: None}
    directory.unregister(TARGET.replica_id)
    directory.register(TARGET)
    assert {status.replica_id: status.report for status in directory.status()} == dict.fromkeys(told)
