"""`polydraft status` and `top` from what replicas report: sums, rates, and what is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster import catalogue as metrics
from cluster.live_figures import live_figures
from cluster.live_view import picture
from cluster.measures import Measures
from cluster.overview import described
from cluster.status import Figures, ReplicaStatus, Report, missing, rates
from polydraft.cli import main


def router(number: int, at_s: float, tokens: int, targets: int = 1) -> ReplicaStatus:
    """A router that has sent so many German tokens to acme, four a round."""
    measures = Measures()
    by = ("de", "de")
    for metric, value, labels in (
        (metrics.OUTPUT_TOKENS, tokens, by),
        (metrics.ROUNDS, tokens / 4, by),
        (metrics.DRAFTED_TOKENS, tokens, by),
        (metrics.ACCEPTED_TOKENS, 0.75 * tokens, by),
        (metrics.TENANT_OUTPUT_TOKENS, tokens, ("acme",)),
        (metrics.CALLS, tokens / 20, ("acme", "de", "OK")),
        (metrics.OPEN_STREAMS, 2, ("acme",)),
        (metrics.CONNECTED, targets, ("target",)),
        (metrics.CONNECTED, 1, ("drafter-de",)),
    ):
        measures.set(metric, value, *labels)
    for _ in range(tokens // 20):
        measures.observations(metrics.FIRST_TOKEN, *by).observe(0.05)
    report = Report(100.0, tuple(measures.samples()), {"language de": "de", "language fr": ""})
    return ReplicaStatus("router", "router", f"router-{number}", "h:1", "", ("target",), at_s, report)


def target(at_s: float, tokens: int, numerics_id: str = "n1") -> ReplicaStatus:
    measures = Measures()
    for metric, value in (
        (metrics.COMMITTED_TOKENS, tokens),
        (metrics.STEPPING, at_s * 0.6),
        (metrics.WAITING, at_s * 0.2),
        (metrics.KV_PAGES, 100),
        (metrics.KV_FREE_PAGES, 90),
        (metrics.TARGET_SESSIONS, 4),
    ):
        measures.set(metric, value)
    return ReplicaStatus(
        "target", "target", "target-1", "h:2", numerics_id, (), at_s, Report(40.0, tuple(measures.samples()))
    )


def test_rates_are_those_of_all_replicas_and_a_new_one_counts_from_its_second_report() -> None:
    before = [router(1, 10.0, 1_000), target(10.0, 1_000)]
    after = [router(1, 12.0, 1_400), router(2, 12.0, 9_000), target(12.5, 1_500)]

    now = Figures(rates(before, after))

    assert now.total(metrics.OUTPUT_TOKENS) == now.total(metrics.OUTPUT_TOKENS, language="de") == 200
    assert now.total(metrics.CALLS, tenant="acme", code="OK") == 10
    assert now.total(metrics.COMMITTED_TOKENS) == 200
    assert now.total(metrics.OPEN_STREAMS) == 4  # a gauge
    assert now.total(metrics.OUTPUT_TOKENS, language="fr") == 0


def test_a_replica_that_began_anew_under_its_old_report_counts_nothing_below_zero() -> None:
    now = Figures(rates([router(1, 10.0, 1_000)], [router(1, 12.0, 40)]))

    assert now.total(metrics.OUTPUT_TOKENS) == 0


def test_top_shows_tiers_languages_and_tenants() -> None:
    before, after = [router(1, 10.0, 1_000), target(10.0, 1_000)], [router(1, 12.0, 1_400), target(12.0, 1_500)]
    lines = picture("c", live_figures(rates(before, after)))

    rows = [line.split() for line in lines.splitlines()]
    assert ["de", "200", "4.00", "75%", "50"] in rows
    assert ["target", "1", "4", "0", "10%", "25%", "250", "tokens/s"] in rows
    assert ["acme", "200", "10.0", "2", "0.0"] in rows
    assert "200 tokens/s" in rows_head(lines) and "10.0 calls/s" in rows_head(lines)


def rows_head(lines: str) -> str:
    return lines.splitlines()[0]


def test_status_tells_what_is_missing() -> None:
    assert missing([]) == ["no router is up"]
    assert missing([router(1, 1.0, 0), target(1.0, 0)]) == []
    assert missing([router(1, 1.0, 0, targets=0)]) == ["router-1 reaches no replica of target"]
    assert missing([replace(router(1, 1.0, 0), report=None)]) == ["router-1 has not reported yet"]
    (mixed,) = missing([router(1, 1.0, 0), target(1.0, 0), replace(target(1.0, 0), numerics_id="n2")])
    assert "2 numerics ids" in mixed


def test_status_for_people() -> None:
    text = described("c", [target(1.0, 0), router(1, 1.0, 400)], now=100.0 + 3_600 + 120)

    assert text.splitlines()[0] == "cluster c: whole"
    assert "numerics id n1" in text and "languages: de (de), fr (no drafter)" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["router", "router-1", "h:1", "1", "h", "2", "min", "2", "-", "-"] in rows
    assert ["acme", "2", "20", "20", "400", "0"] in rows


@pytest.mark.parametrize("interval", ["0.2", "nan", "4000"])
def test_an_interval_that_reports_cannot_follow_is_refused(interval: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--interval", interval]) == 2
    assert "give 1 to 3600 seconds" in capsys.readouterr().err
