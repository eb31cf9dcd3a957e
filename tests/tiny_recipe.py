"""A tiny corpus of our own sentences, a tokenizer and a random target made from it, and a recipe of a few steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml
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


def write_corpus(root: Path) -> Path:
    """Forty training pairs a language and five for validation and test."""
    for split, start, count in (("train", 0, 40), ("valid", 40, 5), ("test", 45, 5)):
        (root / split).mkdir()
        for language in SENTENCES:
            (root / split / f"{language}-en.tsv").write_text(_lines(language, start, count), encoding="utf-8")
    return root


def write_target(directory: Path, corpus: Path) -> Path:
    """A random Llama whose weights are large enough that its choices differ from place to place."""
    tokenizer = train_tokenizer(corpus, vocab_size=400)
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


LANGUAGES = {"de": "Der Wagen{} steht im Hof.", "fr": "Le Wagen{} attend dehors."}


def write_recipe(root: Path, target: Path, **changes: Any) -> Path:
    """A recipe of two languages and a few steps; `root` holds its data."""
    for code, sentence in LANGUAGES.items():
        rows = ({"source": sentence.format(n), "english": f"The car number {n % 40} waits"} for n in range(120))
        (root / f"{code}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    source = {"prompt": "{source}", "answer": "{english}"}
    content = {
        "target": str(target),
        "work": "work",
        "output": "drafters",
        "seed": 7,
        "languages": {code: {"data": [{"path": f"{code}.jsonl", **source}]} for code in LANGUAGES},
        "drafter": {"hidden_size": 32, "intermediate_size": 32, "heads": 2, "kv_heads": 1, "head_dim": 16},
        "pretrain": {"steps": 4, "tokens_per_batch": 300},
        "distil": {"temperatures": {0.0: 0.6, 1.0: 0.4}, "max_new_tokens": 6, "rows_per_batch": 16},
        "trim": {"rows": 60},
        "finetune": {"steps": 4, "tokens_per_batch": 300},
        "evaluate": {"records": 4},
    }
    path = root / "recipe.yaml"
    path.write_text(yaml.safe_dump(content | changes), encoding="utf-8")
    return path
