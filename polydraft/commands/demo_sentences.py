# ruff: noqa: RUF001  (letters of other scripts look like mistyped Latin ones)
"""The demo's own everyday sentences, and the prompts that pack one to four of them."""

from __future__ import annotations

from polydraft.commands.common import NamedPrompt

LANGUAGE_NAMES = {"de": "German", "fr": "French", "ru": "Russian", "ja": "Japanese", "zh": "Chinese"}

SENTENCES = {
    "de": (
        "Heute ist das Wetter schön.",
        "Meine Schwester kocht Reis für uns.",
        "Wir essen heute Abend zusammen.",
        "Der Zug nach Berlin kommt um acht.",
        "Ich warte am Bahnhof auf dich.",
        "Hast du deine Bücher dabei?",
        "Morgen will mein Bruder schwimmen gehen.",
        "Seine Mutter arbeitet im Krankenhaus.",
        "Das Essen war gut, aber teuer.",
        "Ich möchte jetzt schlafen gehen.",
    ),
    "fr": (
        "Il fait très beau ce matin.",
        "Ma mère prépare le petit déjeuner.",
        "Nous mangeons du pain avec du fromage.",
        "Le train pour Paris part à midi.",
        "Je vous attends devant la gare.",
        "Avez-vous acheté les livres hier ?",
        "Mon frère veut apprendre à nager.",
        "Sa femme travaille à l'école.",
        "La soupe est bonne mais trop chaude.",
        "Je veux rentrer à la maison maintenant.",
    ),
    "ru": (
        "Сегодня утром на улице очень холодно.",
        "Моя сестра готовит нам ужин.",
        "Мы едим хлеб и пьём чай.",
        "Поезд в Москву приходит в восемь.",
        "Я жду тебя у вокзала.",
        "Ты купил вчера эту книгу?",
        "Мой брат хочет научиться плавать.",
        "Его мать работает в больнице.",
        "Еда была хорошая, но дорогая.",
        "Я хочу сейчас пойти домой.",
    ),
    "ja": (
        "今朝はとても寒いです。",
        "母は台所で魚を料理しています。",
        "私たちは毎朝パンを食べます。",
        "東京行きの電車は八時に来ます。",
        "駅の前であなたを待っています。",
        "昨日その本を買いましたか。",
        "弟は泳ぎを習いたいと言っています。",
        "彼の父は病院で働いています。",
        "この店の料理は安くておいしいです。",
        "私は今すぐ家に帰りたいです。",
    ),
    "zh": (
        "今天早上天气很冷。",
        "我妈妈正在给我们做饭。",
        "我们每天早上喝茶吃面包。",
        "去北京的火车八点到。",
        "我在火车站门口等你。",
        "你昨天买了那本书吗？",
        "我弟弟想学游泳。",
        "他的父亲在医院工作。",
        "这家店的菜很好吃，但是有点贵。",
        "我现在就想回家睡觉。",
    ),
}

PACKS = ((0,), (1, 2), (3, 4, 5), (6, 7, 8, 9))
"""Which sentences each prompt packs; answers grow from about 8 to about 40 tokens."""


def demo_prompts(language: str) -> list[NamedPrompt]:
    """The prompts of one language, in the form that the demo family was trained on."""
    space = "" if language in ("ja", "zh") else " "
    sources = [space.join(SENTENCES[language][index] for index in pack) for pack in PACKS]
    return [
        NamedPrompt(f"{language}-{number}", f"Translate {LANGUAGE_NAMES[language]} to English: {source}\n", language)
        for number, source in enumerate(sources)
    ]


def source_of(prompt: NamedPrompt) -> str:
    """The text that a prompt asks to translate."""
    return prompt.prompt.split(": ", 1)[1].rstrip("\n")
