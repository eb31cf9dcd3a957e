"""Draft trees on the wire: drafters write them, targets read them, routers pass the bytes on."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from engine.tree import TokenTree
from protos.v1 import internal_pb2 as pb

MAX_BYTES = 4_096
"""Of a tree: those that drafters send, of 64 nodes at most, take a quarter of it."""


def tree_to_bytes(tree: TokenTree) -> bytes:
    """A serialised `polydraft.v1.TokenTree`; nothing for an empty tree."""
    if not tree.token_ids:
        return b""
    ranks = tree.ranks if any(tree.ranks) else ()
    return pb.TokenTree(token_ids=tree.token_ids, parents=tree.parents, ranks=ranks).SerializeToString()


def tree_from_bytes(data: bytes) -> TokenTree | None:
    """The tree, or None if the bytes are none. Whether its nodes make sense is for `TokenTree.problem`."""
    if len(data) > MAX_BYTES:
        return None
    try:
        message = pb.TokenTree.FromString(data)
    except DecodeError:
        return None
    ranks = tuple(message.ranks) or (0,) * len(message.token_ids)
    return TokenTree(tuple(message.token_ids), tuple(message.parents), ranks)
