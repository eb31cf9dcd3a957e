"""Language, drafter and replica choice."""

from __future__ import annotations

import pytest

from cluster.config import Config, TenantConfig
from cluster.errors import UnknownDrafter, UnsupportedLanguage
from cluster.request import DrafterChoice, RawRequest
from cluster.routing import TargetLoad, choose_language, choose_target, drafters_for
from cluster.tenants import Tenant

CONFIG = Config.model_validate(
    {
        "target": {"model": "m"},
        "drafters": {
            "de": {"method": "lm", "model": "d", "languages": ["de"], "max_draft_tokens": 6},
            "fr": {"method": "lm", "model": "f", "languages": ["fr"]},
            "lookup": {"method": "ngram", "languages": ["fr"]},
        },
        "languages": ["en"],
    }
)
ANYONE = Tenant("default", TenantConfig())


def test_own_tag_comes_before_detection() -> None:
    def never() -> str | None:
        raise AssertionError("a tag makes detection needless")

    assert choose_language(RawRequest(language="de"), ANYONE, CONFIG, never) == "de"
    assert choose_language(RawRequest(language="DE-at"), ANYONE, CONFIG, never) == "de"


def test_detection_then_tenant_default_then_unknown() -> None:
    german_by_default = Tenant("acme", TenantConfig(default_language="de"))

    assert choose_language(RawRequest(), ANYONE, CONFIG, lambda: "en") == "en"
    assert choose_language(RawRequest(), german_by_default, CONFIG, lambda: None) == "de"
    assert choose_language(RawRequest(), german_by_default, CONFIG, lambda: "sw") == "de"
    assert choose_language(RawRequest(), ANYONE, CONFIG, lambda: None) == "und"


@pytest.mark.parametrize("tag", ["xx", "german", "d", "../de", "nl"])
def test_unknown_tags_are_refused_with_the_known_ones(tag: str) -> None:
    with pytest.raises(UnsupportedLanguage, match="de, en, fr"):
        choose_language(RawRequest(language=tag), ANYONE, CONFIG, lambda: None)


def test_tenant_may_be_bound_to_languages() -> None:
    bound = Tenant("acme", TenantConfig(languages=("en",)))

    with pytest.raises(UnsupportedLanguage, match="'de' is not served"):
        choose_language(RawRequest(language="de"), bound, CONFIG, lambda: None)
    assert choose_language(RawRequest(), bound, CONFIG, lambda: "de") == "und"


@pytest.mark.parametrize(
    ("raw", "language", "choices"),
    [
        (RawRequest(), "de", (DrafterChoice("de", False, 6),)),
        (RawRequest(speculation="auto", max_draft_tokens=2), "de", (DrafterChoice("de", False, 2),)),
        (RawRequest(max_draft_tokens=60), "de", (DrafterChoice("de", False, 6),)),
        (RawRequest(), "fr", (DrafterChoice("fr", False, 8), DrafterChoice("lookup", True, 8))),
        (RawRequest(), "en", ()),
        (RawRequest(speculation="off"), "fr", ()),
        (RawRequest(speculation="lookup"), "de", (DrafterChoice("lookup", True, 8),)),
    ],
)
def test_drafters_for_a_request(raw: RawRequest, language: str, choices: tuple[DrafterChoice, ...]) -> None:
    assert drafters_for(raw, language, ANYONE, CONFIG) == choices


def test_unknown_or_forbidden_drafters_are_refused() -> None:
    only_lookup = Tenant("acme", TenantConfig(drafters=("lookup",)))

    with pytest.raises(UnknownDrafter, match=r"'nope'.*de, fr, lookup"):
        drafters_for(RawRequest(speculation="nope"), "de", ANYONE, CONFIG)
    with pytest.raises(UnknownDrafter, match="'de'"):
        drafters_for(RawRequest(speculation="de"), "de", only_lookup, CONFIG)
    assert drafters_for(RawRequest(), "de", only_lookup, CONFIG) == ()
    assert drafters_for(RawRequest(), "fr", only_lookup, CONFIG) == (DrafterChoice("lookup", True, 8),)


def test_a_burst_between_two_heartbeats_is_spread() -> None:
    sent = {"a": 0, "b": 0, "c": 0}
    free = {"a": 100, "b": 96, "c": 92}

    for _ in range(9):
        loads = [TargetLoad(name, "n", free[name], 0, 0, sent[name]) for name in sent]
        best = choose_target(loads, pages_needed=10)
        assert best is not None
        sent[best.replica_id] += 1

    assert sent == {"a": 3, "b": 3, "c": 3}


def test_queue_outweighs_free_pages() -> None:
    roomy_but_queued = TargetLoad("a", "n", 100, queue_length=8, num_sessions=8)
    idle = TargetLoad("b", "n", 60, queue_length=0, num_sessions=0)

    assert choose_target([roomy_but_queued, idle], pages_needed=10) is idle
    assert choose_target([], pages_needed=10) is None
