"""What is sent to the public methods: requests that are lawful but for a few parts, wild ones, broken bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from benchmarks.fuzz.calls import Call, Manner, Metadata
from benchmarks.fuzz.corpus import Corpus
from benchmarks.fuzz.messages import spoil, wild
from benchmarks.fuzz.mutations import alien_field, mutated
from cluster.messages import TOKEN_METADATA
from polydraft.client import KEY_METADATA, TENANT_METADATA
from protos.v1 import generate_pb2 as pb
from protos.v1 import types_pb2

_MANNERS = [Manner.WHOLE] * 80 + [Manner.CANCEL] * 8 + [Manner.DEADLINE] * 8 + [Manner.OPEN_ENDED] * 4
_WAITS_S = (0.0, 1e-4, 1e-3, 0.01, 0.05)
_PROMPTS = (
    "Translate German to English: Wo ist der Bahnhof?\n",
    "Translate French to English: Il neige depuis hier soir.\n",
    "Translate Japanese to English: \u96e8\u304c\u964d\u308b\u3002\n",
    "t5 t9 t11 t20",
)


@dataclass(frozen=True, slots=True)
class Known:
    """What a caller with a key knows of a cluster."""

    metadata: Metadata
    numerics_id: str
    """Of an answer; without it every `resume` would be refused at once."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method of the public port."""

    name: str
    path: str
    lawful: Callable[[Random, Known], Message]
    reply: type[Message]
    max_replies: int = 1_000
    needs_key: bool = True


def lawful_request(rng: Random, known: Known) -> pb.GenerateRequest:
    """A short answer, or the rest of one."""
    request = pb.GenerateRequest(max_tokens=rng.randrange(1, 5))
    request.speculation = rng.choice(("", "auto", "off", "ngram", "de"))
    prompt = rng.choice(_PROMPTS).encode()
    if rng.random() < 0.3:
        request.chat.messages.add(role="user", content=prompt)
    else:
        request.prompt = prompt
    if rng.random() < 0.5:
        request.sampling.CopyFrom(types_pb2.Sampling(temperature=rng.random(), top_k=rng.randrange(9), top_p=0.9))
        request.seed = rng.randrange(1, 1 << 64)
    if rng.random() < 0.2:
        request.stop.append(b"the")
    if rng.random() < 0.3:
        request.resume.numerics_id = known.numerics_id
        request.resume.effective_seed = request.seed or 1
        request.resume.token_ids.extend([5, 9][: request.max_tokens - 1])
        request.resume.next_round = rng.choice((0, 1, 7))
    return request


def lawful_check(rng: Random, known: Known) -> Message:
    request: Message = health_pb2.HealthCheckRequest(service=rng.choice(("", "target", "drafter-de", "nobody")))
    return request


_GENERATION, _HEALTH = "/polydraft.v1.Generation/", "/grpc.health.v1.Health/"
METHODS = (
    Method("Generate", f"{_GENERATION}Generate", lawful_request, pb.GenerateResponse),
    Method("GenerateStream", f"{_GENERATION}GenerateStream", lawful_request, pb.GenerateEvent),
    Method("Check", f"{_HEALTH}Check", lawful_check, health_pb2.HealthCheckResponse, needs_key=False),
    Method("Watch", f"{_HEALTH}Watch", lawful_check, health_pb2.HealthCheckResponse, max_replies=1, needs_key=False),
)


def draw_call(rng: Random, method: Method, known: Known, corpus: Corpus) -> Call:
    """A call of somebody who has a key, if the method asks for one."""
    manner = rng.choice(_MANNERS)
    num_messages = rng.choice((1,) * 30 + (0, 2))
    if manner is Manner.OPEN_ENDED:
        num_messages = max(num_messages, 1)  # else both sides would wait for ever, as they must
    messages = tuple(draw_message(rng, method.lawful(rng, known), corpus) for _ in range(num_messages))
    metadata = known.metadata if method.needs_key else ()
    return Call(method.path, messages, metadata, manner, rng.choice(_WAITS_S), method.max_replies)


def draw_message(rng: Random, lawful: Message, corpus: Corpus) -> bytes:
    """Bytes for a method of which this message is a lawful one."""
    way = rng.random()
    if way < 0.5:
        spoil(rng, lawful, rng.choice((0, 1, 1, 1, 2, 4)))
        return lawful.SerializeToString()
    if way < 0.6:
        return wild(rng, type(lawful)).SerializeToString()
    original = lawful.SerializeToString()
    if way < 0.7:
        return original + b"".join(alien_field(rng) for _ in range(rng.choice((1, 2, 9))))
    base = corpus.pick(rng) if rng.random() < 0.6 else original
    return mutated(rng, base or original, original)


def strange_call(rng: Random, path: str, lawful: Message) -> Call:
    """A call of somebody whom no key lets in."""
    messages = tuple(draw_message(rng, lawful, Corpus()) for _ in range(rng.choice((0, 1, 1, 1, 3))))
    return Call(path, messages, strange_metadata(rng), rng.choice(_MANNERS), rng.choice(_WAITS_S))


def strange_metadata(rng: Random) -> Metadata:
    """Names without keys, keys without names, keys that are none."""
    given: list[tuple[str, str | bytes]] = []
    key = rng.choice(("", "secret", "pd_" + "A" * 43, "sha256:" + 32 * "0" + ":" + 64 * "0", "null", "~ ~"))
    key *= rng.choice((1, 1, 1, 5, 300))
    if rng.random() < 0.7:
        given.append((TENANT_METADATA, rng.choice(("default", "acme", "nobody", "", "ACME", " acme", "a" * 4_000))))
    if rng.random() < 0.7:
        given.append((KEY_METADATA, key))
    if rng.random() < 0.5:
        given.append((TOKEN_METADATA, key))
    if rng.random() < 0.2:
        given += [(f"{KEY_METADATA}-bin", rng.randbytes(20)), (f"{TOKEN_METADATA}-bin", b"\xff"), (KEY_METADATA, "")]
    if rng.random() < 0.1:
        given += [(f"x-{number}", "v" * rng.choice((1, 100))) for number in range(rng.choice((1, 50)))]
    return tuple(given)
