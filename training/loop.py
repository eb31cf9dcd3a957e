"""The training loop that target and drafters share: a time or step budget, checkpoints, resume, a log of losses."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from training.examples import Batch
from training.muon import Muon


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast. `minutes` is computing time, summed over resumed runs."""

    minutes: float
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
        gone = max(0.0, 1.0 - (1.0 - progress) / self.decay_share)
        return warmup * (1.0 - math.sqrt(gone))


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
    loss_of: Callable[[Batch], Tensor],
    batches_at: Callable[[float], Iterator[Batch]],
    schedule: Schedule,
    directory: Path,
) -> None:
    """Train in place until the budget is spent.

    `batches_at(progress)` gives one pass of batches for a moment of the run, progress in [0, 1). A checkpoint in
    `directory` is resumed; the log `loss.jsonl` holds one line each `log_every` steps.
    """
    directory.mkdir(parents=True, exist_ok=True)
    matrices, rest = split_parameters(model)
    optimizers = (
        Muon(matrices, lr=1.0, weight_decay=schedule.weight_decay),
        torch.optim.AdamW(rest, lr=1.0, betas=(0.9, 0.95), weight_decay=0.0),
    )
    rates = (schedule.muon_lr, schedule.adamw_lr)
    checkpoint = directory / "checkpoint.pt"
    step, spent_s, tokens = 0, 0.0, 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        optimizers[0].param_groups[0]["weight_decay"] = schedule.weight_decay  # as asked now, not when it was saved
        step, spent_s, tokens = state["step"], state["spent_s"], state["tokens"]
        _forget_after(step, directory / "loss.jsonl")

    budget_s = schedule.minutes * 60
    window: list[float] = []
    saved_s = spent_s
    while spent_s < budget_s:
        for batch in batches_at(spent_s / budget_s):
            started = schedule.clock()
            scale = schedule.lr_scale(step, spent_s / budget_s)
            for optimizer, rate in zip(optimizers, rates, strict=True):
                optimizer.param_groups[0]["lr"] = rate * scale
            loss = loss_of(batch)
            loss.backward()  # type: ignore[no-untyped-call]  # torch ships it untyped
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            window.append(loss.item())
            assert math.isfinite(window[-1]), f"step {step}: the loss is {window[-1]}"
            step, tokens = step + 1, tokens + batch.ids_BT.numel()
            spent_s += schedule.clock() - started
            if len(window) == schedule.log_every or spent_s >= budget_s:
                loss_mean = sum(window) / len(window)
                record = {"step": step, "tokens": tokens, "spent_s": round(spent_s, 1), "loss": loss_mean}
                with (directory / "loss.jsonl").open("a") as log:
                    log.write(json.dumps(record) + "\n")
                window.clear()
            if spent_s - saved_s > schedule.checkpoint_every_s or spent_s >= budget_s:
                _save(checkpoint, model, optimizers, step, spent_s, tokens)
                saved_s = spent_s
            if spent_s >= budget_s:
                break


def _forget_after(step: int, log: Path) -> None:
    """Drop what a killed run logged after its last checkpoint: those steps are taken again."""
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    log.write_text("".join(line for line in lines if json.loads(line)["step"] <= step))


def _save(
    path: Path,
    model: nn.Module,
    optimizers: tuple[torch.optim.Optimizer, ...],
    step: int,
    spent_s: float,
    tokens: int,
) -> None:
    """Write beside and rename, so that a kill leaves the last whole checkpoint."""
    partial = path.with_suffix(".partial")
    state = {
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "step": step,
        "spent_s": spent_s,
        "tokens": tokens,
    }
    torch.save(state, partial)
    partial.rename(path)
