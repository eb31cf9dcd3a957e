"""A tiny corpus, target and tokenizer for all tests of training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from tests.tiny_recipe import write_corpus, write_target


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def tiny_target(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_target(tmp_path_factory.mktemp("target"), tiny_corpus)


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_target: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tiny_target / "tokenizer.json"))


@pytest.fixture(scope="session")
def tiny_model(tiny_target: Path) -> LlamaForCausalLM:
    model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(tiny_target, dtype=torch.float32)
    model.eval()
    return model


@pytest.fixture(autouse=True)
def as_many_threads_as_before() -> Iterator[None]:
    """Commands set them for their process."""
    num_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(num_threads)
