"""Tokens a second of whole systems: ours with drafting off and on, transformers plain and assisted.

Same weights, same prompts, tokens counted by their ids without EOS. Repeats go through all systems in turn, so that a
slow moment of the machine hits all of them; what counts is the median.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from transformers import LlamaForCausalLM

from benchmarks.gpu.figures import Figure, truth
from benchmarks.gpu.languages import Languages, prompt_of
from benchmarks.gpu.ours import Ids, OurSystem, make_drafter
from benchmarks.gpu.sizes import Sizes
from benchmarks.gpu.theirs import TheirSystem
from benchmarks.gpu.train import LANGUAGE, Trained, max_positions, train_drafter, train_target
from engine.checks import NotInvariant
from engine.engine import Engine, EngineConfig
from engine.model import ModelRefused, load_target
from engine.numerics import Numerics
from engine.scheduler import SchedulerConfig
from engine.verify.verifiers import VERIFIERS

SECTION = "End to end"
PROMPT_SEED = 1000


class System(Protocol):
    """Whatever answers prompts."""

    def answer(self, prompts: list[Ids], max_tokens: int) -> list[Ids]:
        """One answer a prompt."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a system did in all repeats; its answers of the last."""

    tokens_per_s: float
    answers: list[Ids]


def run_end_to_end(sizes: Sizes) -> Iterator[Figure]:
    """Train, then measure one stream at a time and several at once."""
    target, drafter = train_target(sizes), train_drafter(sizes)
    yield from _about("target", target)
    yield from _about("drafter", drafter)
    with tempfile.TemporaryDirectory() as folder:
        target.model.to(sizes.dtype).save_pretrained(folder)  # type: ignore[arg-type]  # transformers wraps nn.Module.to
        model = LlamaForCausalLM.from_pretrained(folder, dtype=sizes.dtype).to(sizes.device).eval()  # type: ignore[arg-type]  # likewise
        assistant = drafter.model.to(sizes.dtype)  # type: ignore[arg-type]  # likewise
        engines = dict(_engines(sizes, Path(folder)))
        if Numerics.INVARIANT.value not in engines:
            yield truth(SECTION, "numerics invariant is served", False, "the load-time probes refused it")
        devices = {device.type: device for device in (torch.device("cpu"), sizes.device)}
        drafters = {name: make_drafter(drafter.model, device) for name, device in devices.items()}
        for temperature in (0.0, 1.0):
            systems: dict[str, System] = {}
            for numerics, engine in engines.items():
                systems[f"ours, {numerics}, drafting off"] = OurSystem(engine, None, temperature)
                for where, ours in drafters.items():
                    if numerics != "invariant without graphs":
                        systems[f"ours, {numerics}, drafter on {where}"] = OurSystem(engine, ours, temperature)
            systems["transformers, plain"] = TheirSystem(model, None, temperature)
            alone = systems | {"transformers, assisted": TheirSystem(model, assistant, temperature)}
            yield from _measured(sizes, alone, sizes.num_prompts, 1, temperature)
            yield from _measured(sizes, systems, sizes.num_streams, sizes.num_streams, temperature)


def _about(name: str, trained: Trained) -> Iterator[Figure]:
    note = f"loss {trained.loss:.3f} after {trained.num_steps} steps"
    yield Figure(SECTION, f"{name}, parameters", trained.num_parameters / 1e6, "million", note=note)


def _engines(sizes: Sizes, folder: Path) -> Iterator[tuple[str, Engine]]:
    """By numerics; those that the checks at load refuse are left out, with the reason on the screen."""
    for numerics in Numerics:
        target = load_target(folder, sizes.dtype, sizes.device, is_invariant=numerics is Numerics.INVARIANT)
        scheduler = SchedulerConfig(max_rows=1024, prefill_chunk=256, max_context=max_positions(sizes))
        graphs = (True, False) if numerics is Numerics.INVARIANT else (True,)
        for has_graphs in graphs:
            config = EngineConfig(num_pages=512, numerics=numerics, cuda_graphs=has_graphs, scheduler=scheduler)
            try:
                engine = Engine(target, VERIFIERS["coupled"], config)
            except (ModelRefused, NotInvariant) as error:
                print(error)
                break
            yield numerics.value if has_graphs else f"{numerics.value} without graphs", engine


def _measured(
    sizes: Sizes, systems: Mapping[str, System], num_prompts: int, at_once: int, temperature: float
) -> Iterator[Figure]:
    prompts = _prompts(sizes, num_prompts)
    groups = [prompts[first : first + at_once] for first in range(0, len(prompts), at_once)]
    runs = _interleaved(sizes, systems, groups)
    where = f"T = {temperature:g}, {at_once} at once"
    for name, run in runs.items():
        system = systems[name]
        note = ""
        if isinstance(system, OurSystem) and system.drafter is not None:
            note = f"{system.num_tokens / max(system.num_rounds, 1):.2f} tokens a round"
        yield Figure(SECTION, f"{name}, {where}", run.tokens_per_s, "tokens/s", note=note)
    yield from _identities(runs, where, temperature)


def _prompts(sizes: Sizes, count: int) -> list[Ids]:
    """Of one length, so that transformers needs no padding; texts that no model was trained on."""
    languages = Languages(sizes.device, seed=0)
    languages.reseed(PROMPT_SEED)
    texts_BT = languages.draw(count, sizes.source_words[1], LANGUAGE)
    return [tuple(prompt_of(text_T).tolist()) for text_T in texts_BT]


def _interleaved(sizes: Sizes, systems: Mapping[str, System], groups: list[list[Ids]]) -> dict[str, Run]:
    """Once to warm up (and capture), then all repeats."""
    speeds: dict[str, list[float]] = {name: [] for name in systems}
    answers: dict[str, list[Ids]] = {}
    for repeat in range(sizes.end_to_end_repeats + 1):
        for name, system in systems.items():
            started_s = time.perf_counter()
            answers[name] = [answer for group in groups for answer in system.answer(group, sizes.max_tokens)]
            speed = sum(map(len, answers[name])) / (time.perf_counter() - started_s)
            if repeat:
                speeds[name].append(speed)
    return {name: Run(statistics.median(speeds[name]), answers[name]) for name in systems}


def _identities(runs: Mapping[str, Run], where: str, temperature: float) -> Iterator[Figure]:
    """Answers that are the same whatever is drafted and captured: a promise of `invariant`, a fact of the others."""
    for numerics in Numerics:
        mine = {name: run.answers for name, run in runs.items() if name.startswith(f"ours, {numerics.value}")}
        if mine:
            expected = mine[f"ours, {numerics.value}, drafting off"]
            num_same = min(sum(map(_is_same, answers, expected)) for answers in mine.values())
            bound = float(len(expected)) if numerics is Numerics.INVARIANT else None
            name = f"same answers of {len(expected)} with every drafter and without, {numerics.value}, {where}"
            yield Figure(SECTION, name, num_same, "", bound)
    if temperature == 0.0:
        plain = runs["transformers, plain"].answers
        for name, run in runs.items():
            if name != "transformers, plain" and "drafter on" not in name:
                num_same = sum(map(_is_same, run.answers, plain))
                yield Figure(SECTION, f"same answers of {len(plain)} as transformers, {name}, {where}", num_same, "")


_is_same: Callable[[Ids, Ids], bool] = tuple.__eq__
