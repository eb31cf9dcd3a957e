"""Every constant of the simulated cluster, and where it comes from. Nothing here is tuned.

A target replica is a dense model of 70 billion parameters in bf16 on four H100 SXM: 3.35 TB/s, 989 TFLOP/s and 80 GB
each (NVIDIA's datasheet), of which we assume 65 % of the bandwidth and 45 % of the arithmetic to be had. A drafter
replica is a model of half a billion parameters on one L4: 300 GB/s, 121 TFLOP/s, with the same shares.
"""

from __future__ import annotations

# -- a target's step, ms ---------------------------------------------------------------------------------------------

STEP_MS = 140e9 / (4 * 3.35e12 * 0.65) * 1e3
"""Reading the weights once: 16 ms."""
ROW_MS = 2 * 70e9 / (4 * 989e12 * 0.45) * 1e3
"""Arithmetic of one row, a token or a node of a draft: 0.079 ms."""
KV_BYTES = 2 * 80 * 8 * 128 * 2
"""Of one position: 80 layers, 8 heads of 128 for keys and values in bf16."""
POSITION_MS = KV_BYTES / (4 * 3.35e12 * 0.65) * 1e3
"""Reading one position of one session."""
KV_POSITIONS = int((4 * 80e9 * 0.9 - 140e9) / KV_BYTES)
"""What fits beside the weights: about 450,000."""
MAX_SESSIONS = 256
PREFILL_CHUNK = 512
READ_SHARE = 0.7
"""Of a prompt's tokens, those that are not found in shared pages: later turns repeat the first ones."""

# -- drafting --------------------------------------------------------------------------------------------------------

TOKENS_A_ROUND = {0: 1.0, 1: 1.57, 2: 1.95, 4: 2.27}
"""By nodes of a block: measured with eight streams, docs/performance.md (Many streams)."""
GATHER_SHARE = 0.15
"""A step waits for blocks so much of its own time: engine/scheduler.py."""
DRAFT_MESSAGES_MS = 2.0
"""Router and network of a round; on two cores 3 to 4 (docs/design.md), most of it Python that has cores of its own."""
DRAFT_PASSES = 2.5
"""Of a block of four nodes: 2.1 to 2.7, docs/performance.md (drafting ahead)."""
DRAFT_PASS_MS = 1e9 / (300e9 * 0.65) * 1e3
DRAFT_ROW_MS = 0.05
"""Of a session in a pass: its arithmetic (0.02 ms) and its keys and values."""

# -- machines --------------------------------------------------------------------------------------------------------

TARGET_START_S = 240
"""Node 120 s, weights over the network at 2 GB/s 70 s, Python, checks and graphs 50 s (9 to 13 s on the demo family,
docs/robustness.md)."""
DRAFTER_START_S = 90
"""Node 60 s, model and checks 30 s (11 to 15 s on the demo family)."""
IDLE_S = 60
"""A node is paid for this long after its replica has gone."""
MOVE_SHARE = 1.0
"""Of the sessions at a target that leaves, those that move and are read again elsewhere."""
TARGET_PRICE = 4 * 3.0
DRAFTER_PRICE = 0.8
"""Dollars an hour: an H100 at 3, a machine with one L4 at 0.8. Only their ratio counts."""

# -- what callers should see ----------------------------------------------------------------------------------------

FIRST_TOKEN_S = 2.0
"""p95 to the first token that each policy is tuned to."""
BETWEEN_TOKENS_S = 0.03
"""p95 between tokens, likewise: most languages must be drafted for."""
FRONT_S = 0.02
"""Network, router and language detection before a prompt is read: first tokens come after 18 ms in all on the demo
family."""
