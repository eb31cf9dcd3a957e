"""A tiny target with a tokenizer and a chat template, drafters trained for it (in name), and their configuration."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from tokenizers import Tokenizer, models, pre_tokenizers

from engine.identity import target_id, tokenizer_hash
from tests.fakes_drafter import write_tiny_drafter
from tests.tiny_targets import VOCAB_SIZE, write_tiny_target

CHAT_TEMPLATE = "{% for message in messages %}t4 {{ message['content'] }} t5 {% endfor %}"


def write_tiny_family(directory: Path, languages: tuple[str, ...] = ("de", "fr")) -> Path:
    """Words are t0, t1, ...; returns the configuration. Beside a drafter for each language there is `lookup`."""
    target = write_tiny_target(directory / "target")
    tokenizer = Tokenizer(models.WordLevel({f"t{number}": number for number in range(VOCAB_SIZE)}, unk_token="t3"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(target / "tokenizer.json"))
    (target / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    drafters: dict[str, object] = {"lookup": {"method": "ngram"}}
    for seed, language in enumerate(languages):
        model = directory / language
        write_tiny_drafter(model, seed=seed)
        manifest = json.loads((model / "drafter.json").read_text())
        manifest |= {
            "language": language,
            "target_id": target_id(target),
            "tokenizer_hash": tokenizer_hash(target / "tokenizer.json"),
        }
        (model / "drafter.json").write_text(json.dumps(manifest))
        drafters[language] = {"method": "lm", "model": language, "languages": [language], "max_draft_tokens": 4}
    config = {"target": {"model": "target", "num_pages": 64}, "drafters": drafters}
    (directory / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return directory / "config.yaml"
