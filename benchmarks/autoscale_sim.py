"""A day of multilingual traffic under our scaling policies, a plain one and a fixed size.

python -m benchmarks.autoscale_sim
"""

from __future__ import annotations

import argparse
import time

from benchmarks.autoscale.traffic import DAY_S, REPORTING_SEEDS, REQUESTS_PER_S, generate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    for size, requests_per_s in REQUESTS_PER_S.items():
        begin = time.monotonic()
        days = [generate(seed, requests_per_s) for seed in REPORTING_SEEDS]
        rates = [day.num_requests / DAY_S for day in days]
        print(f"{size} replicas: {min(rates):.1f} to {max(rates):.1f} requests/s, {time.monotonic() - begin:.1f} s")


if __name__ == "__main__":
    main()
