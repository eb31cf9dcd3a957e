"""What tests do with certificates: a caller's credentials, and which one a server shows."""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc
import trustme

from benchmarks.certificates import chain


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
    return grpc.ssl_channel_credentials(trusted.cert_pem.bytes(), shown.private_key_pem.bytes(), chain(shown))
