"""The client of a Polydraft cluster.

    with polydraft.Client("localhost:9000", tenant="acme") as client:
        print(client.generate("Translate German to English: Guten Morgen.\\n").text)

Names load on first use: importing the package costs nothing, and never brings torch, Ray or numpy along.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polydraft.answers import (
        Answer,
        Chunk,
        DrafterUse,
        Event,
        Finished,
        FinishReason,
        Speculation,
        Started,
        Timing,
        TokenLogprobs,
        Usage,
    )
    from polydraft.client import AsyncClient
    from polydraft.errors import (
        Cancelled,
        ContextTooLong,
        DeadlineExceeded,
        InternalError,
        InvalidRequest,
        NotImplementedYet,
        Overloaded,
        PolydraftError,
        TargetChanged,
        Unauthenticated,
        Unavailable,
        UnknownDrafter,
        UnsupportedLanguage,
    )
    from polydraft.options import ChatMessage, GenerateOptions, Prompt
    from polydraft.sync import Client

__all__ = [
    "Answer",
    "AsyncClient",
    "Cancelled",
    "ChatMessage",
    "Chunk",
    "Client",
    "ContextTooLong",
    "DeadlineExceeded",
    "DrafterUse",
    "Event",
    "FinishReason",
    "Finished",
    "GenerateOptions",
    "InternalError",
    "InvalidRequest",
    "NotImplementedYet",
    "Overloaded",
    "PolydraftError",
    "Prompt",
    "Speculation",
    "Started",
    "TargetChanged",
    "Timing",
    "TokenLogprobs",
    "Unauthenticated",
    "Unavailable",
    "UnknownDrafter",
    "UnsupportedLanguage",
    "Usage",
]

_MODULES = {
    "answers": "Answer Chunk DrafterUse Event FinishReason Finished Speculation Started Timing TokenLogprobs Usage",
    "client": "AsyncClient",
    "options": "ChatMessage GenerateOptions Prompt",
    "sync": "Client",
}
_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'polydraft' has no attribute {name!r}")
    return getattr(import_module(f"polydraft.{_HOME.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return __all__
