"""Processes that are the ranks of a target: each does what it is sent, all at once."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from engine.batch import WorkItem
from engine.checks import prove
from engine.drafters.layer_skip import LayerSkipDrafter
from engine.drafters.skip_file import SkipFile
from engine.engine import Engine, EngineConfig
from engine.executor import Executor
from engine.kv_cache import KVCache
from engine.local import generate
from engine.model import load_target
from engine.numerics import Numerics
from engine.pages import PageId
from engine.session import OpenRequest
from engine.shards.group import ShardGroup, listen
from engine.tree import TokenTree
from engine.verify.verifiers import VERIFIERS
from tests.unit.engine.conftest import KnowingDrafter

CPU = torch.device("cpu")
Result = TypeVar("Result")
_CALL_S = 120.0


class RankFailed(RuntimeError):
    """What a rank raised, as text."""


class Ranks:
    """Some processes. They form a new group for each call."""

    def __init__(self, connections: Sequence[Connection], processes: Sequence[Any]) -> None:
        self._connections = connections
        self.processes = processes

    def call(self, function: Callable[..., Result], *arguments: object) -> list[Result]:
        """`function(group, *arguments)` at every rank: what it gives. RankFailed with what a rank raised first."""
        with listen() as listening:
            port = listening.getsockname()[1]
            for connection in self._connections:
                connection.send((len(self._connections), port, function, arguments))
            reduction.send_handle(self._connections[0], listening.fileno(), self.processes[0].pid)
        results = [self._result(connection) for connection in self._connections]
        failures = [failure for _, failure in results if failure]
        if failures:
            raise RankFailed("\n".join(failures))
        return [result for result, _ in results]

    def _result(self, connection: Connection) -> tuple[Any, str]:
        if not connection.poll(_CALL_S):
            return None, "a rank gave no answer"
        try:
            answer: tuple[Any, str] = connection.recv()
        except EOFError:
            return None, "a rank is gone"
        return answer


@contextmanager
def running_ranks(size: int, device: torch.device = CPU) -> Iterator[Ranks]:
    """So many processes, ended at the end of the block. On CUDA devices each sees one of its own."""
    spawned = multiprocessing.get_context("spawn")
    pipes = [spawned.Pipe() for _ in range(size)]
    processes = [
        spawned.Process(target=_serve, args=(rank, device, theirs), daemon=True)
        for rank, (_, theirs) in enumerate(pipes)
    ]
    for process, (_, theirs) in zip(processes, pipes, strict=True):
        process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
    try:
        yield Ranks([ours for ours, _ in pipes], processes)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _serve(rank: int, device: torch.device, connection: Connection) -> None:
    torch.set_num_threads(1)
    if device.type == "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = str(rank)
    while True:
        size, port, function, arguments = connection.recv()
        listening = None
        if rank == 0:
            fd = reduction.recv_handle(connection)
            listening = socket.socket(fileno=fd)
        try:
            group = ShardGroup.join(rank, size, port, device, listening)
            answer = function(group, *arguments), ""
            if dist.is_initialized():  # an engine that was shut down has left already
                group.wait_for_all()  # whoever leaves first takes the others' connections along
        except Exception:
            answer = None, traceback.format_exc()
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
        connection.send(answer)


# What ranks are sent. They do the same, so rank 0 need not tell the others.


def logits_at(group: ShardGroup, directory: Path, dtype: torch.dtype, ids: list[int]) -> torch.Tensor:
    """After the last five tokens of a sequence, each [V]: a prefill, then a chain."""
    model = load_target(directory, dtype, group.device, group=group)
    cache = KVCache(model.kv_layers, 8, 16, dtype, group.device)
    min_rows = prove(model, Numerics.INVARIANT)
    pages = [PageId(page) for page in range(1, 8)]

    def run(tokens: list[int], num_cached: int, tree: TokenTree) -> torch.Tensor:
        return model.forward(model.pack([WorkItem(tokens, num_cached, pages, tree, True)], cache, min_rows))

    run(ids[:-5], 0, TokenTree())
    return run(ids[-5:-4], len(ids) - 5, TokenTree.chain(ids[-4:])).cpu()


def answers_at(
    group: ShardGroup,
    directory: Path,
    config: EngineConfig,
    requests: list[OpenRequest],
    right: dict[int, list[int]],
    skips: SkipFile | None = None,
) -> dict[int, list[int]]:
    """Rank 0 answers all requests, with drafts that know the `right` answers if there are any; the others follow.

    With `skips` it has method `layer_skip`, which must have drafted something right.
    """
    model = load_target(directory, torch.float32, group.device, group=group)
    if not group.leads:
        Executor(model, config.numerics, config.num_pages, config.page_size).follow()
        return {}
    local = {} if skips is None else {"layer_skip": LayerSkipDrafter(skips, model.vocab_size)}
    engine = Engine(model, VERIFIERS["coupled"], config, local)
    drafter = KnowingDrafter(right, share_right=0.7) if right else None
    answers = generate(engine, requests, drafter, max_draft=5)
    engine.shut_down()
    assert skips is None or any(answer.num_accepted for answer in answers.values())
    return {number: answer.token_ids for number, answer in answers.items()}


def agree_at(group: ShardGroup, flags: list[list[bool]], values: list[int]) -> tuple[list[bool], int]:
    """What the ranks find together, each with its own answers."""
    return group.all_true(flags[group.rank]), group.most(values[group.rank])


def lose_a_rank(group: ShardGroup, lost: int) -> None:
    """One rank ends without a word; another waits for it, as it would in a step (rank 0) or between two."""
    group.wait_for_all()  # rank 0 holds the store by which the other may still be joining
    if group.rank == lost:
        os._exit(1)
    if group.leads:
        group.all_true([True])
    else:
        group.hear()
