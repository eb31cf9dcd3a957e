"""Stop strings across tokens, characters and breaks: what is told holds none of them, wherever a stream breaks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cluster.answer import Answer
from cluster.messages import FinishReason, Verdict
from cluster.request import Request, Resume
from cluster.text import Tokenizer
from tests.unit.cluster.fakes import byte_tokenizer, make_request

CHARACTERS = "ab\u00e9\u99c5\U0001f682"
"""Of one to four bytes, each byte a token."""
stop_strings = st.lists(st.text(CHARACTERS, min_size=1, max_size=4), max_size=4).map(tuple)
group_sizes = st.lists(st.integers(1, 7), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> dict[str, Tokenizer]:
    return {
        "bytes": byte_tokenizer(tmp_path_factory.mktemp("tokenizer")),
        "shipped": Tokenizer(request.config.rootpath / "models" / "target"),
    }


def told(
    tokenizer: Tokenizer,
    ids: Sequence[int],
    stop: tuple[str, ...],
    sizes: Sequence[int],
    *,
    until: int | None = None,
    resume: Resume | None = None,
) -> tuple[str, Answer]:
    """What an answer of these tokens tells, in verdicts of these sizes in turn; behind `until` the router is gone."""
    request: Request = make_request(tokenizer, stop=stop, resume=resume, max_tokens=1_000)
    answer = Answer(request, tokenizer)
    text, turn = "", 0
    last = len(ids) if until is None else until
    while answer.finish_reason is None and (until is None or len(answer.token_ids) < until):
        done = len(answer.token_ids)
        tokens = tuple(ids[done : min(done + sizes[turn % len(sizes)], last)])
        finish = FinishReason.EOS if done + len(tokens) == len(ids) else None
        length = answer.length
        verdict = Verdict(length, tokens, 0, 0, length + len(tokens), 0, turn, finish_reason=finish)
        chunk = answer.take(verdict, is_prefill=False)
        text += chunk.text if chunk is not None else ""
        turn += 1
    return text, answer


def expected(text: str, stops: Sequence[str]) -> str:
    """Up to the stop string that is completed first, character by character; of several the one that begins first."""
    for end in range(len(text) + 1):
        starts = [start for stop in stops if (start := text[:end].find(stop)) >= 0]
        if starts:
            return text[: min(starts)]
    return text


def check_every_break(
    tokenizer: Tokenizer, ids: list[int], stop: tuple[str, ...], sizes: list[int], whole: str, num_tokens: int
) -> None:
    for until in range(num_tokens + 1):
        before, broken = told(tokenizer, ids, stop, sizes, until=until)
        resume = Resume(tuple(broken.token_ids), "n1", 3, len(before.encode()))
        after, _ = told(tokenizer, ids, stop, sizes[::-1], resume=resume)
        assert before + after == whole, until


@settings(max_examples=150, deadline=None)
@given(text=st.text(CHARACTERS, max_size=14), stop=stop_strings, sizes=group_sizes)
@example(text="aab", stop=("ab", "aab"), sizes=[1])
@example(text="a\u99c5b", stop=("\u99c5c", "\u99c5b", "a\u99c5"), sizes=[2, 1])
def test_the_first_completed_stop_string_ends_the_text_at_every_break(
    tokenizers: dict[str, Tokenizer], text: str, stop: tuple[str, ...], sizes: list[int]
) -> None:
    tokenizer = tokenizers["bytes"]
    ids = tokenizer.encode_prompt(text)

    whole, answer = told(tokenizer, ids, stop, sizes)

    assert whole == expected(text, stop)
    assert not any(one in whole for one in stop)
    assert (answer.finish_reason is FinishReason.STOP) == (whole != text)
    check_every_break(tokenizer, ids, stop, sizes, whole, len(answer.token_ids))


@pytest.mark.parametrize("name", ["bytes", "shipped"])
@settings(max_examples=100, deadline=None)
@given(data=st.data(), sizes=group_sizes)
def test_tokens_of_many_characters_or_of_none_break_no_text(
    tokenizers: dict[str, Tokenizer], name: str, data: st.DataObject, sizes: list[int]
) -> None:
    """Any tokens, also bytes that are no characters, and stop strings that are cut out of their text."""
    tokenizer = tokenizers[name]
    ids = data.draw(st.lists(st.integers(0, tokenizer.backend.get_vocab_size() - 1), max_size=16))
    text = tokenizer.decode(ids)
    cuts = st.tuples(st.integers(0, len(text)), st.integers(1, 6)).map(lambda cut: text[cut[0] : sum(cut)])
    stop = data.draw(st.lists(cuts.filter(bool), max_size=3).map(tuple)) if text else ()

    whole, answer = told(tokenizer, ids, stop, sizes)

    assert text.startswith(whole) and (stop or whole == text)
    assert not any(one in whole for one in stop)
    check_every_break(tokenizer, ids, stop, sizes, whole, len(answer.token_ids))
