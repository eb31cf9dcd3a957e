"""Fit a method of drafting to a target. `layer-skip`: which of its own sublayers the target leaves out when it drafts
for itself; writes MODEL/layer_skip.json, which method `layer_skip` reads.

Prompts are .jsonl files, one a language, such as `--prompts de=german.jsonl fr=french.jsonl`. The target answers them;
then sets of sublayers are tried on its answers, by Bayesian optimisation.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from polydraft.commands.common import UsageError, positive_int

NAME = "tune"
HELP = "fit a method of drafting to a target"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("method", choices=["layer-skip"], metavar="METHOD", help="layer-skip")
    parser.add_argument("model", type=Path, metavar="MODEL", help="directory of the target")
    parser.add_argument(
        "--prompts", nargs="+", required=True, type=_named_file, metavar="xx=FILE", help=".jsonl or .tsv"
    )
    parser.add_argument(
        "--languages", nargs="+", metavar="xx", help="only these of the prompts; the file has no others"
    )
    parser.add_argument(
        "--template", default="{prompt}", help="of a prompt, with a line's fields (default: %(default)s)"
    )
    parser.add_argument("--columns", default="", metavar="A,B", help="names of a .tsv file's columns")
    parser.add_argument("--limit", type=positive_int, default=16, metavar="N", help="prompts of each (default: 16)")
    parser.add_argument("--max-tokens", type=positive_int, default=48, metavar="N", help="of an answer (default: 48)")
    parser.add_argument(
        "--max-draft-tokens", type=positive_int, default=8, metavar="N", help="of a draft, as served (default: 8)"
    )
    parser.add_argument(
        "--evaluations", type=positive_int, default=200, metavar="N", help="sets tried for each language (default: 200)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the search (default: 1)")
    parser.add_argument("--threads", type=positive_int, default=1, metavar="N", help="as served (default: 1)")
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], default="auto", help="as served")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: MODEL/layer_skip.json")


def _named_file(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not language=FILE, such as de=german.jsonl")
    return name, Path(path)


def run(args: argparse.Namespace) -> int:
    from training.layer_skip.tuning import Settings, tune
    from training.recipe import Source

    files = dict(args.prompts)
    if len(files) < len(args.prompts):
        raise UsageError("--prompts: a language is named twice; give one file for each")
    if missing := [tag for tag in args.languages or () if tag not in files]:
        raise UsageError(f"--languages: no prompts for {', '.join(missing)}; there are some for {', '.join(files)}")
    if args.output is not None and not args.output.parent.is_dir():  # what would fail at the end fails now
        raise UsageError(f"cannot write {args.output}: {args.output.parent} is no directory; make it first")
    settings = Settings(
        num_looks=args.evaluations,
        num_prompts=args.limit,
        max_tokens=args.max_tokens,
        max_nodes=args.max_draft_tokens,
        seed=args.seed,
        num_threads=args.threads,
        dtype=args.dtype,
    )
    columns = tuple(filter(None, args.columns.split(",")))
    try:
        sources = {
            tag: Source(path=path, prompt=args.template, columns=columns)
            for tag, path in files.items()
            if tag in (args.languages or files)
        }
        written = tune(args.model, sources, args.output, settings, lambda text: print(text, flush=True))
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from None
    print(f"wrote {written}")
    return 0
