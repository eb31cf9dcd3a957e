"""TLS of the front and of the streams between tiers. Certificates may change while they serve.

A change counts from the next connection on; those that are open go on as they began.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import grpc

from cluster.errors import ConfigError
from cluster.tls import Pem, PemFiles
from deployments.file_stamps import stamp_of
from deployments.servers import Server

logger = logging.getLogger(__name__)

Options = Sequence[tuple[str, object]]
Connect = Callable[[str, Options], grpc.aio.Channel]
"""A new connection to an address."""


class CurrentPem:
    """What the files hold now, or held when they last were whole. Raises ConfigError if they never were."""

    def __init__(self, files: PemFiles) -> None:
        self._files = files
        self._stamps = self._look()
        self._pem = files.read()

    def read(self) -> Pem:
        """The same object until the files change."""
        # Looked at before they are read: what is written meanwhile is read next time.
        stamps = self._look()
        if stamps != self._stamps:
            self._stamps = stamps
            try:
                self._pem = self._files.read()
            except ConfigError as error:
                logger.error("the certificates stay as they are: %s", error)
        return self._pem

    def _look(self) -> list[object]:
        return [stamp_of(path) for path in self._files.paths]


def server_credentials(files: PemFiles) -> grpc.ServerCredentials:
    """For a port whose callers must show a certificate if `files` name an authority. Read anew for each connection."""
    current = CurrentPem(files)
    served = current.read()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal served
        if (pem := current.read()) is served:
            return None
        served = pem
        return _certificate(pem)

    return grpc.dynamic_ssl_server_credentials(
        _certificate(served),
        changed,  # type: ignore[arg-type]  # the stubs do not know None, which means that nothing changed
        require_client_authentication=files.authority is not None,
    )


def bind(server: Server, address: str, files: PemFiles | None) -> int:
    """Have the server listen, under TLS if there are files for it; the port that it became."""
    if files is None:
        return server.add_insecure_port(address)
    return server.add_secure_port(address, server_credentials(files))


def connector(files: PemFiles | None) -> Connect:
    """How routers connect to replicas: as what `files` make of them, which replicas are too."""
    if files is None:
        return lambda address, options: grpc.aio.insecure_channel(address, options=options)
    current, name = CurrentPem(files), files.shared_name

    def connect(address: str, options: Options) -> grpc.aio.Channel:
        pem = current.read()
        credentials = grpc.ssl_channel_credentials(pem.authority, pem.key, pem.certificate)
        return grpc.aio.secure_channel(
            address, credentials, options=(*options, ("grpc.ssl_target_name_override", name))
        )

    return connect


def _certificate(pem: Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.certificate)], pem.authority)
