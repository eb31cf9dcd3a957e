"""A shadow of a drafter that learns from what the target committed.

At a place where the target overruled a draft its law is known, and the shadow learns that. At the other places of the
answer it learns the token that stands there, with a weight of its own: 0 is Online Speculative Decoding as published
(2310.07177, section 3), whose loss counts overruled places and nothing else. Prompts are only read.

What is judged and promoted is a moving average of its weights (Polyak and Juditsky 1992).

Shape letters: B answers, T tokens, N overruled places, O other places, K likeliest tokens of the target, H head rows,
D width.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from engine.corrections import Correction
from training.divergences import ABSENT, DIVERGENCES, buckets
from training.drafter import TrimmedVocabulary
from training.loop import split_parameters
from training.muon import Muon
from training.online.replay import Transcript
from training.online.settings import LearningSettings
from training.online.vocabulary import grown
from training.rows import TargetEmbedding, with_rows_of

MUON_RATE = 5.0
"""Of the matrices of layers, as a multiple of the rate of embeddings and norms."""
AVERAGE_KEEPS = 0.98
"""Of the averaged weights at each update: they look back about 50."""
MAX_GRADIENT_NORM = 1.0
TOKENS_A_PASS = 4_096
"""Of one forward and backward pass, padding included: it bounds the memory of an update."""


class Diverged(RuntimeError):
    """The loss is no finite number; the shadow is of no use."""


class Learner:
    """Weights that are trained, and what they are trained by. The rates are constant: traffic has no end."""

    def __init__(self, model: LlamaForCausalLM, vocabulary: TrimmedVocabulary, settings: LearningSettings) -> None:
        self.model, self.vocabulary, self._settings = model, vocabulary, settings
        self._target = TargetEmbedding.find(settings.target)
        self._divergence = DIVERGENCES[settings.divergence]
        self.average = copy.deepcopy(model)
        """Of the weights of late: constant rates leave each single step off its mark."""
        self._num_updates = 0
        self._head_row = self._head_rows()
        self._optimizers = self._new_optimizers()

    def meet(self, transcripts: Sequence[Transcript], max_rows: int) -> None:
        """Take tokens that these hold into the vocabulary, as far as `max_rows` embedding rows go."""
        vocabulary = grown(self.vocabulary, transcripts, max_rows - self.vocabulary.num_rows)
        if vocabulary != self.vocabulary:
            self.model = self._regrown(self.model, vocabulary)
            self.average = self._regrown(self.average, vocabulary)
            self.vocabulary = vocabulary
            self._head_row = self._head_rows()
            self._optimizers = self._new_optimizers()

    def _regrown(self, model: LlamaForCausalLM, vocabulary: TrimmedVocabulary) -> LlamaForCausalLM:
        larger = LlamaForCausalLM(LlamaConfig(**{**model.config.to_dict(), "vocab_size": vocabulary.num_rows}))
        larger.load_state_dict(with_rows_of(model.state_dict(), self.vocabulary, vocabulary, self._target))
        return larger

    def update(self, transcripts: Sequence[Transcript]) -> float:
        """One step on those of these with overruled places; the loss before it, nats a place. Raises `Diverged`."""
        corrected = [transcript for transcript in transcripts if self._places(transcript)]
        weight = sum(
            len(self._places(transcript)) + self._settings.other_places * len(self._others(transcript))
            for transcript in corrected
        )
        loss = 0.0
        for some in _passes(corrected):
            part = self.loss(some) / weight
            part.backward()  # type: ignore[no-untyped-call]  # torch ships it untyped
            loss += part.item()
        if not math.isfinite(loss):
            raise Diverged(f"the loss is {loss}")
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM)
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self._num_updates += 1
        self._follow()
        return loss

    def loss(self, transcripts: Sequence[Transcript]) -> Tensor:
        """Nats of all places together, the other ones by their weight: a scalar, float32."""
        rows_BT = padded([self.vocabulary.rows(transcript.token_ids[: self._context]) for transcript in transcripts])
        hidden_BTD = self.model.model(rows_BT, use_cache=False).last_hidden_state
        loss = self._divergences(hidden_BTD, transcripts).sum()
        if self._settings.other_places > 0:
            loss = loss + self._settings.other_places * self._surprises(hidden_BTD, transcripts).sum()
        return loss

    def _divergences(self, hidden_BTD: Tensor, transcripts: Sequence[Transcript]) -> Tensor:
        """Between drafter and target at each overruled place that the drafter's context reaches, [N]."""
        places = [
            (index, correction)
            for index, transcript in enumerate(transcripts)
            for correction in self._places(transcript)
        ]
        logits_NH = self._logits_before(hidden_BTD, [(index, correction.position) for index, correction in places])
        top_ids_NK = padded([correction.likely.token_ids for _, correction in places])
        longest = top_ids_NK.shape[1]
        probs_NK = torch.tensor(
            [[*c.likely.probs, *[0.0] * (longest - len(c.likely.probs))] for _, c in places], dtype=torch.float32
        )
        top_rows_NK = self._head_row[top_ids_NK].masked_fill(probs_NK == 0.0, ABSENT)
        return self._divergence(*buckets(logits_NH, top_rows_NK, probs_NK))

    def _surprises(self, hidden_BTD: Tensor, transcripts: Sequence[Transcript]) -> Tensor:
        """-log of what the drafter gives the token at each other place, [O]."""
        others = [
            (index, place, row)
            for index, transcript in enumerate(transcripts)
            for place, row in self._others(transcript)
        ]
        logits_OH = self._logits_before(hidden_BTD, [(index, place) for index, place, _ in others])
        rows_O = torch.tensor([row for _, _, row in others], dtype=torch.int64)
        return F.cross_entropy(logits_OH.float(), rows_O, reduction="none")

    def _logits_before(self, hidden_BTD: Tensor, places: Sequence[tuple[int, int]]) -> Tensor:
        """Of the rows before (answer, place), which predict the tokens there; [places, H]."""
        answer_N, place_N = torch.tensor(places, dtype=torch.int64).view(-1, 2).unbind(1)
        logits_NH: Tensor = (
            hidden_BTD[answer_N, place_N - 1] @ self.model.lm_head.weight[: self.vocabulary.num_head_tokens].T
        )
        return logits_NH

    @property
    def _context(self) -> int:
        return int(self.model.config.max_position_embeddings)

    def _places(self, transcript: Transcript) -> list[Correction]:
        """The corrections that the drafter's context reaches."""
        return [c for c in transcript.corrections if c.position <= self._context]

    def _others(self, transcript: Transcript) -> list[tuple[int, int]]:
        """The answer's other places with tokens that the drafter may propose, and their head rows."""
        overruled = {c.position for c in transcript.corrections}
        answer = range(transcript.prompt_length, min(len(transcript.token_ids), self._context))
        rows = self._head_row[list(transcript.token_ids[answer.start : answer.stop])].tolist()
        return [
            (place, row) for place, row in zip(answer, rows, strict=True) if place not in overruled and row != ABSENT
        ]

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average; over all updates at first."""
        kept = min(AVERAGE_KEEPS, self._num_updates / (self._num_updates + 10))
        for average, weight in zip(self.average.parameters(), self.model.parameters(), strict=True):
            average.lerp_(weight, 1.0 - kept)

    def _head_rows(self) -> Tensor:
        """Head row of each of the target's ids, `ABSENT` for those that the drafter cannot propose."""
        table = torch.full((self._settings.vocab_size,), ABSENT)
        head = self.vocabulary.token_ids[: self.vocabulary.num_head_tokens]
        table[list(head)] = torch.arange(len(head))
        return table

    def _new_optimizers(self) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
        rate = self._settings.learning_rate
        matrices, rest = split_parameters(self.model)
        return (
            Muon(matrices, lr=MUON_RATE * rate, weight_decay=self._settings.weight_decay),
            torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
        )


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """int64 [B, T]; causal attention never looks at the padding behind a sequence."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])


def _passes(transcripts: Sequence[Transcript]) -> Iterator[list[Transcript]]:
    """All of them, those of about one length together."""
    some: list[Transcript] = []
    for transcript in sorted(transcripts, key=lambda transcript: len(transcript.token_ids)):
        if some and len(transcript.token_ids) * (len(some) + 1) > TOKENS_A_PASS:
            yield some
            some = []
        some.append(transcript)
    if some:
        yield some
