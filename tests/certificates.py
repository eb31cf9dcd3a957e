"""Real certificates for tests: as files of a configuration, and as a caller's credentials."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import grpc
import trustme


def write_certificate(directory: Path, authority: trustme.CA, *names: str, **options: Any) -> dict[str, Any]:
    """Write what one side needs, in place of what was there; the paths as `tls.tiers` calls them."""
    directory.mkdir(exist_ok=True)
    issued = authority.issue_cert(*names, **options)
    files = {name: directory / f"{name}.pem" for name in ("certificate", "key", "authority")}
    files["certificate"].write_bytes(_chain(issued))
    files["key"].write_bytes(issued.private_key_pem.bytes())
    files["authority"].write_bytes(authority.cert_pem.bytes())
    return {name: str(path) for name, path in files.items()}


def shown_at(address: str) -> str:
    """The certificate that a server shows to a new connection, in PEM."""
    host, _, port = address.rpartition(":")
    return ssl.get_server_certificate((host, int(port)), timeout=20)


def first_in(certificate: str | Path) -> str:
    """A file's own certificate, without its chain and written as `shown_at` writes it."""
    return ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(Path(certificate).read_text()))


def caller(trusted: trustme.CA, shown_by: trustme.CA | None = None) -> grpc.ChannelCredentials:
    """Credentials of a caller who trusts one authority and may show a certificate of another."""
    if shown_by is None:
        return grpc.ssl_channel_credentials(trusted.cert_pem.bytes())
    shown = shown_by.issue_cert("caller")
    return grpc.ssl_channel_credentials(trusted.cert_pem.bytes(), shown.private_key_pem.bytes(), _chain(shown))


def _chain(issued: trustme.LeafCert) -> bytes:
    return b"".join(pem.bytes() for pem in issued.cert_chain_pems)
