"""What an operator asks of a running cluster's trainers: which versions there are, and a rollback."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError, RayTaskError

from cluster.errors import ConfigError
from deployments.adaptation import trainer_name
from deployments.directory import NAMESPACE

if TYPE_CHECKING:
    from training.online.trainer import TrainerStatus

_CALL_S = 30.0


def status(cluster: str, drafter: str, ray_address: str) -> dict[str, str]:
    """By tenant, for people. Raises ConfigError if there is no such trainer."""
    with _trainer(cluster, drafter, ray_address) as trainer:
        found: dict[str, TrainerStatus] = ray.get(trainer.status.remote(), timeout=_CALL_S)
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
def _trainer(cluster: str, drafter: str, ray_address: str) -> Iterator[Any]:
    """Handle of a trainer, while connected to its Ray."""
    try:
        ray.init(address=ray_address, namespace=NAMESPACE, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(f"no Ray at {ray_address!r} ({type(error).__name__}); give --ray HOST:PORT") from None
    try:
        yield ray.get_actor(trainer_name(cluster, drafter), namespace=NAMESPACE)
    except ValueError as error:
        if isinstance(error, RayTaskError):  # the trainer's own, which tells what to do
            raise ConfigError(str(error.cause)) from None
        raise ConfigError(
            f"cluster {cluster!r} has no trainer for drafter {drafter!r}: is it up, and does a tenant adapt it?"
        ) from None
    except RayError as error:
        raise ConfigError(f"the trainer of {drafter!r} does not answer ({type(error).__name__}); try again") from None
    finally:
        ray.shutdown()
