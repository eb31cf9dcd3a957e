"""Choose the sublayers to leave out for each language and for all others, and write the file beside the target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from engine.drafters.skip_file import FILE_NAME, ChosenSet, SkipFile
from engine.engine import Engine, EngineConfig
from engine.identity import target_id
from engine.local import generate
from engine.model import TargetModel, load_target
from engine.sampling import SamplingParams
from engine.scheduler import SchedulerConfig
from engine.session import Finish, LocalDrafting, OpenRequest
from engine.skipping import SkipSet
from engine.verify.verifiers import VERIFIERS
from training.data import read_texts
from training.layer_skip.costs import StepCosts, measure_costs
from training.layer_skip.rehearsal import Answer, Rehearsal
from training.layer_skip.search import Found, Space, search
from training.prompts import PromptEncoder
from training.recipe import Source

_PAGE_SIZE = 16
_TOLD_EVERY = 25
_DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}
OF_ALL = ""
"""In place of a language."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What to try, and on what."""

    num_looks: int = 200
    """Sets tried for each language, and for all together."""
    num_prompts: int = 16
    """Of each language."""
    max_tokens: int = 48
    """Of an answer."""
    max_nodes: int = 8
    """Of a draft."""
    exit_confidence: float = 0.6
    seed: int = 1
    num_threads: int = 1
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """As the target is served."""


Say = Callable[[str], None]


def tune(target_dir: Path, sources: Mapping[str, Source], output: Path | None, settings: Settings, say: Say) -> Path:
    """Write the file and return where; `sources`: prompts by language. ValueError or OSError says what is missing."""
    output = output or target_dir / FILE_NAME
    encoder = PromptEncoder(target_dir, chat=None)
    prompts = {tag: _prompts(encoder, tag, source, settings) for tag, source in sources.items()}
    torch.set_num_threads(settings.num_threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    target = load_target(target_dir, _DTYPES[settings.dtype], device)
    chosen = choose_sets(target, prompts, encoder.eos_ids, settings, say)
    of_all = chosen.pop(OF_ALL)
    SkipFile(target_id(target_dir), len(target.kv_layers), of_all, chosen).write(output)
    return output


def choose_sets(
    target: TargetModel,
    prompts: Mapping[str, Sequence[Sequence[int]]],
    eos_ids: Sequence[int],
    settings: Settings,
    say: Say,
    costs: StepCosts | None = None,
) -> dict[str, ChosenSet]:
    """A set for each language, and one by all of them; without `costs` steps are measured."""
    engine = _engine(target)
    costs = costs or measure_costs(engine.executor, 1 + settings.max_nodes)
    say(
        f"a step takes {1e3 * costs.verify_s(1):.2f} ms: {1e3 * costs.attention:.3f} each attention, "
        f"{1e3 * costs.mlp:.3f} each MLP, {1e3 * costs.base:.3f} the rest; {1e3 * costs.row:.3f} each further row"
    )
    answers = {tag: _answers(engine, of_language, eos_ids, settings) for tag, of_language in prompts.items()}
    together = [answer for of_language in answers.values() for answer in of_language]
    chosen: dict[str, ChosenSet] = {}
    for tag, of_set in {**answers, OF_ALL: together}.items():
        if tag == OF_ALL and len(answers) == 1:
            chosen[tag] = next(iter(chosen.values()))
            continue
        rehearsal = Rehearsal(target, of_set, settings.max_nodes, engine.executor.min_rows)
        chosen[tag] = _choose(target, rehearsal, costs, settings, partial(_say_of, say, tag))
    return chosen


def _say_of(say: Say, tag: str, text: str) -> None:
    say(f"{tag or 'all'}: {text}")


def _choose(target: TargetModel, rehearsal: Rehearsal, costs: StepCosts, settings: Settings, say: Say) -> ChosenSet:
    num_layers = len(target.kv_layers)
    mlps = [layer for layer in range(num_layers) if target.sublayers.problem(SkipSet.of((), [layer])) is None]
    space = Space(num_layers, mlps)
    plain_s = costs.verify_s(1)

    def speedup(skip: SkipSet) -> float:
        return plain_s / rehearsal.outcome(skip, costs, settings.exit_confidence).seconds_per_token

    def tell(num_looks: int, found: Found) -> None:
        if num_looks % _TOLD_EVERY == 0:
            say(f"{num_looks} sets, best {found.score:.3f}x without {space.skip_of(found.best)}")

    found = search(space, speedup, settings.num_looks, settings.seed, tell)
    skip = space.skip_of(found.best)
    outcome = rehearsal.outcome(skip, costs, settings.exit_confidence)
    say(
        f"{found.score:.3f}x without {skip}: {outcome.tokens_per_round:.2f} tokens a round, "
        f"{outcome.acceptance:.0%} of {outcome.drafted_per_round:.2f} accepted"
    )
    figures = {
        "modelled_speedup": found.score,
        "draft_share_of_step": costs.draft_s(skip) / plain_s,
        "tokens_per_round": outcome.tokens_per_round,
        "drafted_per_round": outcome.drafted_per_round,
        "acceptance": outcome.acceptance,
    }
    return ChosenSet(skip, {name: round(value, 4) for name, value in figures.items()} | {"sets": len(found.scores)})


def _prompts(encoder: PromptEncoder, tag: str, source: Source, settings: Settings) -> list[tuple[int, ...]]:
    texts = read_texts([source.model_copy(update={"limit": settings.num_prompts})], "refuse")
    encoded = [text.prompt_ids for text in encoder.encode(texts)]
    if not encoded:
        raise ValueError(f"{source.path} holds no prompts for {tag}")
    return encoded


def _engine(target: TargetModel) -> Engine:
    scheduler = SchedulerConfig(max_context=target.max_context, max_running=16)
    num_pages = 2 + 16 * (-(-min(target.max_context, 4096) // _PAGE_SIZE))
    config = EngineConfig(num_pages=num_pages, page_size=_PAGE_SIZE, scheduler=scheduler, cuda_graphs=False)
    return Engine(target, VERIFIERS["coupled"], config)


def _answers(
    engine: Engine, prompts: Sequence[Sequence[int]], eos_ids: Sequence[int], settings: Settings
) -> list[Answer]:
    """What the target greedily answers."""
    requests = [
        OpenRequest(number, tuple(prompt), len(prompt), SamplingParams(), settings.max_tokens, local=LocalDrafting())
        for number, prompt in enumerate(prompts)
    ]
    answered = generate(engine, requests, is_checked=False)
    found = []
    for request in requests:
        answer = answered[request.session_id]
        end = tuple(eos_ids[:1]) if answer.finish is Finish.EOS else ()
        found.append(Answer((*request.token_ids, *answer.token_ids, *end), request.prompt_length))
    return found
