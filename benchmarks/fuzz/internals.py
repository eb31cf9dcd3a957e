"""What no caller may be told: how the server is built, and where it runs."""

from __future__ import annotations

import re

INTERNALS = re.compile(
    r"Traceback|File \"|\.py\b|site-packages|<class '|<\w+ object at"
    r"|(?:^|\s)/\w+/|\bpid\b|0x[0-9a-f]{6}"
    r"|\b\w+(?:Error|Exception)\b"
    r"|\b(?:asyncio|cluster|cygrpc|deployments|engine|google\.protobuf|grpc|ray|torch)\.[a-z_]\w*"
    r"|\b\d{1,3}(?:\.\d{1,3}){3}\b|\bipv[46]:|\blocalhost:\d|\[::\d?\]"
)


def leak(told: str, asked: str = "") -> str | None:
    """The first of the internals that a caller was told, unless it is only an echo of what was asked."""
    found = (match.group().strip() for match in INTERNALS.finditer(told))
    return next((words for words in found if words not in asked), None)
