"""The whole cluster as its users see it: five languages, the target's own text, clear refusals, parts that die."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.fuzz.internals import leak
from deployments.processes import Process
from polydraft.answers import Answer, Chunk, Finished, Started, TokenLogprobs
from polydraft.commands.common import NamedPrompt
from polydraft.commands.demo_sentences import LANGUAGE_NAMES, SENTENCES, demo_prompts
from polydraft.options import GenerateOptions
from protos.v1 import generate_pb2 as pb
from protos.v1 import types_pb2
from protos.v1.generate_pb2_grpc import GenerationStub
from tests.conftest import ROOT
from tests.integration.conftest import RunningCluster, kill, replicas

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROMPTS = [prompt for language in LANGUAGE_NAMES for prompt in demo_prompts(language)]
GERMAN = PROMPTS[0].prompt
# Longer than what the model was trained on: it goes on long enough for something to die meanwhile.
LONG_PROMPT = "Translate German to English: " + " ".join(SENTENCES["de"]) + "\n"
LONG_TOKENS = 200


async def _answers(
    cluster: RunningCluster, speculation: str, temperature: float, prompts: Sequence[NamedPrompt] = PROMPTS
) -> list[Answer]:
    async with cluster.client() as client:
        calls = [
            client.generate(p.prompt, speculation=speculation, temperature=temperature, seed=number, max_tokens=48)
            for number, p in enumerate(prompts)
        ]
        return list(await asyncio.gather(*calls))


@pytest.mark.parametrize("temperature", [0.0, 0.8])
async def test_each_language_gets_its_drafter_and_drafting_changes_no_token(
    running_cluster: RunningCluster, temperature: float
) -> None:
    plain = await _answers(running_cluster, "off", temperature)
    drafted = await _answers(running_cluster, "auto", temperature)
    looked_up = await _answers(running_cluster, "ngram", temperature)

    assert [answer.language for answer in drafted] == [prompt.language for prompt in PROMPTS]
    assert [answer.drafter for answer in drafted] == [prompt.language for prompt in PROMPTS]
    for other in (drafted, looked_up):
        assert [answer.token_ids for answer in other] == [answer.token_ids for answer in plain]
        assert [answer.text for answer in other] == [answer.text for answer in plain]
    assert all(answer.usage.completion_tokens == len(answer.token_ids) for answer in drafted)
    assert sum(a.speculation.accepted for a in drafted) > sum(a.speculation.rounds for a in drafted) / 2
    assert sum(a.speculation.drafted for a in plain) == 0


METHODS = ["ngram_tree", "layer_skip", "cascade", "multi_candidate", "cape", "graph", "likeliest"]


@pytest.mark.parametrize("temperature", [0.0, 0.8])
async def test_every_method_can_be_named_and_writes_the_same(
    running_cluster: RunningCluster, temperature: float
) -> None:
    prompts = PROMPTS[2::4]  # of three sentences, one a language
    plain = await _answers(running_cluster, "off", temperature, prompts)
    for name in METHODS:
        drafted = await _answers(running_cluster, name, temperature, prompts)

        assert {answer.drafter for answer in drafted} == {name}
        assert [answer.token_ids for answer in drafted] == [answer.token_ids for answer in plain], name
        assert sum(answer.speculation.accepted for answer in drafted) > 10, name


@pytest.mark.parametrize("temperature", [0.0, 0.8])
async def test_of_several_drafters_one_is_chosen_and_the_text_is_the_same(
    running_cluster: RunningCluster, temperature: float
) -> None:
    options = GenerateOptions(language="nl", temperature=temperature, seed=3, max_tokens=64)
    off: GenerateOptions = {**options, "speculation": "off"}
    async with running_cluster.client() as client:
        for prompt in [*PROMPTS[:4], *PROMPTS[:4]]:
            plain = await client.generate(prompt.prompt, **off)
            chosen = await client.generate(prompt.prompt, **options)

            assert chosen.token_ids == plain.token_ids
            uses = {use.drafter: use for use in chosen.speculation.drafters}
            assert set(uses) == {"off", "de", "ngram"} and not plain.speculation.drafters
            assert sum(use.rounds for use in uses.values()) <= chosen.speculation.rounds
    assert sum(use.rounds for name, use in uses.items() if name != "off") > 0


async def test_explain_says_who_drafted_and_why(running_cluster: RunningCluster) -> None:
    command = [sys.executable, "-m", "polydraft", "explain", "--address", running_cluster.address, "--language"]

    async def said(language: str, *flags: str) -> list[str]:
        child = await asyncio.create_subprocess_exec(*command, language, *flags, GERMAN, stdout=asyncio.subprocess.PIPE)
        output, _ = await asyncio.wait_for(child.communicate(), 60)
        assert child.returncode == 0
        return output.decode().splitlines()

    choice = await said("nl", "--max-tokens", "32")
    assert choice[0].startswith("language nl; began with ") and "3 to choose between" in choice[1]
    assert {line.split()[0] for line in choice[3:6]} == {"off", "de", "ngram"}
    assert (await said("de"))[1] == "'de' alone serves 'de' here, so there was no choice."
    (record,) = map(json.loads, await said("nl", "--json"))
    assert {use["drafter"] for use in record["drafters"]} == {"off", "de", "ngram"}


async def test_greedy_text_is_that_of_transformers(running_cluster: RunningCluster) -> None:
    directory = ROOT / "models" / "target"
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(directory)

    answers = await _answers(running_cluster, "auto", 0.0)

    for prompt, answer in list(zip(PROMPTS, answers, strict=True))[::3]:
        ids = tokenizer(prompt.prompt, return_tensors="pt").input_ids
        output = model.generate(  # type: ignore[misc]  # its self is annotated with a protocol
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=48, do_sample=False
        )
        assert [token for token in output[0, ids.shape[1] :].tolist() if token != 1] == list(answer.token_ids)


def _request(prompt: bytes = GERMAN.encode(), **fields: object) -> pb.GenerateRequest:
    return pb.GenerateRequest(prompt=prompt, **fields)  # type: ignore[arg-type]  # fields by name


BAD_REQUESTS: dict[str, tuple[Callable[[], pb.GenerateRequest], grpc.StatusCode, str]] = {
    "empty prompt": (lambda: _request(b""), grpc.StatusCode.INVALID_ARGUMENT, "prompt"),
    "prompt over the context": (lambda: _request(b"house " * 2_000), grpc.StatusCode.INVALID_ARGUMENT, "context"),
    "unknown language": (lambda: _request(language="xx"), grpc.StatusCode.INVALID_ARGUMENT, "xx"),
    "unknown drafter": (lambda: _request(speculation="klingon"), grpc.StatusCode.INVALID_ARGUMENT, "klingon"),
    "negative temperature": (
        lambda: _request(sampling=types_pb2.Sampling(temperature=-0.5)),
        grpc.StatusCode.INVALID_ARGUMENT,
        "temperature",
    ),
    "max tokens 0": (lambda: _request(max_tokens=0), grpc.StatusCode.INVALID_ARGUMENT, "max_tokens"),
    "invalid UTF-8": (lambda: _request(b"Guten \xff\xfe Tag"), grpc.StatusCode.INVALID_ARGUMENT, "UTF-8"),
    "a prompt of 50 MB": (lambda: _request(b"x" * 50_000_000), grpc.StatusCode.RESOURCE_EXHAUSTED, "larger"),
    "undeclared resume": (
        lambda: _request(resume=pb.Resume(token_ids=[5, 6])),
        grpc.StatusCode.INVALID_ARGUMENT,
        "numerics_id",
    ),
    "resume under other numerics": (
        lambda: _request(resume=pb.Resume(token_ids=[5, 6], effective_seed=1, numerics_id="another")),
        grpc.StatusCode.ABORTED,
        "numerics",
    ),
    "a field that is not built": (lambda: _request(min_p=0.1), grpc.StatusCode.UNIMPLEMENTED, "min_p"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
async def test_bad_input_is_refused_clearly_and_the_cluster_goes_on(running_cluster: RunningCluster, name: str) -> None:
    make, status, word = BAD_REQUESTS[name]
    options = [("grpc.max_send_message_length", 64 << 20)]
    async with grpc.aio.insecure_channel(running_cluster.address, options=options) as channel:
        stub = GenerationStub(channel)
        for call in (stub.Generate(make(), timeout=60), _last(stub.GenerateStream(make(), timeout=60))):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call
            assert raised.value.code() is status
            assert word in str(raised.value.details())
            assert leak(str(raised.value.details())) is None
        good = await stub.Generate(_request(max_tokens=3), timeout=60)
    assert len(good.token_ids) <= 3


async def _last(call: grpc.aio.UnaryStreamCall[pb.GenerateRequest, pb.GenerateEvent]) -> None:
    async for _ in call:
        pass


async def _stream_and_kill(
    cluster: RunningCluster, victim_of: str, speculation: str
) -> tuple[list[int], str, list[TokenLogprobs], Finished]:
    """Stream an answer; after 8 tokens kill every replica of a drafter, or the one target that computes."""
    token_ids: list[int] = []
    text = ""
    logprobs: list[TokenLogprobs] = []
    killed: list[Process] = []
    dead_before_last = False
    # Looked up now: walking all processes takes as long as what is left of the answer after 8 tokens.
    candidates = replicas(victim_of)
    before = {process.pid: _cpu_ticks(process) for process in candidates}
    async with cluster.client() as client:
        async for event in client.stream(LONG_PROMPT, speculation=speculation, max_tokens=LONG_TOKENS, logprobs=2):
            if isinstance(event, Chunk):
                dead_before_last = bool(killed) and not any(process.is_alive for process in killed)
                token_ids += event.token_ids
                text += event.text
                logprobs += event.logprobs
                if len(token_ids) >= 8 and not killed:
                    killed = [_busiest(candidates, before)]
                    kill(killed[0])
            elif isinstance(event, Finished):
                finished = event
            else:
                assert isinstance(event, Started)
    assert dead_before_last, "the answer was over before the victim was dead"
    return token_ids, text, logprobs, finished


def _cpu_ticks(process: Process) -> int:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _busiest(processes: list[Process], before: dict[int, int]) -> Process:
    """The replica that worked for the answer: of two targets only one computes it."""
    return max(processes, key=lambda process: _cpu_ticks(process) - before[process.pid])


@pytest.mark.parametrize(("victim", "speculation"), [("drafter-de", "de"), ("target", "de"), ("target", "off")])
async def test_a_killed_replica_costs_no_token(running_cluster: RunningCluster, victim: str, speculation: str) -> None:
    async with running_cluster.client() as client:
        whole = await client.generate(LONG_PROMPT, speculation="off", max_tokens=LONG_TOKENS, logprobs=2)

    token_ids, text, logprobs, finished = await _stream_and_kill(running_cluster, victim, speculation)

    assert token_ids == list(whole.token_ids)
    assert text == whole.text
    assert logprobs == list(whole.logprobs) and len(logprobs) == len(token_ids)
    assert (finished.speculation.failovers > 0) == (victim == "target")
    await _wait_until_replaced(running_cluster, victim)


async def _wait_until_replaced(cluster: RunningCluster, deployment: str) -> None:
    """Serve replaces what died; the next test finds the cluster whole."""
    wanted = 2 if deployment == "target" else 1
    async with grpc.aio.insecure_channel(cluster.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        async with asyncio.timeout(90):
            while True:
                reply = await stub.Check(health_pb2.HealthCheckRequest(service=deployment), timeout=10)
                alive = [process for process in replicas(deployment) if process.is_alive]
                ticks = sum(map(_cpu_ticks, alive))
                await asyncio.sleep(0.5)
                # One that still computes for its start would be taken for the one that answers.
                is_quiet = sum(map(_cpu_ticks, alive)) - ticks < 10
                if reply.status == health_pb2.HealthCheckResponse.SERVING and len(alive) >= wanted and is_quiet:
                    return
