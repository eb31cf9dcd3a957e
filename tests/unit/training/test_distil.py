"""What the target wrote is written down once each, whatever cuts the run off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from transformers import LlamaForCausalLM

from training.distil import Record, Task, Writing, distil, plan, read_records
from training.prompts import EncodedText

WRITING = Writing(max_new_tokens=6, top_k=4, rows_per_batch=3, seed=11)
TEXTS = [EncodedText(f"0.{n}", tuple(3 + (n * k) % 50 for k in range(1, 3 + n % 4)), None) for n in range(1, 25)]
SHARES = {0.0: 0.5, 1.0: 0.5}


@pytest.fixture
def tasks() -> list[Task]:
    return plan(TEXTS, None, SHARES, seed=1)


def write_all(model: LlamaForCausalLM, tasks: Sequence[Task], work: Path, worker: int = 0, workers: int = 1) -> int:
    return distil(model, [1], "de", tasks, WRITING, work, None, worker, workers)


def by_id(work: Path) -> dict[str, Record]:
    records = list(read_records(work, "de"))
    assert max(Counter(record.id for record in records).values()) == 1, "an id was repeated"
    return {record.id: record for record in records}


def test_the_plan_is_fixed_and_mixes_temperatures() -> None:
    texts = [EncodedText(str(n), (3, 4), None) for n in range(800)]
    shares = {0.0: 0.7, 0.3: 0.1, 1.0: 0.2}
    tasks = plan(texts, 400, shares, seed=3)

    assert tasks == plan(texts, 400, shares, seed=3)
    assert tasks != plan(texts, 400, shares, seed=4)
    assert len({task.id for task in tasks}) == 400
    found = Counter(task.temperature for task in tasks)
    assert all(abs(found[at] / 400 - share) < 0.08 for at, share in shares.items())


@pytest.mark.parametrize("cut", [1, 400, 2_000])
def test_resume_neither_loses_nor_repeats(
    tiny_model: LlamaForCausalLM, tasks: list[Task], tmp_path: Path, cut: int
) -> None:
    assert write_all(tiny_model, tasks, tmp_path / "whole") == len(tasks)
    whole = (tmp_path / "whole" / "de.0.jsonl").read_bytes()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "de.0.jsonl").write_bytes(whole[:-cut])
    num_left = whole[:-cut].count(b"\n")

    assert write_all(tiny_model, tasks, broken) == len(tasks) - num_left

    assert by_id(broken) == by_id(tmp_path / "whole")
    assert by_id(broken).keys() == {task.id for task in tasks}
    assert write_all(tiny_model, tasks, broken) == 0


def test_workers_share_the_prompts(tiny_model: LlamaForCausalLM, tasks: list[Task], tmp_path: Path) -> None:
    counts = [write_all(tiny_model, tasks, tmp_path / "two", worker, 2) for worker in (0, 1)]
    write_all(tiny_model, tasks, tmp_path / "one")

    assert min(counts) > 0
    assert by_id(tmp_path / "two") == by_id(tmp_path / "one")


def test_no_time_writes_nothing(tiny_model: LlamaForCausalLM, tasks: list[Task], tmp_path: Path) -> None:
    assert distil(tiny_model, [1], "de", tasks, WRITING, tmp_path, minutes=1e-9) == 0
    assert list(read_records(tmp_path, "de")) == []


def test_records_hold_the_prompt_and_the_law(tiny_model: LlamaForCausalLM, tasks: list[Task], tmp_path: Path) -> None:
    write_all(tiny_model, tasks, tmp_path / "work")

    for task in tasks:
        record = by_id(tmp_path / "work")[task.id]
        assert (record.language, record.temperature) == ("de", task.temperature)
        assert tuple(record.prompt_ids) == task.prompt_ids
        assert len(record.answer_ids) == len(record.top_ids) == len(record.top_probs)
        if task.temperature == 0:
            assert [ids[0] for ids in record.top_ids] == record.answer_ids


def test_the_same_few_records_are_held_out_everywhere() -> None:
    records = [Record(f"0.{n}", "de", 0.0, [], [], [], []) for n in range(5_000)]

    assert 0.03 < sum(record.is_held_out for record in records) / 5_000 < 0.05
    assert records[7].is_held_out == Record("0.7", "fr", 1.0, [3], [4], [], []).is_held_out
