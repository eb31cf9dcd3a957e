"""Batches whose answers the drafter writes and the target judges: the drafter learns where it goes itself.

DistillSpec (2310.08461, section 4) finds on-policy data to matter most. There is no gradient through sampling.

Shape letters: B prompts, T tokens, V vocabulary, K likeliest tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import LlamaForCausalLM, PreTrainedModel

from training.distil import hash_seed
from training.drafter import TrimmedVocabulary
from training.examples import IGNORED, Example, make_batch
from training.generation import write_answers
from training.lessons import LessonBatch, LessonMaker, make_lesson_batch


@dataclass(frozen=True, slots=True)
class OnPolicy:
    """The target as judge of what drafters write."""

    target: PreTrainedModel
    eos_ids: tuple[int, ...]
    max_new_tokens: int
    top_k: int

    def batch(
        self,
        drafter: LlamaForCausalLM,
        vocabulary: TrimmedVocabulary,
        maker: LessonMaker,
        prompts: Sequence[Sequence[int]],
        seed: str,
    ) -> LessonBatch:
        """The drafter's answers at temperature 1, with the target's law at each place of them."""
        answers = self._written(drafter, vocabulary, prompts, seed)
        laws = self._laws([Example(tuple(p), tuple(a)) for p, a in zip(prompts, answers, strict=True)])
        lessons = [maker.lesson(p, a, *law) for p, a, law in zip(prompts, answers, laws, strict=True)]
        return make_lesson_batch(lessons, is_on_policy=True)

    def _written(
        self, drafter: LlamaForCausalLM, vocabulary: TrimmedVocabulary, prompts: Sequence[Sequence[int]], seed: str
    ) -> list[list[int]]:
        """Answers in the target's ids."""
        generator = torch.Generator(drafter.device).manual_seed(hash_seed(seed))
        answers = write_answers(
            drafter,
            [vocabulary.rows(prompt) for prompt in prompts],
            [1.0] * len(prompts),
            [vocabulary.row_of_id[token] for token in self.eos_ids if token in vocabulary.row_of_id],
            self.max_new_tokens,
            generator,
            top_k=1,
            num_choices=vocabulary.num_head_tokens,
        )
        return [[vocabulary.token_ids[row] for row in answer.token_ids] for answer in answers]

    @torch.inference_mode()
    def _laws(self, written: Sequence[Example]) -> list[tuple[list[list[int]], list[list[float]]]]:
        """For each answer its likeliest tokens and their probabilities, [T][K]. The row before a token is its law."""
        batch = make_batch(written)
        logits_BTV = self.target(batch.ids_BT.to(self.target.device), use_cache=False).logits
        top = logits_BTV[batch.labels_BT != IGNORED].float().softmax(-1).topk(self.top_k)
        lengths = [len(example.answer_ids) for example in written]
        parts = zip(top.indices.split(lengths), top.values.split(lengths), strict=True)
        return [(ids_TK.tolist(), probs_TK.tolist()) for ids_TK, probs_TK in parts]
