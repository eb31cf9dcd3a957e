"""The commands behind `polydraft train`, in the order in which they make the demo family."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from training.corpus import LANGUAGES
from training.planning.cli import add_plan

MODELS = Path("models")
RUNS = Path("runs")


def main(argv: Sequence[str]) -> int:
    """Run one step; 0 if it worked, 1 if its input was missing or wrong. argparse exits with 2 on usage errors."""
    args = _parser().parse_args(argv)
    if "threads" in args:
        import torch

        torch.set_num_threads(args.threads)
    try:
        args.run(args)
    except (FileNotFoundError, ValueError) as error:
        print(f"polydraft train {args.step}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="polydraft train",
        description="Make the demo family: tokenizer, target, pretrain, distil, finetune, export, evaluate, card.",
    )
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    add_plan(steps)

    step = steps.add_parser("tokenizer", help="byte-level BPE over the everyday subset of the corpus")
    _corpus(step)
    step.add_argument("--vocab-size", type=int, default=8192)
    step.add_argument("--output", type=Path, default=MODELS / "target", help="directory (default: %(default)s)")
    step.set_defaults(run=_tokenizer)

    step = steps.add_parser("target", help="train the target; goes on from the checkpoint in --work")
    _corpus(step)
    _target_dir(step, "directory with tokenizer.json")
    _training(step, RUNS / "target", minutes=112.0, tokens_per_batch=4_000, threads=2)
    step.add_argument(
        "--packing-from",
        type=float,
        default=0.3,
        metavar="SHARE",
        help="share of the budget from which sentences are packed",
    )
    step.add_argument("--weight-decay", type=float, default=0.1, help="of the layers' matrices (default: %(default)s)")
    step.add_argument("--start-from", type=Path, help="exported target whose weights a fresh run begins with")
    step.set_defaults(run=_target)

    step = steps.add_parser("pretrain", help="stage P: one drafter for all languages; needs the tokenizer only")
    _corpus(step)
    _target_dir(step, "directory with tokenizer.json")
    _training(step, RUNS / "pretrain", minutes=25.0, tokens_per_batch=3_000, threads=1)
    step.set_defaults(run=_pretrain)

    step = steps.add_parser("distil", help="the target writes answers to training prompts; goes on by record id")
    _corpus(step)
    _target_dir(step, "the exported target")
    step.add_argument("--work", type=Path, default=RUNS / "distil", help="output directory (default: %(default)s)")
    step.add_argument("--languages", nargs="+", choices=LANGUAGES, default=list(LANGUAGES))
    step.add_argument("--prompts", type=int, default=60_000, help="prompts a language (default: %(default)s)")
    step.add_argument("--minutes", type=float, default=52.0, help="for all languages together (default: %(default)s)")
    step.add_argument("--worker", type=int, default=0, help="this process' number, from 0")
    step.add_argument("--workers", type=int, default=1, help="how many processes share the prompts")
    step.add_argument("--threads", type=int, default=1)
    step.set_defaults(run=_distil)

    step = steps.add_parser("finetune", help="stage F: one language's drafter, on answers the target wrote")
    _language(step)
    _target_dir(step, "directory with tokenizer.json")
    step.add_argument("--answers", type=Path, default=RUNS / "distil", help="output of distil (default: %(default)s)")
    step.add_argument("--pretrained", type=Path, default=RUNS / "pretrain", help="work directory of pretrain")
    _training(step, RUNS / "finetune", minutes=6.0, tokens_per_batch=3_000, threads=1)
    step.set_defaults(run=_finetune)

    step = steps.add_parser("export", help="write the target, or a drafter with --language, as a model directory")
    step.add_argument("--language", choices=LANGUAGES, help="export this drafter; without it the target")
    _target_dir(step, "the exported target; for the target itself the directory with tokenizer.json")
    step.add_argument("--answers", type=Path, default=RUNS / "distil", help="output of distil (default: %(default)s)")
    step.add_argument("--work", type=Path, help="work directory (default: runs/target, runs/finetune)")
    step.add_argument("--output", type=Path, help="directory (default: models/target, models/drafters/LANGUAGE)")
    step.set_defaults(run=_export)

    step = steps.add_parser("evaluate", help="chrF of the target, tokens a round of each drafter on each language")
    _corpus(step)
    _target_dir(step, "the exported target")
    step.add_argument("--drafters", type=Path, default=MODELS / "drafters")
    step.add_argument("--split", choices=("valid", "test"), default="test")
    step.add_argument("--pairs", type=int, default=100, help="prompts a language (default: %(default)s)")
    step.add_argument("--output", type=Path, default=RUNS / "evaluation.json")
    step.add_argument("--threads", type=int, default=1)
    step.set_defaults(run=_evaluate)

    step = steps.add_parser("card", help="write models/README.md and the picture of the loss curves")
    step.add_argument("--evaluation", type=Path, default=RUNS / "evaluation.json")
    step.add_argument(
        "--target-runs",
        type=Path,
        nargs="+",
        default=[RUNS / "target"],
        metavar="DIR",
        help="work directories of target; each run started from the one before (default: runs/target)",
    )
    step.add_argument("--pretrain-run", type=Path, default=RUNS / "pretrain", help="work directory of pretrain")
    step.add_argument("--finetune-run", type=Path, default=RUNS / "finetune", help="holds a directory a language")
    step.add_argument("--answers", type=Path, default=RUNS / "distil", help="output of distil (default: %(default)s)")
    step.add_argument("--models", type=Path, default=MODELS)
    step.add_argument("--picture", type=Path, default=Path("docs/images/loss_curves.png"))
    step.set_defaults(run=_card)
    return parser


def _corpus(step: argparse.ArgumentParser) -> None:
    step.add_argument("--corpus", type=Path, required=True, help="holds train/, valid/ and test/ with XX-en.tsv files")


def _language(step: argparse.ArgumentParser) -> None:
    step.add_argument("--language", choices=LANGUAGES, required=True)


def _target_dir(step: argparse.ArgumentParser, text: str) -> None:
    step.add_argument("--target", type=Path, default=MODELS / "target", help=f"{text} (default: %(default)s)")


def _training(step: argparse.ArgumentParser, work: Path, minutes: float, tokens_per_batch: int, threads: int) -> None:
    step.add_argument("--work", type=Path, default=work, help="checkpoint and loss.jsonl (default: %(default)s)")
    step.add_argument("--minutes", type=float, default=minutes, help="computing time in all (default: %(default)s)")
    step.add_argument("--tokens-per-batch", type=int, default=tokens_per_batch, help="(default: %(default)s)")
    step.add_argument("--threads", type=int, default=threads, help="(default: %(default)s)")


# The steps import what they need when they run, so that --help stays quick.


def _tokenizer(args: argparse.Namespace) -> None:
    from training.tokenizer import export_tokenizer, train_tokenizer

    export_tokenizer(train_tokenizer(args.corpus, args.vocab_size), args.output)


def _target(args: argparse.Namespace) -> None:
    from training.loop import Schedule
    from training.target import train_target

    schedule = Schedule(args.minutes, weight_decay=args.weight_decay)
    train_target(
        args.corpus, args.target, args.work, schedule, args.tokens_per_batch, args.packing_from, args.start_from
    )


def _pretrain(args: argparse.Namespace) -> None:
    from training.pretrain import pretrain_drafter, pretrain_schedule

    schedule = pretrain_schedule(args.minutes, args.threads)
    pretrain_drafter(args.corpus, args.target, args.work, schedule, args.tokens_per_batch)


def _distil(args: argparse.Namespace) -> None:
    from training.distil import distil_languages

    distil_languages(
        args.corpus, args.target, args.work, args.languages, args.prompts, args.minutes, args.worker, args.workers
    )


def _finetune(args: argparse.Namespace) -> None:
    from training.finetune import finetune_drafter, finetune_schedule

    work = args.work / args.language
    schedule = finetune_schedule(args.minutes, args.threads)
    finetune_drafter(args.language, args.target, args.answers, args.pretrained, work, schedule, args.tokens_per_batch)


def _export(args: argparse.Namespace) -> None:
    if args.language is None:
        from training.target import export_target

        export_target(args.work or RUNS / "target", args.target, args.output or MODELS / "target")
        return
    from training.finetune import export_finetuned

    work = (args.work or RUNS / "finetune") / args.language
    output = args.output or MODELS / "drafters" / args.language
    export_finetuned(args.language, args.answers, work, args.target, output)


def _evaluate(args: argparse.Namespace) -> None:
    from training.evaluate import evaluate

    evaluate(args.corpus, args.target, args.drafters, args.split, args.pairs, args.output)


def _card(args: argparse.Namespace) -> None:
    from training.card import write_card

    write_card(
        args.evaluation, args.target_runs, args.pretrain_run, args.finetune_run, args.answers, args.models, args.picture
    )
