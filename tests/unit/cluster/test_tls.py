"""What `serve` says of certificates before it uses them, and of what is sent without."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from benchmarks.certificates import write_certificate
from cluster.config import Config
from cluster.config_file import load
from cluster.errors import ConfigError
from cluster.tls import check_certificates, clear_text

TARGET = {"model": "m"}


def configured(**sections: Any) -> Config:
    return Config.model_validate({"cluster": {"http_port": None}, "target": TARGET} | sections)


def test_paths_start_at_the_file_and_links_stay_links(tmp_path: Path) -> None:
    """A mounted secret changes by pointing a link at other files."""
    (tmp_path / "first").mkdir()
    (tmp_path / "now").symlink_to("first")
    path = tmp_path / "cluster.yaml"
    tiers = "tiers: {certificate: now/c, key: now/k, authority: now/a}"
    path.write_text(f"target: {{model: m}}\ntls: {{{tiers}, front: {{certificate: c, key: /etc/k}}}}\n")

    tls = load(path, ["tls.front.client_authority=/etc/a", "cluster.http_port=null"]).tls

    assert tls.tiers is not None and tls.front is not None
    assert tls.tiers.authority == tmp_path / "now" / "a"
    assert (tls.tiers.certificate, tls.tiers.key) == (tmp_path / "now" / "c", tmp_path / "now" / "k")
    assert (tls.front.certificate, tls.front.key) == (tmp_path / "c", Path("/etc/k"))
    assert tls.front.client_authority == Path("/etc/a")
    assert tls.tiers.name == "polydraft"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tls: {front: {certificate: c}}", "tls.front.key: missing"),
        ("tls: {tiers: {certificate: c, key: k}}", "tls.tiers.authority: missing"),
        ("tls: {tiers: {certificate: c, key: k, authority: a, name: '*'}}", "tls.tiers.name: found '*'"),
        ("tls: {front: {certificate: c, key: k, authority: a}}", "tls.front.authority: unknown key"),
        ("tls: {front: {certificate: c, key: k, client_authority: a}}", "tls.front.client_authority: Serve's HTTP"),
        ("cluster: {front: serve}\ntls: {front: {certificate: c, key: k}}", "tls.front: Serve's proxy"),
    ],
)
def test_a_wrong_section_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(f"target: {{model: m}}\n{text}\n")

    with pytest.raises(ConfigError) as caught:
        load(path)

    assert told in str(caught.value)


@pytest.mark.parametrize(
    "value", ["|\n      -----BEGIN PRIVATE KEY-----\n      c2VjcmV0", "[c2VjcmV0]", "!!binary c2VjcmV0"]
)
def test_a_key_in_place_of_its_path_is_refused_and_not_repeated(tmp_path: Path, value: str) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(f"target: {{model: m}}\ntls:\n  front:\n    certificate: c\n    key: {value}\n")

    with pytest.raises(ConfigError, match=r"tls\.front\.key: expected the path of a PEM file") as caught:
        load(path)

    assert "c2Vjcm" not in str(caught.value) and "secret" not in str(caught.value)


def _missing(files: dict[str, str], authority: trustme.CA) -> None:
    Path(files["key"]).unlink()


def _of_another_key(files: dict[str, str], authority: trustme.CA) -> None:
    authority.issue_cert("polydraft").private_key_pem.write_to_path(files["key"])


def _with_a_password(files: dict[str, str], authority: trustme.CA) -> None:
    path = Path(files["key"])
    key = load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hidden")))


def _half_written(files: dict[str, str], authority: trustme.CA) -> None:
    path = Path(files["certificate"])
    path.write_bytes(path.read_bytes()[:200])


def _no_authority(files: dict[str, str], authority: trustme.CA) -> None:
    Path(files["authority"]).write_bytes(Path(files["key"]).read_bytes())


def _foreign_authority(files: dict[str, str], authority: trustme.CA) -> None:
    trustme.CA().cert_pem.write_to_path(files["authority"])


def _another_name(files: dict[str, str], authority: trustme.CA) -> None:
    write_certificate(Path(files["key"]).parent, authority, "elsewhere")


def _expired(files: dict[str, str], authority: trustme.CA) -> None:
    write_certificate(Path(files["key"]).parent, authority, "polydraft", not_after=datetime(2020, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (_missing, r"tls\.tiers\.key: \S+/key\.pem cannot be read \(No such file or directory\); give a PEM file"),
        (_of_another_key, r"tls\.tiers\.certificate: \S+ and \S+/key\.pem are no certificate and its key; give both"),
        (_with_a_password, r"tls\.tiers\.certificate: .* the key without a password"),
        (_half_written, r"tls\.tiers\.certificate: .* are no certificate and its key"),
        (_no_authority, r"tls\.tiers\.authority: \S+/authority\.pem holds no certificates; give"),
        (_foreign_authority, r"tls\.tiers\.certificate: .* \(unable to get local issuer certificate\); it needs"),
        (_another_name, r"tls\.tiers\.certificate: .* not valid for 'polydraft'.*needs the DNS name 'polydraft'"),
        (_expired, r"tls\.tiers\.certificate: .* \(certificate has expired\)"),
    ],
)
def test_files_that_no_peer_would_accept_are_named_before_anything_starts(
    tmp_path: Path, harm: Callable[[dict[str, str], trustme.CA], None], told: str
) -> None:
    authority = trustme.CA()
    files = write_certificate(tmp_path, authority, "polydraft")
    harm(files, authority)

    with pytest.raises(ConfigError, match=told) as caught:
        check_certificates(configured(tls={"tiers": files}))

    assert "BEGIN" not in str(caught.value)


def test_a_front_needs_no_name_of_ours_and_tiers_take_an_authority_below_a_root(tmp_path: Path) -> None:
    front = write_certificate(tmp_path / "front", trustme.CA(), "llm.example.org")
    front["client_authority"] = front.pop("authority")
    tiers = write_certificate(tmp_path / "tiers", trustme.CA().create_child_ca(), "tiers.example.org")

    check_certificates(configured(tls={"front": front, "tiers": {**tiers, "name": "tiers.example.org"}}))

    Path(front["client_authority"]).unlink()
    with pytest.raises(ConfigError, match=r"tls\.front\.client_authority: \S+ cannot be read"):
        check_certificates(configured(tls={"front": front}))


@pytest.mark.parametrize(
    ("cluster", "tls", "words"),
    [
        ({}, {}, []),
        ({"host": "::1"}, {}, []),
        ({"host": "localhost"}, {}, []),
        ({"host": "10.0.0.4"}, {}, ["tls.front is missing", "tls.tiers is missing"]),
        ({"host": "llm.example.org"}, {"front"}, ["tls.tiers is missing"]),
        ({"host": "0.0.0.0"}, {"tiers"}, ["tls.front is missing"]),
        ({"host": "0.0.0.0"}, {"front", "tiers"}, []),
        ({"front": "serve"}, {}, ["whose proxy listens on all addresses"]),
    ],
)
def test_what_travels_in_the_clear_is_told(cluster: dict[str, str], tls: set[str], words: list[str]) -> None:
    files = {"certificate": "c", "key": "k"}
    sections = {"front": files, "tiers": {**files, "authority": "a"}}

    told = clear_text(configured(cluster=cluster, tls={name: sections[name] for name in tls}))

    assert len(told) == len(words)
    assert all(word in sentence for word, sentence in zip(words, told, strict=True))
