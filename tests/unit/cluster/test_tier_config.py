"""Which change of a configuration replaces whose replicas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.config import Config
from cluster.tier_config import for_drafter, for_router, for_target

DE = {"method": "lm", "model": "/de", "languages": ["de"]}
DOCUMENT: dict[str, Any] = {
    "target": {"model": "/m"},
    "drafters": {"de": DE, "ngram": {"method": "ngram"}},
    "tenants": {"acme": {"adapt_drafters": True}},
    "adaptation": {"directory": "/versions"},
}
FR = {"method": "lm", "model": "/fr", "languages": ["fr"]}


def _replaced(changes: dict[str, Any]) -> set[str]:
    """Tiers whose part is another with these sections."""
    before, after = Config.model_validate(DOCUMENT), Config.model_validate(DOCUMENT | changes)
    parts = {
        "router": (for_router(before), for_router(after)),
        "target": (for_target(before), for_target(after)),
        "de": (for_drafter(before, "de"), for_drafter(after, "de")),
    }
    return {tier for tier, (old, new) in parts.items() if old.model_dump_json() != new.model_dump_json()}


@pytest.mark.parametrize(
    ("changes", "replaced"),
    [
        ({"drafters": {**DOCUMENT["drafters"], "fr": FR}}, {"router"}),
        ({"languages": ["it"]}, {"router"}),
        ({"tenants": {**DOCUMENT["tenants"], "other": {}}}, {"router"}),
        ({"limits": {"max_prompt_bytes": 9}}, {"router"}),
        ({"target": {"model": "/m", "num_pages": 64}}, {"router", "target"}),
        ({"target": {"model": "/m", "served_name": "demo"}}, {"router"}),
        ({"target": {"model": "/other"}}, {"router", "target", "de"}),
        ({"drafters": {"de": DE | {"num_threads": 2}, "ngram": {"method": "ngram"}}}, {"router", "de"}),
        ({"drafters": {"de": DE, "ngram": {"method": "ngram", "max_draft_tokens": 3}}}, {"router", "target"}),
        ({"adaptation": {"directory": "/versions", "top_k": 9}}, {"router", "de"}),
        ({"logging": {"format": "json"}}, {"router", "target", "de"}),
        ({"tracing": {"endpoint": "http://127.0.0.1:4317"}}, {"router", "target", "de"}),
        ({"limits": {"lease_s": 9.0}}, {"router", "target", "de"}),
        ({"cluster": {"routers": 3}, "target": {"model": "/m", "replicas": 2}}, set()),
    ],
)
def test_a_change_replaces_the_replicas_that_it_concerns(changes: dict[str, Any], replaced: set[str]) -> None:
    assert _replaced(changes) == replaced


def test_a_drafter_knows_whom_it_learns_from(tmp_path: Path) -> None:
    part = for_drafter(Config.model_validate(DOCUMENT), "de")

    assert part.adapting_tenants_of("de") == ("acme",)
    assert part.adaptation.directory == Path("/versions")
