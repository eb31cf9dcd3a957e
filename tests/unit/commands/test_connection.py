"""The flags of TLS, against a server that asks for certificates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import trustme

from benchmarks.certificates import write_certificate
from polydraft.cli import main
from tests.fakes_server import FakeGeneration, Script, ServerThread

OURS, CALLERS, FOREIGN = trustme.CA(), trustme.CA(), trustme.CA()


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    """The authorities ours.pem and foreign.pem, and the caller's certificate.pem and key.pem."""
    write_certificate(tmp_path, CALLERS, "caller")
    OURS.cert_pem.write_to_path(str(tmp_path / "ours.pem"))
    FOREIGN.cert_pem.write_to_path(str(tmp_path / "foreign.pem"))
    return tmp_path


@pytest.fixture(name="address")
def _address(tmp_path: Path) -> Iterator[str]:
    paths = write_certificate(tmp_path / "server", OURS, "127.0.0.1")
    pair = (Path(paths["key"]).read_bytes(), Path(paths["certificate"]).read_bytes())
    credentials = grpc.ssl_server_credentials([pair], CALLERS.cert_pem.bytes(), require_client_auth=True)
    server = ServerThread(FakeGeneration({b"x": Script((b"yes",))}), credentials=credentials)
    yield server.address
    server.stop()


def ask(address: str, *flags: str) -> int:
    return main(["generate", "--address", address, *flags, "x"])


@pytest.mark.parametrize("roots", ["given", "the system's"])
def test_a_caller_who_trusts_the_server_and_shows_a_certificate_is_answered(
    address: str, folder: Path, roots: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ours.pem"))
    flags = ["--ca", str(folder / "ours.pem")] if roots == "given" else ["--tls"]
    shown = ["--certificate", str(folder / "certificate.pem"), "--certificate-key", str(folder / "key.pem")]

    status = ask(address, *flags, *shown)

    assert (status, capsys.readouterr().out) == (0, "yes\n")


@pytest.mark.parametrize("flags", [[], ["--tls"], ["--ca", "foreign.pem"], ["--ca", "ours.pem"]])
def test_a_caller_without_is_told_what_to_check_and_no_address(
    address: str, folder: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)

    status = ask(address, *flags)

    assert status == 1
    told = capsys.readouterr().err
    assert "UNAVAILABLE: no server answers; check" in told and "certificates" in told and "127.0.0.1" not in told


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--ca", "none.pem"], "--ca: none.pem cannot be read (No such file or directory); give a PEM file"),
        (["--ca", "key.pem"], "--ca: key.pem holds no certificates"),
        (["--certificate", "certificate.pem"], "give --certificate and --certificate-key together"),
        (["--tls", "--certificate-key", "key.pem"], "give --certificate and --certificate-key together"),
        (["--certificate", "ours.pem", "--certificate-key", "key.pem"], "ours.pem and key.pem are no certificate and"),
        (["--certificate", "certificate.pem", "--certificate-key", "."], "--certificate-key: . cannot be read"),
    ],
)
def test_files_that_cannot_be_used_are_wrong_usage(
    folder: Path, flags: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)

    status = ask("127.0.0.1:1", *flags)

    assert status == 2
    assert told in capsys.readouterr().err
