"""Write the dashboards, and the docs' table of metrics: `python -m cluster.dashboards` in the project's root."""

from __future__ import annotations

import json
import re
from pathlib import Path

from cluster import catalogue
from cluster.dashboards.pages import DASHBOARDS
from cluster.dashboards.panels import to_grafana

FOLDER = Path("configs/grafana/dashboards")
DOCS = Path("docs/observability.md")
_TABLE = re.compile(r"(<!-- metrics: written by `make dashboards` -->\n).*?(<!-- end -->\n)", re.DOTALL)


def files() -> dict[Path, str]:
    """What is generated, by where it stands."""
    found = {
        FOLDER / f"{dashboard.uid}.json": json.dumps(to_grafana(dashboard), indent=1) + "\n" for dashboard in DASHBOARDS
    }
    found[DOCS] = _TABLE.sub(lambda match: match[1] + catalogue.markdown() + match[2], DOCS.read_text("utf-8"))
    return found


if __name__ == "__main__":
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
