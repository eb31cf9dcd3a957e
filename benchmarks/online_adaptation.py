"""A drafter meets another language: how many updates until it drafts about as well as one that was trained for it?

    python -m benchmarks.prompts --everyday train --count 16000 > runs/traffic.jsonl
    python -m benchmarks.prompts --everyday test --count 100 > runs/unseen.jsonl
    python -m benchmarks.online_adaptation runs/traffic.jsonl --unseen runs/unseen.jsonl --drafter de --language fr

In one process, in turn: the engine answers a portion of the traffic with the drafter's blocks, the trainer learns from
the corrections, and the drafter takes the version that the gate promotes. First comes traffic of the drafter's own
language, then only that of the other. Tokens a round are those of chains of 4 on prompts that nobody learned from
(`training.online.acceptance`); at the end real blocks of the engine confirm them.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

from cluster.config import Config
from cluster.config_file import load
from deployments.adaptation import learning_settings
from deployments.drafters import configured_drafter
from engine.engine import Engine, EngineConfig
from engine.local import LocalAnswer, generate
from engine.model import load_target
from engine.sampling import SamplingParams
from engine.scheduler import SchedulerConfig
from engine.session import LocalDrafting, OpenRequest
from engine.verify.verifiers import VERIFIERS
from polydraft.commands.common import NamedPrompt, read_prompts
from training.drafter import TrimmedVocabulary, load_drafter
from training.online.acceptance import Acceptance, acceptance
from training.online.replay import Transcript
from training.online.trainer import TenantTrainer

MAX_TOKENS = 64
DRAFT_NODES = 4
SESSIONS = 32
"""Answered together."""
PORTION = 64
"""Answers between two turns of the trainer."""


@dataclass(frozen=True, slots=True)
class Served:
    """Answers as the drafter's replica would have followed them."""

    transcripts: list[Transcript]
    tokens_per_round: float


class Cluster:
    """The target, and one of its drafters at a time."""

    def __init__(self, config: Config) -> None:
        self._config = config
        target = load_target(config.target.model, None, torch.device("cpu"))
        scheduler = SchedulerConfig(max_context=target.max_context)
        engine_config = EngineConfig(num_pages=1024, measures_drafts=False, scheduler=scheduler)
        self._engine = Engine(target, VERIFIERS["coupled"], engine_config)
        self._tokenizer = Tokenizer.from_file(str(config.target.model / "tokenizer.json"))
        self._numbers = itertools.count(1)

    def serve(self, prompts: Sequence[NamedPrompt], drafter: str | None, model: Path | None = None) -> Served:
        """Answer prompts, with blocks of a drafter (or of a version of it in `model`) or plainly."""
        loaded = configured_drafter(self._config, drafter, "cpu", model) if drafter is not None else None
        requests = [self._request(prompt, None if drafter is not None else LocalDrafting()) for prompt in prompts]
        answers: dict[int, LocalAnswer] = {}
        for start in range(0, len(requests), SESSIONS):
            answers |= generate(self._engine, requests[start : start + SESSIONS], loaded, DRAFT_NODES)
        transcripts = [
            Transcript(
                (*request.token_ids, *answers[request.session_id].token_ids),
                request.prompt_length,
                tuple(answers[request.session_id].corrections),
            )
            for request in requests
        ]
        num_tokens = sum(len(answer.token_ids) for answer in answers.values())
        num_rounds = sum(len(answer.rounds) for answer in answers.values())
        return Served(transcripts, num_tokens / max(num_rounds, 1))

    def _request(self, prompt: NamedPrompt, local: LocalDrafting | None) -> OpenRequest:
        ids = tuple(self._tokenizer.encode(prompt.prompt, add_special_tokens=False).ids)
        top_k = self._config.adaptation.top_k if local is None else 0
        return OpenRequest(
            next(self._numbers), ids, len(ids), SamplingParams(), MAX_TOKENS, local=local, correction_top_k=top_k
        )


@dataclass(slots=True)
class Experiment:
    """Traffic of one language through the drafter of another."""

    config: Config
    drafter: str
    language: str
    cluster: Cluster
    trainer: TenantTrainer
    unseen: list[Transcript]
    """Answers of the target that nobody learns from."""

    def own(self) -> Acceptance:
        """Of the drafter that was trained for the language."""
        model = self.config.drafters[self.language].model
        assert model is not None, self.language
        return acceptance(*load_drafter(model), self.unseen)

    def current(self) -> Acceptance:
        return acceptance(*load_drafter(self.trainer.store.path(self.trainer.store.current)), self.unseen)

    def learn(self, prompts: Sequence[NamedPrompt]) -> bool:
        """Answer prompts with the current version, learn from them; whether a version was promoted."""
        before = self.trainer.store.current
        path = self.trainer.store.path(before)
        self.trainer.add(self.cluster.serve(prompts, self.drafter, path).transcripts)
        while self.trainer.work():
            pass
        return self.trainer.store.current != before

    def run(self, traffic: Sequence[NamedPrompt], num_before: int, until: float) -> None:
        """Print a line for each promoted version after the shift, until it has `until` of the own drafter's figure."""
        of = {code: [p for p in traffic if p.language == code] for code in (self.drafter, self.language)}
        for portion in _portions(of[self.drafter][:num_before]):
            self.learn(portion)
        own, base = self.own(), self.current()
        shifted, started_s = self.trainer.status().counts, time.perf_counter()
        print(f"own drafter: {_figures(own)}")
        print(f"before, after {num_before} answers in {self.drafter}: {_figures(base)}\n")
        print("| updates | answers | corrections | version | refused | agreement | tokens a round | of own | seconds |")
        print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
        num_answers = 0
        for portion in _portions(of[self.language]):
            num_answers += len(portion)
            if not self.learn(portion):
                continue
            found, counts = self.current(), self.trainer.status().counts
            share = found.tokens_per_round / own.tokens_per_round
            columns = (
                str(counts.updates - shifted.updates),
                str(num_answers),
                str(counts.positions_taken - shifted.positions_taken),
                str(self.trainer.store.current),
                str(counts.refusals - shifted.refusals),
                f"{found.agreement:.3f}",
                f"{found.tokens_per_round:.3f}",
                f"{share:.3f}",
                f"{time.perf_counter() - started_s:.0f}",
            )
            print(f"| {' | '.join(columns)} |", flush=True)
            if share >= until:
                break

    def confirm(self, prompts: Sequence[NamedPrompt]) -> None:
        """Tokens a round of real blocks on the unseen prompts."""
        store = self.trainer.store
        rows = {
            f"{self.drafter}@0": self.cluster.serve(prompts, self.drafter),
            f"{self.drafter}@{store.current}": self.cluster.serve(prompts, self.drafter, store.path(store.current)),
            f"{self.language}@0": self.cluster.serve(prompts, self.language),
        }
        texts = [transcript.token_ids for transcript in self.unseen]
        print(f"\n| drafter | tokens a round, trees of {DRAFT_NODES} | texts as without drafts |\n|---|---:|---:|")
        for name, served in rows.items():
            same = sum(t.token_ids == text for t, text in zip(served.transcripts, texts, strict=True))
            print(f"| {name} | {served.tokens_per_round:.3f} | {same}/{len(texts)} |")
        print()
        for number in (0, store.current):
            vocabulary = load_drafter(store.path(number))[1]
            sizes = f"{vocabulary.num_rows} rows, {vocabulary.num_head_tokens} proposable"
            print(f"{self.drafter}@{number}: {sizes}; {self._coverage(vocabulary)}")

    def _coverage(self, vocabulary: TrimmedVocabulary) -> str:
        prompts = [token for t in self.unseen for token in t.token_ids[: t.prompt_length]]
        answers = [token for t in self.unseen for token in t.token_ids[t.prompt_length :]]
        head = set(vocabulary.token_ids[: vocabulary.num_head_tokens])
        read = sum(token in vocabulary.row_of_id for token in prompts) / len(prompts)
        written = sum(token in head for token in answers) / len(answers)
        return f"reads {read:.1%} of the unseen prompts' tokens, may propose {written:.1%} of the answers'"


def _portions(prompts: Sequence[NamedPrompt]) -> Iterator[Sequence[NamedPrompt]]:
    return (prompts[start : start + PORTION] for start in range(0, len(prompts), PORTION))


def _figures(found: Acceptance) -> str:
    return f"{found.tokens_per_round:.3f} tokens a round, agreement {found.agreement:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traffic", type=Path, help="JSONL prompts of both languages")
    parser.add_argument("--unseen", type=Path, required=True, help="JSONL prompts that nobody learns from")
    parser.add_argument("--drafter", default="de", help="whose traffic shifts")
    parser.add_argument("--language", default="fr", help="what it shifts to")
    parser.add_argument("--before", type=int, default=300, help="answers in the drafter's own language first")
    parser.add_argument("--until", type=float, default=0.9, help="share of the own drafter's tokens a round to stop at")
    parser.add_argument("--config", type=Path, default=Path("configs/local.yaml"))
    parser.add_argument("--set", dest="overrides", action="extend", nargs="+", default=[], metavar="adaptation.x=y")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as versions:
        adapting = ["tenants.default.adapt_drafters=true", f"adaptation.directory={versions}"]
        config = load(args.config, [*adapting, *args.overrides])
        base = config.drafters[args.drafter].model
        assert base is not None, args.drafter
        cluster = Cluster(config)
        unseen = [prompt for prompt in read_prompts(args.unseen) if prompt.language == args.language]
        answers = cluster.serve(unseen, None).transcripts
        trainer = TenantTrainer(base, Path(versions) / args.drafter, learning_settings(config))
        experiment = Experiment(config, args.drafter, args.language, cluster, trainer, answers)
        experiment.run(read_prompts(args.traffic), args.before, args.until)
        experiment.confirm(unseen)


if __name__ == "__main__":
    main()
