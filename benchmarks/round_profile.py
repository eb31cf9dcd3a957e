"""Where a round's time goes, at 1, 8 and 32 streams: what each thread of each tier did, sampled from outside.

    python -m benchmarks.round_profile [--streams 1 8 32] [--speculation auto] [--seconds 8] [--output runs/profile]

Starts a cluster, keeps the streams busy, and lets py-spy look at every replica forty times a second. Prints a table
of shares of the wall-clock time and the round's length; with --flame it also draws the target's flame graph.
Needs `py-spy` (Ray brings it) and the right to trace one's own processes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from benchmarks.prompts import corpus_prompts
from benchmarks.results import environment
from polydraft.client import AsyncClient
from polydraft.commands.bench_load import ask
from polydraft.commands.bench_stats import Record
from polydraft.commands.child_cluster import cluster
from polydraft.commands.common import NamedPrompt
from polydraft.options import GenerateOptions

SAMPLES_A_SECOND = 40
SETTLE_S = 3.0
MAX_TOKENS = 64
IDLE = "waiting"
CATEGORIES = (
    # What a stack is counted as: the first of these parts that occurs in it, looked for from the top.
    ("compiled step", ("engine/torchscript.py",)),
    ("linear layers", ("engine/linears.py",)),
    ("attention", ("engine/tiled_attention.py", "engine/attention.py", "engine/kv_cache.py")),
    ("rest of the forward pass", ("engine/lean_decoder.py", "engine/model.py")),
    ("verification", ("engine/verdicts.py", "polydraft_kernels")),
    ("packing", ("engine/batch.py", "engine/attention_plan.py")),
    ("drafter's pass", ("engine/drafters/lean_llama.py",)),
    ("drafter, rest", ("engine/drafters/", "engine/draft_queue.py")),
    ("scheduling, commit, lengths", ("engine/engine.py", "engine/scheduler.py", "engine/draft_length.py")),
    (IDLE, ("engine/loop.py", "threading.py:", "ray/_private/worker.py")),
    ("serialisation", ("deployments/convert.py", "deployments/trees.py", "deployments/public.py")),
    ("language and text", ("cluster/language.py", "cluster/text.py", "cluster/streaming.py", "cluster/answer.py")),
    ("session loop", ("cluster/",)),
    ("gRPC and event loop", ("grpc/", "deployments/", "asyncio", "uvloop", "_run_user_code_event_loop")),
)


@dataclass(frozen=True, slots=True)
class Profile:
    """One number of streams."""

    streams: int
    tokens_per_s: float
    tokens_per_round: float
    round_ms: float
    """Of one stream: wall-clock time over rounds."""
    shares: dict[str, dict[str, float]]
    """Tier -> category -> share of the wall-clock time; replicas of a tier together."""


def category(stack: str) -> str:
    """What a sampled stack, outermost frame first, was doing."""
    for frame in reversed(stack.split(";")):
        for name, parts in CATEGORIES:
            if any(part in frame for part in parts):
                return name
    return "other"


def replicas() -> Iterator[tuple[str, int]]:
    """(tier, pid) of all replicas on this machine, by the titles that Ray gives its processes."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # it has just ended
            if title.startswith("ray::ServeReplica:polydraft:"):
                name = title.removeprefix("ray::ServeReplica:polydraft:").split()[0].split(".")[0]
                yield name.split("-")[0], int(entry.name)


async def sample(pid: int, seconds: float, form: str, output: Path) -> None:
    """Let py-spy record a process."""
    command = ("py-spy", "record", "--pid", str(pid), "--duration", str(int(seconds)), "--rate", str(SAMPLES_A_SECOND))
    options = ("--nonblocking", "--threads", "--format", form, "--output", str(output))
    program = Path(sys.executable).with_name(command[0])
    child = await asyncio.create_subprocess_exec(
        str(program), *command[1:], *options, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await child.communicate()
    if child.returncode != 0:
        raise SystemExit(f"py-spy could not record process {pid}: {errors.decode().strip()}")


def shares_of(raw: Path, seconds: float) -> Counter[str]:
    """Category -> share of the wall-clock time of one process; waiting is not counted."""
    shares: Counter[str] = Counter()
    for line in raw.read_text().splitlines():
        stack, _, samples = line.rpartition(" ")
        name = category(stack)
        if name != IDLE:
            shares[name] += int(samples) / (seconds * SAMPLES_A_SECOND)  # type: ignore[assignment]  # a Counter of shares
    return shares


async def profile(
    client: AsyncClient,
    prompts: Sequence[NamedPrompt],
    streams: int,
    speculation: str,
    seconds: float,
    folder: Path,
    flame: bool,
) -> Profile:
    """Keep `streams` answers going and look at all replicas meanwhile."""
    end_s = time.perf_counter() + SETTLE_S + seconds + 2.0
    numbers = count()
    records: list[Record] = []
    options = GenerateOptions(max_tokens=MAX_TOKENS, speculation=speculation)

    async def worker() -> None:
        while time.perf_counter() < end_s:
            prompt = prompts[next(numbers) % len(prompts)]
            records.append(await ask(client, prompt, options, seed=0, drafted=speculation != "off"))

    async def observer() -> list[tuple[str, Path]]:
        await asyncio.sleep(SETTLE_S)
        found = [(tier, pid, folder / f"{streams}-{tier}-{pid}.raw") for tier, pid in replicas()]
        jobs = [sample(pid, seconds, "raw", raw) for _, pid, raw in found]
        await asyncio.gather(*jobs)
        return [(tier, raw) for tier, _, raw in found]

    async with asyncio.TaskGroup() as group:
        for _ in range(streams):
            group.create_task(worker())
        observed = group.create_task(observer())
    if flame:
        await _draw(client, prompts, options, folder / f"flame-{streams}.svg", seconds)
    shares: dict[str, Counter[str]] = {}
    for tier, raw in observed.result():
        shares.setdefault(tier, Counter()).update(shares_of(raw, seconds))
    kept = [record for record in records if record.rounds]
    num_tokens = sum(len(record.token_ids) for record in kept)
    rounds = sum(record.rounds for record in kept)
    begin_s, finish_s = min(r.begin_s for r in kept), max(r.begin_s + r.total_s for r in kept)
    return Profile(
        streams=streams,
        tokens_per_s=num_tokens / (finish_s - begin_s),
        tokens_per_round=num_tokens / rounds,
        round_ms=1e3 * statistics.fmean(record.total_s / record.rounds for record in kept),
        shares={tier: {name: round(share, 3) for name, share in of.most_common()} for tier, of in shares.items()},
    )


async def _draw(
    client: AsyncClient, prompts: Sequence[NamedPrompt], options: GenerateOptions, picture: Path, seconds: float
) -> None:
    """The flame graph of the target under one stream."""
    pid = next(pid for tier, pid in replicas() if tier == "target")
    drawing = asyncio.create_task(sample(pid, seconds, "flamegraph", picture))
    for prompt in prompts:
        await ask(client, prompt, options, seed=0, drafted=True)
        if drawing.done():
            break
    await drawing


def markdown(profiles: Sequence[Profile]) -> str:
    """One column a number of streams."""
    rows = sorted({(tier, name) for one in profiles for tier, of in one.shares.items() for name in of})
    lines = ["| | " + " | ".join(f"{one.streams} streams" for one in profiles) + " |"]
    lines.append("|---|" + "---:|" * len(profiles))
    for what, values in (
        ("tokens/s", [f"{one.tokens_per_s:.0f}" for one in profiles]),
        ("tokens a round", [f"{one.tokens_per_round:.2f}" for one in profiles]),
        ("a stream's round, ms", [f"{one.round_ms:.1f}" for one in profiles]),
    ):
        lines.append(f"| {what} | " + " | ".join(values) + " |")
    for tier, name in rows:
        shares = [one.shares.get(tier, {}).get(name, 0.0) for one in profiles]
        if max(shares) >= 0.01:
            lines.append(f"| {tier}: {name} | " + " | ".join(f"{100 * share:.0f} %" for share in shares) + " |")
    return "\n".join(lines)


async def _run(args: argparse.Namespace, prompts: Sequence[NamedPrompt]) -> list[Profile]:
    async with cluster(args.config, args.set) as address, AsyncClient(address) as client:
        for prompt in prompts[:5]:
            await ask(client, prompt, GenerateOptions(max_tokens=MAX_TOKENS), seed=0, drafted=True)
        return [
            await profile(client, prompts, streams, args.speculation, args.seconds, args.output, args.flame)
            for streams in args.streams
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/local.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--speculation", default="auto")
    parser.add_argument("--seconds", type=float, default=8.0, help="of sampling, for each number of streams")
    parser.add_argument("--flame", action="store_true", help="draw the target's flame graph too")
    parser.add_argument("--output", type=Path, default=Path("runs/profile"), help="folder")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    prompts = [NamedPrompt(one.id, one.prompt, one.language) for one in corpus_prompts(args.corpus, 12)]
    prompts = [prompts[place] for start in range(12) for place in range(start, len(prompts), 12)]  # languages in turn
    profiles = asyncio.run(_run(args, prompts))
    print(markdown(profiles))
    record = environment() | {"speculation": args.speculation, "profiles": [asdict(one) for one in profiles]}
    (args.output / "profile.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
