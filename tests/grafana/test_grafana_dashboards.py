"""The committed dashboards: built from the source, in the schema, well laid out, and with the limits of the product."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.build import FOLDER, dashboards, text
from monitor.model.alerts import Level
from monitor.rules import RuleBook
from monitor.rules.base import LadderRule

NAMES = sorted(dashboards())
WIDTH = 24
BOOK = RuleBook()
GRAFANA = FOLDER.parent
BUILT_IN = {"__rate_interval", "__url_time_range", "__field", "__data"}


def committed(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / name).read_text())
    return found


def panels(name: str) -> list[dict[str, Any]]:
    """Without the headings."""
    return [panel for panel in committed(name)["panels"] if panel["type"] != "row"]


@pytest.mark.parametrize("name", NAMES)
def test_committed_is_what_the_source_builds(name: str) -> None:
    assert (FOLDER / name).read_text() == text(dashboards()[name]), "run: make dashboards"


def test_nothing_else_is_committed() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_typed_models_read_it_without_loss(name: str) -> None:
    """A key that the schema does not know would be lost on the way, a wrong type would raise."""
    register_default_plugins()
    read = Dashboard.from_json(committed(name))
    assert json.loads(JSONEncoder(sort_keys=True).encode(read)) == committed(name)


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_unique(name: str) -> None:
    ids = [panel["id"] for panel in committed(name)["panels"]]
    assert sorted(ids) == list(range(1, len(ids) + 1))
    for panel in panels(name):
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters)
    assert len({committed(n)["uid"] for n in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_panels_do_not_overlap_and_leave_no_holes(name: str) -> None:
    places = [(panel["title"], panel["gridPos"]) for panel in committed(name)["panels"]]
    for (one, a), (other, b) in combinations(places, 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"] or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert apart, f"{one} lies over {other}"
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= WIDTH for _, place in places)
    area = sum(place["w"] * place["h"] for _, place in places)
    assert area == WIDTH * max(place["y"] + place["h"] for _, place in places), "holes"


@pytest.mark.parametrize("name", NAMES)
def test_each_panel_has_a_title_words_a_unit_and_the_chosen_source(name: str) -> None:
    titles = [panel["title"] for panel in panels(name)]
    assert len(titles) > 15
    for panel in panels(name):
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["targets"]
        for target in panel["targets"]:
            assert target["expr"]
            assert target["datasource"] == panel["datasource"]
            assert target["instant"] is not target["range"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_money_has_a_unit_of_money(name: str) -> None:
    for panel in panels(name):
        of_one_kind = [target["expr"] for target in panel["targets"] if panel["type"] != "table"]
        for expr in of_one_kind:
            if re.match(r"\w*(sum by \(venue, account\) \()?\(?margin_\w+_usd\{", expr) and "/" not in expr:
                assert panel["fieldConfig"]["defaults"]["unit"] == "currencyUSD", panel["title"]
            if re.match(r"(time\(\) - )?(topk\(\d+, )?margin_\w+_seconds\b", expr):
                assert panel["fieldConfig"]["defaults"]["unit"] == "s", panel["title"]


def limits(panel: dict[str, Any]) -> list[float]:
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    values = [step["value"] for step in steps]
    assert values[0] is None, "the first colour holds from −∞ on"
    assert values[1:] == sorted(values[1:])
    return values[1:]


LADDERS: dict[str, LadderRule] = {
    "margin_pool_health": BOOK.health,
    "margin_pool_margin_ratio": BOOK.margin_ratio,
    "margin_pool_guarantee_asset_ratio": BOOK.guarantee_asset_ratio,
    "margin_pool_data_age_seconds": BOOK.stale,
    "margin_reconcile_relative_difference": BOOK.reconcile,
}
ALERTS_OF = {
    "margin_outbox_oldest_age_seconds": ("MarginOutboxStuck", "MarginOutboxStuckCritical"),
    "margin_loop_lag_seconds": ("MarginLoopLag",),
}
COUNTED_OR_YES_NO = {
    "ALERTS",
    "up",
    "margin_stream_up",
    "margin_channel_broken",
    "margin_heartbeat_withheld",
    "margin_config_last_reload_successful",
}


def alert_limit(alert: str) -> float:
    """What the rule of Prometheus compares with."""
    groups = yaml.safe_load((GRAFANA.parent / "deploy/prometheus/rules/margin-monitor.rules.yml").read_text())["groups"]
    expr = next(rule["expr"] for group in groups for rule in group["rules"] if rule.get("alert") == alert)
    return float(re.fullmatch(r"\w+ > ([\d.]+)", expr)[1])  # type: ignore[index]


def limits_due(expr: str) -> list[float]:
    """Where the colours of a figure have to change. KeyError: a figure whose limits nobody compares."""
    metric = re.findall(r"\b(?:margin_\w+|ALERTS|up)\b", expr)[0]
    if metric in COUNTED_OR_YES_NO or expr.startswith("count("):
        return [1.0]
    if metric == "margin_pool_level":
        return [float(level) for level in Level if level >= Level.OK]
    if metric in ALERTS_OF:
        return [alert_limit(alert) for alert in ALERTS_OF[metric]]
    return sorted(limit for _, limit in LADDERS[metric].ladder)


@pytest.mark.parametrize("name", NAMES)
def test_every_colour_changes_where_the_product_says(name: str) -> None:
    """tests/deploy_prometheus compares the same ladders with the alert rules."""
    coloured = [panel for panel in panels(name) if "thresholds" in panel["fieldConfig"]["defaults"]]
    assert len(coloured) > 8
    for panel in coloured:
        for target in panel["targets"]:
            assert limits(panel) == limits_due(target["expr"]), panel["title"]
    charts = [panel for panel in coloured if panel["type"] == "timeseries"]
    shown = "".join(panel["targets"][0]["expr"] for panel in charts)
    of_one_venue = {"margin_pool_guarantee_asset_ratio"} if name == "overview.json" else set()
    assert {metric for metric in LADDERS if metric not in shown} == of_one_venue
    for panel in charts:
        assert panel["fieldConfig"]["defaults"]["custom"]["thresholdsStyle"]["mode"] == "area"
        assert panel["fieldConfig"]["defaults"]["custom"]["spanNulls"] is False, "what is unknown is a gap"


PER_POOL_OR_STREAM = re.compile(r"\b(?:margin_(?:pool|stream)_\w+|margin_reconcile_\w+|pool:\w+:min|ALERTS)\b")
BOUNDED = re.compile(r"^(?:1000 \* )?(?:min|max|sum|count)\(|^sum by \((?:level|venue, stream, reason)\)")


def test_ten_thousand_accounts_fit_on_the_overview() -> None:
    """A query by pool, account or stream asks for a bounded number of them."""
    asked = [(panel["title"], target["expr"]) for panel in panels("overview.json") for target in panel["targets"]]
    growing = [(title, expr) for title, expr in asked if PER_POOL_OR_STREAM.search(expr) and not BOUNDED.search(expr)]
    assert len(growing) > 15
    for title, expr in growing:
        of_venues = re.sub(r'margin_stream_\w+\{[^}]*account=""\}', "", expr)  # shared streams: two or three of each venue
        # A series outside of what is cut to the worst would bring all of them, unless `and` keeps to those that were cut out.
        outside = re.sub(r"(?:top|bottom)k\(\d+, (?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)", "", of_venues)
        kept = re.fullmatch(r"(.+?) and on \(venue, account, pool\) \( or \)", outside)
        assert kept or not PER_POOL_OR_STREAM.search(outside), f"{title}: {expr}"


def test_all_columns_of_a_table_are_of_the_same_pools() -> None:
    table = next(panel for panel in panels("overview.json") if panel["title"] == "Pools, worst first")
    cuts = {target["expr"].partition("} and on ")[2] for target in table["targets"]}
    assert len(cuts) == 1
    (cut,) = cuts
    assert re.findall(r"(\w+)\(100, (\w+)", cut) == [("bottomk", "margin_pool_health"), ("bottomk", "margin_pool_level")]


def test_worse_is_never_green() -> None:
    steps = next(p for p in panels("pool.json") if p["title"] == "Health")["fieldConfig"]["defaults"]["thresholds"]["steps"]
    green = steps[-1]["color"]
    assert [step["value"] for step in steps if step["color"] == green] == [BOOK.health.warning]
    assert len({step["color"] for step in steps}) == len(steps), "each level has its own colour"


@pytest.mark.parametrize("name", NAMES)
def test_variables_that_are_used_are_there(name: str) -> None:
    board = committed(name)
    there = {variable["name"] for variable in board["templating"]["list"]}
    assert there == {"datasource", "venue", "account", "pool", "page"}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps([board["panels"], board["links"], board["templating"]])))
    assert used - there - BUILT_IN - {"__all"} == set()
    assert there - used == set(), "a variable that does nothing"


def test_dashboards_lead_to_each_other_and_to_the_status_page() -> None:
    for name, other in (("overview.json", "pool.json"), ("pool.json", "overview.json")):
        (to, page) = committed(name)["links"]
        assert to["url"].partition("?")[0] == f"/d/{committed(other)['uid']}"
        assert page["url"] == "${page}"


@pytest.mark.parametrize("name", NAMES)
def test_no_link_carries_all_to_a_dashboard_of_one(name: str) -> None:
    board = committed(name)
    may_be_all = {v["name"] for v in board["templating"]["list"] if v.get("includeAll")}
    singles = {committed(n)["uid"] for n in NAMES if not any(v.get("includeAll") for v in committed(n)["templating"]["list"])}
    assert singles == {committed("pool.json")["uid"]}
    urls = [link["url"] for link in board["links"] if link["includeVars"] and may_be_all]
    assert not [url for url in urls if any(f"/d/{uid}" in url for uid in singles)], "would open with the value $__all"
    given = [link["url"] for link in board["links"] if not link["includeVars"]]
    for url in given:
        assert not {f"${{{variable}}}" for variable in may_be_all} & set(re.findall(r"\$\{\w+\}", url))


def data_links(panel: dict[str, Any]) -> list[str]:
    """Of a chart's lines or a table's rows."""
    links = panel["fieldConfig"]["defaults"].get("links", [])
    for override in panel["fieldConfig"]["overrides"]:
        links = [*links, *(link for p in override["properties"] if p["id"] == "links" for link in p["value"])]
    return [link["url"] for link in links]


def test_a_line_and_a_row_open_their_own_pool() -> None:
    target = committed("pool.json")
    there = {variable["name"] for variable in target["templating"]["list"]}
    found = [(panel, url) for panel in panels("overview.json") for url in data_links(panel)]
    assert {panel["type"] for panel, _ in found} == {"timeseries", "table"}
    for panel, url in found:
        place, _, query = url.partition("?")
        assert place == f"/d/{target['uid']}"
        time_range, *pairs = query.split("&")
        assert time_range == "${__url_time_range}"
        values = dict(pair.split("=", 1) for pair in pairs)
        assert values.keys() == {f"var-{name}" for name in there}, "each variable of the other dashboard, and no other"
        source = "__data.fields" if panel["type"] == "table" else "__field.labels"
        for label in ("venue", "account", "pool"):
            assert values[f"var-{label}"] == f"${{{source}.{label}}}", "the line's or the row's own"
            if panel["type"] == "table":
                kept = panel["transformations"][1]["options"]["include"]["names"]
                assert label in kept, "a field that was left out has no value"


def test_provisioning_fits() -> None:
    source = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())
    assert [s["type"] for s in source["datasources"]] == ["prometheus"]
    provider = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "margin-monitor.yml").read_text())
    assert provider["providers"][0]["type"] == "file"
    assert Path(provider["providers"][0]["options"]["path"]).is_absolute()
