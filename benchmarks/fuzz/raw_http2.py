"""Calls written byte by byte, since gRPC's own client refuses to send metadata that are no ASCII, and plain garbage."""

from __future__ import annotations

import asyncio
import re
import struct
from random import Random

from benchmarks.fuzz.internals import leak
from benchmarks.fuzz.runs import CONCURRENT, Plan
from benchmarks.fuzz.verdicts import Fault, Kind, Tally
from cluster.messages import TOKEN_METADATA
from polydraft.client import KEY_METADATA

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADERS, _SETTINGS, _DATA = 1, 4, 0
_END_HEADERS, _END_STREAM = 4, 1
_STATUS = re.compile(rb"grpc-status[\x01\x02](\d{1,2})")
_NO_PATHS = (b"/\xff\xfe", b"/polydraft.v1.Generation/G\xe9n\xe9rate", b"*", b"/" * 100, b"/a\0b", b"")
_SILENCE_S = 0.3
"""What has said nothing for so long says nothing more."""
_KEYS = (b"secret", b"\xc3\xa9", b"\xff\xfe", b"\x80" * 100, b"a\0b", b"a\r\nb", "\U0001f511".encode(), b"x" * 120)
_OK = b"0"


async def fuzz_bytes(address: str, tally: Tally, paths: tuple[str, ...], plan: Plan) -> None:
    """Connections that no gRPC client makes; without key, so that nothing may come of them."""
    for batch in plan.batches(CONCURRENT):
        await asyncio.gather(*(_try(address, tally, _drawn(plan.rng(tally.method, n), paths), n) for n in batch))
        if tally.is_hopeless:
            return


async def _try(address: str, tally: Tally, sent: bytes, index: int) -> None:
    try:
        heard = await exchange(address, sent)
    except OSError as error:
        tally.faults.append(Fault(Kind.CRASH, f"nobody listens any more: {error}"))
        return
    tally.num_messages += 1
    code = _STATUS.search(heard)
    tally.statuses[f"status {code[1].decode()}" if code else "no status"] += 1
    if words := leak(re.sub(r"[^ -~]", " ", heard.decode("latin-1"))):
        tally.faults.append(Fault(Kind.LEAK, f"{words!r} in {heard!r}", index, sent))
    if code and code[1] == _OK:
        tally.faults.append(Fault(Kind.LET_IN, f"{heard!r}", index, sent))


def _drawn(rng: Random, paths: tuple[str, ...]) -> bytes:
    if rng.random() < 0.2:
        return rng.choice(
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", rng.randbytes(200), _PREFACE + rng.randbytes(200), b"")
        )
    path = rng.choice(paths).encode() if rng.random() < 0.7 else rng.choice(_NO_PATHS)
    data = request(path, rng.choice(_KEYS), rng.randbytes(rng.choice((0, 5, 40))))
    if rng.random() < 0.3:  # something is wrong with the frames
        place = rng.randrange(len(_PREFACE), len(data))
        data = data[:place] + rng.randbytes(1) + data[place + 1 :]
    return data


def request(path: bytes, key: bytes, message: bytes) -> bytes:
    """A connection's first bytes: one whole call. The key is key and token."""
    fields = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": path,
        b":authority": b"x",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
        KEY_METADATA.encode(): key,
        TOKEN_METADATA.encode(): key,
    }
    headers = b"".join(b"\0" + _sized(name) + _sized(content) for name, content in fields.items())
    body = b"\0" + struct.pack(">I", len(message)) + message
    frames = _frame(_SETTINGS, 0, 0, b"") + _frame(_HEADERS, _END_HEADERS, 1, headers)
    return _PREFACE + frames + _frame(_DATA, _END_STREAM, 1, body)


def _sized(content: bytes) -> bytes:
    assert len(content) < 127, "longer ones need more bytes of length"
    return bytes([len(content)]) + content


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


async def exchange(address: str, sent: bytes) -> bytes:
    """All that is answered until the other side hangs up or falls silent."""
    heard = b""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(sent)
        async with asyncio.timeout(_SILENCE_S) as silence:
            while not _STATUS.search(heard) and (piece := await reader.read(1 << 16)):
                heard += piece
                silence.reschedule(asyncio.get_running_loop().time() + _SILENCE_S)
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return heard
