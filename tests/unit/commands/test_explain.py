"""`polydraft explain`: who drafted, and why, in words and as JSON."""

from __future__ import annotations

import pytest

from polydraft.answers import Answer, DrafterUse, Finished, FinishReason, Speculation, Started, Timing, Usage
from polydraft.commands.explain import explanation

USES = (
    DrafterUse("off", 1, 1, 0.005, 0, 0, 1.0, 1.0, 1.0),
    DrafterUse("lookup", 0, 0, 0.0, 8, 10, 1.1, 1.2, 1.25),
    DrafterUse("de", 10, 24, 0.06, 0, 0, 1.9, 2.0, 2.4),
)


def answer(drafter: str, uses: tuple[DrafterUse, ...] = ()) -> Answer:
    figures = Speculation(11, 40, 14, drafters=uses, drafter_changes=1 if uses else 0)
    started = Started("r", 1, "t", "n", "de", drafter, 3)
    finished = Finished(FinishReason.EOS, Usage(3, 25), figures)
    return Answer("text", tuple(range(25)), started, finished, Timing(0.1, 0.2))


def test_the_best_expected_stands_first_and_each_tells_what_it_brought() -> None:
    head, between, columns, *rows = explanation(answer("de", USES), None)

    assert head == "language de; began with de; 25 tokens in 11 rounds, 14 of 40 drafted tokens accepted"
    assert between == "3 to choose between, 1 change on the way:"
    assert columns.split("rate at first") == [
        "drafter".ljust(19),
        "  rounds  tokens  a round     ms   scored  rate now",
    ]
    assert [row.split() for row in rows] == [
        ["de", "1.90", "10", "24", "2.40", "6.0", "-", "2.00"],
        ["lookup", "1.10", "0", "0", "-", "-", "1.25", "1.20"],
        ["off", "1.00", "1", "1", "1.00", "5.0", "-", "1.00"],
    ]
    assert len({len(line) for line in (columns, *rows)}) == 1


@pytest.mark.parametrize(
    ("drafter", "speculation", "why"),
    [
        ("de", "de", "The request names 'de'"),
        ("off", "off", "The request names 'off'"),
        ("de", None, "'de' alone serves 'de'"),
        ("off", "auto", "No drafter serves 'de'"),
    ],
)
def test_without_a_choice_it_says_why(drafter: str, speculation: str | None, why: str) -> None:
    assert explanation(answer(drafter), speculation)[-1].startswith(why)
