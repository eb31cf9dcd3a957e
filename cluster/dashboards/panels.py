"""What a dashboard is made of, and its JSON as Grafana reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cluster.catalogue import CONNECTED

_COLUMNS = 24
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_SCHEMA = 39
"""Of Grafana 10 and later, which read it unchanged."""


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL, and what its lines are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart, or with kind "stat" one number."""

    title: str
    help: str
    unit: str
    """A unit id of Grafana, such as "s" or "percentunit"."""
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    width: int = 12
    id: int = 0
    """Set where somebody else embeds the panel by its number; otherwise its place decides."""
    most: float | None = None
    """End of the axis."""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A page; `uid` is its address in Grafana."""

    uid: str
    title: str
    panels: tuple[Panel, ...]


def to_grafana(dashboard: Dashboard) -> dict[str, Any]:
    """The dashboard as JSON for Grafana's file provisioning."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["polydraft"],
        "schemaVersion": _SCHEMA,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_data_source(), _clusters()]},
        "links": [
            {"type": "dashboards", "tags": ["polydraft"], "title": "Polydraft", "asDropdown": True, "keepTime": True}
        ],
        "panels": _laid_out(dashboard.panels),
    }


def _laid_out(panels: Sequence[Panel]) -> list[dict[str, Any]]:
    """Left to right, row by row."""
    taken = {panel.id for panel in panels if panel.id}
    free = iter(number for number in range(1, 1_000) if number not in taken)
    x = y = row_height = 0
    found = []
    for panel in panels:
        height = 4 if panel.kind == "stat" else 8
        if x + panel.width > _COLUMNS:
            x, y, row_height = 0, y + row_height, 0
        place = {"x": x, "y": y, "w": panel.width, "h": height}
        found.append(_panel(panel, panel.id or next(free), place))
        x, row_height = x + panel.width, max(row_height, height)
    return found


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.kind == "timeseries":
        defaults["custom"] = {"fillOpacity": 8, "lineWidth": 1, "showPoints": "never"}
        options: dict[str, Any] = {"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["last", "max"]}}
    else:
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.help,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend or "__auto",
                "instant": panel.kind == "bargauge",
            }
            for index, query in enumerate(panel.queries)
        ],
    }


def _data_source() -> dict[str, Any]:
    # The name that Ray's dashboard hands over.
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "data source"}


def _clusters() -> dict[str, Any]:
    """Which clusters to look at; Serve calls them applications."""
    query = f"label_values({CONNECTED.exported}, application)"
    return {
        "name": "application",
        "label": "cluster",
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": "application"},
        "definition": query,
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }
