"""Finds the language of a request's text: of what is to be worked on, not of the English instruction around it.

"Translate to Spanish: Wo wohnst du?" is German. The text is cut into pieces (lines, sentences, what stands behind a
colon or in quotes); English pieces lose against any other language with enough evidence. The names of languages inside
an instruction count for nothing. Probabilities come from the model of about a hundred languages inside the package
py3langid; docs/language-detection.md holds what was measured and why this one. Importing this module is cheap: the
model is read when a detector is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

from cluster.errors import ConfigError

ENGLISH = "en"

Scorer = Callable[[str], Mapping[str, float]]
"""Probability of each language in use for a text; they sum to less than 1 if it may be another language."""

MAX_CHARS = 2_000
"""Of a longer text only the beginning and the end are looked at, half of this each."""

CJK_WEIGHT = 3
"""A Chinese character or a kana says about as much as this many letters of an alphabet."""

MIN_FOREIGN_SHARE = 0.1
"""Inside English, another script decides if it ends the text or has at least this share of the Latin letters."""

MIN_KANA_SHARE = 0.1
"""From this share of kana on, Chinese characters are Japanese. The rare Japanese sentence without kana is lost."""

MIN_KNOWN = 0.05
"""If the languages in use get less probability than this together, the text is in none of them."""

MIN_PAYLOAD_CONFIDENCE = 0.6
"""The pieces that are not English, taken together, have to be this sure of one language."""

MIN_SPLIT_CONFIDENCE = 0.8
"""English words before others with no sign between them: both sides have to be this sure."""

MAX_SPLIT_CONFIDENCE = 0.99
"""A piece that is English with this confidence has no such tail."""

MIN_SPLIT_WORDS = 2
MAX_SPLITS = 24

_FOREIGN = re.compile(r"[^\W\d_\u0000-\u024f\u1e00-\u1eff\uff21-\uff5a]")  # a letter that is not Latin
_LATIN = re.compile(r"[A-Za-z\u00aa-\u024f\u1e00-\u1eff\uff21-\uff5a]")
_NOT_FOREIGN = re.compile(r"[\u0000-\u024f\u1e00-\u1eff\uff21-\uff5a]+")
_CJK = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]")  # Chinese characters and kana
_KANA = re.compile(r"[\u3041-\u30ff\uff66-\uff9f]")
_CUT = re.compile(
    r"[\n:\"|<>\[\]\u00ab\u00bb\u201c-\u201e\u300c-\u300f\uff1a]+"  # lines, labels, quotes, tags
    r"|(?<=[.!?\u2026])\s+"  # sentences
    r"|\s[-\u2013\u2014]+\s"  # dashes
)


@dataclass(frozen=True, slots=True)
class Detection:
    """A language (ISO 639-1) and how likely it is among those in use, 0 to 1; 1 where the script alone decides."""

    language: str
    confidence: float


class LanguageDetector:
    """Tells the given languages and English from each other. Calls may come from several threads."""

    def __init__(self, languages: Sequence[str]) -> None:
        """Read the model; raises ConfigError if it does not know one of `languages` (ISO 639-1)."""
        self._languages = frozenset({*languages, ENGLISH})
        self._score = langid_scorer(self._languages)

    def detect(self, text: str) -> Detection | None:
        """The language of `text` without the English around it; None if it has no letters or is in none of them."""
        return detect(text, self._languages, self._score)


def langid_scorer(languages: Set[str]) -> Scorer:
    """Scores `languages` among all that the model inside the package py3langid knows; raises ConfigError."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def score(text: str) -> Mapping[str, float]:
        return {code: float(probability) for code, probability in identifier.rank(text) if code in languages}

    unknown = sorted(languages - set(identifier.labels))
    if unknown:
        raise ConfigError(f"languages: the detector knows no {', '.join(unknown)}; use ISO 639-1 codes such as 'de'")
    return score


def detect(text: str, languages: Set[str], score: Scorer) -> Detection | None:
    """The language of what is to be worked on in `text`, one of `languages`, judged by the script and by `score`."""
    if len(text) > MAX_CHARS:
        text = f"{text[: MAX_CHARS // 2]}\n{text[-MAX_CHARS // 2 :]}"
    return _other_script(text, languages, score) or _other_language(text, score) or _best(text, score)


def _other_script(text: str, languages: Set[str], score: Scorer) -> Detection | None:
    """The language of the letters that are not Latin, if they outweigh the Latin ones or those are an English frame."""
    foreign = _FOREIGN.findall(text)
    if not foreign:
        return None
    num_cjk, num_kana = len(_CJK.findall(text)), len(_KANA.findall(text))
    weight = len(foreign) + (CJK_WEIGHT - 1) * num_cjk
    if weight < len(_LATIN.findall(text)) and not _is_english_frame(text, weight, score):
        return None
    other = None
    if num_cjk > len(foreign) / 2:  # the model is weak on a few characters, the script is not
        code, other = ("ja", "zh") if num_kana >= MIN_KANA_SHARE * num_cjk else ("zh", "ja")
        if code in languages:
            return Detection(code, 1.0)
    scores = {**score(_NOT_FOREIGN.sub(" ", text)), ENGLISH: 0.0}
    if other is not None:
        scores[other] = 0.0
    return _most_likely(scores)


def _is_english_frame(text: str, weight: int, score: Scorer) -> bool:
    """Whether the Latin letters of `text` are English around letters of another script that are to be worked on."""
    latin = _LATIN.findall(text)
    ends_foreign = [*_FOREIGN.finditer(text)][-1].start() > [*_LATIN.finditer(text)][-1].start()
    if not ends_foreign and weight < MIN_FOREIGN_SHARE * len(latin):
        return False
    best = _best(_FOREIGN.sub(" ", text), score)
    # A frame of few words often looks like German or French: only one that is surely not English counts as text.
    return best is None or best.language == ENGLISH or best.confidence < MIN_SPLIT_CONFIDENCE


def _other_language(text: str, score: Scorer) -> Detection | None:
    """The language of the pieces that are not English, if they are sure enough of one."""
    pieces = [piece for piece in _CUT.split(text) if _LATIN.search(piece)]
    # A single word is a label such as "Text:", unless it is the last piece.
    pieces = [piece for piece in pieces[:-1] if len(piece.split()) > 1] + pieces[-1:]
    others = " ".join(_without_english(piece, score) for piece in pieces).strip()
    best = _best(others, score) if others else None
    if best is None or best.language == ENGLISH or best.confidence < MIN_PAYLOAD_CONFIDENCE:
        return None
    return best


def _without_english(piece: str, score: Scorer) -> str:
    """`piece` if it is not English, else its last words if only those are not, else nothing."""
    best = _best(piece, score)
    if best is None or best.language != ENGLISH:
        return piece
    if best.confidence >= MAX_SPLIT_CONFIDENCE:
        return ""
    words = piece.split()
    for cut in range(MIN_SPLIT_WORDS, min(len(words) - MIN_SPLIT_WORDS, MAX_SPLITS) + 1):
        tail = " ".join(words[cut:])
        if _is_sure(tail, score, english=False) and _is_sure(" ".join(words[:cut]), score, english=True):
            return tail
    return ""


def _is_sure(text: str, score: Scorer, *, english: bool) -> bool:
    best = _best(text, score)
    return best is not None and best.confidence >= MIN_SPLIT_CONFIDENCE and (best.language == ENGLISH) is english


def _best(text: str, score: Scorer) -> Detection | None:
    return _most_likely(score(text)) if re.search(r"[^\W\d_]", text) else None


def _most_likely(scores: Mapping[str, float]) -> Detection | None:
    known = sum(scores.values())
    if known < MIN_KNOWN:
        return None
    language = max(scores, key=scores.__getitem__)
    return Detection(language, scores[language] / known)
