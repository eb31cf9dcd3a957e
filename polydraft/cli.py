"""The `polydraft` command. Exit status: 0 all answered, 1 a request failed, 2 wrong usage.

Heavy imports happen inside the commands, so that `--help` comes at once.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence

from polydraft.commands import (
    bench,
    build,
    config,
    demo,
    drafters,
    evaluate,
    explain,
    generate,
    serve,
    status,
    tenants,
    top,
    train,
    tune,
)
from polydraft.commands.common import UsageError
from polydraft.errors import PolydraftError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status. Wrong usage of flags raises SystemExit(2), as argparse does."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # answers are in any language, whatever the locale says
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["train"]:  # has a command line of its own
        return train.run(words[1:])
    args = _parser().parse_args(words)
    try:
        status: int = args.run(args)
    except UsageError as error:
        print(f"polydraft {args.command}: {error}", file=sys.stderr)
        status = 2
    except PolydraftError as error:
        print(f"polydraft {args.command}: {error.code}: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:  # the reader has seen enough, as in `polydraft generate ... | head -1`
        sys.stderr.close()
        status = 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="polydraft", description="Serve one multilingual language model fast, with a small drafter per language."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shown = serve, generate, explain, bench, evaluate, demo, status, top, drafters, build, tune, tenants, config
    for module in shown:
        command = commands.add_parser(module.NAME, help=module.HELP, description=module.__doc__)
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        module.configure(command)
        command.set_defaults(run=module.run)
    commands.add_parser(train.NAME, help=train.HELP, add_help=False)
    return parser
