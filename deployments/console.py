"""The console: a page of the cluster's own, beside the OpenAI API that it calls."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from cluster.console import choices_of, sees_all
from cluster.errors import Unavailable
from cluster.live_figures import live_figures, of_tenant
from cluster.status import Replicas, ReplicaStatus, rates
from deployments.generation import Generation
from deployments.openai_api import answering, caller_of

WINDOW_S = 2.0
"""What figures are of. Replicas report once a second."""
_FILES = Path(__file__).parent / "web"
_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": (
        "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'"  # a text can nowhere become HTML
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Directory(Protocol):
    """Knows what replicas reported last."""

    async def status(self) -> list[ReplicaStatus] | None: ...


def routes(generation: Generation, directory: Directory) -> list[Route]:
    """The page and its parts, which are the same for all and need no key, and what it asks for a caller."""
    look = _SharedLook(directory)

    async def choices(request: Request) -> ASGIApp:
        tenant = generation.check(caller_of(request))
        return _fresh(choices_of(generation.config, tenant))

    async def figures(request: Request) -> ASGIApp:
        caller = caller_of(request)
        if sees_all(generation.config, caller.tenant, caller.key):
            return _fresh(asdict(live_figures(await look.next())))
        tenant = generation.check(caller)
        return _fresh({"tenants": [asdict(of_tenant(await look.next(), tenant.name))]})

    return [
        Route("/", _to_console, methods=["GET"]),
        Route("/console", _page("index.html"), methods=["GET"]),
        Route("/console/choices", answering(choices), methods=["GET"]),
        Route("/console/figures", answering(figures), methods=["GET"]),
        *(Route(f"/console/{path.name}", _page(path.name), methods=["GET"]) for path in sorted(_FILES.iterdir())),
    ]


class _SharedLook:
    """Looks at the replicas twice for all who ask meanwhile: many viewers cost the directory no more than one."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._looking: asyncio.Task[Replicas] | None = None

    async def next(self) -> Replicas:
        """Counters are a second, of the window that ends now."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        return await asyncio.shield(self._looking)  # one viewer who goes takes it from no other

    async def _look(self) -> Replicas:
        before = await self._directory.status()
        await asyncio.sleep(WINDOW_S)
        after = await self._directory.status()
        if before is None or after is None:
            raise Unavailable("the cluster's directory does not answer; figures come back when it does")
        return rates(before, after)


def _fresh(found: dict[str, object]) -> JSONResponse:
    return JSONResponse(found, headers={"cache-control": "no-store"})


async def _to_console(request: Request) -> Response:
    return RedirectResponse("console", headers=_HEADERS)


def _page(name: str) -> Callable[[Request], Awaitable[Response]]:
    # Under names that the page asks for; a system's own table may know other types.
    kind = {".js": "text/javascript"}.get(Path(name).suffix) or mimetypes.guess_type(name)[0]
    response = Response((_FILES / name).read_bytes(), media_type=kind, headers=_HEADERS)

    async def answer(request: Request) -> Response:
        return response

    return answer
