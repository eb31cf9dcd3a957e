"""Reads a configuration: the YAML file, then `--set a.b=c`.

A relative path in the file starts at the file's own directory, one given with `--set` at the working directory.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cluster.config import Config
from cluster.errors import ConfigError

_CERTIFICATE_KEYS = ("certificate", "key", "authority", "client_authority")


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration in `path` with `a.b=c` overrides applied; ConfigError says where it is wrong."""
    document = _read(path, "give the path of a configuration such as configs/local.yaml", "sections such as `target:`")
    _resolve_paths(document, path.parent.resolve())
    for override in overrides:
        _apply(document, override)
    _resolve_paths(document, Path.cwd())
    return from_mapping(document, str(path))


def from_mapping(document: dict[str, Any], where: str) -> Config:
    """The configuration that a mapping holds, which came from `where`; ConfigError says where it is wrong."""
    tenants_file = document.get("tenants_file")
    if not isinstance(tenants_file, str):
        return _validated(where, document)
    if document.get("tenants"):
        raise ConfigError(f"{where}: found both tenants and tenants_file; keep the tenants in one of them")
    # First without them, so that what is wrong is told of the file where it stands.
    return with_tenants(_validated(where, document))


def with_tenants(config: Config) -> Config:
    """The configuration with the tenants that its `tenants_file` now holds; ConfigError says where that is wrong."""
    path = config.tenants_file
    assert path is not None, "the configuration names no tenants_file"
    tenants = _read(path, "give the path of the tenants' file", "tenants such as `acme: {max_concurrent: 8}`")
    return _validated(str(path), {**config.model_dump(mode="json", exclude_unset=True), "tenants": tenants})


def _validated(where: str, document: dict[str, Any]) -> Config:
    try:
        return Config.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(_describe(dict(item)) for item in error.errors())) from None


def _read(path: Path, remedy: str, expected: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; {remedy}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({type(error).__name__}); give a UTF-8 text file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {_problem(error)}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: found {type(document).__name__} at the top; expected {expected}")
    return document


def _problem(error: yaml.YAMLError) -> str:
    """What is wrong and where, without the line itself: it may hold what nobody shall read in a log."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return "it holds characters that YAML does not allow"
    mark = error.problem_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"


def _resolve_paths(document: dict[str, Any], base: Path) -> None:
    """Make paths absolute in place; malformed sections are left for the schema to refuse."""
    drafters, tls = document.get("drafters"), document.get("tls")
    of_drafters = (
        [section for section in drafters.values() if isinstance(section, dict)] if isinstance(drafters, dict) else []
    )
    by_language = [models for section in of_drafters if isinstance(models := section.get("models"), dict)]
    with_certificates = tls.values() if isinstance(tls, dict) else ()
    for section, key in [
        *((section, "model") for section in (document.get("target"), *of_drafters)),
        *((section, "skip_file") for section in of_drafters),
        *((models, tag) for models in by_language for tag in models),
        (document.get("adaptation"), "directory"),
    ]:
        if isinstance(section, dict) and isinstance(section.get(key), str):
            section[key] = str((base / section[key]).resolve())
    # Links stay: a mounted secret is a link that is pointed at another file when it changes.
    for section, key in [(document, "tenants_file"), *itertools.product(with_certificates, _CERTIFICATE_KEYS)]:
        if isinstance(section, dict) and isinstance(section.get(key), str):
            section[key] = str(base / section[key])


def _apply(document: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    steps = key.split(".")
    if not separator or not all(steps):
        raise ConfigError(f"--set {override}: expected section.key=value, such as target.replicas=2")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: '{text}' is not a YAML value; quote it") from None
    section = document
    for step in steps[:-1]:
        inner = section.setdefault(step, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {override}: '{step}' is not a section; see `polydraft config show`")
        section = inner
    section[steps[-1]] = value


def _describe(item: dict[str, Any]) -> str:
    """One pydantic complaint as: where, what was found, what to do."""
    where = ".".join(str(step) for step in item["loc"])
    prefix = f"{where}: " if where else ""
    match item["type"]:
        case "extra_forbidden":
            return f"{prefix}unknown key; check its spelling"
        case "missing":
            return f"{prefix}missing; add the key"
        case "value_error":
            return prefix + str(item["ctx"]["error"])
        case _ if item["loc"][0] == "tenants" and item["loc"][2:3] == (
            "keys",
        ):  # what stands there may be a key: it is not told
            return f"{prefix}give one or two hashes that `polydraft tenants key` prints"
        case _:
            return f"{prefix}found {item['input']!r}; {item['msg'][0].lower()}{item['msg'][1:]}"
