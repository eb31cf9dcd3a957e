"""Router and replicas name tokenizers and targets by the same rules, though neither may import the other."""

from __future__ import annotations

from pathlib import Path

from cluster import probes
from engine import identity
from tests.unit.cluster.fakes import write_byte_tokenizer


def test_rules_of_both_sides_agree(tmp_path: Path) -> None:
    write_byte_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")

    assert probes.PROBES == identity.PROBES and len(set(probes.PROBES)) == 64
    assert probes.tokenizer_hash(tmp_path / "tokenizer.json") == identity.tokenizer_hash(tmp_path / "tokenizer.json")
    assert probes.target_id(tmp_path) == identity.target_id(tmp_path)
