"""Seeded requests of all kinds: short and long, beginnings in common, chats, stop strings; and some to be refused."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.chaos.traffic import Question, questions
from polydraft import ChatMessage, GenerateOptions
from polydraft.commands.demo_sentences import SENTENCES

LONG_TOKENS = 200
REFUSED = (
    Question(0, "", GenerateOptions()),
    Question(1, b"Guten \xff\xfe Tag", GenerateOptions()),
    Question(2, "house " * 2_000, GenerateOptions()),
    Question(3, "Guten Tag", GenerateOptions(language="xx")),
    Question(4, "Guten Tag", GenerateOptions(speculation="klingon")),
    Question(5, "Guten Tag", GenerateOptions(temperature=-0.5)),
    Question(6, "Guten Tag", GenerateOptions(max_tokens=0)),
)


def mixed_questions(count: int, seed: int, *, has_chats: bool) -> list[Question]:
    """As many requests; of each four one is short, and one long behind what others of its language begin with too."""
    return [_varied(question, has_chats) for question in questions(count, seed)]


def _varied(question: Question, has_chats: bool) -> Question:
    assert isinstance(question.prompt, str)
    task, _, text = question.prompt.partition(": ")
    match question.number % 4:
        case 0:
            return replace(question, prompt=f"{task}: {text[:12].rstrip()}\n")
        case 1:
            space = "" if question.language in ("ja", "zh") else " "
            common = "".join(sentence + space for sentence in SENTENCES[question.language])
            options = GenerateOptions(**{**question.options, "max_tokens": LONG_TOKENS})
            return replace(question, prompt=f"{task}: {common}{text}", options=options)
        case 2 if has_chats:
            return replace(question, prompt=[ChatMessage("user", question.prompt.rstrip("\n"))])
        case _:
            return question
