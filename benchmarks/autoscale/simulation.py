"""Days of traffic under a policy, ten seconds at a time, many days side by side.

Each session is in one of two states: its prompt waits, or its answer is written; answers are exponential in length, so
how long a session has been there does not matter. Within ten seconds a queue of prompts is M/G/1 at each replica;
beyond what the replicas can read it is a backlog that grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.autoscale import assumptions as model
from benchmarks.autoscale.histogram import Histogram
from benchmarks.autoscale.languages import LANGUAGES
from benchmarks.autoscale.policies import DECIDE_S, Policy, Seen
from benchmarks.autoscale.service_model import ANSWER_LK, HELD_LK, PROMPT_LK, READ_LK, Rounds, rounds
from benchmarks.autoscale.tiers import Replicas
from benchmarks.autoscale.traffic import BIN_S, KINDS, NUM_BINS, Floats, Ints, Traffic

WARM_UP_BINS = 3_600 // BIN_S
"""Not counted: the size at the beginning is nobody's decision."""
_FULL = 0.98
"""Above this share of its time a replica that reads prompts counts as a growing backlog."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of each day, [S]; times in s, money in dollars a day."""

    cost: Floats
    target_cost: Floats
    first_token_p50: Floats
    first_token_p95: Floats
    queue_p95: Floats
    between_p50: Floats
    between_p95: Floats
    drafted: Floats
    """Share of the tokens that were written with a drafter."""
    changes: Floats
    """Of the number of targets."""
    series: dict[str, Floats]
    """[S, minutes]: demand, replicas, queueing and cost over the day."""


class Simulation:
    """One run; `run` once."""

    def __init__(
        self,
        days: Sequence[Traffic],
        policy: Policy,
        targets_S: Floats,
        drafters_SL: Floats,
        *,
        start_factor: float = 1.0,
    ) -> None:
        """`start_factor` makes all machines start so much faster or slower."""
        num_days = len(days)
        self._arrivals = [day.arrivals_TLK for day in days]
        self._policy = policy
        self._rng = np.random.default_rng(7)
        self._targets = Replicas(targets_S[:, None], model.TARGET_START_S * start_factor, model.IDLE_S)
        self._drafters = Replicas(drafters_SL, model.DRAFTER_START_S * start_factor, model.IDLE_S)
        shape = (num_days, len(LANGUAGES), len(KINDS))
        self._waiting = np.zeros(shape, dtype=np.int64)
        self._writing = np.zeros(shape, dtype=np.int64)
        self._moved_S = np.zeros(num_days)
        """Tokens of sessions that moved and are read again."""
        self._first, self._queue, self._between = (Histogram(num_days) for _ in range(3))
        self._cost_S = np.zeros(num_days)
        self._target_cost_S = np.zeros(num_days)
        self._tokens_S = np.zeros(num_days)
        self._drafted_S = np.zeros(num_days)
        self._changes_S = np.zeros(num_days)
        self._series: dict[str, list[Floats]] = {
            name: [] for name in ("requests", "targets", "drafters", "queue", "cost")
        }

    def run(self) -> Outcome:
        for number in range(NUM_BINS):
            arrivals_SLK = np.stack([day[number] for day in self._arrivals])
            self._bin(number, arrivals_SLK)
        return Outcome(
            self._cost_S,
            self._target_cost_S,
            self._first.quantile(0.5),
            self._first.quantile(0.95),
            self._queue.quantile(0.95),
            self._between.quantile(0.5),
            self._between.quantile(0.95),
            self._drafted_S / self._tokens_S,
            self._changes_S,
            {name: np.stack(values, axis=1) for name, values in self._series.items()},
        )

    def _bin(self, number: int, arrivals_SLK: Ints) -> None:
        up_S = self._targets.up[:, 0]
        writing_SL = self._writing.sum(axis=2)
        positions_S = (self._writing * HELD_LK).sum(axis=(1, 2))
        now = rounds(writing_SL, positions_S, up_S, self._drafters.up)
        rate_S = model.PREFILL_CHUNK / now.chunk_s * np.maximum(up_S, 1)
        backlog_S = (self._waiting * READ_LK).sum(axis=(1, 2)) + self._moved_S
        new_S = (arrivals_SLK * READ_LK).sum(axis=(1, 2))
        load_S = (backlog_S + new_S) / (rate_S * BIN_S)
        busy_S = np.minimum(load_S, 1.0)
        wait_SLK = self._waits(now, rate_S, up_S, backlog_S, new_S, load_S, arrivals_SLK)
        self._waiting += arrivals_SLK
        room_S = self._admit(load_S, up_S, positions_S)
        round_S = self._write(now, busy_S)
        if number >= WARM_UP_BINS:
            no_room_s = (1 / np.maximum(room_S, 1e-3) - 1) * BIN_S
            self._count(now, round_S, wait_SLK + no_room_s[:, None, None], arrivals_SLK)
        if number % (60 // BIN_S) == 0:
            self._note(arrivals_SLK, wait_SLK)
        if number % (DECIDE_S // BIN_S) == 0:
            self._scale(now, busy_S, rate_S, up_S, number * BIN_S)
        self._targets.pass_bin()
        self._drafters.pass_bin()

    def _waits(
        self,
        now: Rounds,
        rate_S: Floats,
        up_S: Floats,
        backlog_S: Floats,
        new_S: Floats,
        load_S: Floats,
        arrivals_SLK: Ints,
    ) -> Floats:
        """How long each class of prompts that came now waits before it is read, one draw for each class."""
        # Pollaczek and Khinchine at one replica, for the prompts of these ten seconds.
        per_replica_S = rate_S / np.maximum(up_S, 1)
        time_SLK = READ_LK / per_replica_S[:, None, None]
        rho_S = np.minimum(load_S, _FULL)
        second_S = (arrivals_SLK * time_SLK**2).sum(axis=(1, 2)) / np.maximum(up_S, 1) / BIN_S
        mean_S = second_S / 2 / (1 - rho_S)
        drawn = self._rng.exponential(size=arrivals_SLK.shape)
        waits = self._rng.random(arrivals_SLK.shape) < rho_S[:, None, None]
        queue = np.where(waits, drawn * (mean_S / np.maximum(rho_S, 1e-6))[:, None, None], 0)
        # What was there before, and what comes beyond what can be read.
        behind_S = np.where(load_S > _FULL, (backlog_S + np.maximum(new_S - rate_S * BIN_S, 0) / 2) / rate_S, 0)
        return np.asarray(queue + behind_S[:, None, None])

    def _admit(self, load_S: Floats, up_S: Floats, positions_S: Floats) -> Floats:
        """Answers begin to prompts that are read, as far as there are places and pages; the share that had some."""
        read_S = 1 / np.maximum(load_S, 1.0)
        waiting_S = self._waiting.sum(axis=(1, 2))
        places_S = np.maximum(up_S * model.MAX_SESSIONS - self._writing.sum(axis=(1, 2)), 0)
        pages_S = np.maximum(up_S * model.KV_POSITIONS - positions_S, 0)
        wanted_S = (self._waiting * HELD_LK).sum(axis=(1, 2))
        room_S = np.minimum(1.0, np.minimum(places_S / np.maximum(waiting_S, 1), pages_S / np.maximum(wanted_S, 1)))
        share_S = np.minimum(read_S, room_S)
        begun = self._rng.binomial(self._waiting, share_S[:, None, None])
        self._waiting -= begun
        self._writing += begun
        self._moved_S *= 1 - read_S
        return np.asarray(room_S)

    def _write(self, now: Rounds, busy_S: Floats) -> Floats:
        """Ten seconds of rounds; answers that are complete go. The mean time of a round, [S]."""
        per_s = busy_S / now.chunk_s + (1 - busy_S) / now.round_s
        tokens_SL = now.tokens_SL * (per_s * BIN_S)[:, None]
        ends = 1 - np.exp(-tokens_SL[:, :, None] / ANSWER_LK)
        self._writing -= self._rng.binomial(self._writing, ends)
        return np.asarray(1 / per_s)

    def _count(self, now: Rounds, round_S: Floats, wait_SLK: Floats, arrivals_SLK: Ints) -> None:
        own_SLK = np.ceil(READ_LK / model.PREFILL_CHUNK) * now.chunk_s[:, None, None]
        self._first.add(wait_SLK + own_SLK + model.FRONT_S, arrivals_SLK.astype(np.float64))
        self._queue.add(wait_SLK, arrivals_SLK.astype(np.float64))
        written_SL = self._writing.sum(axis=2) * now.tokens_SL / round_S[:, None]
        self._between.add(round_S[:, None] / now.tokens_SL, written_SL)
        self._tokens_S += written_SL.sum(axis=1)
        self._drafted_S += np.where(now.tokens_SL > 1, written_SL, 0).sum(axis=1)
        hours = BIN_S / 3_600
        target = self._targets.paid[:, 0] * model.TARGET_PRICE * hours
        self._target_cost_S += target
        self._cost_S += target + self._drafters.paid.sum(axis=1) * model.DRAFTER_PRICE * hours

    def _note(self, arrivals_SLK: Ints, wait_SLK: Floats) -> None:
        num = arrivals_SLK.sum(axis=(1, 2))
        series = self._series
        series["requests"].append(num / BIN_S)
        series["targets"].append(self._targets.wanted[:, 0].copy())
        series["drafters"].append(self._drafters.wanted.sum(axis=1))
        series["queue"].append((wait_SLK * arrivals_SLK).sum(axis=(1, 2)) / np.maximum(num, 1))
        target = self._targets.paid[:, 0] * model.TARGET_PRICE
        series["cost"].append(target + self._drafters.paid.sum(axis=1) * model.DRAFTER_PRICE)

    def _scale(self, now: Rounds, busy_S: Floats, rate_S: Floats, up_S: Floats, time_s: float) -> None:
        seen = self._seen(now, busy_S, rate_S, up_S)
        wanted = np.hstack([self._targets.wanted, self._drafters.wanted])
        up = np.hstack([self._targets.up, self._drafters.up])
        decided = self._policy.decide(seen, wanted, up, time_s)
        self._changes_S += decided[:, 0] != wanted[:, 0]
        positions_S = (self._writing * PROMPT_LK).sum(axis=(1, 2))
        ended = self._targets.set(decided[:, :1])[:, 0]
        self._moved_S += model.MOVE_SHARE * positions_S * ended / np.maximum(up_S, 1)
        self._drafters.set(decided[:, 1:])

    def _seen(self, now: Rounds, busy_S: Floats, rate_S: Floats, up_S: Floats) -> Seen:
        streams_SL = (self._writing.sum(axis=2) + self._waiting.sum(axis=2)).astype(np.float64)
        held_S = (self._writing * HELD_LK).sum(axis=(1, 2))
        backlog_S = (self._waiting * READ_LK).sum(axis=(1, 2)) + self._moved_S
        target_SF = np.stack(
            [
                streams_SL.sum(axis=1) / model.MAX_SESSIONS,
                np.minimum(held_S / model.KV_POSITIONS, up_S),
                busy_S * up_S,
                backlog_S / rate_S * up_S,
            ],
            axis=1,
        )
        writing_SL = self._writing.sum(axis=2).astype(np.float64)
        pays_S = now.asked_S > 0
        open_SL = np.where(self._drafters.up > 0, writing_SL, 0)
        asking_SL = np.where(pays_S[:, None], open_SL, 0)
        per_block = model.DRAFT_PASSES * model.DRAFT_PASS_MS / 1e3
        busy_SL = np.minimum(asking_SL * per_block / now.round_s[:, None], self._drafters.up)
        drafters_SLF = np.stack([open_SL, asking_SL, busy_SL, now.late_SL], axis=2)
        return Seen(target_SF, drafters_SLF, streams_SL, pays_S.astype(np.float64))
