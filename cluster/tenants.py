"""Who calls: the tenant that a call's metadata names, checked."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from cluster.config import DEFAULT_TENANT, TenantConfig
from cluster.errors import Unauthenticated


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant and what it may do."""

    name: str
    config: TenantConfig


def authenticate(tenants: Mapping[str, TenantConfig], name: str, key: str) -> Tenant:
    """The tenant of a call; an empty `name` is the default tenant.

    An unknown name and a wrong key get the same answer, so that names cannot be probed.
    """
    config = tenants.get(name or DEFAULT_TENANT)
    if config is not None and _key_fits(config, key):
        return Tenant(name or DEFAULT_TENANT, config)
    raise Unauthenticated("tenant: unknown name or wrong key; set the metadata polydraft-tenant and polydraft-key")


def _key_fits(config: TenantConfig, key: str) -> bool:
    if config.key_sha256 is None:
        return True
    return hmac.compare_digest(hashlib.sha256(key.encode()).hexdigest(), config.key_sha256)
