"""The training loop that target and drafters share: a budget, checkpoints, resume, a log of losses.

A checkpoint holds the place in the data, so that a killed run goes on with the batch after the last one it kept.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from training.checkpoints import load_checkpoint, save_checkpoint
from training.examples import Batch
from training.muon import Muon
from training.world import World

MakeBatch = Callable[[], Batch]
"""Batches are made when it is their turn: a resumed run makes none of those that it skips."""
Pass = Callable[[int, float], Sequence[MakeBatch]]
"""One pass over the data, by its number and the progress of the run in [0, 1) as it begins. The same arguments give the
same batches."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How long; exactly one is set. Minutes are of computing, summed over resumed runs."""

    minutes: float | None = None
    steps: int | None = None
    passes: float | None = None

    def progress(self, state: State, batches_in_pass: int) -> float:
        """Share of the budget that is spent, 1 or more at its end."""
        if self.minutes is not None:
            return state.spent_s / (self.minutes * 60)
        if self.steps is not None:
            return state.step / self.steps if self.steps else 1.0
        assert self.passes is not None
        return (state.pass_number + state.batch / batches_in_pass) / self.passes


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast."""

    budget: Budget
    muon_lr: float = 0.02
    adamw_lr: float = 2e-3
    weight_decay: float = 0.0
    """Of the layers' matrices, whose norms otherwise grow with every step."""
    num_warmup_steps: int = 60
    decay_share: float = 0.4
    """The last share of the budget, over which the learning rate falls to zero as 1 - sqrt(share of it gone).

    Hägele et al. 2405.18392 find this shape better than a straight line.
    """
    checkpoint_every_s: float = 300.0
    log_every: int = 20
    clock: Callable[[], float] = time.perf_counter
    """What computing time is read from, in seconds; `time.process_time` for one thread on a machine that others use."""

    def lr_scale(self, step: int, progress: float) -> float:
        warmup = min(1.0, (step + 1) / self.num_warmup_steps)
        gone = min(1.0, max(0.0, 1.0 - (1.0 - progress) / self.decay_share))
        return warmup * (1.0 - math.sqrt(gone))


@dataclass(slots=True)
class State:
    """Where a run stands."""

    step: int = 0
    spent_s: float = 0.0
    tokens: int = 0
    pass_number: int = 0
    pass_began_at: float = 0.0
    """Progress of the run when the pass began."""
    batch: int = 0
    """The next one of the pass."""
    window: list[float] = field(default_factory=list)
    """Losses since the last line of the log."""


def answer_loss(hidden_BTD: Tensor, head_VD: Tensor, labels_BT: Tensor, ignored: int) -> Tensor:
    """Mean cross entropy at the labelled positions; logits are computed there only."""
    chosen_BT = labels_BT != ignored
    return nn.functional.cross_entropy(hidden_BTD[chosen_BT] @ head_VD.T, labels_BT[chosen_BT])


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Matrices of the layers (Muon) and the rest: embeddings, head, norms (AdamW)."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, param in model.named_parameters():
        inner = param.ndim == 2 and "embed" not in name and "head" not in name
        (matrices if inner else rest).append(param)
    return matrices, rest


def train(
    model: nn.Module,
    loss_of: Callable[[Any], Tensor],
    make_pass: Pass,
    schedule: Schedule,
    directory: Path,
    world: World = World(),  # noqa: B008  # frozen
) -> None:
    """Train in place until the budget is spent, going on from the checkpoint in `directory`.

    The log `loss.jsonl` holds one line each `log_every` steps. Raises OSError if the disk is full; the last checkpoint
    stays whole.
    """
    directory.mkdir(parents=True, exist_ok=True)
    matrices, rest = split_parameters(model)
    optimizers = (
        Muon(matrices, lr=1.0, weight_decay=schedule.weight_decay),
        torch.optim.AdamW(rest, lr=1.0, betas=(0.9, 0.95), weight_decay=0.0),
    )
    log = directory / "loss.jsonl"
    state = _resume(directory, model, optimizers, schedule)
    if world.is_first:  # others would read what it is writing
        _forget_after(state.step, log)
    batches = make_pass(state.pass_number, state.pass_began_at)
    assert batches, "a pass has no batch"
    progress = schedule.budget.progress(state, len(batches))
    if progress >= 1 and state.step > 0:
        return
    saved_s = state.spent_s
    # A bar of progress, not of steps: a budget of minutes does not know its steps.
    with tqdm(total=100, initial=int(100 * progress), unit="%", desc=directory.name, disable=_is_quiet(world)) as bar:
        while progress < 1:
            if state.batch + world.size > len(batches):
                state.pass_number, state.pass_began_at, state.batch = state.pass_number + 1, progress, 0
                batches = make_pass(state.pass_number, progress)
                assert len(batches) >= world.size, "fewer batches than processes"
            started = schedule.clock()
            batch = batches[state.batch + world.rank]()
            loss = _step(model, optimizers, schedule, schedule.lr_scale(state.step, progress), loss_of(batch), world)
            _count(state, loss, batch, world, schedule.clock() - started)
            progress = schedule.budget.progress(state, len(batches))
            if world.is_first and (len(state.window) >= schedule.log_every or progress >= 1):
                bar.set_postfix(loss=f"{_write_log(log, state):.3f}", step=state.step)
                bar.update(min(100, int(100 * progress)) - bar.n)
            if world.is_first and (state.spent_s - saved_s > schedule.checkpoint_every_s or progress >= 1):
                _save(directory, model, optimizers, state)
                saved_s = state.spent_s
    if world.is_first and state.step == 0:  # a budget of no steps: the start is the result
        _save(directory, model, optimizers, state)
    world.wait()


def _is_quiet(world: World) -> bool | None:
    """tqdm's `disable`: None shows the bar on a terminal only."""
    return None if world.is_first else True


def _step(
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    schedule: Schedule,
    scale: float,
    loss: Tensor,
    world: World,
) -> float:
    """One update; the loss before it."""
    for optimizer, rate in zip(optimizers, (schedule.muon_lr, schedule.adamw_lr), strict=True):
        optimizer.param_groups[0]["lr"] = rate * scale
    loss.backward()  # type: ignore[no-untyped-call]  # torch ships it untyped
    world.average_gradients(model.parameters())
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss.item()


def _count(state: State, loss: float, batch: Batch, world: World, took_s: float) -> None:
    assert math.isfinite(loss), f"step {state.step}: the loss is {loss}"
    state.window.append(loss)
    state.step += 1
    state.batch += world.size
    state.tokens += batch.ids_BT.numel() * world.size
    state.spent_s = world.agree(state.spent_s + took_s)


def _resume(
    directory: Path,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    schedule: Schedule,
) -> State:
    saved = load_checkpoint(directory)
    if saved is None:
        return State()
    model.load_state_dict(saved["model"])
    for optimizer, optimizer_state in zip(optimizers, saved["optimizers"], strict=True):
        optimizer.load_state_dict(optimizer_state)
    optimizers[0].param_groups[0]["weight_decay"] = schedule.weight_decay  # as asked now, not when it was saved
    return State(**saved["state"])


def _write_log(log: Path, state: State) -> float:
    """One line for the steps since the last; their mean loss."""
    mean = sum(state.window) / len(state.window)
    record = {"step": state.step, "tokens": state.tokens, "spent_s": round(state.spent_s, 1), "loss": mean}
    with log.open("a") as file:
        file.write(json.dumps(record) + "\n")
    state.window.clear()
    return mean


def _forget_after(step: int, log: Path) -> None:
    """Drop what a killed run logged after its last checkpoint: those steps are taken again."""
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    log.write_text("".join(line for line in whole if json.loads(line)["step"] <= step))


def _save(directory: Path, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], state: State) -> None:
    save_checkpoint(
        directory,
        {
            "model": model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "state": asdict(state),
        },
    )
