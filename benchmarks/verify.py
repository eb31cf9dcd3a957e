"""Proof through the whole cluster that drafting changes no token.

    python -m benchmarks.verify [--corpus ../shared/corpus] [--count 40] [--output runs/verify]

fp32 greedy against transformers' `generate`; bf16 with drafting on against off; sampling with seeds under every
drafter, alone and eight at a time. Prints a Markdown table and exits with 1 if any text differs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.prompts import CorpusPrompt, corpus_prompts
from cluster.config_file import load
from polydraft.answers import Answer
from polydraft.client import AsyncClient
from polydraft.commands.child_cluster import cluster

MAX_TOKENS = 64
TEMPERATURE = 0.8
ALONE, TOGETHER = 1, 8
FP32, BF16 = (["target.draft_lengths=fixed", f"target.dtype={dtype}"] for dtype in ("float32", "bfloat16"))
"""Blocks also where they do not pay: it is the text under drafts that is in question."""
Texts = Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison of two ways to the same texts."""

    what: str
    against: str
    same: int
    total: int
    tokens_per_round: float
    seconds: float


def reference_texts(
    model_dir: Path,
    prompts: Sequence[CorpusPrompt],
    dtype: torch.dtype = torch.float32,
    max_tokens: int = MAX_TOKENS,
) -> dict[str, list[int]]:
    """Greedy answers of transformers' own `generate`, one prompt at a time, EOS left out."""
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=dtype, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True)
    eos = model.generation_config.eos_token_id
    texts: dict[str, list[int]] = {}
    for prompt in prompts:
        ids = tokenizer(prompt.prompt, add_special_tokens=False, return_tensors="pt").input_ids
        output = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_tokens, do_sample=False, pad_token_id=eos
        )
        answer = output[0, ids.shape[1] :].tolist()
        texts[prompt.id] = answer[: answer.index(eos)] if eos in answer else answer
    return texts


async def cluster_answers(
    client: AsyncClient, prompts: Sequence[CorpusPrompt], speculation: str, temperature: float, concurrency: int
) -> dict[str, Answer]:
    """All answers through the cluster, `concurrency` at a time; the seed of a prompt is a hash of its id."""
    slots = asyncio.Semaphore(concurrency)

    async def answer(prompt: CorpusPrompt) -> tuple[str, Answer]:
        async with slots:
            return prompt.id, await client.generate(
                prompt.prompt,
                speculation=speculation,
                temperature=temperature,
                seed=zlib.crc32(prompt.id.encode()),
                max_tokens=MAX_TOKENS,
            )

    return dict(await asyncio.gather(*map(answer, prompts)))


class Verification:
    """Collects the rows; each way through a cluster is run once and compared with what it must equal."""

    def __init__(self, config: str, prompts: Sequence[CorpusPrompt]) -> None:
        self._config = config
        self._prompts = prompts
        self.rows: list[Row] = []

    async def run(self, reference: Texts) -> None:
        async with (
            cluster(self._config, FP32) as address,
            AsyncClient(address) as client,
        ):
            for speculation in ("off", "auto", "ngram"):
                for concurrency in (ALONE, TOGETHER):
                    await self._compare(
                        client, "fp32", speculation, 0.0, concurrency, reference, "transformers generate"
                    )
            sampled = await self._texts(client, "off", TEMPERATURE, ALONE)
            for speculation in ("auto", "ngram"):
                await self._compare(client, "fp32", speculation, TEMPERATURE, ALONE, sampled, "off, alone")
            for speculation in ("off", "auto", "ngram"):
                await self._compare(client, "fp32", speculation, TEMPERATURE, TOGETHER, sampled, "off, alone")
        async with (
            cluster(self._config, BF16) as address,
            AsyncClient(address) as client,
        ):
            for temperature in (0.0, TEMPERATURE):
                plain = await self._texts(client, "off", temperature, ALONE)
                for concurrency in (ALONE, TOGETHER):
                    await self._compare(client, "bf16", "auto", temperature, concurrency, plain, "off, alone")

    async def _texts(self, client: AsyncClient, speculation: str, temperature: float, concurrency: int) -> Texts:
        answers = await cluster_answers(client, self._prompts, speculation, temperature, concurrency)
        return {prompt_id: answer.token_ids for prompt_id, answer in answers.items()}

    async def _compare(
        self,
        client: AsyncClient,
        dtype: str,
        speculation: str,
        temperature: float,
        concurrency: int,
        expected: Texts,
        against: str,
    ) -> None:
        begin = time.perf_counter()
        answers = await cluster_answers(client, self._prompts, speculation, temperature, concurrency)
        seconds = time.perf_counter() - begin
        same = sum(list(answer.token_ids) == list(expected[prompt_id]) for prompt_id, answer in answers.items())
        tokens = sum(len(answer.token_ids) for answer in answers.values())
        rounds = sum(answer.speculation.rounds for answer in answers.values())
        at_a_time = "alone" if concurrency == ALONE else f"{concurrency} at a time"
        what = f"{dtype}, T={temperature:g}, {speculation}, {at_a_time}"
        self.rows.append(Row(what, against, same, len(answers), tokens / max(rounds, 1), seconds))
        print(f"{what}: {same}/{len(answers)} as {against}, {seconds:.0f} s", file=sys.stderr, flush=True)


def markdown(rows: Sequence[Row]) -> str:
    """The table for people."""
    lines = ["| through the cluster | must equal | identical | tokens a round |", "|---|---|---:|---:|"]
    lines += [f"| {r.what} | {r.against} | {r.same}/{r.total} | {r.tokens_per_round:.2f} |" for r in rows]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="configs/local.yaml")
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--count", type=int, default=40, help="prompts a language")
    parser.add_argument("--output", type=Path, default=Path("runs/verify"))
    args = parser.parse_args()
    if not args.corpus.is_dir():
        print(f"verify: the corpus is not at {args.corpus}; give --corpus", file=sys.stderr)
        return 2
    prompts = list(corpus_prompts(args.corpus, args.count))
    verification = Verification(args.config, prompts)
    asyncio.run(verification.run(reference_texts(load(Path(args.config)).target.model, prompts)))
    table = markdown(verification.rows)
    print(table)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.with_suffix(".md").write_text(table + "\n")
    args.output.with_suffix(".json").write_text(json.dumps([asdict(row) for row in verification.rows], indent=1))
    return 0 if all(row.same == row.total for row in verification.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
