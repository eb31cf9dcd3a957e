"""Tenants in a file of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.config_file import load, with_tenants
from cluster.errors import ConfigError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "tenants.yaml").write_text("acme: {max_concurrent: 3, default_language: de}\n")
    path = tmp_path / "cluster.yaml"
    path.write_text("target: {model: m}\nlanguages: [de]\ntenants_file: tenants.yaml\n")
    return path


def test_tenants_come_from_their_file(path: Path) -> None:
    assert load(path).tenants["acme"].max_concurrent == 3


def test_tenants_are_read_again(path: Path) -> None:
    config = load(path)
    (path.parent / "tenants.yaml").write_text("globex: {}\n")

    changed = with_tenants(config)

    assert set(changed.tenants) == {"globex"}
    assert changed.target == config.target


def test_tenants_are_found_again_when_the_mounted_secret_is_another_directory(path: Path) -> None:
    """As Kubernetes mounts them: the link is pointed elsewhere and what it pointed at is gone."""
    folder, link = path.parent, path.parent / "tenants.yaml"
    (folder / "first").mkdir()
    link.rename(folder / "first" / "tenants.yaml")
    link.symlink_to("first/tenants.yaml")
    config = load(path)

    (folder / "first").rename(folder / "second")
    link.unlink()
    link.symlink_to("second/tenants.yaml")

    assert with_tenants(config).tenants["acme"].max_concurrent == 3


def test_tenants_stand_in_one_place(path: Path) -> None:
    path.write_text(path.read_text() + "tenants: {globex: {}}\n")

    with pytest.raises(ConfigError, match="both tenants and tenants_file"):
        load(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("acme: {max_concurent: 3}\n", r"tenants\.yaml: tenants\.acme\.max_concurent: unknown key"),
        ("acme: {default_language: fr}\n", r"tenants\.yaml: .*no drafter or `languages` entry knows \['fr'\]"),
        ("- acme\n", r"tenants\.yaml: found list at the top; expected tenants"),
        ("acme: {", r"tenants\.yaml: not valid YAML"),
    ],
)
def test_what_is_wrong_with_tenants_is_told_of_their_file(path: Path, content: str, told: str) -> None:
    (path.parent / "tenants.yaml").write_text(content)

    with pytest.raises(ConfigError, match=told):
        load(path)


def test_a_missing_tenants_file_is_named(path: Path) -> None:
    (path.parent / "tenants.yaml").unlink()

    with pytest.raises(ConfigError, match=r"tenants\.yaml: no such file; give the path of the tenants' file"):
        load(path)
