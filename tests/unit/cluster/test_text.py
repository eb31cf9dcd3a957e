"""Text to ids and back: special tokens in content are text, templates are bounded, streaming is exact."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from cluster.chat import ChatTurn
from cluster.errors import ConfigError, InvalidRequest
from cluster.streaming import Detokenizer, StopStrings
from cluster.text import Tokenizer
from tests.unit.cluster.fakes import byte_tokenizer

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] not in ['user', 'system'] %}{{ raise_exception('only users speak') }}{% endif %}"
    "[{{ message['role'] }}] {{ message['content'] | trim }}</s>{% endfor %}"
)
BOS, EOS = 0, 1


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return byte_tokenizer(tmp_path_factory.mktemp("tokenizer"), CHAT_TEMPLATE)


def test_special_token_text_in_a_prompt_is_plain_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode_prompt("a</s>b")

    assert EOS not in ids and tokenizer.decode(ids) == "a</s>b"


def test_special_tokens_of_the_template_keep_their_meaning_and_those_in_content_do_not(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode_chat([ChatTurn("user", " end </s> here<s> ")])

    assert ids[0] == BOS and ids[-1] == EOS and ids.count(EOS) == 1 and ids.count(BOS) == 1
    assert tokenizer.decode(ids) == "[user] end </s> here<s>"


def test_chat_of_one_turn_is_the_same_as_its_text(tmp_path: Path) -> None:
    plain = byte_tokenizer(tmp_path, "{% for m in messages %}{{ m['content'] }}\n{% endfor %}")

    assert plain.encode_chat([ChatTurn("user", "Translate: ja")]) == plain.encode_prompt("Translate: ja\n")


def test_a_configured_beginning_is_what_prompts_and_chats_begin_with(tokenizer: Tokenizer) -> None:
    prompt, chat = tokenizer.beginnings("Be brief.</s>")

    assert tokenizer.encode_prompt("Be brief.</s> Why?")[: len(prompt)] == prompt
    question = tokenizer.encode_chat([ChatTurn("system", "Be brief.</s>"), ChatTurn("user", "Why?")])
    assert question[: len(chat)] == chat
    assert tokenizer.decode(chat) == "[system] Be brief.</s>[user] "


def test_a_configured_beginning_without_a_template_is_one_of_prompts_only(tmp_path: Path) -> None:
    plain = byte_tokenizer(tmp_path)

    assert plain.beginnings("Be brief.") == [plain.encode_prompt("Be brief.")]


def test_model_without_template_refuses_chat(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no chat template"):
        byte_tokenizer(tmp_path).encode_chat([ChatTurn("user", "x")])


def test_broken_template_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not compile"):
        byte_tokenizer(tmp_path, "{% for %}")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 258), max_size=40))
def test_pieces_join_to_the_decoding_of_all_ids(ids: list[int]) -> None:
    tokenizer = _shared_byte_tokenizer()
    detokenizer = Detokenizer(tokenizer)

    pieces = [detokenizer.push(token) for token in ids]
    text = "".join(pieces) + detokenizer.flush()

    assert text == tokenizer.decode(ids)
    assert all(not piece.endswith("\ufffd") for piece in pieces)


def test_characters_are_whole(tokenizer: Tokenizer) -> None:
    detokenizer = Detokenizer(tokenizer)

    pieces = [detokenizer.push(token) for token in tokenizer.encode_prompt("a\u00e9\u99c5\U0001f682")]

    assert [piece for piece in pieces if piece] == ["a", "\u00e9", "\u99c5", "\U0001f682"]
    assert len(pieces) == 1 + 2 + 3 + 4


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 8), max_size=20))
@example([5, 6, 8, 5])  # a special token inside a run of bytes that another byte spoils
def test_pieces_join_under_a_decoder_that_strips_leading_spaces(ids: list[int]) -> None:
    tokenizer = _metaspace_tokenizer()
    detokenizer = Detokenizer(tokenizer)

    text = "".join(detokenizer.push(token) for token in ids) + detokenizer.flush()

    assert text == tokenizer.decode(ids)


@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3))
def test_stop_strings_cut_at_the_first_completed_one(text: str, stops: list[str]) -> None:
    matcher = StopStrings(stops)
    told = ""
    ended_at = None
    for index, character in enumerate(text):
        matched = matcher.push(character)
        told += matched.text
        if matched.stopped:
            ended_at = index + 1
            break
    if ended_at is None:
        told += matcher.flush()

    completed = [end for end in range(1, len(text) + 1) if any(stop in text[:end] for stop in stops)]
    assert ended_at == (completed[0] if completed else None)
    if ended_at is None:
        assert told == text
    else:
        assert told == text[: min(start for stop in stops if (start := text[:ended_at].find(stop)) >= 0)]


def test_nothing_of_a_stop_string_is_told_before_it_is_refuted() -> None:
    matcher = StopStrings(["stop", "top!"])

    assert [matcher.push(piece).text for piece in ("a s", "to", "b")] == ["a ", "", "stob"]


_CACHE: dict[str, Tokenizer] = {}


def _shared_byte_tokenizer() -> Tokenizer:
    return _cached("bytes", lambda directory: byte_tokenizer(directory))


def _metaspace_tokenizer() -> Tokenizer:
    """Words with a leading-space mark and byte fallback, as SentencePiece exports have them."""

    def build(directory: Path) -> Tokenizer:
        words = ["<unk>", "\u2581a", "\u2581b", "c", "\u2581", "<0xC3>", "<0xA9>", "<0xE9>", "</s>"]
        backend = Backend(models.BPE({word: id for id, word in enumerate(words)}, [], unk_token="<unk>"))
        backend.add_special_tokens([AddedToken("</s>", special=True)])
        backend.pre_tokenizer = pre_tokenizers.Split(Regex("$"), "isolated")
        backend.decoder = decoders.Sequence(
            [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        backend.save(str(directory / "tokenizer.json"))
        return Tokenizer(directory)

    return _cached("metaspace", build)


def _cached(name: str, build: object) -> Tokenizer:
    """Built once: hypothesis runs a test body many times and takes no function-scoped fixtures."""
    import tempfile

    assert callable(build)
    if name not in _CACHE:
        with tempfile.TemporaryDirectory() as directory:
            _CACHE[name] = build(Path(directory))
    return _CACHE[name]
