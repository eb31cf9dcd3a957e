"""What the replicas of a running cluster tell of their load, asked from outside."""

from __future__ import annotations

from ray import serve

_CALL_S = 30.0


def signals(application: str, deployment: str) -> list[dict[str, float]]:
    """Of each replica of a deployment, as Serve's controller is told. This process must be connected to the Ray."""
    handle = serve.get_deployment_handle(deployment, application)
    found: list[dict[str, float]] = handle.broadcast("record_autoscaling_stats").results(timeout_s=_CALL_S)
    return found
