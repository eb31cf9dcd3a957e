"""The application as Serve's own configuration files name it, such as a RayService's `serveConfigV2`:

    applications:
      - name: polydraft
        import_path: deployments.rayservice:application
        args: {cluster: {...}, target: {...}, drafters: {...}}

`args` are a configuration as `polydraft serve` reads one from a file. Paths are absolute; all machines must see them.
"""

from __future__ import annotations

from typing import Any

from ray import serve

from cluster.config_file import from_mapping
from cluster.model_files import check_models, target_facts
from cluster.tls import check_certificates
from deployments.spans import check_tracing
from deployments.start import prepared


def application(args: dict[str, Any]) -> serve.Application:
    """Called by Serve on a machine of the cluster. ConfigError says which key is wrong, and Serve shows it."""
    config = from_mapping(args, "args")
    check_models(config)
    target_facts(config)
    check_certificates(config)
    check_tracing(config)
    return prepared(config)
