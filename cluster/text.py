"""From text to token ids: `tokenizers` and the model's chat template.

Special-token text inside what a caller wrote is encoded as plain text. The special tokens that the chat template itself
writes keep their meaning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from cluster.chat import ChatTemplate, ChatTurn
from cluster.errors import ConfigError, InvalidRequest


class Tokenizer:
    """The target's tokenizer. Encodes requests; decodes for `cluster.streaming`."""

    def __init__(self, directory: Path) -> None:
        try:
            self.backend = Backend.from_file(str(directory / "tokenizer.json"))
        except Exception as error:  # the Rust side raises bare Exception
            raise ConfigError(f"target.model: {directory / 'tokenizer.json'} cannot be loaded: {error}") from None
        self.backend.encode_special_tokens = True
        self.backend.no_truncation()
        self.backend.no_padding()
        added = self.backend.get_added_tokens_decoder()
        self._special = {token.content: id for id, token in added.items() if token.special}
        self._special_pattern = _any_of(self._special)
        self._special_beginnings = tuple({token[:end] for token in self._special for end in range(1, len(token))})
        self.special_ids = frozenset(self._special.values())
        """Left out of the text; decoders join what stands on both sides."""
        self.byte_fallback_ids = frozenset(
            id for token, id in self.backend.get_vocab().items() if re.fullmatch("<0x[0-9A-F]{2}>", token)
        )
        """Tokens that stand for one byte: decoders join a run of them, and one wrong byte spoils the whole run."""
        self._template = _load_template(directory)

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of a plain prompt, with what the tokenizer itself puts around it (such as a BOS)."""
        return list(self.backend.encode(text, add_special_tokens=True).ids)

    def encode_chat(self, turns: Sequence[ChatTurn]) -> list[int]:
        """Ids of the rendered chat, ready for the assistant's answer."""
        if self._template is None:
            raise InvalidRequest("chat: the model has no chat template; send `prompt` instead")
        marker = _unused_character(turns)
        broken_up = [ChatTurn(turn.role, self._broken_up(turn.content, marker)) for turn in turns]
        rendered = self._template.render(broken_up)
        ids: list[int] = []
        position = 0
        for match in self._special_pattern.finditer(rendered) if self._special else ():
            ids += self._encode_plain(rendered[position : match.start()].replace(marker, ""))
            ids.append(self._special[match.group()])
            position = match.end()
        return ids + self._encode_plain(rendered[position:].replace(marker, ""))

    def beginnings(self, text: str) -> list[list[int]]:
        """What prompts that begin with `text` begin with, and chats that have it as the system's message."""
        try:
            one, other = (self.encode_chat([ChatTurn("system", text), ChatTurn("user", say)]) for say in ("a", "b"))
        except InvalidRequest:  # no template, or one without a system's message
            return [self.encode_prompt(text)]
        common = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
        return [self.encode_prompt(text), [token_id for token_id, _ in common]]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of the ids, special tokens left out."""
        return str(self.backend.decode(list(token_ids), skip_special_tokens=True))

    def _encode_plain(self, text: str) -> list[int]:
        return list(self.backend.encode(text, add_special_tokens=False).ids) if text else []

    def _broken_up(self, content: str, marker: str) -> str:
        """`content` with a marker inside each special token's text, so that it is not taken for the template's own.

        Also behind a beginning of one at the end, which the next content might complete.
        """
        broken = self._special_pattern.sub(lambda m: f"{m.group()[0]}{marker}{m.group()[1:]}", content)
        end = len(broken.rstrip())  # templates trim
        return broken[:end] + marker + broken[end:] if broken.endswith(self._special_beginnings, 0, end) else broken


def _any_of(words: Sequence[str] | dict[str, int]) -> re.Pattern[str]:
    """Longest first, as the tokenizer itself matches."""
    return re.compile("|".join(re.escape(word) for word in sorted(words, key=len, reverse=True)) or r"(?!)")


def _unused_character(turns: Sequence[ChatTurn]) -> str:
    """A private-use character that occurs in no content; `InvalidRequest` for contents that hold all of them."""
    used = set().union(*(turn.content for turn in turns))
    unused = next((chr(point) for point in range(0xE000, 0xF900) if chr(point) not in used), None)
    if unused is None:
        raise InvalidRequest("chat.content: holds all characters from U+E000 to U+F8FF; leave one out")
    return unused


def _load_template(directory: Path) -> ChatTemplate | None:
    """The chat template, if there is one, with the special-token variables that it may use."""
    settings = _read_settings(directory / "tokenizer_config.json")
    variables: dict[str, str] = {}
    for key in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = settings.get(key)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            variables[key] = text
    file = directory / "chat_template.jinja"
    source = file.read_text(encoding="utf-8") if file.is_file() else settings.get("chat_template")
    if isinstance(source, list):
        source = next((entry["template"] for entry in source if entry.get("name") == "default"), None)
    return ChatTemplate(source, variables) if isinstance(source, str) else None


def _read_settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ConfigError(f"target.model: {path} is not JSON; give a complete transformers directory") from None
    return document if isinstance(document, dict) else {}
