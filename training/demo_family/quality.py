"""How good the target is: chrF and BLEU of its greedy translations of everyday pairs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from engine.identity import target_id
from training.demo_family.corpus import LANGUAGES, Pair, everyday_pairs, pack, prompt_text
from training.demo_family.pairs import eos_id
from training.files import write_whole
from training.generation import write_greedily

SEED = 20_261_125
MAX_PACKED = 4
MAX_ANSWER_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Quality:
    """Greedy translation of pairs."""

    num_prompts: int
    chrf: float
    bleu: float
    mean_answer_tokens: float


def pack_in_order(pairs: Sequence[Pair], num_prompts: int, rng: random.Random) -> list[Pair]:
    """Up to `num_prompts` packs of 1 to 4 sentences, each sentence used once; fewer if the pairs run out."""
    packs: list[Pair] = []
    start = 0
    while start < len(pairs) and len(packs) < num_prompts:
        size = rng.randint(1, MAX_PACKED)
        packs.append(pack(pairs[start : start + size]))
        start += size
    return packs


def quality(model: LlamaForCausalLM, tokenizer: Tokenizer, pairs: Sequence[Pair]) -> Quality:
    """Corpus chrF and BLEU of the model's answers against the pairs' English."""
    prompts = [e.ids for e in tokenizer.encode_batch([prompt_text(pair.language, pair.source) for pair in pairs])]
    answers = write_greedily(model, prompts, [eos_id(tokenizer)], MAX_ANSWER_TOKENS)
    texts = tokenizer.decode_batch(answers, skip_special_tokens=True)
    references = [[pair.english for pair in pairs]]
    return Quality(
        len(pairs),
        round(CHRF().corpus_score(texts, references).score, 2),
        round(BLEU().corpus_score(texts, references).score, 2),
        round(sum(map(len, answers)) / len(answers), 2),
    )


def report_quality(corpus: Path, target_dir: Path, split: str, num_pairs: int | None, output: Path) -> None:
    """Write quality by language as JSON: sentences alone, and packed; `num_pairs` of a language at most."""
    tokenizer = Tokenizer.from_file(str(target_dir / "tokenizer.json"))
    target = LlamaForCausalLM.from_pretrained(target_dir, dtype=torch.float32, local_files_only=True).eval()
    report: dict[str, dict[str, object]] = {"single": {}, "packed": {}}
    for language, pairs in everyday_pairs(corpus, split).items():
        if not pairs:
            raise ValueError(
                f"{corpus}/{split} has no everyday {LANGUAGES[language]} pairs; is it the training corpus'?"
            )
        packs = pack_in_order(pairs, num_pairs or len(pairs), random.Random(SEED))
        alone, packed = quality(target, tokenizer, pairs[:num_pairs]), quality(target, tokenizer, packs)
        report["single"][language], report["packed"][language] = asdict(alone), asdict(packed)
        print(f"{language}: chrF {alone.chrf} single, {packed.chrf} packed", flush=True)
    write_whole(output, {"target_id": target_id(target_dir), "split": split, **report})
