"""A run that is killed and resumed ends where an unbroken one does."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from training.card import read_log
from training.examples import IGNORED, Batch, Example, make_batch
from training.loop import Schedule, answer_loss, train

BATCH = make_batch([Example((2, 3), (4, 5, 1)), Example((3,), (5, 4, 1))])


class Toy(nn.Module):
    """An embedding, a matrix for Muon, a tied head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(6, 8)
        self.inner = nn.Linear(8, 8, bias=False)

    def loss(self, batch: Batch) -> Tensor:
        return answer_loss(self.inner(self.embed(batch.ids_BT)).relu(), self.embed.weight, batch.labels_BT, IGNORED)


def schedule_of(num_steps: int) -> Schedule:
    """Each step takes one second of a clock that ticks when it is read."""
    ticks = itertools.count()
    return Schedule(
        num_steps / 60, num_warmup_steps=2, checkpoint_every_s=3.5, log_every=2, clock=lambda: float(next(ticks))
    )


def endless(progress: float) -> Iterator[Batch]:
    return itertools.repeat(BATCH)


def failing_after(loss: Callable[[Batch], Tensor], num_steps: int) -> Callable[[Batch], Tensor]:
    calls = itertools.count()

    def loss_of(batch: Batch) -> Tensor:
        if next(calls) == num_steps:
            raise KeyboardInterrupt
        return loss(batch)

    return loss_of


def test_resume_continues_from_the_checkpoint(tmp_path: Path) -> None:
    unbroken, broken, resumed = Toy(), Toy(), Toy()
    train(unbroken, unbroken.loss, endless, schedule_of(10), tmp_path / "unbroken")
    with pytest.raises(KeyboardInterrupt):
        train(broken, failing_after(broken.loss, 6), endless, schedule_of(10), tmp_path / "broken")

    train(resumed, resumed.loss, endless, schedule_of(10), tmp_path / "broken")

    for name, expected in unbroken.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], expected), name
    state = torch.load(tmp_path / "broken" / "checkpoint.pt", weights_only=True)
    assert (state["step"], state["spent_s"], state["tokens"]) == (10, 10.0, 10 * BATCH.ids_BT.numel())
    assert [record["step"] for record in read_log(tmp_path / "broken")] == [2, 4, 6, 8, 10]


def test_a_resumed_run_takes_the_weight_decay_it_is_given(tmp_path: Path) -> None:
    plain, again, decayed = Toy(), Toy(), Toy()
    train(plain, plain.loss, endless, schedule_of(4), tmp_path / "plain")
    shutil.copytree(tmp_path / "plain", tmp_path / "decayed")

    train(again, again.loss, endless, schedule_of(8), tmp_path / "plain")
    train(decayed, decayed.loss, endless, replace(schedule_of(8), weight_decay=5.0), tmp_path / "decayed")

    assert decayed.inner.weight.norm() < again.inner.weight.norm()


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    model = Toy()
    train(model, model.loss, endless, schedule_of(4), tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()

    again = Toy()
    train(again, again.loss, endless, schedule_of(4), tmp_path)

    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert torch.equal(again.embed.weight, model.embed.weight)


def test_the_log_shows_a_falling_loss(tmp_path: Path) -> None:
    model = Toy()
    train(model, model.loss, endless, schedule_of(40), tmp_path)

    records = read_log(tmp_path)
    assert [record["step"] for record in records] == list(range(2, 41, 2))
    assert records[-1]["loss"] < 0.7 * records[0]["loss"]
