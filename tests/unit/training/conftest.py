"""A tiny corpus of our own sentences, a tokenizer and a random target made from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from training.demo_family.tokenizer import export_tokenizer, train_tokenizer

SENTENCES = {
    "de": "Der {} steht im Hof.",
    "fr": "Le {} attend dehors.",
    "ru": "\u0422\u0430\u043c {} \u0438 \u0441\u043d\u0435\u0433.",
    "ja": "{}\u304c\u597d\u304d\u3067\u3059\u3002",
    "zh": "\u6211\u559c\u6b22{}\u3002",
}


def _lines(language: str, start: int, count: int) -> str:
    """The English of validation and test uses words of the training pairs, as everyday pairs must."""
    numbers = range(start, start + count)
    return "".join(f"{SENTENCES[language].format(f'Wagen{i}')}\tThe car number {i % 40} waits\n" for i in numbers)


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty training pairs a language and five for validation and test."""
    root = tmp_path_factory.mktemp("corpus")
    for split, start, count in (("train", 0, 40), ("valid", 40, 5), ("test", 45, 5)):
        (root / split).mkdir()
        for language in SENTENCES:
            (root / split / f"{language}-en.tsv").write_text(_lines(language, start, count), encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def tiny_target(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama whose weights are large enough that its choices differ from place to place."""
    directory = tmp_path_factory.mktemp("target")
    tokenizer = train_tokenizer(tiny_corpus, vocab_size=400)
    export_tokenizer(tokenizer, directory)
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(5.0)
    model.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_target: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tiny_target / "tokenizer.json"))


@pytest.fixture(scope="session")
def tiny_model(tiny_target: Path) -> LlamaForCausalLM:
    model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(tiny_target, dtype=torch.float32)
    model.eval()
    return model
