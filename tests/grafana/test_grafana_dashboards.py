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


@pytest.mark.parametrize(
    ("name", "metric", "rule"),
    [
        ("overview.json", "margin_pool_health", BOOK.health),
        ("overview.json", "margin_pool_margin_ratio", BOOK.margin_ratio),
        ("overview.json", "margin_pool_data_age_seconds", BOOK.stale),
        ("overview.json", "margin_reconcile_relative_difference", BOOK.reconcile),
        ("pool.json", "margin_pool_health", BOOK.health),
        ("pool.json", "margin_pool_margin_ratio", BOOK.margin_ratio),
        ("pool.json", "margin_pool_guarantee_asset_ratio", BOOK.guarantee_asset_ratio),
        ("pool.json", "margin_pool_data_age_seconds", BOOK.stale),
        ("pool.json", "margin_reconcile_relative_difference", BOOK.reconcile),
    ],
    ids=lambda value: value.name if isinstance(value, LadderRule) else value,
)
def test_bands_are_the_ladder_of_the_product(name: str, metric: str, rule: LadderRule) -> None:
    """tests/deploy_prometheus compares the same ladders with the alert rules."""
    found = [p for p in panels(name) if p["type"] in ("timeseries", "stat") and metric in p["targets"][0]["expr"]]
    charts = [panel for panel in found if panel["type"] == "timeseries"]
    assert charts
    for panel in found:
        assert limits(panel) == sorted(limit for _, limit in rule.ladder), panel["title"]
    for panel in charts:
        assert panel["fieldConfig"]["defaults"]["custom"]["thresholdsStyle"]["mode"] == "area"
        assert panel["fieldConfig"]["defaults"]["custom"]["spanNulls"] is False, "what is unknown is a gap"


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
    uids = {name: committed(name)["uid"] for name in NAMES}
    for name, other in (("overview.json", "pool.json"), ("pool.json", "overview.json")):
        urls = [link["url"] for link in committed(name)["links"]]
        assert urls == [f"/d/{uids[other]}", "${page}"]
    to_pool = re.findall(r'"/d/([\w-]+)\?[^"]*var-pool=', (FOLDER / "overview.json").read_text())
    assert set(to_pool) == {uids["pool.json"]}
    assert len(to_pool) >= 3


def test_provisioning_fits() -> None:
    source = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())
    assert [s["type"] for s in source["datasources"]] == ["prometheus"]
    provider = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "margin-monitor.yml").read_text())
    assert provider["providers"][0]["type"] == "file"
    assert Path(provider["providers"][0]["options"]["path"]).is_absolute()
