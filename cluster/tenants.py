"""Who calls: the tenant that a call's metadata names, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.config import DEFAULT_TENANT, TenantConfig
from cluster.errors import Unauthenticated
from cluster.keys import fits


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant and what it may do."""

    name: str
    config: TenantConfig


def authenticate(tenants: Mapping[str, TenantConfig], name: str, key: str) -> Tenant:
    """The tenant of a call; an empty `name` is the default tenant.

    An unknown name and a wrong key get the same answer after the same time, so that names cannot be probed.
    """
    config = tenants.get(name or DEFAULT_TENANT)
    hashes = config.keys if config is not None else ()
    is_right = fits(key, hashes)
    if config is not None and (is_right or not hashes):
        return Tenant(name or DEFAULT_TENANT, config)
    raise Unauthenticated("tenant: unknown name or wrong key; set the metadata polydraft-tenant and polydraft-key")
