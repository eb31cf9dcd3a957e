"""Where Serve's HTTP proxy listens, and its TLS."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from cluster.config import Config
from cluster.tls_config import FrontTlsConfig


@dataclass(frozen=True, slots=True)
class HttpFront:
    """The proxy's address. Its certificate is read when it starts: unlike gRPC it does not follow a change."""

    host: str
    port: int
    tls: FrontTlsConfig | None

    @property
    def url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://{self.host}:{self.port}"

    @property
    def options(self) -> dict[str, object]:
        """Of `serve.start`."""
        options: dict[str, object] = {"host": self.host, "port": self.port}
        if self.tls is not None:
            options |= {"ssl_certfile": str(self.tls.certificate), "ssl_keyfile": str(self.tls.key)}
        return options


def http_front(config: Config) -> HttpFront | None:
    """As configured; port 0 becomes a free one."""
    cluster = config.cluster
    if cluster.http_port is None:
        return None
    return HttpFront(cluster.host, cluster.http_port or free_port(cluster.host), config.tls.front)


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
