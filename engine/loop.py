"""The engine in a thread of its own, so that a step never stops the heartbeat of the process it lives in."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

from engine.engine import Engine, StepOutcome

logger = logging.getLogger(__name__)

Command = Callable[[Engine], None]


class EngineDied(RuntimeError):
    """The engine's thread ended with an error; the process must be replaced."""


class EngineLoop:
    """Runs commands between steps and hands outcomes to a callback, both in the engine's thread."""

    def __init__(self, engine: Engine, on_outcomes: Callable[[Sequence[StepOutcome]], None]) -> None:
        self._engine = engine
        self._on_outcomes = on_outcomes
        self._commands: deque[Command] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the step in progress."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def submit(self, command: Command) -> None:
        """Run `command` on the engine before its next step. Never blocks on a step."""
        with self._changed:
            self._commands.append(command)
            self._changed.notify()

    def check_health(self) -> None:
        """Raise `EngineDied` if the thread has ended by itself."""
        if self._error is not None:
            raise EngineDied("the engine stopped") from self._error

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._run_commands()
                outcomes, wait_s = self._engine.step()
                if outcomes:
                    self._on_outcomes(outcomes)
                if wait_s != 0.0:
                    self._wait(wait_s)
            self._engine.shut_down()
        except BaseException as error:
            logger.exception("the engine stopped")
            self._error = error

    def _run_commands(self) -> None:
        while self._commands:
            self._commands.popleft()(self._engine)

    def _wait(self, wait_s: float | None) -> None:
        """Sleep until there is a command, at most `wait_s`."""
        if wait_s is None:
            self._engine.check_integrity()
        with self._changed:
            if not self._commands and not self._stopping:
                self._changed.wait(wait_s)
