"""What the console tells whom: who may see which figures, and what a caller may choose from."""

from __future__ import annotations

from cluster.config import Config
from cluster.keys import fits
from cluster.tenants import Tenant


def sees_all(config: Config, tenant: str, key: str) -> bool:
    """Whether a caller is shown what all tenants do: with an operator's key, or where nobody has a key."""
    if config.console.operator_keys:
        return not tenant and fits(key, config.console.operator_keys)
    return not any(one.keys for one in config.tenants.values())


def choices_of(config: Config, tenant: Tenant) -> dict[str, object]:
    """Model, languages and drafters by the names that requests give them."""
    allowed = tenant.config
    languages = config.known_languages if allowed.languages is None else allowed.languages
    drafters = tuple(config.drafters) if allowed.drafters is None else allowed.drafters
    return {"model": config.target.name, "languages": [*languages], "drafters": [*drafters]}
