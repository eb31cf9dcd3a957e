"""Make a key for a tenant.

    polydraft tenants key

prints a new key, which the tenant's callers carry in the metadata `polydraft-key`, and its hash, which goes under
`tenants.<name>.keys` of the configuration. The key is nowhere else: who loses it needs a new one. A tenant may have two
hashes, so that its callers can change from one key to the next at their own time.
"""

from __future__ import annotations

import argparse

NAME = "tenants"
HELP = "make a key for a tenant"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["key"])


def run(args: argparse.Namespace) -> int:
    from cluster.keys import hash_key, new_key

    key = new_key()
    print(f"key:  {key}\nhash: {hash_key(key)}")
    return 0
