"""Prometheus takes the rules, each alert fires when it should, and tells people where to read on."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.prometheus.promql import exported_series, named_in

RULES = ROOT / "configs" / "prometheus" / "rules.yaml"
CASES = Path(__file__).with_name("rules_test.yaml")


def rules(kind: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


ALERTS = {rule["alert"]: rule for rule in rules("alert")}


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (`apt-get install prometheus`)")
    return found


def test_prometheus_takes_rules_and_scrape_configuration(promtool: str) -> None:
    subprocess.run([promtool, "check", "rules", RULES], check=True, capture_output=True)
    subprocess.run([promtool, "check", "config", RULES.with_name("prometheus.yaml")], check=True, capture_output=True)


def test_alerts_fire_when_they_should_and_not_before(promtool: str, tmp_path: Path) -> None:
    # Cases compare labels alone: what people read may be written better without touching them.
    bare = yaml.safe_load(RULES.read_text())
    for group in bare["groups"]:
        for rule in group["rules"]:
            rule.pop("annotations", None)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(bare))
    (tmp_path / "cases.yaml").write_text(CASES.read_text().replace("RULES", str(tmp_path / "rules.yaml")))

    result = subprocess.run([promtool, "test", "rules", tmp_path / "cases.yaml"], capture_output=True, text=True)

    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    fired = {
        case["alertname"]
        for test in yaml.safe_load(CASES.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }

    assert fired == ALERTS.keys()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_is_wrong_and_where_to_read_on(name: str) -> None:
    annotations = ALERTS[name]["annotations"]
    document, _, anchor = annotations["runbook"].partition("#")

    assert annotations["summary"] and annotations["description"]
    assert ALERTS[name]["labels"]["severity"] in ("critical", "warning", "info")
    headings = [line for line in (ROOT / document).read_text().splitlines() if line.startswith("#")]
    assert [heading for heading in headings if heading.strip("# ").lower() == anchor], f"no section for #{anchor}"


def test_rules_name_only_metrics_and_records_that_there_are() -> None:
    records = {rule["record"] for rule in rules("record")}
    for rule in [*rules("alert"), *rules("record")]:
        assert named_in(rule["expr"]) <= exported_series(), rule
        used = {word for word in rule["expr"].replace("(", " ").replace("[", " ").split() if word.count(":") == 2}
        assert used <= records, rule
