"""What an application needs beside its deployments, whoever deploys it: the directory's token, and trainers."""

from __future__ import annotations

import ray
from ray import serve

from cluster.config import Config
from deployments.adaptation import adapting_drafters, start_trainer
from deployments.app import build, directory_name
from deployments.directory import start_directory


def prepared(config: Config) -> serve.Application:
    """The application, with all that it needs running; what runs already stays."""
    for name in adapting_drafters(config):
        start_trainer(config, name)
    token = ray.get(start_directory(directory_name(config)).token.remote())
    return build(config, token)
