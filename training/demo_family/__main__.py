"""Make the demo family's data, tokenizer and target, and the card that tells how: python -m training.demo_family STEP.

Between the steps `target` and `card`, `polydraft train all configs/train/demo.yaml` makes the drafters.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from training.demo_family.card import write_card
from training.demo_family.data import write_data
from training.demo_family.quality import report_quality
from training.demo_family.target import (
    PACKING_FROM,
    SHAPES,
    THREADS,
    TOKENS_PER_BATCH,
    WEIGHT_DECAY,
    export_target,
    target_schedule,
    train_target,
)
from training.demo_family.tokenizer import export_tokenizer, train_tokenizer

MODELS = Path("models")
RUNS = Path("runs")


def main() -> int:
    args = _parser().parse_args()
    try:
        args.run(args)
    except (OSError, ValueError) as error:
        print(f"training.demo_family {args.step}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.demo_family", description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")

    step = steps.add_parser("tokenizer", help="byte-level BPE over the everyday subset of the corpus")
    _corpus(step)
    step.add_argument("--vocab-size", type=int, default=8192)
    step.add_argument("--output", type=Path, default=MODELS / "target", help="directory (default: %(default)s)")
    step.set_defaults(run=lambda a: export_tokenizer(train_tokenizer(a.corpus, a.vocab_size), a.output))

    step = steps.add_parser("target", help="train the target; goes on from the checkpoint in --work")
    _corpus(step)
    _target_dir(step, "directory with tokenizer.json")
    step.add_argument("--work", type=Path, default=RUNS / "target", help="checkpoint and log (default: %(default)s)")
    _shape(step)
    step.add_argument("--minutes", type=float, default=112.0, help="computing time in all (default: %(default)s)")
    step.add_argument("--tokens-per-batch", type=int, default=TOKENS_PER_BATCH, help="(default: %(default)s)")
    step.add_argument("--threads", type=int, default=THREADS, help="(default: %(default)s)")
    step.add_argument(
        "--packing-from", type=float, default=PACKING_FROM, help="share of the budget before sentences are packed"
    )
    step.add_argument(
        "--weight-decay", type=float, default=WEIGHT_DECAY, help="of the layers' matrices (default: %(default)s)"
    )
    step.add_argument("--start-from", type=Path, help="exported target whose weights a fresh run begins with")
    step.set_defaults(run=_target)

    step = steps.add_parser("export", help="write the trained target as a model directory")
    _target_dir(step, "directory with tokenizer.json")
    step.add_argument("--work", type=Path, default=RUNS / "target")
    _shape(step)
    step.add_argument("--output", type=Path, default=MODELS / "target", help="(default: %(default)s)")
    step.set_defaults(run=lambda a: export_target(a.work, a.target, SHAPES[a.shape], a.output))

    step = steps.add_parser("data", help="write the corpus as the recipe configs/train/demo.yaml reads it")
    _corpus(step)
    step.add_argument("--prompts", type=int, default=60_000, help="of a language (default: %(default)s)")
    step.add_argument("--output", type=Path, default=RUNS / "data", help="directory (default: %(default)s)")
    step.set_defaults(run=lambda a: write_data(a.corpus, a.output, a.prompts))

    step = steps.add_parser("quality", help="chrF and BLEU of the target")
    _corpus(step)
    _target_dir(step, "the exported target")
    step.add_argument("--split", choices=("valid", "test"), default="test")
    step.add_argument("--pairs", type=int, help="of a language at most (default: all)")
    step.add_argument("--output", type=Path, default=RUNS / "quality.json")
    step.set_defaults(run=lambda a: report_quality(a.corpus, a.target, a.split, a.pairs, a.output))

    step = steps.add_parser("card", help="write models/README.md and the picture of the loss curves")
    step.add_argument("--quality", type=Path, default=RUNS / "quality.json")
    step.add_argument("--recipe", type=Path, default=Path("configs/train/demo.yaml"))
    step.add_argument(
        "--target-runs",
        type=Path,
        nargs="+",
        default=[RUNS / "target"],
        metavar="DIR",
        help="work directories of target; each run started from the one before (default: runs/target)",
    )
    step.add_argument("--models", type=Path, default=MODELS)
    step.add_argument("--picture", type=Path, default=Path("docs/images/loss_curves.png"))
    step.set_defaults(run=lambda a: write_card(a.quality, a.recipe, a.target_runs, a.models, a.picture))
    return parser


def _corpus(step: argparse.ArgumentParser) -> None:
    step.add_argument("--corpus", type=Path, required=True, help="holds train/, valid/ and test/ with XX-en.tsv files")


def _shape(step: argparse.ArgumentParser) -> None:
    step.add_argument("--shape", choices=tuple(SHAPES), default="14m", help="parameters (default: %(default)s)")


def _target_dir(step: argparse.ArgumentParser, text: str) -> None:
    step.add_argument("--target", type=Path, default=MODELS / "target", help=f"{text} (default: %(default)s)")


def _target(args: argparse.Namespace) -> None:
    import torch

    torch.set_num_threads(args.threads)
    train_target(
        args.corpus,
        args.target,
        SHAPES[args.shape],
        args.work,
        target_schedule(args.minutes, args.weight_decay),
        args.tokens_per_batch,
        args.packing_from,
        args.start_from,
    )


if __name__ == "__main__":
    sys.exit(main())
