"""One way to log for all processes: text for people or JSON for machines, with the request that a line is about.

Nothing of prompts, answers or keys is logged. Messages of exceptions that nobody foresaw may quote what a caller sent,
so a line about a request has their type and where they came from, but not their message.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime

from cluster.events import Event, Finished
from cluster.messages import Verdict
from cluster.observing_config import LoggingConfig
from cluster.request import Request

OURS = ("cluster", "deployments", "engine", "polydraft", "training")
_about: ContextVar[Mapping[str, str] | None] = ContextVar("about", default=None)
logger = logging.getLogger(__name__)


def log_about(**fields: str) -> None:
    """What the lines of this task are about from now on, such as request_id; nothing: no request.

    Each call has a task of its own, so nobody needs to take this back.
    """
    _about.set(fields)


def configure(config: LoggingConfig, process: str) -> None:
    """Log what our packages say to stderr, which Ray keeps for each process; `process` names this one."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(process) if config.format == "json" else TextFormatter(process))
    for name in OURS:
        package = logging.getLogger(name)
        package.handlers = [handler]
        package.propagate = False
        package.setLevel(config.level)


class _Formatter(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def _fields(self, record: logging.LogRecord) -> dict[str, str]:
        about = _about.get() or {}
        return {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
            **about,
            **getattr(record, "about", {}),
            **({"exception": self._told(record, bool(about))} if record.exc_info else {}),
        }

    def _told(self, record: logging.LogRecord, is_about_request: bool) -> str:
        assert record.exc_info is not None
        kind, error, trace = record.exc_info
        if is_about_request and kind is not None:
            return "".join([*traceback.format_tb(trace), f"{kind.__module__}.{kind.__qualname__}"])
        return self.formatException((kind, error, trace)) if kind is not None and error is not None else ""


class JsonFormatter(_Formatter):
    """An object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self._fields(record), ensure_ascii=False)


class TextFormatter(_Formatter):
    """A line, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        fields = self._fields(record)
        head = " ".join(fields.pop(key) for key in ("time", "level", "process", "logger"))
        message, exception = fields.pop("message"), fields.pop("exception", "")
        about = " ".join(f"{key}={value}" for key, value in fields.items())
        return "\n".join(filter(None, [f"{head}: {message}" + (f" [{about}]" if about else ""), exception]))


class CallLog:
    """The observer that writes a line for each call that ends, and says in the others whose they are."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now

    def call(self, request_id: str, tenant: str, traceparent: str) -> CallLogWatch:
        return CallLogWatch(self.now, request_id, tenant)

    def refused(self, tenant: str, code: str) -> None:
        """The name was not proved to be anyone's, so it is not told."""
        logger.info("call refused: %s", code)


class CallLogWatch:
    """One call."""

    traceparent = ""

    def __init__(self, now: Callable[[], float], request_id: str, tenant: str) -> None:
        self._now, self._begun_s = now, now()
        self._about = {"request_id": request_id, "tenant": tenant}
        self._finished: Finished | None = None
        log_about(**self._about)

    def prepared(self, request: Request) -> None:
        self._about["language"] = request.language
        log_about(**self._about)

    def drafts_with(self, drafter: str | None) -> None:
        logger.debug("drafts with %s", drafter or "no drafter")

    def opened(self, tier: str, replica_id: str) -> None:
        logger.debug("opened at %s %s", tier, replica_id)

    def committed(self, verdict: Verdict, *, is_prefill: bool) -> None: ...

    def lost(self, tier: str, replica_id: str) -> None:
        logger.warning("lost %s %s", tier, replica_id)

    def wrote(self, event: Event) -> None:
        if isinstance(event, Finished):
            self._finished = event

    def ended(self, code: str) -> None:
        seconds = self._now() - self._begun_s
        if self._finished is None:
            logger.info("call ended: %s after %.3f s", code, seconds)
        else:
            tokens, rounds = self._finished.completion_tokens, self._finished.figures.rounds
            logger.info("call ended: %s, %d tokens in %d rounds, %.3f s", code, tokens, rounds, seconds)
