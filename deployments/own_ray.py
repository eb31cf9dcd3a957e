"""A Ray to run on: one that is there, or one of our own that ends with the block and leaves no process behind."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from deployments.http_flow import IMPORT_PATH
from deployments.processes import descendants, wait_or_kill

# Read by Ray when it is imported and by the processes it starts.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray would run replicas behind everything else on the machine
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Serve replaces a proxy that three checks in a row find dead, and would check every ten seconds.
os.environ.setdefault("RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S", "2")
# Ray would record each call between its actors, for its dashboard's list of tasks: 5 MiB a minute for health checks.
os.environ.setdefault("RAY_task_events_report_interval_ms", "0")

# Makes the flow control of HTTP answers; Serve reads it in its proxy.
os.environ.setdefault("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", IMPORT_PATH)

import ray

from deployments.directory import NAMESPACE

_END_GRACE_S = 10.0


@contextlib.contextmanager
def connected_ray(
    address: str | None,
    num_cpus: int | None = None,
    object_store_memory_mb: int = 100,
    *,
    dashboard: bool = False,
    metrics_port: int = 0,
) -> Iterator[Path]:
    """A connection to the Ray at `address`, or without one a Ray of our own on this machine.

    Yields a temporary directory, which ends with the block too.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    earlier = descendants(os.getpid())
    directory = Path(tempfile.mkdtemp(prefix="polydraft-"))
    try:
        if address is None:
            ray.init(
                address="local",
                num_cpus=num_cpus,
                object_store_memory=object_store_memory_mb << 20,
                include_dashboard=dashboard,
                namespace=NAMESPACE,
                logging_level=logging.WARNING,
                log_to_driver=False,
                _temp_dir=str(directory),
                _node_ip_address="127.0.0.1",
                _metrics_export_port=metrics_port or None,
            )
        else:
            ray.init(address=address, namespace=NAMESPACE, logging_level=logging.WARNING, log_to_driver=False)
        for number, handler in handlers.items():
            signal.signal(number, handler)  # Ray sets its own
        yield directory
    finally:
        started = [process for process in descendants(os.getpid()) if process not in earlier]
        ray.shutdown()
        wait_or_kill(started, _END_GRACE_S)
        shutil.rmtree(directory, ignore_errors=True)


def connected_address() -> str:
    """Of the Ray that this process is connected to, for others to connect to."""
    return str(ray.get_runtime_context().gcs_address)
