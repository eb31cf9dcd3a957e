"""What is wrong with how a call ended, and the table of all calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

import grpc

from benchmarks.fuzz.calls import Call, Manner, Outcome
from benchmarks.fuzz.internals import leak

Status = grpc.StatusCode

_REFUSED = frozenset({Status.UNAUTHENTICATED, Status.UNIMPLEMENTED})
"""What callers without a key may hear."""
LAWFUL = _REFUSED | {
    Status.OK,
    Status.INVALID_ARGUMENT,
    Status.NOT_FOUND,
    Status.RESOURCE_EXHAUSTED,
    Status.FAILED_PRECONDITION,
    Status.ABORTED,
}
"""What callers with a key may hear. UNKNOWN and INTERNAL are exceptions that nobody foresaw, UNAVAILABLE is a lost
connection: no replica is taken away while the fuzzer runs."""
_MAX_TOLD, _MAX_SENT = 600, 2_000
_MAX_FAULTS = 25


class Kind(Enum):
    """What may not happen."""

    CRASH = "crash"
    HANG = "hang"
    LEAK = "leak"
    LET_IN = "let in"
    WRONG = "wrong answer"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that may not happen, and after what it did."""

    kind: Kind
    what: str
    index: int | None = None
    """Of the message; None: it was found after a batch."""
    sent: bytes = b""


@dataclass(slots=True)
class Tally:
    """All calls of one method by one sort of caller."""

    method: str
    num_messages: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)

    def count(self, index: int, call: Call, outcome: Outcome, told: Iterable[str] = (), *, is_known: bool) -> None:
        """Judge a call; `told` is the text in its replies."""
        self.num_messages += 1
        self.statuses[outcome.name] += 1
        sent = b"".join(call.messages)[:_MAX_SENT]
        found = judged(call, outcome, told, is_known=is_known)
        self.faults += [Fault(kind, what, index, sent) for kind, what in found]

    @property
    def is_hopeless(self) -> bool:
        """Whether more calls would tell nothing new: a replica has gone, or the method fails all the time."""
        has_crashed = any(fault.kind is Kind.CRASH and fault.index is None for fault in self.faults)
        return has_crashed or len(self.faults) > _MAX_FAULTS

    def report(self, seed: int) -> list[str]:
        """One line a fault, with what it takes to see it again."""
        return [
            f"{self.method}: {fault.kind.value}, seed {seed}, "
            + (f"message {fault.index}: " if fault.index is not None else f"within {self.num_messages} messages: ")
            + fault.what
            + (f" (sent {fault.sent.hex()})" if fault.sent else "")
            for fault in self.faults
        ]

    def of(self, kind: Kind) -> int:
        return sum(fault.kind is kind for fault in self.faults)


def judged(call: Call, outcome: Outcome, told: Iterable[str], *, is_known: bool) -> list[tuple[Kind, str]]:
    """All that is wrong with a call."""
    if outcome.status is None:
        return [(Kind.HANG, "no end")] if call.manner.is_patient else []
    found: list[tuple[Kind, str]] = []
    says = f"{outcome.status.name}: {outcome.detail}"[:_MAX_TOLD]
    asked = repr((call.messages, call.metadata)) if len(b"".join(call.messages)) < 1 << 16 else ""
    for text in (outcome.detail, outcome.trailing, *told):
        if words := leak(text, asked):
            found.append((Kind.LEAK, f"{words!r} in {text[:_MAX_TOLD]}"))
    # A caller that leaves, or has no time, is told so by its own side.
    own = {Manner.CANCEL: Status.CANCELLED, Manner.DEADLINE: Status.DEADLINE_EXCEEDED}.get(call.manner)
    if outcome.heard_enough:
        own = Status.CANCELLED
    if outcome.status is not own and outcome.status not in LAWFUL and not outcome.is_cut_off:
        found.append((Kind.CRASH, says))
    if not is_known and (outcome.replies or (outcome.status is not own and not _is_refusal(outcome))):
        found.append((Kind.LET_IN, f"{len(outcome.replies)} messages, {says}"))
    return found


def _is_refusal(outcome: Outcome) -> bool:
    if outcome.is_cut_off:
        return True
    # Metadata over gRPC's own limit are refused before anybody can look at them.
    too_long = outcome.status is Status.RESOURCE_EXHAUSTED and "metadata size" in outcome.detail
    return outcome.status in _REFUSED or too_long


def table(tallies: Sequence[Tally]) -> str:
    """For people."""
    kinds = [*Kind]
    lines = [
        "| method | messages | statuses | " + " | ".join(kind.value for kind in kinds) + " |",
        "|---|---:|---|" + "---:|" * len(kinds),
    ]
    for tally in tallies:
        statuses = ", ".join(f"{name} {number}" for name, number in tally.statuses.most_common())
        counts = " | ".join(str(tally.of(kind)) for kind in kinds)
        lines.append(f"| {tally.method} | {tally.num_messages} | {statuses} | {counts} |")
    return "\n".join(lines)
