"""A text is asked in training as it is when it is served."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from training.data import Text, Turn
from training.prompts import PromptEncoder

TEXT = Text("0.1", (Turn("user", "Der Wagen3 steht im Hof."),), "The car number 3 waits")


def test_a_prompt_goes_through_the_chat_template(tiny_target: Path, tiny_tokenizer: Tokenizer) -> None:
    (encoded,) = PromptEncoder(tiny_target, chat=None).encode([TEXT])

    assert tiny_tokenizer.decode(list(encoded.prompt_ids)) == "Der Wagen3 steht im Hof.\n"
    assert encoded.answer_ids is not None
    assert encoded.answer_ids[-1] == 1
    assert tiny_tokenizer.decode(list(encoded.answer_ids[:-1])) == "The car number 3 waits"


def test_without_chat_it_is_encoded_as_it_stands(tiny_target: Path, tiny_tokenizer: Tokenizer) -> None:
    (encoded,) = PromptEncoder(tiny_target, chat=False).encode([TEXT])

    assert tiny_tokenizer.decode(list(encoded.prompt_ids)) == "Der Wagen3 steht im Hof."


def test_a_target_without_a_template_cannot_chat(tiny_target: Path, tmp_path: Path) -> None:
    target = shutil.copytree(tiny_target, tmp_path / "target")
    (target / "chat_template.jinja").unlink()

    with pytest.raises(ValueError, match="no chat template; set chat: false"):
        PromptEncoder(target, chat=True)
    assert PromptEncoder(target, chat=None).encode([TEXT])[0].prompt_ids


def test_text_of_a_special_token_is_left_out(tiny_target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forged = Text("0.2", (Turn("user", "Der </s> steht."),), None)

    assert [text.id for text in PromptEncoder(tiny_target, None).encode([TEXT, forged])] == ["0.1"]
    assert "1 texts hold special tokens such as <s>" in capsys.readouterr().out


def test_a_text_without_an_answer_is_learned_whole(tiny_target: Path, tiny_tokenizer: Tokenizer) -> None:
    plain = Text("0.3", (Turn("user", "Wagen im Hof"),), None)

    answered, whole = PromptEncoder(tiny_target, None).examples([TEXT, plain])

    assert len(answered.prompt_ids) > 1
    assert len(whole.prompt_ids) == 1
    assert tiny_tokenizer.decode([*whole.prompt_ids, *whole.answer_ids]) == "Wagen im Hof"
    assert whole.answer_ids[-1] == 1
