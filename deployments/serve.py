"""`polydraft serve`: Ray, the application, one line when it is ready, and no process left when it ends.

SIGHUP: read the configuration again and deploy what has changed, replica by replica, while answers go on.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from cluster.config import Config
from cluster.config_file import load
from cluster.errors import ConfigError
from cluster.logs import configure
from cluster.model_files import check_models, target_facts
from cluster.scaling_config import ScalingConfig
from cluster.tls import check_certificates, clear_text
from deployments.own_ray import connected_address, connected_ray  # before Ray itself: it sets what Ray reads

# isort: split
import ray
from ray import serve

from deployments.adaptation import adapting_drafters, check_versions, start_trainer
from deployments.app import directory_name
from deployments.directory import Registration, drafter_deployment_name, start_directory
from deployments.http_front import HttpFront, free_port, http_front
from deployments.serve_ingress import SERVICERS
from deployments.spans import check_tracing
from deployments.start import prepared

logger = logging.getLogger(__name__)

READY_TIMEOUT_S = 300.0
_POLL_S = 0.2


class _Stopped(BaseException):
    """SIGINT or SIGTERM came."""


class _NotReady(Exception):
    """The application did not come up; the message is for the operator."""


def run(config_path: Path, grpc_port: int | None = None, overrides: Sequence[str] = ()) -> int:
    """Serve until SIGINT or SIGTERM: 0; 1 if the cluster did not come up. Raises ConfigError before anything starts."""
    changes = [*overrides, *([f"cluster.grpc_port={grpc_port}"] if grpc_port is not None else [])]
    config = _checked(config_path, changes)
    _check_port(config)
    configure(config.logging, "serve")
    for what in clear_text(config):
        logger.warning("%s", what)
    try:
        with _signals() as hangup, _ray(config), _application(config) as http:
            host, port = _wait_until_ready(config)
            _tell(" ".join([f"ready grpc={host}:{port}", *([f"http={http.url}"] if http is not None else [])]))
            where = f"--cluster {config.cluster.name} --ray {connected_address()}"
            sys.stderr.write(f"status: polydraft status {where}\n")
            if http is not None and config.console.enabled:
                sys.stderr.write(f"console: {http.url}/console\n")
            for name in adapting_drafters(config):
                sys.stderr.write(f"versions: polydraft drafters status {name} {where}\n")
            while True:
                hangup.wait()
                hangup.clear()
                config = _deployed_again(config, config_path, changes)
    except _Stopped:
        return 0
    except _NotReady as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


def _checked(config_path: Path, changes: Sequence[str]) -> Config:
    """The configuration, with everything that it names; ConfigError if it cannot be served."""
    config = load(config_path, changes)
    check_models(config)
    target_facts(config)
    check_certificates(config)
    check_tracing(config)
    if any(drafter.method != "ngram" for drafter in config.target_drafters.values()):
        from deployments.drafters import check_local_drafters  # brings torch, which this process needs for nothing else

        check_local_drafters(config)
    if config.adapting_tenants:
        check_versions(config)
    return config


def _deployed_again(config: Config, config_path: Path, changes: Sequence[str]) -> Config:
    """Deploy what the file says now; the former configuration goes on if it cannot be served."""
    try:
        new = _checked(config_path, changes)
        _check_fixed(config, new)
        _deploy(new)
    except (ConfigError, _NotReady) as error:
        sys.stderr.write(f"error: {error}; the cluster goes on as it was\n")
        return config
    _tell("deployed")
    return new


def _check_fixed(old: Config, new: Config) -> None:
    """Refuse what only a restart can change."""
    before, after = old.without_counts(), new.without_counts()
    for name, was, is_now in (("cluster", before.cluster, after.cluster), ("ray", before.ray, after.ray)):
        for key in type(was).model_fields:
            if getattr(was, key) != getattr(is_now, key):
                raise ConfigError(f"{name}.{key}: cannot change while the cluster runs; start it anew")


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _check_port(config: Config) -> None:
    """Router replicas share a port by SO_REUSEPORT: one that another cluster serves would bind without an error."""
    cluster = config.cluster
    hints = {"grpc_port": "--grpc-port PORT", "http_port": "--set cluster.http_port=PORT, or null for no HTTP"}
    for key, hint in hints.items():
        port = getattr(cluster, key)
        if port is None:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((cluster.host, port))
            except OSError as error:
                raise ConfigError(
                    f"cluster.{key}: {cluster.host}:{port} cannot be bound ({error.strerror}); "
                    f"end what uses it or give another with {hint}"
                ) from None


@contextlib.contextmanager
def _signals() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM end the block once; further ones are ignored while it cleans up. SIGHUP sets the event."""
    hangup = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        raise _Stopped

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    signal.signal(signal.SIGHUP, lambda signum, frame: hangup.set())
    yield hangup


def _ray(config: Config) -> contextlib.AbstractContextManager[Path]:
    """The Ray that the configuration names, or one of our own."""
    settings = config.ray
    return connected_ray(
        settings.address,
        settings.num_cpus,
        settings.object_store_memory_mb,
        dashboard=settings.dashboard,
        metrics_port=settings.metrics_port,
    )


@contextlib.contextmanager
def _application(config: Config) -> Iterator[HttpFront | None]:
    """The deployed application; on a Ray that is not ours it is deleted at the end. Yields its HTTP front, if any."""
    cluster = config.cluster
    behind_proxy = cluster.front == "serve"
    http = http_front(config)
    try:
        serve.start(
            proxy_location="HeadOnly" if behind_proxy or http is not None else "Disabled",
            http_options=http.options if http is not None else {"host": "127.0.0.1", "port": free_port()},
            grpc_options={"port": cluster.grpc_port, "grpc_servicer_functions": SERVICERS} if behind_proxy else None,
            logging_config={"log_level": "WARNING"},
        )
        _deploy(config)
        yield http
    finally:
        if config.ray.address is not None:  # a Ray of our own ends whole, and at once
            serve.delete(cluster.name)
            ray.kill(start_directory(directory_name(config)))
            for name in adapting_drafters(config):
                ray.kill(start_trainer(config, name))


def _deploy(config: Config) -> None:
    """Deploy the application, or what has changed of it; _NotReady if it does not come up."""
    application = prepared(config)
    # A proxy reaches applications by their routes only.
    route = "/" if config.cluster.front == "serve" or config.cluster.http_port is not None else None
    try:
        serve.run(application, name=config.cluster.name, route_prefix=route, logging_config={"log_level": "INFO"})
    except RuntimeError as error:
        raise _NotReady(f"the application did not come up: {_last_line(str(error))}") from None


def _wait_until_ready(config: Config) -> tuple[str, int]:
    """The front's address, once every router is connected to the target and to every drafter that may not rest."""
    directory = start_directory(directory_name(config))
    awake = [name for name in config.tier_drafters if name not in config.resting_drafters]
    wanted = ["target", *map(drafter_deployment_name, awake)]
    num_routers = _least(config.cluster.routers, config.cluster.router_autoscaling)
    num_targets = _least(config.target.replicas, config.target.autoscaling)
    deadline = time.monotonic() + READY_TIMEOUT_S
    missing = ["router"]
    while time.monotonic() < deadline:
        registrations: list[Registration] = ray.get(directory.replicas.remote())
        routers = [item for item in registrations if item.kind == "router"]
        if len(routers) >= num_routers and sum(item.kind == "target" for item in registrations) >= num_targets:
            missing = [name for name in wanted if not all(name in router.connected for router in routers)]
            if not missing:
                host, _, port = routers[0].address.rpartition(":")
                return host, config.cluster.grpc_port if config.cluster.front == "serve" else int(port)
        time.sleep(_POLL_S)
    raise _NotReady(f"not ready after {READY_TIMEOUT_S:g} s; still missing: {', '.join(missing)}; see Ray's logs")


def _least(count: int, scaling: ScalingConfig | None) -> int:
    return count if scaling is None else scaling.min_replicas


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason was given"
