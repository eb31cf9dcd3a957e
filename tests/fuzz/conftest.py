"""A cluster of tiny models in this process: everything but Ray is real."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from benchmarks.fuzz.one_process import TOKEN, LocalDirectory, running_replica, running_router
from benchmarks.fuzz.public import Known
from benchmarks.fuzz.verdicts import Fault
from benchmarks.fuzz.whole_cluster import TENANT, WholeCluster, canary, canary_faults
from cluster.config import DEFAULT_TENANT, Config
from cluster.keys import hash_key, new_key
from cluster.probes import target_id, tokenizer_hash
from deployments.draft_service import DraftService
from deployments.target_service import TargetService
from polydraft.client import KEY_METADATA, TENANT_METADATA, AsyncClient
from tests.unit.deployments.replicas import tiny_config

KEY = new_key()


@pytest.fixture(scope="package")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A target with a chat template, and a drafter that fits it."""
    directory = tmp_path_factory.mktemp("models")
    drafters = {
        "de": {"method": "lm", "model": str(directory / "drafter"), "languages": ["de"]},
        "ngram": {"method": "ngram"},
    }
    tenants = {name: {"keys": [hash_key(KEY)]} for name in (DEFAULT_TENANT, TENANT)}
    limits = {"default_max_tokens": 4, "max_tokens": 16}
    made = tiny_config(directory, drafters=drafters, tenants=tenants, limits=limits)
    target = made.target.model
    (target / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }} {% endfor %}")
    manifest = directory / "drafter" / "drafter.json"
    fits = {"target_id": target_id(target), "tokenizer_hash": tokenizer_hash(target / "tokenizer.json")}
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | fits))
    return made.model_copy(update={"target": made.target.model_copy(update={"max_sessions": 32})})


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def tiny_cluster(config: Config) -> AsyncIterator[WholeCluster]:
    """Router, target and drafter, each with a port of its own."""
    directory = LocalDirectory()
    target, drafter = TargetService(config, "target-1", TOKEN), DraftService(config, "de", "de-1", TOKEN)
    async with (
        running_replica(target, "target", directory),
        running_replica(drafter, "de", directory),
        running_router(config, directory) as address,
        AsyncClient(address, TENANT, key=KEY, timeout_s=60) as client,
    ):
        reference, numerics_id = await canary(client)

        async def checkup() -> list[Fault]:
            target.check_health()
            drafter.check_health()
            return await canary_faults(client, reference)

        metadata = ((TENANT_METADATA, TENANT), (KEY_METADATA, KEY))
        yield WholeCluster(address, Known(metadata, numerics_id), checkup)
