"""How good the target is (chrF) and how well each drafter foresees it (tokens a round), on the everyday test pairs.

Tokens a round follow the protocol of Yi et al. (2406.16758) without a cluster: the target's greedy answer is known,
the drafter is run over it once, and a round commits the run of places where the drafter's choice is the target's,
at most `max_drafted`, plus the target's own token. EOS counts as a token.
"""

from __future__ import annotations

import json
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
from training.corpus import LANGUAGES, Pair, everyday_pairs, pack, prompt_text
from training.drafter import TrimmedVocabulary, draft_logits, load_drafter
from training.examples import IGNORED, Example, eos_id, groups_by_length, make_batch
from training.generation import write_greedily

SEED = 20_261_125
MAX_DRAFTED = 4
MAX_PACKED = 4
MAX_ANSWER_TOKENS = 128
TOKENS_A_BATCH = 4_000


@dataclass(frozen=True, slots=True)
class Quality:
    """Greedy translation of test pairs."""

    num_prompts: int
    chrf: float
    bleu: float
    mean_answer_tokens: float


@dataclass(frozen=True, slots=True)
class Foresight:
    """How a drafter fares on the answers of one language."""

    agreement: float
    """Share of answer tokens that are the drafter's first choice."""
    tokens_per_round: float


def pack_in_order(pairs: Sequence[Pair], num_prompts: int, rng: random.Random) -> list[Pair]:
    """Up to `num_prompts` packs of 1 to 4 sentences, each sentence used once; fewer if the pairs run out."""
    packs: list[Pair] = []
    start = 0
    while start < len(pairs) and len(packs) < num_prompts:
        size = rng.randint(1, MAX_PACKED)
        packs.append(pack(pairs[start : start + size]))
        start += size
    return packs


def answer_pairs(model: LlamaForCausalLM, tokenizer: Tokenizer, pairs: Sequence[Pair]) -> list[Example]:
    """The pairs' prompts with the model's own greedy answers."""
    encoded = tokenizer.encode_batch([prompt_text(pair.language, pair.source) for pair in pairs])
    prompts = [encoding.ids for encoding in encoded]
    answers = write_greedily(model, prompts, eos_id(tokenizer), MAX_ANSWER_TOKENS)
    return [Example(tuple(p), tuple(a.token_ids)) for p, a in zip(prompts, answers, strict=True)]


def quality(tokenizer: Tokenizer, pairs: Sequence[Pair], answered: Sequence[Example]) -> Quality:
    """Corpus chrF and BLEU of the answers against the pairs' English."""
    texts = tokenizer.decode_batch([list(example.answer_ids) for example in answered], skip_special_tokens=True)
    references = [[pair.english for pair in pairs]]
    num_tokens = sum(len(example.answer_ids) for example in answered)
    return Quality(
        len(pairs),
        round(CHRF().corpus_score(texts, references).score, 2),
        round(BLEU().corpus_score(texts, references).score, 2),
        round(num_tokens / len(answered), 2),
    )


@torch.inference_mode()
def hits(drafter: LlamaForCausalLM, vocabulary: TrimmedVocabulary, answered: Sequence[Example]) -> list[list[bool]]:
    """For each answer token, whether it is the drafter's first choice after the tokens before it."""
    result: dict[int, list[bool]] = {}
    head = vocabulary.token_ids[: vocabulary.num_head_tokens]
    head_ids_H = torch.tensor(head)
    as_rows = [
        Example(tuple(vocabulary.rows(example.prompt_ids)), tuple(vocabulary.rows(example.answer_ids)))
        for example in answered
    ]
    for group in groups_by_length(as_rows, TOKENS_A_BATCH, random.Random(SEED)):
        rows_BT = make_batch([as_rows[i] for i in group]).ids_BT
        answers_BT = make_batch([answered[i] for i in group]).labels_BT
        choices_BT = head_ids_H[draft_logits(drafter, vocabulary, rows_BT).argmax(-1)]
        for index, choice_T, answer_T in zip(group, choices_BT, answers_BT, strict=True):
            labelled_T = answer_T != IGNORED
            result[index] = (choice_T[labelled_T] == answer_T[labelled_T]).tolist()
    return [result[i] for i in range(len(answered))]


def count_rounds(answer_hits: Sequence[bool], max_drafted: int) -> int:
    """Rounds that an answer takes.

    count_rounds([True, True, False, True], 4) -> 2: two drafted tokens and a correction, then one drafted token.
    """
    position, rounds = 0, 0
    while position < len(answer_hits):
        drafted = 0
        while drafted < max_drafted and position < len(answer_hits) and answer_hits[position]:
            position, drafted = position + 1, drafted + 1
        position, rounds = position + 1, rounds + 1
    return rounds


def foresight(drafter: LlamaForCausalLM, vocabulary: TrimmedVocabulary, answered: Sequence[Example]) -> Foresight:
    """Agreement and tokens a round, pooled over the answers."""
    of_answers = hits(drafter, vocabulary, answered)
    num_tokens = sum(len(of_answer) for of_answer in of_answers)
    num_rounds = sum(count_rounds(of_answer, MAX_DRAFTED) for of_answer in of_answers)
    return Foresight(round(sum(map(sum, of_answers)) / num_tokens, 4), round(num_tokens / num_rounds, 3))


def evaluate(corpus: Path, target_dir: Path, drafters: Path, split: str, num_pairs: int, output: Path) -> None:
    """Write quality by language and the drafter x language matrix as JSON; drafters that are not there are left out."""
    tokenizer = Tokenizer.from_file(str(target_dir / "tokenizer.json"))
    target = LlamaForCausalLM.from_pretrained(target_dir, dtype=torch.float32).eval()
    everyday = everyday_pairs(corpus, split)
    loaded = {code: load_drafter(drafters / code) for code in LANGUAGES if (drafters / code / "drafter.json").exists()}
    single: dict[str, Quality] = {}
    packed: dict[str, Quality] = {}
    matrix: dict[str, dict[str, Foresight]] = {code: {} for code in loaded}
    for language, pairs in everyday.items():
        if not pairs:
            raise ValueError(
                f"{corpus}/{split} has no everyday {LANGUAGES[language]} pairs; is it the training corpus'?"
            )
        chosen = pairs[:num_pairs]
        single[language] = quality(tokenizer, chosen, answer_pairs(target, tokenizer, chosen))
        packs = pack_in_order(pairs, num_pairs, random.Random(SEED))
        answered = answer_pairs(target, tokenizer, packs)
        packed[language] = quality(tokenizer, packs, answered)
        for code, (drafter, vocabulary) in loaded.items():
            matrix[code][language] = foresight(drafter.eval(), vocabulary, answered)
        print(f"{language}: chrF {single[language].chrf} single, {packed[language].chrf} packed", flush=True)
    report = {
        "target_id": target_id(target_dir),
        "split": split,
        "max_drafted": MAX_DRAFTED,
        "single": {code: asdict(found) for code, found in single.items()},
        "packed": {code: asdict(found) for code, found in packed.items()},
        "drafters": {code: {to: asdict(found) for to, found in row.items()} for code, row in matrix.items()},
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")
