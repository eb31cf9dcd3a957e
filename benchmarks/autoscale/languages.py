"""The languages of the simulated traffic: how much is asked in each, where its speakers live, how many tokens it takes.

Shares fall off as they do among the world's languages on the net, roughly with the rank; the exact numbers are ours.
Tokens relative to English follow the families' fertilities of arXiv 2605.24718 (tokens a word: English 1.2, Romance 1.5
to 1.7, Germanic 1.7 to 1.9, Slavic 2.2 to 2.5, Uralic and Baltic 2.7 to 3.0, Greek 3.1), pulled half-way to 1 because
those languages also need fewer words for the same; languages outside of Europe are our assumption.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Language:
    """One language and who asks in it."""

    tag: str
    share: float
    """Of all conversations; the shares of all languages are scaled to add up to 1."""
    zones: tuple[tuple[float, float], ...]
    """(hours ahead of UTC, part of its speakers)."""
    tokens: float
    """For the same content, relative to English."""
    is_rare: bool = False
    """Silent for hours, then asked for a while."""


LANGUAGES = (
    Language("en", 25.0, ((-8, 0.2), (-5, 0.4), (0, 0.15), (5.5, 0.25)), 1.0),
    Language("zh", 12.0, ((8, 1.0),), 1.2),
    Language("es", 9.0, ((-6, 0.4), (-4, 0.3), (1, 0.3)), 1.2),
    Language("pt", 6.0, ((-3, 0.9), (0, 0.1)), 1.2),
    Language("ja", 6.0, ((9, 1.0),), 1.3),
    Language("de", 5.5, ((1, 1.0),), 1.25),
    Language("fr", 5.5, ((1, 0.8), (-5, 0.2)), 1.2),
    Language("ru", 5.0, ((3, 0.7), (7, 0.3)), 1.45),
    Language("ko", 4.0, ((9, 1.0),), 1.4),
    Language("id", 4.0, ((7, 1.0),), 1.3),
    Language("ar", 3.5, ((3, 1.0),), 1.5),
    Language("it", 3.0, ((1, 1.0),), 1.2),
    Language("tr", 2.5, ((3, 1.0),), 1.5),
    Language("hi", 2.5, ((5.5, 1.0),), 1.8),
    Language("pl", 2.0, ((1, 1.0),), 1.45),
    Language("vi", 2.0, ((7, 1.0),), 1.4),
    Language("nl", 0.6, ((1, 1.0),), 1.25, is_rare=True),
    Language("el", 0.4, ((2, 1.0),), 1.8, is_rare=True),
    Language("fi", 0.3, ((2, 1.0),), 1.7, is_rare=True),
    Language("hu", 0.3, ((1, 1.0),), 1.7, is_rare=True),
    Language("th", 0.3, ((7, 1.0),), 1.8, is_rare=True),
    Language("sw", 0.15, ((3, 1.0),), 1.6, is_rare=True),
    Language("lt", 0.1, ((2, 1.0),), 1.7, is_rare=True),
    Language("is", 0.05, ((0, 1.0),), 1.6, is_rare=True),
)
