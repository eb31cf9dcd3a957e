"""Make what drafts without a trained drafter.

    polydraft train distil RECIPE.yaml                                 # the target writes answers
    polydraft build ngram RECIPE.yaml --output models/ngrams           # a table for each language of the recipe

A table holds n-grams of what the TARGET wrote, each of them in two answers at least: no sentence of a corpus is in it.
A drafter of method `ngram_tree` names it as its `model`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from polydraft.commands.common import UsageError, positive_int

NAME = "build"
HELP = "make n-gram tables that draft"


def configure(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    ngram = kinds.add_parser("ngram", help="n-gram tables of the target's answers")
    ngram.add_argument("recipe", type=Path, help="the YAML file whose stage distil was run")
    ngram.add_argument("--language", action="append", default=[], metavar="CODE", help="only this one; repeatable")
    ngram.add_argument("--output", type=Path, required=True, metavar="DIR", help="gets a folder for each language")
    ngram.add_argument("--together", action="store_true", help="one table, for a target that answers in one language")
    ngram.add_argument("--min-texts", type=positive_int, default=2, metavar="N", help="answers that hold an n-gram")
    ngram.add_argument("--max-ngrams", type=positive_int, default=4_000_000, metavar="N", help="of a table")


def run(args: argparse.Namespace) -> int:
    from training.ngrams import TableSettings, build_tables

    settings = TableSettings(args.min_texts, args.max_ngrams)
    try:
        for directory, made in build_tables(args.recipe, args.language, args.output, settings, together=args.together):
            size = sum(file.stat().st_size for file in directory.iterdir()) / 1e6
            print(
                f"{directory}: {made.num_ngrams:,} n-grams of {made.num_texts:,} answers "
                f"({made.num_tokens:,} tokens), {size:.1f} MB"
            )
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from None
    return 0
