"""Messages drawn from the descriptors of protos/v1: wild ones, and lawful ones with a few hostile parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import TypeVar

from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from benchmarks.fuzz.values import value

M = TypeVar("M", bound=Message)
_MAX_DEPTH = 4
_LENGTHS = (0, 1, 1, 2, 3, 17, 300)
"""Of a repeated field."""


def wild(rng: Random, kind: type[M], depth: int = 0) -> M:
    """A message of this kind with any of its fields, all of them hostile."""
    message = kind()
    share = rng.choice((0.1, 0.3, 1.0))
    for field in _fields(kind):
        if rng.random() < share:
            _set(rng, message, field, depth)
    return message


def spoil(rng: Random, message: Message, num_parts: int) -> None:
    """Exchange parts of a message, at any depth, for hostile ones."""
    for _ in range(num_parts):
        place = rng.choice([message, *_inner(message)])
        field = rng.choice(_fields(type(place)))
        if rng.random() < 0.1:
            place.ClearField(field.name)
        else:
            _set(rng, place, field, _MAX_DEPTH - 2)


def strings_of(message: Message) -> Iterator[str]:
    """All text of a message at any depth, in fields of type string: bytes hold what a model wrote."""
    for place in (message, *_inner(message)):
        for field, content in place.ListFields():
            if field.type == Field.TYPE_STRING:
                yield from content if field.is_repeated else (content,)


def _fields(kind: type[Message]) -> Sequence[Field]:
    return kind.DESCRIPTOR.fields  # type: ignore[return-value]  # two names of one thing


def _inner(message: Message) -> Iterator[Message]:
    """The messages inside a message."""
    for field, content in message.ListFields():
        if field.message_type is not None and not _is_map(field):
            for one in content if field.is_repeated else (content,):
                yield one
                yield from _inner(one)


def _set(rng: Random, message: Message, field: Field, depth: int) -> None:
    message.ClearField(field.name)
    if _is_map(field):
        assert field.message_type is not None
        key, content = field.message_type.fields
        getattr(message, field.name)[value(rng, key)] = value(rng, content)
    elif field.message_type is not None:
        _set_messages(rng, message, field, depth)
    elif field.is_repeated:
        one = value(rng, field)  # drawing each of many costs more than it finds
        getattr(message, field.name).extend([value(rng, field), *[one] * rng.choice(_LENGTHS)])
    else:
        setattr(message, field.name, value(rng, field))


def _set_messages(rng: Random, message: Message, field: Field, depth: int) -> None:
    assert field.message_type is not None
    if depth >= _MAX_DEPTH:
        return
    number = rng.choice((0, 1, 2, 9)) if field.is_repeated else 1
    inner = [wild(rng, GetMessageClass(field.message_type), depth + 1) for _ in range(number)]
    if field.is_repeated:
        getattr(message, field.name).extend(inner)
    else:
        getattr(message, field.name).CopyFrom(inner[0])


def _is_map(field: Field) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry
