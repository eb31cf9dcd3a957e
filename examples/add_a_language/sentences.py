"""Everyday Italian sentences, written for this example, as prompts for the demo target: one JSON object a line.

python examples/add_a_language/sentences.py > runs/italian/prompts.jsonl
"""

from __future__ import annotations

import itertools
import json
import random
import sys

SUBJECTS = [
    "Mio fratello", "Mia sorella", "Il nostro vicino", "La maestra", "Il medico", "Mia madre", "Quel ragazzo",
    "La signora Rossi", "Il cuoco", "Il mio amico Paolo", "La nonna", "Il postino", "Anna", "Il gatto di Maria",
]  # fmt: skip
VERBS = [
    "legge un libro", "beve un caffè", "aspetta l'autobus", "compra il pane", "scrive una lettera", "canta sempre",
    "dorme ancora", "lavora molto", "cerca le chiavi", "prepara la cena", "parla al telefono", "mangia una mela",
    "guarda la pioggia", "vuole partire", "ha perso il treno", "non risponde mai", "ride di tutto", "ha molta fame",
]  # fmt: skip
PLACES = ["in cucina", "alla stazione", "in giardino", "a casa", "davanti alla scuola", "in città", "vicino al mare"]
TIMES = ["Oggi", "Ogni mattina", "La sera", "Di solito", "Quando piove", "Dopo pranzo", "La domenica", "Adesso"]
QUESTIONS = [
    "Dov'è la stazione?", "Che ore sono?", "Quanto costa questo?", "Mi può aiutare, per favore?", "Hai tempo domani?",
    "Chi ha chiuso la porta?", "Perché non vieni con noi?", "Avete una camera libera?", "Dove abita tuo zio?",
]  # fmt: skip
REMARKS = [
    "Fa freddo.", "Non lo so.", "Grazie mille.", "Ho dimenticato l'ombrello.", "Il cane ha sete.", "Torno subito.",
    "Il film era bello.", "Non ho soldi.", "La porta è aperta.", "Domani parto per Roma.", "Sono molto stanco.",
]  # fmt: skip


def lowered(subject: str) -> str:
    """As it stands inside a sentence: names keep their capital."""
    return subject if subject == "Anna" else subject[0].lower() + subject[1:]


def main() -> None:
    rng = random.Random(11)
    plain = [f"{s} {v} {p}." for s, v, p in itertools.product(SUBJECTS, VERBS, PLACES)]
    timed = [f"{t} {lowered(s)} {v}." for t, s, v in itertools.product(TIMES, SUBJECTS, VERBS)]
    sentences = [*plain, *timed]
    rng.shuffle(sentences)
    for sentence in sentences:
        extra = rng.choice([[], [rng.choice(QUESTIONS)], [rng.choice(REMARKS)]])
        text = " ".join(rng.sample([sentence, *extra], 1 + len(extra)))
        json.dump({"it": text}, sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")


if __name__ == "__main__":
    main()
