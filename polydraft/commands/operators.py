"""What the operators' commands share: where the cluster is. They come through its Ray."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def add_cluster_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cluster", default="polydraft", metavar="NAME", help="cluster.name of the configuration")
    parser.add_argument(
        "--ray", default="auto", metavar="HOST:PORT", help="of the cluster's Ray; by default the one on this machine"
    )


def let_ray_find_its_token() -> None:
    """Before Ray is imported, which reads this once: with an address it does not look for the token `serve` made."""
    if (Path.home() / ".ray" / "auth_token").is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
