"""Sections of the configuration about what is encrypted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, StringConstraints

from cluster.schema import Section


def _pem_path(value: object) -> object:
    """The path. What stands there instead of one may be a key: no message repeats it."""
    if not isinstance(value, str | Path) or "-----BEGIN" in str(value):
        raise ValueError("expected the path of a PEM file; write its content into a file of its own")
    return Path(value)


PemPath = Annotated[Path, BeforeValidator(_pem_path)]
DnsName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]


class FrontTlsConfig(Section):
    """TLS of the routers' own front."""

    certificate: PemPath
    """With the chain up to an authority that callers trust."""
    key: PemPath
    client_authority: PemPath | None = None
    """Set: callers must show a certificate that one of these authorities signed."""


class TierTlsConfig(Section):
    """Mutual TLS between routers and replicas, with one certificate for both sides."""

    certificate: PemPath
    key: PemPath
    authority: PemPath
    """Who signed the certificate, and nobody else's: whoever it signs may connect to a replica."""
    name: DnsName = "polydraft"
    """A DNS name of the certificate. Replicas are found by addresses, which change, and known by this."""


class TlsConfig(Section):
    """What is encrypted. The files may change while the cluster serves; all machines must see them."""

    front: FrontTlsConfig | None = None
    tiers: TierTlsConfig | None = None
