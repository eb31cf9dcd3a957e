"""Files that start clusters elsewhere: what they hold exists, and a field that is misspelt is found here, not there."""

from __future__ import annotations

import copy
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft7Validator

from cluster.config_file import from_mapping
from cluster.errors import ConfigError
from tests.conftest import ROOT
from tests.deployment_files import aws
from tests.deployment_files.kuberay import RAY_SERVICE, SERVE_CONFIG, templates

KUBERNETES = "1.33"
KUBERAY, AWS, DOCKERFILE = ROOT / "configs" / "kuberay.yaml", ROOT / "configs" / "aws.yaml", ROOT / "Dockerfile"
Document = dict[str, Any]


def problems_of(document: Document) -> Iterator[str]:
    """What is wrong with a manifest, one line each."""
    if document.get("kind") != "RayService":
        yield from _by_kubernetes(document)
        return
    misfits = list(_by_schema(RAY_SERVICE, document))
    yield from misfits
    if not misfits:
        yield from _served_problems(yaml.safe_load(document["spec"]["serveConfigV2"]))
        for template in templates(document):
            yield from _by_kubernetes(template)


def _served_problems(serve_config: Document) -> Iterator[str]:
    yield from _by_schema(SERVE_CONFIG, serve_config)
    for application in serve_config.get("applications", ()):
        try:
            from_mapping({**application.get("args", {}), "tenants_file": None}, "args")
        except ConfigError as error:
            yield str(error)


def _by_schema(schema: Document, document: object) -> Iterator[str]:
    for error in Draft7Validator(schema).iter_errors(document):
        yield f"{error.json_path}: {error.message}"


def _by_kubernetes(document: Document) -> Iterator[str]:
    if missing := {"kind", "apiVersion"} - set(document):
        yield f"{', '.join(sorted(missing))}: missing"
        return
    try:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{document['kind']}: {'.'.join(map(str, error.path))}: {error.message}"
    except kubernetes_validate.InvalidSchemaError as error:
        yield str(error)


@pytest.fixture(scope="module")
def manifests() -> list[Document]:
    return list(yaml.safe_load_all(KUBERAY.read_text()))


def test_the_manifests_hold_what_kubernetes_and_kuberay_know(manifests: list[Document]) -> None:
    assert not [problem for document in manifests for problem in problems_of(document)]
    assert [document["kind"] for document in manifests].count("PodDisruptionBudget") == 3
    assert {"RayService", "Service", "NetworkPolicy", "StatefulSet"} <= {document["kind"] for document in manifests}


def test_tiers_ask_for_resources_that_their_machines_have(manifests: list[Document]) -> None:
    service = manifests[0]
    groups = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    offered = {group["groupName"]: yaml.safe_load(group["rayStartParams"]["resources"]) for group in groups}
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    config = from_mapping({**application["args"], "tenants_file": None}, "args")

    assert set(config.cluster.router_resources) <= set(yaml.safe_load(offered["router"]))
    assert set(config.target.resources) <= set(yaml.safe_load(offered["target"]))
    for drafter in config.tier_drafters.values():
        assert set(drafter.resources) <= set(yaml.safe_load(offered["drafter"]))


def test_the_clusters_of_both_clouds_are_the_same(manifests: list[Document]) -> None:
    (application,) = yaml.safe_load(manifests[0]["spec"]["serveConfigV2"])["applications"]
    elsewhere = yaml.safe_load((ROOT / "configs" / "cloud.yaml").read_text())
    for document in (application["args"], elsewhere):
        for key in ("tenants_file", "ray"):
            document.pop(key, None)

    assert application["args"] == elsewhere


def paths(node: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every key of a document whose name means something to Kubernetes, KubeRay or Ray."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from paths(item, (*before, index))
    elif isinstance(node, dict):
        for key, value in node.items():
            if before and before[-1] in FREE:
                continue
            yield (*before, key)
            yield from paths(value, (*before, key))


FREE = frozenset(
    {"labels", "matchLabels", "annotations", "rayStartParams", "requests", "limits", "selector", "resources"}
    | {"available_node_types", "file_mounts"}
)
"""Below these any name is one of the user's."""


def misspelt(document: Document, path: tuple[Any, ...]) -> Document:
    spoilt = copy.deepcopy(document)
    node: Any = spoilt
    for step in path[:-1]:
        node = node[step]
    node[f"{path[-1]}x"] = node.pop(path[-1])
    return spoilt


def test_every_misspelt_field_of_the_manifests_is_found(manifests: list[Document]) -> None:
    unfound = [
        f"{document['kind']}: {path}"
        for document in manifests
        for path in paths(document)
        if next(problems_of(misspelt(document, path)), None) is None
    ]

    assert not unfound


@pytest.mark.parametrize("key", ["drafters", "num_pages", "router_resources", "import_path", "proxy_location"])
def test_a_misspelt_key_of_the_served_configuration_is_found(manifests: list[Document], key: str) -> None:
    service = copy.deepcopy(manifests[0])
    text = service["spec"]["serveConfigV2"]
    service["spec"]["serveConfigV2"] = text.replace(f"{key}:", f"{key}x:", 1)

    assert f"{key}:" in text and next(problems_of(service), None) is not None


def test_the_launchers_file_holds_what_ray_and_aws_know() -> None:
    assert not aws.problems(yaml.safe_load(AWS.read_text()))


def test_every_misspelt_field_of_the_launchers_file_is_found() -> None:
    document = yaml.safe_load(AWS.read_text())
    unfound = [path for path in paths(document) if not aws.problems(misspelt(document, path))]

    assert not unfound


HADOLINT = Path(sys.executable).parent / "hadolint"


def _lint(dockerfile: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HADOLINT, "--no-color", "-"], input=dockerfile, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_dockerfile_has_nothing_that_its_linter_minds() -> None:
    checked = _lint(DOCKERFILE.read_text())

    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(("right", "wrong"), [("WORKDIR", "WORKDIRR"), ("--from=build-cpu", "--form=build-cpu")])
def test_a_misspelt_word_of_the_dockerfile_is_found(right: str, wrong: str) -> None:
    assert _lint(DOCKERFILE.read_text().replace(right, wrong, 1)).returncode != 0


def test_everything_that_is_installed_is_sent_to_docker() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    installed = {name.split(".")[0] for name in packages["include"]} - {"polydraft_kernels"} | {"kernels"}

    assert sent == installed | {"pyproject.toml", "constraints.txt", "README.md", "LICENSE"}
