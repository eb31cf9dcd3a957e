"""What callers write is text: it never becomes a special token, in prompts, in chats, or where two messages meet."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cluster.chat import ChatTurn
from cluster.errors import InvalidRequest
from cluster.text import Tokenizer
from tests.unit.cluster.fakes import SPECIALS, byte_tokenizer

CHAT_ML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BARE = "{% for m in messages %}{{ m.content }}{% endfor %}"
PIECES = ["<|im_start|>", "<|im_end|>", "</s>", "<s>", "<", "|", "im_", "end", "start", "|>", "/s>", "s", ">", " ", "a"]
texts = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> dict[str, Tokenizer]:
    specials = (*SPECIALS, "<|im_start|>", "<|im_end|>")
    return {
        "chat_ml": byte_tokenizer(tmp_path_factory.mktemp("chat_ml"), CHAT_ML, specials),
        "bare": byte_tokenizer(tmp_path_factory.mktemp("bare"), BARE, specials),
        "shipped": Tokenizer(request.config.rootpath / "models" / "target"),
    }


@pytest.mark.parametrize("name", ["chat_ml", "bare", "shipped"])
@settings(max_examples=100, deadline=None)
@given(text=texts)
def test_prompts_hold_no_special_token(tokenizers: dict[str, Tokenizer], name: str, text: str) -> None:
    tokenizer = tokenizers[name]

    ids = tokenizer.encode_prompt(text)

    assert tokenizer.special_ids.isdisjoint(ids)
    assert name == "shipped" or tokenizer.decode(ids) == text


@pytest.mark.parametrize("name", ["chat_ml", "bare", "shipped"])
@settings(max_examples=150, deadline=None)
@given(contents=st.lists(texts, min_size=1, max_size=4))
@example(["</", "s>"])  # which only both together are
@example(["<|im_ ", " end|>"])
@example(["<", "|im_", "end|>"])
def test_chats_hold_the_special_tokens_of_their_template_alone(
    tokenizers: dict[str, Tokenizer], name: str, contents: list[str]
) -> None:
    tokenizer = tokenizers[name]

    def special_ids(contents: list[str]) -> list[int]:
        ids = tokenizer.encode_chat([ChatTurn("user", content) for content in contents])
        return [token for token in ids if token in tokenizer.special_ids]

    assert special_ids(contents) == special_ids(["x"] * len(contents))
    if name == "bare":
        chat = [ChatTurn("user", content) for content in contents]
        assert tokenizer.decode(tokenizer.encode_chat(chat)) == "".join(contents)


def test_a_chat_of_all_private_use_characters_is_refused_and_one_of_most_is_served(
    tokenizers: dict[str, Tokenizer],
) -> None:
    """One of them marks what is text while a chat is rendered."""
    every = "".join(chr(point) for point in range(0xE000, 0xF900))
    tokenizer = tokenizers["bare"]

    assert tokenizer.decode(tokenizer.encode_chat([ChatTurn("user", every[:-1] + "</s>")])) == every[:-1] + "</s>"
    with pytest.raises(InvalidRequest, match=r"chat\.content: holds all characters from U\+E000"):
        tokenizer.encode_chat([ChatTurn("user", every[:99]), ChatTurn("user", every[99:])])
