"""Corrections on the wire: targets write them, drafters that learn read them, routers pass the bytes on."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from engine.corrections import Correction, LikelyTokens
from protos.v1 import internal_pb2 as pb

_HIGHEST_PROB = 1.001
"""Probabilities are rounded to float32."""


def correction_to_bytes(correction: Correction | None) -> bytes:
    """A serialised `polydraft.v1.Correction`; nothing for none."""
    if correction is None:
        return b""
    likely = correction.likely
    message = pb.Correction(position=correction.position, token_ids=likely.token_ids, probs=likely.probs)
    return message.SerializeToString()


def correction_from_bytes(data: bytes, vocab_size: int) -> Correction | None:
    """The correction, or None if the bytes are none of a target with this vocabulary."""
    try:
        message = pb.Correction.FromString(data)
    except DecodeError:
        return None
    if not message.token_ids or len(message.token_ids) != len(message.probs):
        return None
    are_tokens = max(message.token_ids) < vocab_size
    if not are_tokens or not all(0.0 <= prob <= _HIGHEST_PROB for prob in message.probs):
        return None
    return Correction(message.position, LikelyTokens(tuple(message.token_ids), tuple(message.probs)))
