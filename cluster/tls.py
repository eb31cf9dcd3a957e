"""The PEM files of TLS: taken together, and only if they are whole and fit. No message tells what stands in them."""

from __future__ import annotations

import contextlib
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from cluster.config import Config
from cluster.errors import ConfigError


@dataclass(frozen=True, slots=True)
class PemFile:
    """A file, and what names it: a key of the configuration, or a flag."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class Pem:
    """What a side shows, and by whom the other side's certificate must be signed."""

    certificate: bytes
    key: bytes
    authority: bytes | None


@dataclass(frozen=True, slots=True)
class PemFiles:
    """Where a `Pem` stands."""

    certificate: PemFile
    key: PemFile
    authority: PemFile | None
    shared_name: str | None = None
    """Set: both sides show this certificate, and it must prove this name."""

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(file.path for file in (self.certificate, self.key, self.authority) if file is not None)

    def read(self) -> Pem:
        """What the files hold now; ConfigError if the other side could not accept it."""
        certificate, key = read_pair(self.certificate, self.key)
        authority = read_authority(self.authority) if self.authority is not None else None
        if self.shared_name is not None:
            self._shake_hands(self.shared_name)
        return Pem(certificate, key, authority)

    def _shake_hands(self, name: str) -> None:
        """Both sides in memory: what is expired, unsigned, misnamed or for one role only is found before it is used."""
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            waiting = [
                self._context(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(to_client, to_server, server_hostname=name),
                self._context(ssl.PROTOCOL_TLS_SERVER).wrap_bio(to_server, to_client, server_side=True),
            ]
            while waiting:
                side = waiting.pop(0)
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    waiting.append(side)
        except OSError as error:
            reason = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else type(error).__name__
            raise ConfigError(
                f"{self.certificate.name}: {self.certificate.path} cannot stand for both sides ({reason}); it needs "
                f"the DNS name '{name}', a signature of the authority, and the purposes of a server and of a client"
            ) from None

    def _context(self, role: int) -> ssl.SSLContext:
        assert self.authority is not None, "certificates of both sides are judged by their authority"
        context = ssl.SSLContext(role)
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as gRPC: the authority need not be a root
        context.load_cert_chain(self.certificate.path, self.key.path, _no_password)
        context.load_verify_locations(self.authority.path)
        return context


def read_pair(certificate: PemFile, key: PemFile) -> tuple[bytes, bytes]:
    """Both contents; ConfigError unless they are a chain of certificates and the private key of its first."""
    contents = _read(certificate), _read(key)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate.path, key.path, _no_password)
    except OSError:
        raise ConfigError(
            f"{certificate.name}: {certificate.path} and {key.path} are no certificate and its key; give both in PEM, "
            "the key without a password"
        ) from None
    return contents


def read_authority(file: PemFile) -> bytes:
    """The content; ConfigError unless it holds certificates."""
    content = _read(file)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file.path)
    except OSError:
        raise ConfigError(
            f"{file.name}: {file.path} holds no certificates; give those of the authorities in PEM"
        ) from None
    return content


def front_files(config: Config) -> PemFiles | None:
    """Of the routers' own front; None: it has no TLS."""
    section = config.tls.front
    if section is None:
        return None
    authority = section.client_authority
    return PemFiles(
        PemFile("tls.front.certificate", section.certificate),
        PemFile("tls.front.key", section.key),
        PemFile("tls.front.client_authority", authority) if authority is not None else None,
    )


def tier_files(config: Config) -> PemFiles | None:
    """Of routers and replicas; None: their streams have no TLS."""
    section = config.tls.tiers
    if section is None:
        return None
    return PemFiles(
        PemFile("tls.tiers.certificate", section.certificate),
        PemFile("tls.tiers.key", section.key),
        PemFile("tls.tiers.authority", section.authority),
        shared_name=section.name,
    )


def check_certificates(config: Config) -> None:
    """ConfigError if TLS could not be served."""
    for files in (front_files(config), tier_files(config)):
        if files is not None:
            files.read()


def expiries(config: Config) -> dict[str, float]:
    """Unix time when the certificate of each section of `tls` expires; without those that cannot be read now."""
    found: dict[str, float] = {}
    for section, files in (("front", front_files(config)), ("tiers", tier_files(config))):
        if files is not None:
            with contextlib.suppress(OSError, ValueError):
                certificate = x509.load_pem_x509_certificate(files.certificate.path.read_bytes())
                found[section] = certificate.not_valid_after_utc.timestamp()
    return found


def clear_text(config: Config) -> list[str]:
    """What others on the network could read, and why; a sentence each."""
    is_local = _is_loopback(config.cluster.host)
    found = []
    if config.cluster.front == "serve":
        found.append(
            "prompts, answers and tenants' keys travel in the clear: cluster.front is serve, whose proxy listens on "
            "all addresses and has no TLS"
        )
    elif config.tls.front is None and not is_local:
        found.append(
            f"prompts, answers and tenants' keys travel in the clear: cluster.host is {config.cluster.host} and "
            "tls.front is missing"
        )
    if config.tls.tiers is None and not is_local:
        found.append(
            "tokens of prompts and answers, and the cluster's own token, travel in the clear: cluster.host is "
            f"{config.cluster.host} and tls.tiers is missing"
        )
    return found


def _read(file: PemFile) -> bytes:
    try:
        return file.path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file.name}: {file.path} cannot be read ({error.strerror}); give a PEM file") from None


def _no_password() -> str:
    """Of an encrypted key: without this OpenSSL would ask at the terminal."""
    return ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
