"""`polydraft evaluate`: the configuration's target and drafters in this process, asked by `training.evaluation`.

Not a deployment: it runs without Ray, and stands here because configuration, engine and training meet here only.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from cluster.chat import ChatTurn
from cluster.config import Config
from cluster.config_file import load
from cluster.drafter_config import Placement
from cluster.errors import ConfigError, PolydraftError
from cluster.language import LanguageDetector
from cluster.model_files import check_models
from cluster.probes import tokenizer_hash
from cluster.text import Tokenizer
from deployments.drafters import manifest_of
from deployments.engines import configured_engine
from engine.dtypes import bf16_features
from engine.engine import CannotServe
from engine.identity import numerics_id, target_id
from engine.model import TargetModel
from training.evaluation.protocol import NUM_WARMUP, Chat, EvaluatedDrafter, Evaluator, Message, Plan
from training.evaluation.questions import Question, read_questions
from training.evaluation.report import DrafterFacts, Provenance, Report, RunFacts, make_report


class CannotEvaluate(Exception):
    """A file, model or question that cannot be used; the message says which, and what to do."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to evaluate, as the flags of the command say it."""

    questions: tuple[Path, ...]
    drafters: tuple[str, ...] | None
    """None: all of method `lm`."""
    own_only: bool
    language: str | None
    """Of questions that do not say; None: detected."""
    limit: int | None
    temperatures: tuple[float, ...]
    seeds: int
    max_tokens: int


def evaluate(
    path: Path, overrides: Sequence[str], wanted: Wanted, provenance: Provenance, progress: Callable[[str], None]
) -> Report:
    """Load what the configuration at `path` names, ask, and report. Raises `CannotEvaluate`."""
    with _explained(ConfigError, ValueError):  # models and files are refused by ValueError
        served = load(path, overrides)
        check_models(served)
        questions = _questions(served, wanted)
        config = _in_step(served, wanted.drafters)
        plan = _plan(config, wanted, questions)
        engine = configured_engine(config)
        chat = _chat(config)
    with _explained(CannotServe, PolydraftError):
        evaluation = Evaluator(engine, chat, plan).evaluate(questions, progress)
    return make_report(evaluation, {**_facts(config, wanted, engine.target), **provenance})


@contextmanager
def _explained(*kinds: type[Exception]) -> Iterator[None]:
    """Turn errors whose message is for the caller into `CannotEvaluate`."""
    try:
        yield
    except kinds as error:
        raise CannotEvaluate(str(error)) from None


def _questions(config: Config, wanted: Wanted) -> list[Question]:
    detector = LanguageDetector(config.known_languages)

    def tell_language(text: str) -> str | None:
        detection = detector.detect(text)
        return detection.language if detection is not None else None

    return read_questions(wanted.questions, tell_language, wanted.language, wanted.limit)


def _in_step(config: Config, names: Sequence[str] | None) -> Config:
    """The configuration with the chosen drafters alone, all of them in the target's step."""
    chosen = names or [name for name, one in config.drafters.items() if one.method == "lm" and one.languages]
    configured = ", ".join(config.drafters) or "none"
    if unknown := [name for name in chosen if name not in config.drafters]:
        raise ConfigError(f"drafters {', '.join(unknown)}: not configured; configured: {configured}")
    if not chosen:
        raise ConfigError(f"no drafter of method lm is configured; name others (configured: {configured})")
    # What cascades are made of is there, but drafts for nobody else.
    parts = dict.fromkeys((part for name in chosen for part in config.drafters[name].of), Placement.TIER)
    placed = {
        name: config.drafters[name].model_copy(update={"placement": placement})
        for name, placement in (parts | dict.fromkeys(chosen, Placement.TARGET)).items()
    }
    return config.model_copy(update={"drafters": placed})


def _plan(config: Config, wanted: Wanted, questions: Sequence[Question]) -> Plan:
    plan = Plan(
        drafters=tuple(
            EvaluatedDrafter(name, drafter.max_draft_tokens, frozenset(drafter.languages))
            for name, drafter in config.target_drafters.items()
        ),
        temperatures=tuple(dict.fromkeys(wanted.temperatures)),
        num_seeds=wanted.seeds,
        max_tokens=wanted.max_tokens,
        own_only=wanted.own_only,
    )
    languages = sorted({question.language for question in questions})
    if not any(plan.drafters_for(language) for language in languages):
        raise ConfigError(f"no drafter is configured for {', '.join(languages)}; ask all drafters, or say the language")
    return plan


def _chat(config: Config) -> Chat:
    tokenizer = Tokenizer(config.target.model)

    def encode(messages: Sequence[Message]) -> list[int]:
        return tokenizer.encode_chat([ChatTurn(role, content) for role, content in messages])

    return Chat(encode, tokenizer.decode)


def _facts(config: Config, wanted: Wanted, model: TargetModel) -> RunFacts:
    target = config.target
    identity, tokenizer = target_id(target.model), tokenizer_hash(target.model / "tokenizer.json")
    drafters: dict[str, DrafterFacts] = {
        name: {
            "method": drafter.method,
            "language": manifest_of(drafter, drafter.model).language if drafter.model else "",
            "languages": list(drafter.languages),
            "max_nodes": drafter.max_draft_tokens,
        }
        for name, drafter in config.target_drafters.items()
    }
    return {
        "target_id": identity,
        # Whatever the cluster does, here the target is loaded in one process.
        "numerics_id": numerics_id(identity, tokenizer, model.dtype, model.device, target.numerics, num_shards=1),
        "drafters": drafters,
        "settings": asdict(wanted)
        | {
            "questions": [path.name for path in wanted.questions],
            "drafters": list(config.target_drafters),
            "warmup": NUM_WARMUP,
            "draft_lengths": target.draft_lengths,
            "numerics": target.numerics,
            "dtype": str(model.dtype).removeprefix("torch."),
        },
        "machine": {
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "instructions": [torch.backends.cpu.get_cpu_capability(), *bf16_features()],
            "device": torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else "cpu",
            "threads": target.num_threads,
        },
        "config": config.model_dump(mode="json"),
    }
