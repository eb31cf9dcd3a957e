"""What the target wrote is written down once each, whatever cuts the run off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from training import distil
from training.corpus import everyday_pairs
from training.distil import Record, Task, bind_to_target, plan, read_records


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distil, "ROWS_A_BATCH", 3)
    monkeypatch.setattr(distil, "MAX_ANSWER_TOKENS", 6)


@pytest.fixture
def tasks(tiny_corpus: Path, tiny_tokenizer: Tokenizer) -> list[Task]:
    return plan(tiny_tokenizer, everyday_pairs(tiny_corpus, "train")["de"], 24)


def write_all(model: LlamaForCausalLM, tasks: Sequence[Task], work: Path, worker: int = 0, workers: int = 1) -> int:
    work.mkdir(exist_ok=True)
    return distil.distil(model, 1, tasks, work, 10.0, worker, workers)


def by_id(work: Path) -> dict[str, Record]:
    records = list(read_records(work, "de"))
    assert max(Counter(record.id for record in records).values()) == 1, "an id was repeated"
    return {record.id: record for record in records}


def test_the_plan_is_fixed_and_mixes_temperatures(tiny_corpus: Path, tiny_tokenizer: Tokenizer) -> None:
    pairs = everyday_pairs(tiny_corpus, "train")["de"]
    tasks = plan(tiny_tokenizer, pairs, 400)

    assert tasks == plan(tiny_tokenizer, pairs, 400)
    assert tasks[:10] == plan(tiny_tokenizer, pairs, 400)[:10]
    assert len({task.id for task in tasks}) == 400
    shares = Counter(task.temperature for task in tasks)
    assert set(shares) == {0.0, 0.3, 0.7, 1.0}
    assert 0.6 < shares[0.0] / 400 < 0.8
    texts = tiny_tokenizer.decode_batch([task.prompt_ids for task in tasks])
    assert {text.count("Hof.") for text in texts} == {1, 2, 3, 4}
    assert all(text.startswith("Translate German to English: ") and text.endswith("\n") for text in texts)


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
    assert distil.distil(tiny_model, 1, tasks, tmp_path, 0.0, 0, 1) == 0
    assert list(read_records(tmp_path, "de")) == []


def test_records_hold_the_prompt_and_the_law(tiny_model: LlamaForCausalLM, tasks: list[Task], tmp_path: Path) -> None:
    write_all(tiny_model, tasks, tmp_path / "work")

    for task in tasks:
        record = by_id(tmp_path / "work")[task.id]
        assert (record.language, record.temperature, record.prompt_ids) == ("de", task.temperature, task.prompt_ids)
        assert len(record.answer_ids) == len(record.top_ids) == len(record.top_probs)
        if task.temperature == 0:
            assert [ids[0] for ids in record.top_ids] == record.answer_ids


def test_answers_of_two_targets_are_not_mixed(tmp_path: Path) -> None:
    bind_to_target(tmp_path, "aaaa")
    bind_to_target(tmp_path, "aaaa")

    with pytest.raises(ValueError, match="answers of target aaaa, not of bbbb"):
        bind_to_target(tmp_path, "bbbb")
