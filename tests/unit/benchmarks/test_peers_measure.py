"""How the systems are driven, and their figures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers.comparison import Comparison
from benchmarks.peers.contract import Bench, record
from benchmarks.peers.measure import ALONE, EIGHT, EIGHT_MIXED, Figure, Plan, loads_by_threads, run
from benchmarks.peers.report import make_row, table
from polydraft.commands.bench_load import Answer
from polydraft.commands.bench_stats import Record
from polydraft.commands.common import NamedPrompt

EOS = 1
QUESTIONS = [NamedPrompt(f"{language}-{number}", "", language) for language in ("de", "fr") for number in range(2)]
PLAN = Plan(QUESTIONS, phase_s=0.01, warmup=1)
BENCH = Bench(Path(), (), Path(), {}, Path(), {}, eos_id=EOS, max_tokens=8, num_draft_tokens=4)


@dataclass
class Echo:
    """A system that answers [5, 6], unless it fails; it notes each start and each question."""

    one_language: bool = False
    max_concurrency: int = 8
    name: str = "echo"
    fails: bool = False
    started: list[tuple[int, str]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def missing(self, bench: Bench) -> str:
        return ""

    def version(self, bench: Bench) -> str:
        return "echo 1"

    @asynccontextmanager
    async def start(self, bench: Bench, threads: int, language: str) -> AsyncIterator[Answer]:
        self.started.append((threads, language))
        if self.fails:
            raise RuntimeError("no such thing")

        async def answer(question: NamedPrompt, lap: int) -> Record:
            self.asked.append(str(question.id))
            return record(question, [5, 6, EOS], 0.0, bench)

        yield answer


def test_eos_and_what_follows_is_none_of_the_tokens() -> None:
    answer = record(QUESTIONS[0], [5, 6, EOS, EOS], 0.0, BENCH)

    assert answer.token_ids == (5, 6)
    assert answer.arrivals_s == ((answer.total_s, 2),)
    assert record(QUESTIONS[0], [5, 6], 0.0, BENCH).token_ids == (5, 6)


async def test_a_system_of_one_language_has_a_process_for_each_and_is_asked_no_other() -> None:
    system = Echo(one_language=True)

    figures = await run(system, BENCH, PLAN, 2, [ALONE])

    assert system.started == [(2, "de"), (2, "fr")]
    assert system.asked == ["de-0", "de-0", "de-1", "fr-0", "fr-0", "fr-1"]  # the first of each also warms up
    assert [(figure.language, len(figure.answers)) for figure in figures] == [("de", 2), ("fr", 2)]


async def test_only_systems_of_all_languages_are_asked_mixed() -> None:
    system = Echo()

    figures = await run(system, BENCH, PLAN, 1, [ALONE, EIGHT_MIXED])

    assert system.started == [(1, "")]
    assert [(figure.load, figure.language) for figure in figures] == [("1", "de"), ("1", "fr"), ("8 mixed", "mixed")]
    assert {answer.language for answer in figures[-1].answers} == {"de", "fr"}
    assert not EIGHT_MIXED.fits(Echo(one_language=True))
    assert not EIGHT.fits(Echo(max_concurrency=1))


async def test_a_system_that_fails_is_left_out_and_the_others_go_on() -> None:
    lines: list[str] = []
    broken, sound = Echo(name="broken", max_concurrency=1, fails=True), Echo(name="sound", max_concurrency=1)
    comparison = Comparison(BENCH, PLAN, [broken, sound], lines.append)

    await comparison.choose_threads([1, 2])
    await comparison.repeat()

    assert [(contender.failed, len(contender.repetitions)) for contender in comparison.contenders] == [
        (True, 0),
        (False, 1),
    ]
    assert len(broken.started) == 1  # not tried again
    assert [line.startswith("broken left out") for line in lines].count(True) == 1


def test_loads_with_the_same_number_of_threads_share_a_process() -> None:
    assert loads_by_threads({ALONE: 2, EIGHT: 1, EIGHT_MIXED: 1}) == {1: [EIGHT, EIGHT_MIXED], 2: [ALONE]}


def test_a_row_has_the_median_over_repetitions_of_the_mean_over_languages() -> None:
    def figure(language: str, speed: float, *token_ids: int) -> Figure:
        answer = record(NamedPrompt(language, "", language), token_ids, 0.0, BENCH)
        return Figure("echo", "1", 2, language, speed, (answer,))

    repetitions = [
        [figure("de", 10.0, 5, 6), figure("fr", 30.0, 7)],
        [figure("de", 20.0, 5, 6), figure("fr", 60.0, 8)],
        [figure("de", 40.0, 5, 6), figure("fr", 10.0, 7)],
    ]

    row = make_row("echo", "echo 1", repetitions, {"de": [5, 6], "fr": [7]}, lambda ids: [0, *ids])

    speed = row.speeds["1"]
    assert (speed.median, speed.threads, speed.languages) == (25.0, 2, {"de": 20.0, "fr": 30.0})  # of 20, 40, 25
    assert speed.ci95 == (20.0, 40.0)
    assert row.identical == {"1": (1, 2)}  # fr once said 8
    assert row.recount == (4, 7)  # three different texts: 5 6, 7, 8
    assert "| echo | **25** (20-40), 2 thr. | - | - | 1/2 | - |" in table([row], {})
