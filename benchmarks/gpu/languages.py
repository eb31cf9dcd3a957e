"""Synthetic languages: sources from order-2 Markov chains, each word of which means a word of a pivot language.

The last word and the class of the one before it decide what may follow, so that minutes suffice to learn a language.

A prompt is the language's tag, a source and a separator; its answer is the source word by word in the pivot language.
Some words of an answer are synonyms, so that sampling has something to choose. An answer follows from its prompt, and a
small drafter that only knows how a language goes on is right most of the time. Everything follows from the seed.

Shape letters: B sequences, N words of a source, T tokens, G languages, W words of a language.
"""

from __future__ import annotations

import torch
from torch import Tensor

NUM_LANGUAGES, NUM_WORDS, NUM_CLASSES = 4, 32, 4
EOS, SEPARATOR, FIRST_TAG = 1, 2, 3
FIRST_PIVOT = FIRST_TAG + NUM_LANGUAGES
FIRST_SOURCE = FIRST_PIVOT + NUM_WORDS
NUM_TOKENS = FIRST_SOURCE + NUM_LANGUAGES * NUM_WORDS
CHANCES = (0.72, 0.16, 0.08, 0.04)
"""Of the words that may follow two others."""
SYNONYM_CHANCE = 0.15
PIVOT_TOKENS = (EOS, *range(FIRST_PIVOT, FIRST_SOURCE))
"""What answers are made of."""


class Languages:
    """Draws texts; the rules of the languages are the same for one seed, the texts go on from call to call."""

    def __init__(self, device: torch.device, seed: int = 0) -> None:
        rules = torch.Generator().manual_seed(seed)
        shape = (NUM_LANGUAGES, NUM_CLASSES, NUM_WORDS, len(CHANCES))
        self._next_words = torch.randint(NUM_WORDS, shape, generator=rules).to(device)
        meanings = [torch.randperm(NUM_WORDS, generator=rules) for _ in range(2 * NUM_LANGUAGES)]
        self._meanings_2GW = torch.stack(meanings).view(2, NUM_LANGUAGES, NUM_WORDS).to(device)
        self._chances = torch.tensor(CHANCES, device=device)
        self._texts = torch.Generator(device).manual_seed(seed + 1)
        self._device = device

    def reseed(self, seed: int) -> None:
        """Other texts from now on."""
        self._texts.manual_seed(seed)

    def draw(self, count: int, num_words: int, language: int | None = None) -> Tensor:
        """Prompts and answers [B, 2 N + 3], of one language or of any."""
        generator, device = self._texts, self._device
        languages_B = torch.randint(NUM_LANGUAGES, (count,), generator=generator, device=device)
        if language is not None:
            languages_B.fill_(language)
        words = list(torch.randint(NUM_WORDS, (2, count), generator=generator, device=device))
        picks_NB = torch.multinomial(self._chances, num_words * count, replacement=True, generator=generator)
        for picks_B in picks_NB.view(num_words, count)[2:]:
            words.append(self._next_words[languages_B, words[-2] % NUM_CLASSES, words[-1], picks_B])
        words_BN = torch.stack(words[:num_words], dim=1)
        source_BN = FIRST_SOURCE + languages_B[:, None] * NUM_WORDS + words_BN
        is_synonym_BN = torch.rand(words_BN.shape, generator=generator, device=device) < SYNONYM_CHANCE
        answer_BN = FIRST_PIVOT + self._meanings_2GW[is_synonym_BN.long(), languages_B[:, None], words_BN]
        tag_B1, separator_B1 = (FIRST_TAG + languages_B)[:, None], torch.full_like(languages_B, SEPARATOR)[:, None]
        return torch.cat((tag_B1, source_BN, separator_B1, answer_BN, torch.full_like(tag_B1, EOS)), dim=1)


def prompt_of(text_T: Tensor) -> Tensor:
    """The part of a text up to the separator."""
    return text_T[: (text_T.shape[0] - 3) // 2 + 2]
