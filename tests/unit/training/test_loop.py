"""A run that is killed and resumed ends where an unbroken one does."""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from training.checkpoints import load_checkpoint, read_weights
from training.examples import IGNORED, Batch, Example, make_batch
from training.files import read_lines
from training.loop import Budget, MakeBatch, Schedule, answer_loss, train

EXAMPLES = [Example((2, 3), (4, 5, 1)), Example((3,), (5, 4, 1)), Example((5,), (2, 1)), Example((4, 4), (3, 1))]


class Toy(nn.Module):
    """An embedding, a matrix for Muon, a tied head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(6, 8)
        self.inner = nn.Linear(8, 8, bias=False)

    def loss(self, batch: Batch) -> Tensor:
        return answer_loss(self.inner(self.embed(batch.ids_BT)).relu(), self.embed.weight, batch.labels_BT, IGNORED)


def schedule_of(budget: Budget) -> Schedule:
    """Each step takes one second of a clock that ticks when it is read."""
    ticks = itertools.count()
    return Schedule(budget, num_warmup_steps=2, checkpoint_every_s=3.5, log_every=2, clock=lambda: float(next(ticks)))


STEPS_10 = [Budget(steps=10), Budget(minutes=10 / 60), Budget(passes=2.5)]


def one_a_batch(number: int, progress: float) -> Sequence[MakeBatch]:
    """Four batches in an order that the pass decides."""
    order = random.Random(number).sample(EXAMPLES, len(EXAMPLES))
    return [partial(make_batch, [example]) for example in order]


class Recorder:
    """The loss of a toy, and the batches it saw; stops like a kill after some."""

    def __init__(self, model: Toy, stop_after: int | None = None) -> None:
        self._model, self._stop_after = model, stop_after
        self.seen: list[list[int]] = []

    def __call__(self, batch: Batch) -> Tensor:
        if len(self.seen) == self._stop_after:
            raise KeyboardInterrupt
        self.seen.append(batch.ids_BT[0].tolist())
        return self._model.loss(batch)


@pytest.mark.parametrize("budget", STEPS_10, ids=["steps", "minutes", "passes"])
@pytest.mark.parametrize("killed_after", [2, 6, 9])
def test_a_killed_run_ends_with_the_weights_of_an_unbroken_one(
    budget: Budget, killed_after: int, tmp_path: Path
) -> None:
    unbroken, broken, resumed = Toy(), Toy(), Toy()
    whole = Recorder(unbroken)
    train(unbroken, whole, one_a_batch, schedule_of(budget), tmp_path / "unbroken")
    with pytest.raises(KeyboardInterrupt):
        train(broken, Recorder(broken, killed_after), one_a_batch, schedule_of(budget), tmp_path / "broken")
    kept = load_checkpoint(tmp_path / "broken")
    rest = Recorder(resumed)

    train(resumed, rest, one_a_batch, schedule_of(budget), tmp_path / "broken")

    assert rest.seen == whole.seen[kept["state"]["step"] if kept else 0 :]
    for name, expected in unbroken.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], expected), name
    logs = [[*read_lines(tmp_path / run / "loss.jsonl")] for run in ("unbroken", "broken")]
    assert logs[0] == logs[1]
    assert [record["step"] for record in logs[0]] == [2, 4, 6, 8, 10]


def test_a_pass_sees_every_batch_once(tmp_path: Path) -> None:
    model = Toy()
    recorder = Recorder(model)

    train(model, recorder, one_a_batch, schedule_of(Budget(passes=2)), tmp_path)

    first, second = recorder.seen[:4], recorder.seen[4:]
    assert sorted(first) == sorted(second) == sorted(make_batch([e]).ids_BT[0].tolist() for e in EXAMPLES)


def test_a_resumed_run_takes_the_weight_decay_it_is_given(tmp_path: Path) -> None:
    plain, again, decayed = Toy(), Toy(), Toy()
    train(plain, plain.loss, one_a_batch, schedule_of(Budget(steps=4)), tmp_path / "plain")
    shutil.copytree(tmp_path / "plain", tmp_path / "decayed")
    longer = schedule_of(Budget(steps=8))

    train(again, again.loss, one_a_batch, longer, tmp_path / "plain")
    train(decayed, decayed.loss, one_a_batch, replace(longer, weight_decay=5.0), tmp_path / "decayed")

    assert decayed.inner.weight.norm() < again.inner.weight.norm()


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    model = Toy()
    train(model, model.loss, one_a_batch, schedule_of(Budget(steps=4)), tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()

    again = Toy()
    train(again, again.loss, one_a_batch, schedule_of(Budget(steps=4)), tmp_path)

    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert torch.equal(again.embed.weight, model.embed.weight)


def test_no_steps_leave_the_start_as_the_result(tmp_path: Path) -> None:
    model = Toy()
    train(model, model.loss, one_a_batch, schedule_of(Budget(steps=0)), tmp_path)

    assert torch.equal(read_weights(tmp_path)["embed.weight"], Toy().embed.weight)


def test_a_log_line_that_a_kill_cut_is_dropped(tmp_path: Path) -> None:
    model = Toy()
    train(model, model.loss, one_a_batch, schedule_of(Budget(steps=4)), tmp_path)
    with (tmp_path / "loss.jsonl").open("a") as log:
        log.write('{"step": 6, "to')

    train(model, model.loss, one_a_batch, schedule_of(Budget(steps=6)), tmp_path)

    assert [record["step"] for record in read_lines(tmp_path / "loss.jsonl")] == [2, 4, 6]


def test_the_log_shows_a_falling_loss(tmp_path: Path) -> None:
    model = Toy()
    train(model, model.loss, one_a_batch, schedule_of(Budget(steps=200)), tmp_path)

    losses = [record["loss"] for record in read_lines(tmp_path / "loss.jsonl")]
    assert losses[-1] < 0.7 * losses[0]


def test_a_full_disk_keeps_the_last_checkpoint_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Toy()
    train(model, model.loss, one_a_batch, schedule_of(Budget(steps=4)), tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    _fill_the_disk(monkeypatch)

    with pytest.raises(OSError, match=r"cannot be written .*No space left.* before it is whole: free some space"):
        train(model, model.loss, one_a_batch, schedule_of(Budget(steps=8)), tmp_path)

    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert not (tmp_path / "checkpoint.partial").exists()


def _fill_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files opened for binary writing go to the device that is always full."""
    plain_open: Callable[..., Any] = Path.open

    def full_open(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if mode == "wb":
            path.touch()
            return plain_open(Path("/dev/full"), mode, *args, **kwargs)
        return plain_open(path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full_open)
