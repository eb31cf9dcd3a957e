"""What drafts by the target itself bring: `python -m benchmarks.layer_skip demo --prompts de=FILE.jsonl ...` for a
target with its file of sublayers, `python -m benchmarks.layer_skip deep` for one where most layers do little.

One sequence at a time, temperature 0, blocks of up to 8 tokens; plain decoding and drafting take turns on each prompt,
and the medians of whole answers are compared. Both write the same text, or the benchmark ends with exit status 1.

The deep target is made here: 24 layers of random weights, in which the upper 16 add a hundredth of what they would.
Draft & Verify leaves out two fifths to a half of the sublayers of trained models of 40 to 80 layers.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from engine.drafters.layer_skip import LayerSkipDrafter
from engine.drafters.skip_file import FILE_NAME, SkipFile, read_skip_file
from engine.dtypes import best_target_dtype
from engine.engine import Engine, EngineConfig
from engine.local import LocalAnswer, generate
from engine.model import TargetModel, load_target, prepare_target
from engine.sampling import SamplingParams
from engine.scheduler import SchedulerConfig
from engine.session import LocalDrafting, OpenRequest
from engine.verify.verifiers import VERIFIERS
from training.data import read_texts
from training.layer_skip.costs import measure_costs
from training.layer_skip.tuning import OF_ALL, Settings, choose_sets
from training.prompts import PromptEncoder
from training.recipe import Source

MAX_NODES = 8
PLAIN, SKIPPING = LocalDrafting(), LocalDrafting("layer_skip", MAX_NODES)
DEEP_LAYERS, LIVELY_LAYERS, DAMPING = 24, 8, 0.01


@dataclass(frozen=True, slots=True)
class Row:
    """One language."""

    language: str
    without: str
    draft_share: float
    """Of a drafted token's time, in a step's."""
    tokens_per_round: float
    acceptance: float
    plain_tokens_per_s: float
    speedup: float


def measure(
    target: TargetModel, sets: SkipFile, prompts: Mapping[str, Sequence[Sequence[int]]], repeats: int
) -> list[Row]:
    """A row for each language. SystemExit if a text differs."""
    drafter = LayerSkipDrafter(sets, target.vocab_size, max_nodes=MAX_NODES, eos_token_ids=sorted(target.eos_ids))
    scheduler = SchedulerConfig(max_context=target.max_context, prefix_sharing=False)
    config = EngineConfig(num_pages=256, measures_drafts=False, scheduler=scheduler)
    engine = Engine(target, VERIFIERS["coupled"], config, {"layer_skip": drafter})
    costs = measure_costs(engine.executor, 1 + MAX_NODES)
    return [
        _row(engine, tag, of_language, sets, costs.draft_s(sets.set_for(tag)) / costs.verify_s(1), repeats)
        for tag, of_language in prompts.items()
    ]


def _row(
    engine: Engine, tag: str, prompts: Sequence[Sequence[int]], sets: SkipFile, draft_share: float, repeats: int
) -> Row:
    plain_s = drafted_s = 0.0
    num_tokens = num_rounds = num_drafted = num_accepted = 0
    for prompt in prompts:
        times: dict[LocalDrafting, list[float]] = {PLAIN: [], SKIPPING: []}
        for _ in range(1 + repeats):  # the first one warms up
            found = {local: _timed(engine, prompt, tag, local, times[local]) for local in times}
            if found[PLAIN].token_ids != found[SKIPPING].token_ids:
                sys.exit(f"{tag}: drafting changed a text, which it must not")
        plain_s += median(times[PLAIN][1:])
        drafted_s += median(times[SKIPPING][1:])
        rounds = found[SKIPPING].rounds
        num_tokens += sum(one.num_tokens for one in rounds)
        num_rounds += len(rounds)
        num_drafted += found[SKIPPING].num_drafted
        num_accepted += found[SKIPPING].num_accepted
    return Row(
        tag,
        str(sets.set_for(tag)),
        draft_share,
        num_tokens / num_rounds,
        num_accepted / num_drafted,
        num_tokens / plain_s,
        plain_s / drafted_s,
    )


def _timed(engine: Engine, prompt: Sequence[int], tag: str, local: LocalDrafting, times: list[float]) -> LocalAnswer:
    request = OpenRequest(1, tuple(prompt), len(prompt), SamplingParams(), 48, local=local, language=tag)
    started_s = time.perf_counter()
    answer = generate(engine, [request], is_checked=False)[1]
    times.append(time.perf_counter() - started_s)
    return answer


def deep_target() -> TargetModel:
    """As wide as the demo target, with 24 layers, of which the upper ones add little."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        LlamaConfig(
            vocab_size=4096,
            hidden_size=384,
            intermediate_size=1152,
            num_hidden_layers=DEEP_LAYERS,
            num_attention_heads=6,
            num_key_value_heads=3,
            max_position_embeddings=512,
        ),
        dtype=best_target_dtype(torch.device("cpu")),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(3.0)
        model.lm_head.weight.mul_(8.0)  # as sure of its tokens (0.74) as the demo target (0.63 to 0.73)
        for layer in model.model.layers[LIVELY_LAYERS:]:
            layer.self_attn.o_proj.weight.mul_(DAMPING)
            layer.mlp.down_proj.weight.mul_(DAMPING)
    return prepare_target(model, frozenset())


def random_prompts(target: TargetModel, count: int, seed: int) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(target.vocab_size) for _ in range(rng.randrange(8, 40))] for _ in range(count)]


def say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    args = _parser().parse_args()
    torch.set_num_threads(args.threads)
    if args.part == "deep":
        target = deep_target()
        tuned_on = {"deep": random_prompts(target, 4, seed=1)}
        settings = Settings(num_looks=args.evaluations, max_tokens=32, max_nodes=MAX_NODES)
        chosen = choose_sets(target, tuned_on, [], settings, say)
        sets = SkipFile("deep", DEEP_LAYERS, chosen[OF_ALL])
        rows = measure(target, sets, {"deep": random_prompts(target, args.limit, seed=2)}, args.repeats)
    else:
        target = load_target(args.target, None, torch.device("cpu"))
        encoder = PromptEncoder(args.target, chat=None)
        files = dict(text.split("=", 1) for text in args.prompts)
        sources = {tag: Source(path=Path(file), limit=args.limit) for tag, file in files.items()}
        prompts = {
            tag: [text.prompt_ids for text in encoder.encode(read_texts([source], "refuse"))]
            for tag, source in sources.items()
        }
        rows = measure(target, read_skip_file(args.target / FILE_NAME), prompts, args.repeats)
    print("| language | left out | draft step / step | tokens a round | accepted | plain tokens/s | speedup |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row.language} | {row.without} | {row.draft_share:.2f} | {row.tokens_per_round:.2f} | "
            f"{row.acceptance:.0%} | {row.plain_tokens_per_s:.0f} | {row.speedup:.2f}x |"
        )
    if args.json is not None:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layer_skip", description=__doc__)
    parser.add_argument("part", choices=["demo", "deep"])
    parser.add_argument("--target", type=Path, default=Path("models/target"), help="with a layer_skip.json")
    parser.add_argument("--prompts", nargs="+", default=[], metavar="xx=FILE.jsonl")
    parser.add_argument("--limit", type=int, default=12, help="prompts of each language (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="of each prompt (default: %(default)s)")
    parser.add_argument("--evaluations", type=int, default=120, help="sets tried for the deep target")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
