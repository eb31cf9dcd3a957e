"""What replicas make of their sessions in ten seconds: rounds, prefill, late drafts. Constants: `assumptions`.

Shape letters: S simulated days, L languages, K kinds of requests. All target replicas of a day bear the same load, as
routers send each session to the one with the most room.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.autoscale import assumptions as model
from benchmarks.autoscale.languages import LANGUAGES
from benchmarks.autoscale.traffic import KINDS, Floats

PREMIUM_L = np.array([language.tokens for language in LANGUAGES])
PROMPT_LK = PREMIUM_L[:, None] * np.array([kind.prompt_tokens for kind in KINDS])
ANSWER_LK = PREMIUM_L[:, None] * np.array([kind.answer_tokens for kind in KINDS])
READ_LK = PROMPT_LK * model.READ_SHARE
HELD_LK = PROMPT_LK + ANSWER_LK
"""Positions of a session on average: those that are there at any moment are half-way, and long for their kind."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """How the replicas of each day run now."""

    round_s: Floats
    """[S] without prefill."""
    tokens_SL: Floats
    """A round brings a session so many."""
    asked_S: Floats
    """Nodes of a block; 0: the target decodes plainly."""
    late_SL: Floats
    """Share of a drafter's blocks that come too late."""
    chunk_s: Floats
    """[S] a round with a chunk of prefill."""


def rounds(sessions_SL: Floats, positions_S: Floats, targets_S: Floats, drafters_SL: Floats) -> Rounds:
    """From the decoding sessions, the KV positions they hold, and the replicas that are up."""
    replicas_S = np.maximum(targets_S, 1)
    per_replica_S = sessions_SL.sum(axis=1) / replicas_S
    plain_ms = model.STEP_MS + per_replica_S * model.ROW_MS + positions_S / replicas_S * model.POSITION_MS
    best = {"rate": per_replica_S / plain_ms, "ms": plain_ms, "nodes": np.zeros_like(plain_ms)}
    late_SL = np.zeros_like(sessions_SL)
    for nodes, tokens in model.TOKENS_A_ROUND.items():
        if nodes == 0:
            continue
        late, share_S = _late(sessions_SL, drafters_SL, plain_ms, nodes)
        ms = plain_ms + share_S * per_replica_S * nodes * model.ROW_MS
        ms = np.where(share_S > 0, ms * (1 + model.GATHER_SHARE), ms)
        rate = per_replica_S * (1 + share_S * (tokens - 1)) / ms
        better = rate > best["rate"]
        best = {
            "rate": np.where(better, rate, best["rate"]),
            "ms": np.where(better, ms, best["ms"]),
            "nodes": np.where(better, nodes, best["nodes"]),
        }
        late_SL = np.where(better[:, None], late, late_SL)
    gain_S = np.array([model.TOKENS_A_ROUND[int(nodes)] - 1 for nodes in best["nodes"]])
    has_drafter = drafters_SL > 0
    tokens_SL = 1 + gain_S[:, None] * np.where(has_drafter, 1 - late_SL, 0)
    round_s = best["ms"] / 1e3
    return Rounds(round_s, tokens_SL, best["nodes"], late_SL, round_s + model.PREFILL_CHUNK * model.ROW_MS / 1e3)


def _late(sessions_SL: Floats, drafters_SL: Floats, round_ms_S: Floats, nodes: int) -> tuple[Floats, Floats]:
    """The share of each drafter's blocks that is late, and the share of all sessions that have theirs in time."""
    passes = model.DRAFT_PASSES * nodes / 4 if nodes > 2 else float(nodes)
    time_ms_S = round_ms_S * (1 + model.GATHER_SHARE) - model.DRAFT_MESSAGES_MS
    in_time_S = np.maximum((time_ms_S / passes - model.DRAFT_PASS_MS) / model.DRAFT_ROW_MS, 0)
    asking_SL = np.where(drafters_SL > 0, sessions_SL, 0)
    late_SL = np.clip(1 - drafters_SL * in_time_S[:, None] / np.maximum(asking_SL, 1e-9), 0, 1)
    late_SL = np.where(asking_SL > 0, late_SL, 0)
    drafted_S = (asking_SL * (1 - late_SL)).sum(axis=1)
    return late_SL, drafted_S / np.maximum(sessions_SL.sum(axis=1), 1e-9)
