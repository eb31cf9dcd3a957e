"""API keys: long random strings that callers carry, of which a configuration holds salted hashes.

A key is 256 random bits, which nobody guesses however fast they hash: a plain SHA-256 is enough, where a password would
need a slow hash. The salt keeps equal keys from looking equal.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence

HASH_PATTERN = r"^sha256:[0-9a-f]{32}:[0-9a-f]{64}$"
"""Scheme, salt and digest."""
MAX_HASHES = 2
"""Of a tenant: its callers change from one key to the next at their own time."""
MAX_KEY_LENGTH = 256
"""Characters; a longer one fits nothing and is not hashed."""
_PREFIX = "pd_"
"""Tells people and scanners of leaked secrets what such a string is."""
_NOBODYS = "sha256:" + 32 * "0" + ":" + 64 * "0"


def new_key() -> str:
    """A key that nobody has."""
    return _PREFIX + secrets.token_urlsafe(32)


def hash_key(key: str) -> str:
    """What a configuration holds of a key; another salt each time."""
    salt = secrets.token_bytes(16)
    return f"sha256:{salt.hex()}:{_digest(salt, key)}"


def fits(key: str, hashes: Sequence[str]) -> bool:
    """Whether one of at most `MAX_HASHES` hashes is the key's.

    Takes as long for a wrong key as for a right one, and for fewer hashes or none: time tells nobody's.
    """
    if len(key) > MAX_KEY_LENGTH:
        return False
    found = False
    for one in (*hashes, *[_NOBODYS] * (MAX_HASHES - len(hashes))):
        _, salt, digest = one.split(":")
        found |= hmac.compare_digest(_digest(bytes.fromhex(salt), key), digest)
    return found


def _digest(salt: bytes, key: str) -> str:
    return hashlib.sha256(salt + key.encode()).hexdigest()
