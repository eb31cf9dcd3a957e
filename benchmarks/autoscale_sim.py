"""A day of multilingual traffic under our scaling policies, Serve's plain one and a fixed size.

python -m benchmarks.autoscale_sim [--sizes 10 100 1000] [--output runs/autoscale] [--plot docs/images/autoscale.png]

All are tuned on three seeds by the same budget, for the lowest cost at which p95 to the first token and between tokens
are kept, and reported on twenty others. "at once" is our policy on machines that start within ten seconds. Traffic:
`benchmarks/autoscale/traffic.py`; the cluster's constants: `benchmarks/autoscale/assumptions.py`. Two processes.
"""

from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.autoscale.plots import plot
from benchmarks.autoscale.report import table
from benchmarks.autoscale.traffic import REQUESTS_PER_S
from benchmarks.autoscale.tuning import Name, result_of
from benchmarks.results import tell

POLICIES: tuple[Name, ...] = ("ours", "plain", "fixed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[*REQUESTS_PER_S], choices=[*REQUESTS_PER_S])
    parser.add_argument("--output", type=Path, default=Path("runs/autoscale"))
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    jobs: list[tuple[Name, int]] = [(name, size) for size in args.sizes for name in POLICIES]
    jobs += [("at once", 100)] if 100 in args.sizes else []
    results = []
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        for result in pool.map(result_of, *zip(*jobs, strict=True)):
            print(f"{result.size} {result.name}: {result.settings}", flush=True)
            results.append(result)
    results.sort(key=lambda result: result.size)
    figures = {
        f"{result.size} {result.name}": {
            "settings": str(result.settings),
            "cost": result.reporting.cost.tolist(),
            "first_token_p95_s": result.reporting.first_token_p95.tolist(),
            "between_tokens_p95_s": result.reporting.between_p95.tolist(),
        }
        for result in results
    }
    tell(args.output, table(results), figures)
    if args.plot is not None:
        plot(results, args.plot)


if __name__ == "__main__":
    main()
