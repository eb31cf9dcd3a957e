"""What the console's routes tell to whom: the page to everybody, choices to tenants, all figures to operators."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from cluster import catalogue as metrics
from cluster.config import Config
from cluster.keys import hash_key
from cluster.measures import Measures
from cluster.status import ReplicaStatus, Report
from cluster.tenants import Tenant, authenticate
from deployments import console
from deployments.generation import Generation


class Service:
    """Knows who calls."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def check_caller(self, tenant_name: str, key: str) -> Tenant:
        return authenticate(self.config.all_tenants, tenant_name, key)


class Directory:
    """Each look finds ten tokens more of acme and of another tenant."""

    def __init__(self) -> None:
        self.num_looks = 0
        self.is_up = True

    async def status(self) -> list[ReplicaStatus] | None:
        self.num_looks += 1
        measures = Measures()
        for tenant in ("acme", "other"):
            measures.set(metrics.TENANT_OUTPUT_TOKENS, 10 * self.num_looks, tenant)
            measures.set(metrics.CALLS, self.num_looks, tenant, "de", "OK")
        report = Report(0.0, tuple(measures.samples()))
        router = ReplicaStatus("router", "router", "r1", "h:1", "", (), 2.0 * self.num_looks, report)
        return [router, replace(router, kind="target", name="target", replica_id="t1")] if self.is_up else None


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Directory:
    monkeypatch.setattr(console, "WINDOW_S", 0.01)
    return Directory()


def calling(directory: Directory, tenants: dict[str, Any] | None = None, **section: Any) -> httpx2.AsyncClient:
    config = Config.model_validate(
        {
            "target": {"model": "/models/big"},
            "drafters": {"de": {"method": "lm", "model": "/models/de", "languages": ["de"]}},
            "languages": ["fr"],
            "tenants": tenants or {},
            "console": section,
        }
    )
    generation = Generation(Service(config))  # type: ignore[arg-type]  # has the members needed
    app = Starlette(routes=console.routes(generation, directory))
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://cluster")


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_the_page_needs_no_key_and_may_load_nothing_from_elsewhere(directory: Directory) -> None:
    async with calling(directory, {"default": {"keys": [hash_key("k")]}}) as client:
        moved, page = await client.get("/"), await client.get("/console")
        script = await client.get("/console/main.js")
        hidden = await client.get("/console/../console.py")

    assert (moved.status_code, moved.headers["location"]) == (307, "console")
    assert page.headers["content-security-policy"].startswith("default-src 'self'; ")
    assert (page.headers["content-type"], script.headers["content-type"]) == (
        "text/html; charset=utf-8",
        "text/javascript; charset=utf-8",
    )
    assert hidden.status_code == 404


async def test_where_nobody_has_a_key_everybody_sees_all(directory: Directory) -> None:
    async with calling(directory, {"acme": {}}) as client:
        figures = (await client.get("/console/figures")).json()

    assert [one["tier"] for one in figures["tiers"]] == ["router", "target"]
    assert [(one["tenant"], one["tokens_per_s"]) for one in figures["tenants"]] == [("acme", 10.0), ("other", 10.0)]
    assert figures["calls_per_s"] == 2.0  # one a tenant in two seconds, at a router and at what pretends to be a target


async def test_where_tenants_have_keys_each_sees_its_own_alone(directory: Directory) -> None:
    async with calling(directory, {"acme": {"keys": [hash_key("k")]}}) as client:
        own = await client.get("/console/figures", headers=bearer("acme:k"))
        wrong = await client.get("/console/figures", headers=bearer("acme:x"))
        open_tenant = await client.get("/console/figures")

    assert own.json().keys() == {"tenants"} and [one["tenant"] for one in own.json()["tenants"]] == ["acme"]
    assert own.headers["cache-control"] == "no-store"
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_api_key")
    assert [one["tenant"] for one in open_tenant.json()["tenants"]] == ["default"]


async def test_an_operators_key_shows_all_and_no_tenants_key_does(directory: Directory) -> None:
    tenants = {"acme": {"keys": [hash_key("k")]}}
    async with calling(directory, tenants, operator_keys=[hash_key("op"), hash_key("next")]) as client:
        found = [
            await client.get("/console/figures", headers=bearer(key)) for key in ("op", "next", "acme:k", "acme:op")
        ]
        nobody = await client.get("/console/figures")

    assert ["tiers" in one.json() for one in (*found, nobody)] == [True, True, False, False, False]
    assert found[3].status_code == 401


async def test_choices_are_what_the_tenant_may_ask_for(directory: Directory) -> None:
    tenants = {"acme": {"keys": [hash_key("k")], "languages": ["fr"], "drafters": []}}
    async with calling(directory, tenants) as client:
        own = (await client.get("/console/choices", headers=bearer("acme:k"))).json()
        default = (await client.get("/console/choices")).json()
        unknown = await client.get("/console/choices", headers=bearer("other:k"))

    assert own == {"model": "big", "languages": ["fr"], "drafters": []}
    assert default == {"model": "big", "languages": ["de", "fr"], "drafters": ["de"]}
    assert unknown.status_code == 401


async def test_many_viewers_cost_the_directory_no_more_than_one_and_its_loss_is_told(
    directory: Directory,
) -> None:
    async with calling(directory) as client:
        await asyncio.gather(*(client.get("/console/figures") for _ in range(20)))
        assert directory.num_looks == 2

        directory.is_up = False
        down = await client.get("/console/figures")
        directory.is_up = True
        assert (await client.get("/console/figures")).status_code == 200

    assert down.status_code == 503 and "directory does not answer" in down.json()["error"]["message"]
