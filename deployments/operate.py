"""What an operator asks of a running cluster: how it is, which versions its drafters have, and a rollback.

Through Ray alone: whoever may reach the cluster's Ray may operate it, and no public call tells of other tenants.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError, RayTaskError

from cluster.errors import ConfigError
from cluster.status import ReplicaStatus
from deployments.adaptation import trainer_name
from deployments.directory import NAMESPACE, named_directory

if TYPE_CHECKING:
    from training.online.trainer import TrainerStatus

_CALL_S = 60.0
"""A trainer that was lost takes half of it to start."""


def status(cluster: str, drafter: str, ray_address: str) -> dict[str, str]:
    """By tenant, for people. Raises ConfigError if there is no such trainer."""
    with _trainer(cluster, drafter, ray_address) as trainer:
        # Asked again while Ray starts a trainer that was lost: the question changes nothing.
        asked = trainer.status.options(max_task_retries=-1).remote()
        found: dict[str, TrainerStatus] = ray.get(asked, timeout=_CALL_S)
        return {tenant: describe(status) for tenant, status in found.items()}


def describe(status: TrainerStatus) -> str:
    """The current version, what the trainer did, and the history."""
    counts = status.counts
    lines = [
        f"version {status.current}",
        f"since the trainer's start: {counts.positions_taken} corrections ({counts.positions_dropped} dropped), "
        f"{counts.updates} updates, {counts.promotions} promotions, {counts.refusals} refusals",
        *([f"last judgement: {status.last_judgement}"] if status.last_judgement else []),
    ]
    lines += [
        f"{version.number} (from {version.parent}) {version.promoted_at}: agreement {version.parent_agreement:.4f} -> "
        f"{version.agreement:.4f} on {version.num_held_out_tokens} tokens, {version.num_updates} updates"
        + (", rolled back" if version.is_rolled_back else "")
        for version in status.versions
    ]
    return "\n  ".join(lines)


def roll_back(cluster: str, drafter: str, tenant: str, number: int | None, ray_address: str) -> int:
    """Make an earlier version current, by default the one before; its number. Raises ConfigError if there is none."""
    with _trainer(cluster, drafter, ray_address) as trainer:
        current: int = ray.get(trainer.roll_back.remote(tenant, number), timeout=_CALL_S)
        return current


@contextlib.contextmanager
def watched(cluster: str, ray_address: str) -> Iterator[Callable[[], list[ReplicaStatus]]]:
    """Connected to a cluster: each call tells how its replicas are now. Raises ConfigError if there is none."""
    with _connected(ray_address):
        try:
            directory: Any = ray.get_actor(named_directory(cluster), namespace=NAMESPACE)
        except ValueError:
            raise ConfigError(f"this Ray runs no cluster {cluster!r}; give --cluster NAME or --ray HOST:PORT") from None

        def look() -> list[ReplicaStatus]:
            try:
                found: list[ReplicaStatus] = ray.get(directory.status.remote(), timeout=_CALL_S)
                return found
            except RayError as error:
                raise ConfigError(f"the directory of {cluster!r} does not answer ({type(error).__name__})") from None

        yield look


@contextlib.contextmanager
def _connected(address: str) -> Iterator[None]:
    try:
        ray.init(address=address, namespace=NAMESPACE, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(f"no Ray at {address!r} ({type(error).__name__}); give --ray HOST:PORT") from None
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _trainer(cluster: str, drafter: str, ray_address: str) -> Iterator[Any]:
    """Handle of a trainer, while connected to its Ray."""
    with _connected(ray_address):
        try:
            yield ray.get_actor(trainer_name(cluster, drafter), namespace=NAMESPACE)
        except ValueError as error:
            if isinstance(error, RayTaskError):  # the trainer's own, which tells what to do
                raise ConfigError(str(error.cause)) from None
            raise ConfigError(
                f"cluster {cluster!r} has no trainer for drafter {drafter!r}: is it up, and does a tenant adapt it?"
            ) from None
        except RayError as error:
            raise ConfigError(
                f"the trainer of {drafter!r} does not answer ({type(error).__name__}); try again"
            ) from None
