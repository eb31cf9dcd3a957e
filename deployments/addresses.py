"""Where others reach a server of this process."""

from __future__ import annotations

import ipaddress

import ray


def advertised(host: str) -> str:
    """What to register for a server that listens at `host`: of one that listens everywhere, this machine's address."""
    try:
        is_anywhere = ipaddress.ip_address(host).is_unspecified
    except ValueError:  # a name
        return host
    if not is_anywhere:
        return host
    own: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return own
