"""What a single token stands for: its bytes, and a text for them."""

from __future__ import annotations

from functools import lru_cache

from tokenizers import decoders

from cluster.text import Tokenizer


class TokenTexts:
    """Of one tokenizer's tokens. A token may be part of a character, so its bytes are the truth."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._byte_of = _byte_level() if isinstance(tokenizer.backend.decoder, decoders.ByteLevel) else None
        self._added = tokenizer.backend.get_added_tokens_decoder()
        self.bytes_of = lru_cache(maxsize=65_536)(self._bytes_of)

    def text_of(self, token_id: int) -> str:
        r"""The token's text; `bytes:\xe3\x81` where its bytes are no text by themselves."""
        data = self.bytes_of(token_id)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)

    def _bytes_of(self, token_id: int) -> bytes:
        token = self._tokenizer.backend.id_to_token(token_id)
        if token is None:
            return b""
        if token_id in self._added:
            return token.encode()
        if token_id in self._tokenizer.byte_fallback_ids:  # such as <0x0A>
            return bytes.fromhex(token[3:5])
        if self._byte_of is not None:
            return bytes(self._byte_of[character] for character in token)
        # Decoders drop a space at the beginning, so the token stands behind itself.
        alone = self._tokenizer.decode([token_id])
        return self._tokenizer.decode([token_id, token_id])[len(alone) :].encode()


def _byte_level() -> dict[str, int]:
    """What byte-level tokenizers write for bytes: printable Latin-1 as it is, the rest from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + number): byte for number, byte in enumerate(others)}
