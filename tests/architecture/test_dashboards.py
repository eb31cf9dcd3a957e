"""Dashboards and the docs' table of metrics are what `make dashboards` writes, and show only metrics that there are."""

from __future__ import annotations

import re

import pytest

from cluster.catalogue import CATALOGUE
from cluster.dashboards.__main__ import files
from cluster.dashboards.pages import DASHBOARDS
from cluster.dashboards.panels import Dashboard, to_grafana
from tests.conftest import ROOT
from tests.prometheus.promql import exported_series, named_in


def test_what_is_generated_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)

    stale = [str(path) for path, text in files().items() if not path.is_file() or path.read_text("utf-8") != text]

    assert stale == [], "run `make dashboards`"
    kept = {path.stem for path in (ROOT / "configs" / "grafana" / "dashboards").iterdir()}
    assert kept == {dashboard.uid for dashboard in DASHBOARDS}


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def test_panels_show_metrics_that_there_are_side_by_side(dashboard: Dashboard) -> None:
    page = to_grafana(dashboard)
    cells: set[tuple[int, int]] = set()
    for panel in page["panels"]:
        assert panel["description"] and panel["targets"], panel["title"]
        for target in panel["targets"]:
            assert named_in(target["expr"]) and named_in(target["expr"]) <= exported_series(), panel["title"]
            # A legend can only show labels that its query keeps.
            kept = set(re.findall(r"by \(([^)]*)\)", target["expr"]))
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert shown <= {label.strip() for labels in kept for label in labels.split(",")}, panel["title"]
        place = panel["gridPos"]
        area = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not cells & area and place["x"] + place["w"] <= 24, panel["title"]
        cells |= area
    numbers = [panel["id"] for panel in page["panels"]]
    assert len(numbers) == len(set(numbers))


def test_the_panels_that_rays_dashboard_embeds_are_there() -> None:
    numbers = {dashboard.uid: {panel.id for panel in dashboard.panels} for dashboard in DASHBOARDS}

    assert {7, 8, 15} <= numbers["polydraft-overview"]
    assert {2, 3, 5} <= numbers["polydraft-tiers"]


def test_everything_that_is_counted_is_shown_somewhere() -> None:
    """A metric that no panel shows needs a reason: those below are for alerts, or shown by `polydraft drafters`."""
    shown = {
        name for page in DASHBOARDS for panel in page.panels for query in panel.queries for name in named_in(query.expr)
    }
    hidden = {
        metric.name
        for metric in CATALOGUE.values()
        if not any(name.startswith(metric.exported) for name in shown) and metric.tier != "trainer"
    }

    assert hidden == {"polydraft_certificate_expiry_timestamp_seconds", "polydraft_answers_unlearned_total"}
