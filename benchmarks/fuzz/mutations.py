"""Serialised messages broken as bytes: what no protobuf library would write."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from benchmarks.fuzz.values import data, integer

_MAX_LENGTH = 1 << 16
"""Longer messages are left as they are: one broken byte among many finds nothing new."""


def mutated(rng: Random, message: bytes, other: bytes) -> bytes:
    """The message after one to four accidents; `other` is what it may be mixed with."""
    if len(message) > _MAX_LENGTH:
        return message
    for _ in range(rng.choice((1, 1, 2, 4))):
        message = rng.choice(_ACCIDENTS)(rng, message, other[:_MAX_LENGTH])
    return message


def alien_field(rng: Random, numbers: int = 40) -> bytes:
    """One field on the wire: any number, known or not, any wire type, also those that do not fit it."""
    number = rng.choice((rng.randrange(1, numbers), 1_000, (1 << 29) - 1))
    wire_type = rng.choice((0, 1, 2, 2, 5))
    content = {
        0: lambda: _varint(integer(rng, 0, (1 << 64) - 1)),
        1: lambda: rng.randbytes(8),
        5: lambda: rng.randbytes(4),
    }
    tag = _varint(number << 3 | wire_type)
    if wire_type in content:
        return tag + content[wire_type]()
    held = data(rng)
    return tag + _varint(len(held)) + held


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def _place(rng: Random, message: bytes) -> int:
    return rng.randrange(len(message) + 1)


def _flip(rng: Random, message: bytes, other: bytes) -> bytes:
    if not message:
        return rng.randbytes(1)
    changed = bytearray(message)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _truncate(rng: Random, message: bytes, other: bytes) -> bytes:
    return message[: _place(rng, message)]


def _splice(rng: Random, message: bytes, other: bytes) -> bytes:
    return message[: _place(rng, message)] + other[_place(rng, other) :]


def _insert(rng: Random, message: bytes, other: bytes) -> bytes:
    place = _place(rng, message)
    return message[:place] + rng.choice((rng.randbytes(3), b"\xff" * 11, alien_field(rng))) + message[place:]


def _repeat(rng: Random, message: bytes, other: bytes) -> bytes:
    begin, end = sorted((_place(rng, message), _place(rng, message)))
    return message[:end] + message[begin:]


def _delete(rng: Random, message: bytes, other: bytes) -> bytes:
    begin, end = sorted((_place(rng, message), _place(rng, message)))
    return message[:begin] + message[end:]


def _append_field(rng: Random, message: bytes, other: bytes) -> bytes:
    return message + alien_field(rng)


def _append_message(rng: Random, message: bytes, other: bytes) -> bytes:
    """Protobuf takes one message behind another for a merge of both."""
    return message + other


_ACCIDENTS: tuple[Callable[[Random, bytes, bytes], bytes], ...] = (
    _flip,
    _truncate,
    _splice,
    _insert,
    _repeat,
    _delete,
    _append_field,
    _append_message,
)
