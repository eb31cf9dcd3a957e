"""The chat template is rendered in bounds of time and size, and what goes wrong in it is the caller's to see."""

from __future__ import annotations

import pytest

from cluster.chat import ChatTemplate, ChatTurn
from cluster.errors import InvalidRequest

TURNS = [ChatTurn("user", "Wo ist das?"), ChatTurn("assistant", "Da."), ChatTurn("user", "Danke")]


class CountingClock:
    """A millisecond passes with each look at it, so that what is refused does not depend on the machine."""

    def __init__(self) -> None:
        self.num_looks = 0

    def __call__(self) -> float:
        self.num_looks += 1
        return self.num_looks / 1_000


def render(source: str, turns: list[ChatTurn] = TURNS) -> str:
    return ChatTemplate(source, {"bos_token": "<s>"}, CountingClock()).render(turns)


def test_loops_are_as_jinja_has_them() -> None:
    """The watched items have a length, a first and a last, can be filtered, unpacked and nested."""
    source = (
        "{{ bos_token }}{% for m in messages if m.role == 'user' %}"
        "{{ loop.index }}/{{ loop.length }}{{ '!' if loop.last }} {{ m.content }}"
        "{% for key, value in m.items() %}{{ key }}{% else %}none{% endfor %};{% endfor %}"
        "{% for m in [] %}{% else %}empty{% endfor %}{% for m in nothing %}{{ m }}{% endfor %}"
        "{% for one in messages recursive %}{{ one.role[0] if one.role else loop(['']) }}{% endfor %}"
    )

    assert render(source) == "<s>1/2 Wo ist das?rolecontent;2/2! Dankerolecontent;emptyuau"


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% set r = range(99999) %}{% for i in r %}{% for j in r %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(n=0) %}{% for i in range(9999) %}{% set ns.n = ns.n + 1 %}{% endfor %}",
        "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for a in messages[0].content * 9 %}{% for b in messages[0].content * 9 %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{{ i }}{% endfor %}",
    ],
)
def test_a_template_that_does_not_end_is_given_up(source: str) -> None:
    with pytest.raises(
        InvalidRequest, match=r"^chat: the template (takes too long over it|refused it: RecursionError)"
    ):
        render(source)


def test_a_loop_that_writes_nothing_is_given_up_by_the_real_clock_too() -> None:
    source = "{% set r = range(99999) %}{% for i in r %}{% for j in r %}{% endfor %}{% endfor %}"

    with pytest.raises(InvalidRequest, match="takes too long"):
        ChatTemplate(source, {}).render(TURNS)


def test_a_pause_of_the_process_is_not_the_templates() -> None:
    """Python's garbage collector may run within: a chat of three short messages was refused for it."""
    looks = iter([0.0, 0.001, 9.0, *(9 + number / 1_000 for number in range(100))])

    assert ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}", {}, lambda: next(looks)).render(TURNS)


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99) %}{{ 'x' * 9999 }}{% endfor %}",
        "{{ 'x' * 10 ** 12 }}",
        "{{ 10 ** 12 * messages }}",
        "{{ 7 ** (10 ** 9) }}",
        "{% macro m() %}{% for i in range(99) %}{{ 'x' * 9999 }}{% endfor %}{% endmacro %}{{ m() | length }}",
        "{% set s %}{% for i in range(99) %}{{ 'x' * 9999 }}{% endfor %}{% endset %}{{ s | length }}",
    ],
)
def test_a_template_that_writes_out_of_proportion_is_given_up(source: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^chat: the rendered chat is too long"):
        render(source)


def test_the_bound_grows_with_the_messages() -> None:
    twice = "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}"

    assert len(render(twice, [ChatTurn("user", "x" * 300_000)])) == 600_000


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ raise_exception('only users speak') }}", "only users speak"),
        ("{{ raise_exception(messages[0].content * 99) }}", r"(Wo ist das\?)+"),
        (r"{{ raise_exception('two\nlines') }}", r"two\\nlines$"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "is unsafe"),
        ("{{ messages.append(1) }}", "is unsafe"),
        ("{{ messages[0].update({}) }}", "is unsafe"),
        ("{{ missing.attribute }}", "'missing' is undefined"),
        ("{{ 1 // 0 if messages else '' }}", "ZeroDivisionError; check the messages"),
        ("{{ messages + 1 }}", "TypeError; check the messages"),
        ("{{ messages[0].content.index('#') }}", "ValueError; check the messages"),
        ("{{ 'x' | center(messages | length * 10 ** 15) }}", "MemoryError; check the messages"),
        ("{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}", "takes too long|RecursionError"),
    ],
)
def test_whatever_fails_in_a_template_is_one_short_line(source: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^chat: the (template|rendered).*({words})") as caught:
        render(source)

    assert len(caught.value.message) < 200
    assert caught.value.message.isprintable()


def test_one_chat_that_is_given_up_spoils_no_other() -> None:
    source = "{% for m in messages %}{% for character in m.content %}{% endfor %}{{ m.content }}{% endfor %}"
    template = ChatTemplate(source, {}, CountingClock())

    with pytest.raises(InvalidRequest, match="takes too long"):
        template.render([ChatTurn("user", "x" * 1_000)])

    assert template.render([ChatTurn("user", "x" * 100)]) == "x" * 100
