"""A Ray on this machine whose autoscaler starts and ends raylets as if they were machines of several kinds.

Ray's own `AutoscalingCluster` does so too, but starts and ends with `ray stop --force`, which ends every other Ray of
the machine. This one has a port and a directory of its own and ends only what it has started.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deployments.processes import descendants, mentioning, wait_or_kill
from polydraft.commands.child_cluster import free_port

START_S = 90.0
END_S = 15.0
ENVIRONMENT = {
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_AUTH_MODE": "disabled",
    "RAY_FAKE_CLUSTER": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_autoscaler_v2": "0",
    "RAY_worker_niceness": "0",
}


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of machine; it offers its name as a resource, once."""

    name: str
    most: int
    num_cpus: int = 1


class FakeMachines:
    """A running one."""

    def __init__(self, address: str, pid: int, directory: Path) -> None:
        self.address = address
        self.pid = pid
        """Of the head: all machines are below it."""
        self.directory = directory
        """Of all that Ray writes; it is gone in the end."""

    def count(self, name: str) -> int:
        """Machines of a kind that are up."""
        found = 0
        for process in descendants(self.pid):
            program, _, arguments = process.title.partition(" ")
            found += program.endswith("/raylet") and f"{name},1" in arguments
        return found


@contextlib.contextmanager
def fake_machines(*kinds: Machine, idle_s: float = 6.0) -> Iterator[FakeMachines]:
    """The head is there at once, for Serve's controller and routers; machines come when their resource is asked for."""
    directory = Path(tempfile.mkdtemp(prefix="polydraft-machines-"))
    address = f"127.0.0.1:{free_port()}"
    settings = directory / "autoscaler.json"
    settings.write_text(json.dumps(_settings(address, kinds, idle_s)))
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)  # for whoever connects, too
    log = (directory / "head.log").open("w+")
    head = subprocess.Popen(
        [
            Path(sys.executable).with_name("ray"),
            *("start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={address.rpartition(':')[2]}"),
            *(f"--temp-dir={directory}", f"--autoscaling-config={settings}", "--include-dashboard=false"),
            *("--num-cpus=2", "--object-store-memory=100000000", "--disable-usage-stats"),
        ],
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        _wait_for_head(head, directory / "head.log")
        yield FakeMachines(address, head.pid, directory)
    finally:
        started = descendants(head.pid)
        head.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            head.wait(END_S)
        head.kill()
        head.wait()
        # Ray's log monitor of a machine that went outlives it, and is below nobody then.
        wait_or_kill([*started, *mentioning(str(directory))], END_S)
        log.close()
        shutil.rmtree(directory, ignore_errors=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _wait_for_head(head: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while "Ray runtime started" not in (said := log.read_text()):
        if head.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the fake machines' Ray did not start: {said[-2_000:]}")
        time.sleep(0.2)


def _settings(address: str, kinds: tuple[Machine, ...], idle_s: float) -> Mapping[str, object]:
    nothing: dict[str, object] = {
        **{name: [] for name in ("initialization_commands", "setup_commands", "head_setup_commands")},
        **{name: [] for name in ("worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands")},
        **{name: [] for name in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
        **{name: {} for name in ("auth", "docker", "file_mounts")},
    }
    machines = {
        kind.name: {
            "resources": {"CPU": kind.num_cpus, kind.name: 1},
            "node_config": {},
            "min_workers": 0,
            "max_workers": kind.most,
        }
        for kind in kinds
    }
    return {
        **nothing,
        "cluster_name": "polydraft-fake-machines",
        "max_workers": sum(kind.most for kind in kinds),
        "provider": {
            "type": "fake_multinode",
            "gcs_address": address,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": {
            "head": {"resources": {"CPU": 2}, "node_config": {}, "max_workers": 0},
            **machines,
        },
        "head_node_type": "head",
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": idle_s / 60,
        "file_mounts_sync_continuously": False,
    }
