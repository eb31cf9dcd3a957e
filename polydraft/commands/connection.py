"""The flags of a connection, and the client that they make."""

from __future__ import annotations

import argparse
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from polydraft.commands.common import UsageError

if TYPE_CHECKING:
    import grpc

    from polydraft.client import AsyncClient

KEY_VARIABLE = "POLYDRAFT_KEY"
"""The tenant's key is a secret: not for a command line, which every user of the machine can read."""


def address(text: str) -> str:
    """Check HOST:PORT (for argparse)."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no HOST:PORT")
    return text


def add_connection_flags(parser: argparse.ArgumentParser) -> None:
    """Each of the last four turns TLS on."""
    parser.add_argument("--address", type=address, required=True, metavar="HOST:PORT", help="as `serve` printed it")
    parser.add_argument("--tenant", help=f"on whose behalf to ask; its key is read from {KEY_VARIABLE}")
    parser.add_argument("--tls", action="store_true", help="use TLS, trusting whom this system trusts")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="use TLS, trusting the authorities in this PEM file")
    parser.add_argument("--certificate", type=Path, metavar="FILE", help="to show to a server that asks for one")
    parser.add_argument("--certificate-key", type=Path, metavar="FILE", help="key of --certificate, without a password")


def connect(args: argparse.Namespace) -> AsyncClient:
    """The client that the flags say."""
    from cluster.errors import ConfigError
    from polydraft.client import AsyncClient

    try:
        credentials = _credentials(args)
    except ConfigError as error:
        raise UsageError(str(error)) from None
    return AsyncClient(args.address, args.tenant, key=os.environ.get(KEY_VARIABLE) or None, credentials=credentials)


def _credentials(args: argparse.Namespace) -> grpc.ChannelCredentials | None:
    """None without TLS; ConfigError for a file that cannot be used."""
    if not (args.tls or args.ca or args.certificate or args.certificate_key):
        return None
    import grpc

    from cluster.tls import PemFile, read_authority, read_pair

    roots = None  # gRPC takes those that came with it
    if (trusted := args.ca or ssl.get_default_verify_paths().cafile) is not None:
        roots = read_authority(PemFile("--ca" if args.ca else "--tls", Path(trusted)))
    if args.certificate is None and args.certificate_key is None:
        return grpc.ssl_channel_credentials(roots)
    if args.certificate is None or args.certificate_key is None:
        raise UsageError("give --certificate and --certificate-key together")
    shown, key = read_pair(
        PemFile("--certificate", args.certificate), PemFile("--certificate-key", args.certificate_key)
    )
    return grpc.ssl_channel_credentials(roots, key, shown)
