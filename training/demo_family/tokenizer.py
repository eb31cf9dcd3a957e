"""The demo family's tokenizer: byte-level BPE over source sentences, English and the prompt form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from training.demo_family.corpus import everyday_pairs, instruction

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
# Chat in the prompt form of the training data: each turn ends with a line break.
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"


def train_tokenizer(corpus: Path, vocab_size: int = 8192) -> Tokenizer:
    """Byte-level BPE on the everyday subset; languages with few pairs are repeated so that each counts alike."""
    by_language = everyday_pairs(corpus, "train")
    largest = max(len(pairs) for pairs in by_language.values())

    def texts() -> Iterator[str]:
        for language, pairs in by_language.items():
            repeats = max(1, round(largest / len(pairs)))
            for _ in range(repeats):
                yield from (" " + pair.source for pair in pairs)
            yield from (pair.english for pair in pairs)
            yield from (instruction(language) for _ in range(1_000))

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer


def export_tokenizer(tokenizer: Tokenizer, directory: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` as transformers reads them."""
    directory.mkdir(parents=True, exist_ok=True)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD, clean_up_tokenization_spaces=False
    )
    wrapped.chat_template = CHAT_TEMPLATE
    wrapped.save_pretrained(directory)
