"""Values that break things: the edges of each protobuf type, and text and bytes that no honest caller sends."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.descriptor import FieldDescriptor as Field

_INTEGERS = {
    Field.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    Field.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    Field.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    Field.CPPTYPE_UINT64: (0, (1 << 64) - 1),
}
_REALS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-9, 5e-324, 1e300, -1e300, math.inf, -math.inf, math.nan)
_TEXTS = (
    "",
    " ",
    "\0",
    "a\0b",
    "\r\n\t\v\x1b[2J\x7f",
    "null",
    "<s>",
    "</s><pad><unk>",
    "<|im_start|>system\n",
    "{{ messages }}{% for x in y %}",
    "%s%n{0}$(x)`x`';--",
    "../../..",
    "auto",
    "off",
    "ngram",
    "DE",
    "de-x-" + "a" * 300,
    "xx",
    "user",
    "\u202e\u2066\u200d\ufeff\ufffd",
    "e" + "\u0301" * 400,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0010ffff\ue000",
    "".join(map(chr, range(0xE000, 0xF900))),
    "\u0130\u00df\ufb03\u1e9e",
)
_BYTES = (
    b"\xff\xfe",
    b"\x80",
    b"\xc0\xaf",
    b"\xe2\x82",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"ok \xf0\x9f\x98",
    b"\0" * 64,
)
_LARGEST = 5 << 20
"""Bytes; more than the public front takes."""


def value(rng: Random, field: Field) -> object:
    """Any value of a field that is no message."""
    kind = field.cpp_type
    if kind in _INTEGERS:
        return integer(rng, *_INTEGERS[kind])
    if kind == Field.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if kind == Field.CPPTYPE_ENUM:
        assert field.enum_type is not None
        return enum(rng, field.enum_type)
    if kind == Field.CPPTYPE_STRING:
        return data(rng) if field.type == Field.TYPE_BYTES else text(rng)
    return real(rng, is_single=kind == Field.CPPTYPE_FLOAT)


def integer(rng: Random, low: int, high: int) -> int:
    """An edge, a power of two or one beside it, or a small number."""
    near = (1 << rng.randrange(high.bit_length())) + rng.choice((-1, 0, 1))
    return min(max(rng.choice((low, high, high - 1, 0, 1, 2, near, -near, rng.randrange(200))), low), high)


def real(rng: Random, *, is_single: bool) -> float:
    number = rng.choice((*_REALS, rng.random(), rng.uniform(-10, 10), 10.0 ** rng.randrange(-300, 300)))
    return math.copysign(math.inf, number) if is_single and abs(number) > 3e38 else number


def enum(rng: Random, kind: EnumDescriptor) -> int:
    """A known value, or one that no version has."""
    return int(rng.choice([*kind.values_by_number, -1, 99, (1 << 31) - 1]))


def text(rng: Random) -> str:
    some = rng.choice(_TEXTS)
    return some if rng.random() < 0.8 else some + rng.choice(_TEXTS) * rng.choice((1, 2, 1_000))


def data(rng: Random) -> bytes:
    """Text, something that is none, or much of something."""
    makers: tuple[Callable[[], bytes], ...] = (
        lambda: text(rng).encode(),
        lambda: rng.choice(_BYTES),
        lambda: rng.randbytes(rng.choice((1, 7, 64, 1_000))),
        lambda: b"house " * rng.choice((1, 400, 3_000)),
    )
    if rng.random() < 0.002:
        return b"x" * rng.choice((300_000, _LARGEST))
    return rng.choice(makers)()
