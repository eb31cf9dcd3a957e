"""Tenants of a running cluster: who is let in, and how that changes without a restart."""

from __future__ import annotations

import asyncio
import time

import pytest

from cluster.keys import hash_key, new_key
from polydraft.errors import Unauthenticated
from tests.integration.conftest import RunningCluster

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHANGE_S = 10.0
PROMPT = "Translate German to English: Wo ist er?\n"


async def _is_let_in(cluster: RunningCluster, key: str | None) -> bool:
    async with cluster.client("acme", key) as client:
        try:
            await client.generate(PROMPT, max_tokens=2)
        except Unauthenticated:
            return False
        return True


async def _wait_until(cluster: RunningCluster, key: str | None, is_let_in: bool) -> None:
    deadline_s = time.monotonic() + CHANGE_S
    while await _is_let_in(cluster, key) is not is_let_in:
        assert time.monotonic() < deadline_s, f"still {not is_let_in} after {CHANGE_S} s"
        await asyncio.sleep(0.2)


async def test_tenants_and_their_keys_change_while_the_cluster_runs(running_cluster: RunningCluster) -> None:
    old, new = new_key(), new_key()
    assert not await _is_let_in(running_cluster, old)

    running_cluster.tenants_file.write_text(f"acme: {{keys: ['{hash_key(old)}', '{hash_key(new)}']}}\n")
    await _wait_until(running_cluster, new, True)
    assert await _is_let_in(running_cluster, old)
    assert not await _is_let_in(running_cluster, None)

    running_cluster.tenants_file.write_text(f"acme: {{keys: ['{hash_key(new)}']}}\n")
    await _wait_until(running_cluster, old, False)
    assert await _is_let_in(running_cluster, new)

    running_cluster.tenants_file.write_text("acme: {keys: [")  # as if it were just being written
    await asyncio.sleep(3.0)
    assert await _is_let_in(running_cluster, new)
