"""What following a call costs a router: microseconds a round for metrics and logs, beside nobody following.

    python -m benchmarks.observing [--rounds 200000]

A round is one verdict and one chunk. What Ray takes to pass figures on comes beside that, once a second.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from cluster.call_metrics import CallMetrics
from cluster.config_file import load
from cluster.events import Chunk, TokenSource
from cluster.logs import CallLog
from cluster.measures import Measures
from cluster.messages import Sampling, Verdict
from cluster.observing import Observer, Observers, Unobserved
from cluster.request import DrafterChoice, Request

_REQUEST = Request("r", "default", 1.0, "de", (1, 2, 3), Sampling(), 1, 64, (), 0.0, DrafterChoice("de", False, 8))
_VERDICT = Verdict(10, (1, 2, 3), 2, 4, 13, 7, 1)
_CHUNK = Chunk(0, (1, 2, 3), "abc", (TokenSource.DRAFTER,) * 3, 1)
_REPEATS = 5


def cost_us(observer: Observer, num_rounds: int) -> float:
    """Of a round, the least of some repeats."""
    watch = observer.call("r", "default", "")
    watch.prepared(_REQUEST)
    least_s = float("inf")
    for _ in range(_REPEATS):
        begun_s = time.perf_counter()
        for _ in range(num_rounds):
            watch.committed(_VERDICT, is_prefill=False)
            watch.wrote(_CHUNK)
        least_s = min(least_s, time.perf_counter() - begun_s)
    return 1e6 * least_s / num_rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/local.yaml"))
    parser.add_argument("--rounds", type=int, default=200_000)
    args = parser.parse_args()
    config = load(args.config)
    both = Observers([CallMetrics(config, Measures(), time.monotonic), CallLog(time.monotonic)])
    print(f"nobody follows:   {cost_us(Unobserved(), args.rounds):.2f} us a round")
    print(f"metrics and logs: {cost_us(both, args.rounds):.2f} us a round")


if __name__ == "__main__":
    main()
