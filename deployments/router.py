"""The router's deployment: answers calls, and keeps a stream to every target and drafter replica."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from starlette.applications import Starlette

from cluster import catalogue as metrics
from cluster.budgets import Budgets
from cluster.call_metrics import CallMetrics
from cluster.config import Config
from cluster.config_file import with_tenants
from cluster.errors import ConfigError
from cluster.language import LanguageDetector
from cluster.logs import CallLog, configure
from cluster.measures import Measures
from cluster.model_files import target_facts
from cluster.observing import Observers
from cluster.probes import target_id, tokenizer_hash
from cluster.service import GenerationService
from cluster.status import Report
from cluster.text import Tokenizer
from cluster.tls import expiries, front_files, tier_files
from deployments import console
from deployments.addresses import advertised
from deployments.directory import DirectoryClient, Registration, drafter_deployment_name
from deployments.file_stamps import FileStamp, stamp_of
from deployments.fleet import GrpcFleet
from deployments.front import Front
from deployments.generation import Generation
from deployments.metrics import Exporter
from deployments.openai_api import OpenAiApi
from deployments.peer_client import Identity
from deployments.spans import spans_of
from deployments.tls import connector
from deployments.waking import DrafterWaker, by_drafter

logger = logging.getLogger(__name__)

HEALTH_S = 1.0
TENANTS_S = 1.0


class Router:
    """Everything of a router but its deployment."""

    def __init__(self, config: Config, directory: DirectoryClient, token: str, tiers: Sequence[object] = ()) -> None:
        """`tiers` are the handles of the target and of each drafter of a tier; without them no drafter is woken."""
        self._config = config
        self._id = f"router-{uuid.uuid4().hex[:12]}"
        self._directory = directory
        self._started_at = time.time()
        model = config.target.model
        self._fleet = GrpcFleet(
            Identity(
                router_id=self._id,
                token=token,
                target_id=target_id(model),
                tokenizer_hash=tokenizer_hash(model / "tokenizer.json"),
                heartbeat_s=config.limits.heartbeat_s,
                lease_s=config.limits.lease_s,
            ),
            connector(tier_files(config)),
        )
        self._tokenizer = Tokenizer(model)
        self._metrics = CallMetrics(config, Measures(), time.monotonic)
        self._budgets = Budgets(partial(self._directory.settle, self._id), time.monotonic, self._metrics.hit_limit)
        self._spans = spans_of(config, self._id)
        service = GenerationService(
            config,
            target_facts(config),
            self._tokenizer,
            LanguageDetector(config.known_languages),
            self._fleet,
            self._budgets,
            time.monotonic,
            Observers([self._metrics, CallLog(time.monotonic), *self._spans]),
        )
        self._service = service
        drafters = by_drafter([*config.tier_drafters], tiers)
        self._waker = DrafterWaker(drafters, service.drafter_streams, self._fleet)
        self.generation = Generation(service)
        self._front = Front(self.generation, config.limits.slow_reader_s)
        self._tasks: list[asyncio.Task[None]] = []

    def openai_app(self) -> Starlette:
        """The OpenAI API and the console, for Serve's HTTP ingress."""
        page = console.routes(self.generation, self._directory) if self._config.console.enabled else []
        return OpenAiApi(self._config, self.generation, self._tokenizer).app(page)

    async def start(self) -> None:
        """Serve, follow the directory, and be found there."""
        cluster = self._config.cluster
        # Under `front: serve` callers come through Serve's proxy; this server then only tells its health.
        port = cluster.grpc_port if cluster.front == "grpc" else 0
        port = await self._front.start(cluster.host, port, front_files(self._config))
        me = Registration("router", "router", self._id, f"{advertised(cluster.host)}:{port}")
        self._registering = asyncio.create_task(
            self._directory.keep_registered(
                lambda: replace(me, connected=self._fleet.connected()), self._report, self._fleet.changed
            )
        )
        self._tasks = [
            self._registering,
            asyncio.create_task(self._fleet.follow(self._directory)),
            asyncio.create_task(self._budgets.keep_settled()),
            asyncio.create_task(self._tell_health()),
            asyncio.create_task(self._waker.run()),
        ]
        if self._config.tenants_file is not None:
            self._tasks.append(asyncio.create_task(self._follow_tenants(self._config.tenants_file)))

    def wake_for(self, thresholds: Mapping[str, int]) -> None:
        """From now on these drafters may rest, and are started when so many streams would use them."""
        self._waker.thresholds = dict(thresholds)

    def scaling_signals(self) -> dict[str, float]:
        """What its tier is scaled by."""
        return {"streams": float(self._service.admission.num_streams)}

    def check_health(self) -> None:
        """Raises when something that should run for ever has ended."""
        self._front.check_health()
        for task in self._tasks:
            if task.done():
                raise RuntimeError(f"a task of the router ended: {task.exception() if not task.cancelled() else task}")

    async def stop(self) -> None:
        """Take no new call and let running ones end; everything that they need goes on meanwhile."""
        self._registering.cancel()
        await self._directory.unregister(self._id)
        await self._front.stop(self._config.limits.drain_s)
        for task in self._tasks:
            task.cancel()
        self._waker.stop()
        await self._fleet.stop()
        for source in self._spans:
            source.stop()

    def _report(self) -> Report:
        config = self._config
        facts = {
            f"language {tag}": ", ".join(config.drafters_of_language.get(tag, ())) for tag in config.known_languages
        }
        return Report(self._started_at, tuple(self.measures().samples()), facts)

    def measures(self) -> Measures:
        """All that is counted, up to now."""
        measures, config = self._metrics.measures, self._config
        measures.set(metrics.MAX_STREAMS, config.limits.max_concurrent_streams)
        for name, count in self._fleet.num_replicas(("target", *map(drafter_deployment_name, config.tier_drafters))):
            measures.set(metrics.CONNECTED, count, name)
        for section, expires in expiries(config).items():
            measures.set(metrics.CERTIFICATE_EXPIRY, expires, section)
        return measures

    async def _tell_health(self) -> None:
        while True:
            connected = self._fleet.connected()
            await self._front.set_health("", "target" in connected)
            for name in ("target", *map(drafter_deployment_name, self._config.tier_drafters)):
                await self._front.set_health(name, name in connected or name in self._waker.resting)
            await self._fleet.changed(HEALTH_S)

    async def _follow_tenants(self, path: Path) -> None:
        """Serve the tenants that their file names now. A file that is broken changes nothing."""
        seen: FileStamp | None = None  # it may have changed since the configuration was read
        while True:
            stamp = await asyncio.to_thread(stamp_of, path)
            if stamp != seen:
                seen = stamp
                try:
                    config = await asyncio.to_thread(with_tenants, self._config)
                    self._service.use_tenants(config.tenants)
                    self._metrics.use_tenants(config)
                except ConfigError as error:
                    logger.error("the tenants stay as they are: %s", error)
            await asyncio.sleep(TENANTS_S)


class RouterDeployment:
    """One router replica. The tiers are arguments so that one application holds them all, and to wake drafters."""

    async def __init__(self, config: Config, directory_name: str, token: str, *tiers: object) -> None:  # type: ignore[misc]  # awaited by Serve
        configure(config.logging, "router")
        self._router = Router(config, DirectoryClient(directory_name), token, tiers)
        await self._router.start()
        self._reporting = asyncio.create_task(Exporter(self._router.measures).run())

    def __serve_build_asgi_app__(self) -> Starlette:
        return self._router.openai_app()

    def reconfigure(self, thresholds: Mapping[str, int]) -> None:
        self._router.wake_for(thresholds)

    def record_autoscaling_stats(self) -> dict[str, float]:
        return self._router.scaling_signals()

    def check_health(self) -> None:
        self._router.check_health()

    async def __del__(self) -> None:
        self._reporting.cancel()
        await self._router.stop()
