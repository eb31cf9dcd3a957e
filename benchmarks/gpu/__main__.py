"""One GPU, measured: kernels, the step, whole systems.

    python -m benchmarks.gpu --output runs/gpu [--sections correctness kernels step end_to_end] [--commit SHA]
    python -m benchmarks.gpu --output runs/dry --dry        # every section in seconds, on a CPU

Takes under ten minutes on an H100, most of it training. Needs torch, transformers, triton, tokenizers, safetensors and
numpy, and neither Ray nor gRPC nor pydantic. Writes OUTPUT.json and OUTPUT.md, also after a section has failed; the
exit status is 1 if one did or a bound is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.gpu.correctness import check_kernels
from benchmarks.gpu.end_to_end import run_end_to_end
from benchmarks.gpu.figures import Figure, as_json, markdown
from benchmarks.gpu.kernels import time_kernels
from benchmarks.gpu.sizes import DRY, FULL, Sizes
from benchmarks.gpu.step_share import time_step
from benchmarks.results import environment

SECTIONS: dict[str, Callable[[Sizes], Iterator[Figure]]] = {
    "correctness": check_kernels,
    "kernels": time_kernels,
    "step": time_step,
    "end_to_end": run_end_to_end,
}
COMMIT_VARIABLE = "POLYDRAFT_COMMIT"
"""Names the commit where there is no git."""


def main(arguments: list[str] | None = None) -> int:
    args = _parse(arguments)
    sizes = DRY if args.dry else FULL
    figures: list[Figure] = []
    facts = environment()
    facts["commit"] = args.commit or facts["commit"]
    failures: dict[str, str] = {}
    seconds: dict[str, float] = {}
    for name in args.sections:
        started_s = time.perf_counter()
        try:
            for figure in SECTIONS[name](sizes):
                figures.append(figure)
                print(f"{figure.section:12s} {figure.name:100s} {figure.value:10.4g} {figure.unit} {figure.verdict}")
        except Exception:  # the other sections are worth having; the failure is told at the end
            failures[name] = traceback.format_exc()
            print(failures[name])
        seconds[name] = round(time.perf_counter() - started_s, 1)
        _write(args.output, facts | {"seconds": seconds, "failures": failures}, figures)
    missed = [figure.name for figure in figures if not figure.holds]
    print(f"{seconds}; failed: {[*failures] or 'none'}; missed: {missed or 'none'}")
    # A dry run's times mean nothing.
    return int(bool(failures) or (bool(missed) and not args.dry))


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--sections", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--commit", default=os.environ.get(COMMIT_VARIABLE, ""))
    parser.add_argument("--dry", action="store_true", help="tiny sizes on the CPU; the figures mean nothing")
    return parser.parse_args(arguments)


def _write(output: Path, facts: dict[str, object], figures: list[Figure]) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    record = facts | {"figures": as_json(figures)}
    output.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    output.with_suffix(".md").write_text("\n".join(["# One GPU", "", *lines, markdown(figures)]) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
