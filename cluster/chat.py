"""Chats and the model's template for them, which runs in a sandbox with bounds.

The template is the operator's, what it renders is the callers': a loop over their messages, or over the characters of
one, may take for ever or write without end. Jinja bounds neither. Here each piece of output, each turn of a loop, each
look-up, call and operator asks whether the time is over, and what is written or multiplied must stay in proportion to
the messages.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from cluster.errors import ConfigError, InvalidRequest, printable

RENDER_S = 0.5
"""Of the processor's time, so that a busy machine refuses nobody."""
LONGEST_STEP_S = RENDER_S / 5
"""What a template can be charged between two looks at the clock: Python's garbage collector, which may run within for
as long as a process is large, is not the template's."""
LENGTH_FACTOR, LENGTH_CONSTANT = 4, 65_536
"""What a template adds to the contents that it renders is bounded by this factor and constant, in characters."""


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """One message of a chat."""

    role: str
    content: str


class ChatTemplate:
    """Renders chats. May be used by several threads at a time."""

    def __init__(
        self, source: str, variables: Mapping[str, str], clock: Callable[[], float] = time.thread_time
    ) -> None:
        """`variables` are the special tokens that it may use; `ConfigError` if it does not compile."""
        self._environment = _BoundedEnvironment(clock)
        self._variables = dict(variables)
        try:
            self._template = self._environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ConfigError(f"target.model: the chat template does not compile: {error.message}") from None

    def render(self, turns: Sequence[ChatTurn]) -> str:
        """The chat's text, ready for the assistant's answer. Whatever goes wrong is an `InvalidRequest`."""
        budget = self._environment.budget
        budget.begin(LENGTH_FACTOR * sum(len(turn.content) for turn in turns) + LENGTH_CONSTANT)
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        pieces: list[str] = []
        try:
            for piece in self._template.generate(messages=messages, add_generation_prompt=True, **self._variables):
                budget.check_time()
                budget.write(len(piece))
                pieces.append(piece)
        except InvalidRequest:
            raise
        except jinja2.TemplateError as error:
            raise InvalidRequest(f"chat: the template refused it: {printable(error.message or '')}") from None
        except Exception as error:  # it may fail in any way
            raise InvalidRequest(
                f"chat: the template refused it: {type(error).__name__}; check the messages and their roles"
            ) from None
        return "".join(pieces)


class _Budget(threading.local):
    """What is left to the rendering of this thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last_s = self._used_s = 0.0
        self._max_length = 0
        self._length = 0

    def begin(self, max_length: int) -> None:
        self._last_s, self._used_s = self._clock(), 0.0
        self._max_length, self._length = max_length, 0

    def check_time(self) -> None:
        now_s = self._clock()
        self._used_s += min(now_s - self._last_s, LONGEST_STEP_S)
        self._last_s = now_s
        if self._used_s > RENDER_S:
            raise InvalidRequest("chat: the template takes too long over it; send fewer or shorter messages")

    def check_length(self, length: int) -> None:
        if length > self._max_length:
            raise InvalidRequest("chat: the rendered chat is too long; send fewer or shorter messages")

    def write(self, length: int) -> None:
        self._length += length
        self.check_length(self._length)


class _WatchedItems:
    """The items of a loop, with a look at the clock before each."""

    def __init__(self, items: Any, budget: _Budget) -> None:
        self._items, self._budget = items, budget

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            self._budget.check_time()
            yield item

    def __len__(self) -> int:
        return len(self._items)


class _WatchedLoops(CodeGenerator):
    """Compiles templates whose loops take their items through the filter `watched`: an empty loop calls no hook."""

    def visit_Template(self, node: nodes.Template, frame: Frame | None = None) -> None:
        for loop in node.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, "watched", [], [], None, None, lineno=loop.lineno)
        super().visit_Template(node, frame)


class _BoundedEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox with hooks that look at the budget."""

    code_generator_class = _WatchedLoops
    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True)
        self.budget = _Budget(clock)
        self.filters["watched"] = lambda items: _WatchedItems(items, self.budget)
        self.globals["raise_exception"] = _refuse

    def getattr(self, obj: Any, attribute: str) -> Any:
        self.budget.check_time()
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: str | Any) -> Any:
        self.budget.check_time()
        return super().getitem(obj, argument)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # as in Jinja
        __self.budget.check_time()
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        self.budget.check_time()
        self.budget.check_length(_length_of(operator, left, right))
        return super().call_binop(context, operator, left, right)

    def concat(self, pieces: Iterable[str]) -> str:
        """What macros and blocks have written, before it is one string."""
        written = list(pieces)
        self.budget.check_length(sum(map(len, written)))
        return "".join(written)


def _length_of(operator: str, left: Any, right: Any) -> int:
    """Of what one operator can make long: a repetition, or a power, in bits; 0 for all others."""
    match operator, left, right:
        case ("*", str() | list() | tuple(), int()):
            return len(left) * right
        case ("*", int(), str() | list() | tuple()):
            return left * len(right)
        case ("**", int(), int()):
            return left.bit_length() * right
        case _:
            return 0


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
