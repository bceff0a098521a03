"""A crash, seen by a real Prometheus, told by a real Alertmanager, and shown by every query of the dashboards."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_kit import RULES, rules, run
from prometheus_scene import LADDER, Stage, delivered, paged, performed, told

GRAFANA = Path(__file__).parents[2] / "grafana"
DASHBOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted((GRAFANA / "dashboards").glob("*.json"))
}
CHOSEN = {
    "overview": [{"venue": ".*", "account": ".*", "pool": ".*"}],
    "pool": [
        {"venue": "binance_usdm", "account": "usdm", "pool": "USD"},
        {"venue": "htx_coin_futures", "account": "coin", "pool": "BTC"},
    ],
}
BY_VENUE = {"margin_pool_guarantee_asset_ratio": "htx_coin_futures"}  # a figure that one venue alone has


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with performed(tmp_path_factory.mktemp("prometheus")) as stage:
        yield stage


def asked(dashboard: str, expr: str, chosen: dict[str, str]) -> str:
    """As Grafana asks: variables filled in."""
    for name, value in {**chosen, "__rate_interval": "20s"}.items():
        expr = expr.replace(f"${name}", value)
    assert "$" not in expr, f"{dashboard}: {expr}"
    return expr


def test_the_rules_fire_and_alertmanager_delivers(stage: Stage) -> None:
    alerts = paged(stage, *LADDER, account="usdm")
    assert alerts
    alert = alerts[0]
    assert alert["status"] == "firing"
    assert alert["labels"]["venue"] == "binance_usdm"
    assert alert["labels"]["severity"] in ("critical", "emergency")
    health = float(re.search(r"Health (\d\.\d+): lower is worse", alert["annotations"]["description"])[1])  # type: ignore[index]
    ratio = float(re.search(r"Margin ratio ([\d.]+)%", alert["annotations"]["description"])[1])  # type: ignore[index]
    assert health <= 1.2
    assert ratio == pytest.approx(100 / health, abs=0.1), "both senses of one moment"
    assert alert["annotations"]["runbook_url"] == "http://127.0.0.1:9877/runbook#health"


def test_the_daemons_own_channel_reaches_alertmanager(stage: Stage) -> None:
    alert = paged(stage, "MarginHealth", account="coin")[0]
    assert alert["labels"]["venue"] == "htx_coin_futures"
    assert alert["labels"]["rule"] == "health"
    assert "health" in alert["annotations"]["summary"]
    assert alert["generatorURL"].startswith("http://127.0.0.1:")
    assert not paged(stage, "MarginHealth", account="usdm"), "its route leaves it out"
    assert told(stage.hooked, account="usdm", rule="health"), "the other channel has it"


def test_old_data_are_told_and_so_is_their_end(stage: Stage) -> None:
    alerts = delivered(stage.mailed, "MarginDataStale", account="usdm")
    first, last = alerts[0], alerts[-1]
    assert (first["status"], last["status"]) == ("firing", "resolved")
    assert first["labels"]["severity"] == "high"
    age_s = float(re.search(r"figures are ([\d.]+)s old", first["annotations"]["summary"])[1])  # type: ignore[index]
    assert 15 <= age_s < 20, "found as soon as the limit is passed"
    assert first["annotations"]["runbook_url"].endswith("/runbook#stale")


def test_only_the_worst_rung_is_told(stage: Stage) -> None:
    states = {a["labels"]["alertname"]: a["status"]["state"] for a in stage.active if a["labels"].get("account") == "usdm"}
    assert states["MarginHealthWarning"] == states["MarginHealthHigh"] == "suppressed"
    assert "active" in {states.get(name) for name in LADDER}


def test_the_scrape_is_clean(stage: Stage) -> None:
    assert run("promtool", "check", "metrics", text=stage.exposition) == ""
    assert stage.query('up{job="margin-monitor"}')[0]["value"][1] == "1"


@pytest.mark.parametrize("dashboard", DASHBOARDS)
def test_every_query_returns_data(stage: Stage, dashboard: str) -> None:
    """Asked for the moment, and those of charts for a range as well, with more than one point of a line."""
    failures = []
    targets = [(panel["title"], target) for panel in DASHBOARDS[dashboard]["panels"] for target in panel.get("targets", [])]
    assert len(targets) > 20
    assert sum(target["range"] for _, target in targets) > 10
    for title, target in targets:
        for chosen in CHOSEN[dashboard]:
            if any(metric in target["expr"] and chosen["venue"] not in (".*", venue) for metric, venue in BY_VENUE.items()):
                continue
            expr = asked(dashboard, target["expr"], chosen)
            if not any(math.isfinite(float(row["value"][1])) for row in stage.query(expr)):
                failures.append(f"{title} {chosen}: {expr}")
            if target["range"] and max(map(points, stage.query_range(expr)), default=0) < 2:
                failures.append(f"{title} {chosen}, as a chart: {expr}")
    assert not failures, "\n".join(failures)


def points(line: dict[str, Any]) -> int:
    """How many of its values can be drawn."""
    return sum(math.isfinite(float(value)) for _, value in line["values"])


@pytest.mark.parametrize("dashboard", DASHBOARDS)
def test_every_variable_has_values(stage: Stage, dashboard: str) -> None:
    wanted = {"venue": {"binance_usdm", "htx_coin_futures"}, "account": {"usdm", "coin"}, "pool": {"USD", "BTC", "ETH", "ADA"}}
    found = {}
    for variable in DASHBOARDS[dashboard]["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
            found[variable["name"]] = set(stage.label_values(asked(dashboard, metric, CHOSEN["overview"][0]), label))
    assert found == wanted


def test_every_rule_can_be_evaluated(stage: Stage) -> None:
    for rule in rules():
        stage.query(rule["expr"])
    records = [rule["record"] for rule in rules() if "record" in rule]
    assert [name for name in records if not stage.query(name)] == [], "records without data"


def test_every_metric_is_used_or_deliberately_not(stage: Stage) -> None:
    shown = "\n".join(t["expr"] for d in DASHBOARDS.values() for p in d["panels"] for t in p.get("targets", []))
    used = set(re.findall(r"[a-zA-Z_:][\w:]*", shown + "\n".join(rule["expr"] for rule in rules())))
    exposed = {sample.name for family in text_string_to_metric_families(stage.exposition) for sample in family.samples} - {
        f"{family.name}_created" for family in text_string_to_metric_families(stage.exposition)
    }
    lines = [line for line in (GRAFANA / "unused-metrics.txt").read_text().splitlines() if line and not line.startswith("#")]
    unused = {name: why.strip() for name, _, why in (line.partition(" ") for line in lines)}
    assert all(unused.values()), "each with its reason"
    assert exposed - used - unused.keys() == set(), "neither shown nor listed in grafana/unused-metrics.txt"
    assert unused.keys() - exposed == set(), "listed, but not exposed"
    assert unused.keys() & used == set(), "listed as unused, but used"
    records = {rule["record"] for rule in rules() if "record" in rule}
    assert records <= used, "a record that nobody asks for"
    assert records.isdisjoint(exposed), RULES
