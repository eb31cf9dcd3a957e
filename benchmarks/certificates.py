"""Real certificates that nobody trusts, as files of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trustme


def write_certificate(directory: Path, authority: trustme.CA, *names: str, **options: Any) -> dict[str, Any]:
    """Write what one side needs, in place of what was there; the paths as `tls.tiers` calls them."""
    directory.mkdir(exist_ok=True)
    issued = authority.issue_cert(*names, **options)
    files = {name: directory / f"{name}.pem" for name in ("certificate", "key", "authority")}
    files["certificate"].write_bytes(chain(issued))
    files["key"].write_bytes(issued.private_key_pem.bytes())
    files["authority"].write_bytes(authority.cert_pem.bytes())
    return {name: str(path) for name, path in files.items()}


def chain(issued: trustme.LeafCert) -> bytes:
    """The certificate and those that signed it, in PEM."""
    return b"".join(pem.bytes() for pem in issued.cert_chain_pems)
