"""Keys and the hashes that a configuration holds of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.config_file import load
from cluster.errors import ConfigError
from cluster.keys import MAX_KEY_LENGTH, fits, hash_key, new_key


def test_a_key_fits_its_own_hash_alone() -> None:
    key, other = new_key(), new_key()

    assert fits(key, [hash_key(key)])
    assert not fits(other, [hash_key(key)])
    assert not fits("", [hash_key(key)])
    assert not fits(key, [])


def test_both_keys_fit_while_they_change() -> None:
    old, new = new_key(), new_key()

    assert all(fits(key, [hash_key(old), hash_key(new)]) for key in (old, new))


def test_hashes_of_one_key_do_not_look_alike() -> None:
    key = new_key()

    assert hash_key(key) != hash_key(key)


def test_what_is_far_too_long_fits_nothing() -> None:
    key = "k" * (MAX_KEY_LENGTH + 1)

    assert not fits(key, [hash_key(key)])


@pytest.mark.parametrize("form", ["[{}]", "{}", "[[{}]]", "[{0}, {0}, {0}]"])
def test_a_key_in_the_place_of_its_hash_is_refused_and_not_told(tmp_path: Path, form: str) -> None:
    key = new_key()
    path = tmp_path / "cluster.yaml"
    path.write_text(f"target: {{model: m}}\ntenants: {{acme: {{keys: {form.format(key)}}}}}\n")

    with pytest.raises(ConfigError, match=r"tenants\.acme\.keys.*: give .*polydraft tenants key") as error:
        load(path)
    assert key not in str(error.value)


def test_a_tenant_whose_keys_were_all_taken_away_is_refused_and_not_open_to_all(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("target: {model: m}\ntenants: {acme: {keys: []}}\n")

    with pytest.raises(ConfigError, match=r"tenants\.acme\.keys: give one or two hashes"):
        load(path)


def test_a_tenant_may_be_named_keys(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("target: {model: m}\ntenants: {keys: {max_concurrent: many}}\n")

    with pytest.raises(ConfigError, match=r"tenants\.keys\.max_concurrent: found 'many'"):
        load(path)


def test_a_file_that_is_no_yaml_is_not_told_but_for_the_place(tmp_path: Path) -> None:
    key = new_key()
    path = tmp_path / "cluster.yaml"
    path.write_text(f"target: {{model: m}}\ntenants: {{acme: {{keys: [{key}\n")

    with pytest.raises(ConfigError, match=r"cluster\.yaml: not valid YAML: line 3, column 1: ") as error:
        load(path)
    assert key not in str(error.value)


def test_a_tenant_has_two_keys_at_most(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(f"target: {{model: m}}\ntenants: {{acme: {{keys: {[hash_key(new_key()) for _ in range(3)]}}}}}\n")

    with pytest.raises(ConfigError, match=r"tenants\.acme\.keys: "):
        load(path)
