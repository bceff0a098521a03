"""The files of deploy/prometheus and deploy/alertmanager, as promtool, amtool and the product's own defaults see them."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_kit import DEPLOY, RULES, rules, run

from monitor.deadman import LAG_S_MAX, WAIT_S_MAX
from monitor.model.alerts import Level
from monitor.rules import RuleBook

TESTS = sorted((DEPLOY / "prometheus" / "tests").glob("*.yml"))
ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
SEVERITIES = {level.word for level in Level if level is not Level.OK}
BOOK = RuleBook()


def limits(alert: str) -> list[float]:
    """Numbers that a rule compares with, in order."""
    return [float(number) for number in re.findall(r"(?:[<>]=?|==)\s+(-?[\d.]+)", ALERTS[alert]["expr"])]


def test_promtool_accepts_rules_and_configuration() -> None:
    assert "SUCCESS" in run("promtool", "check", "rules", RULES)
    assert "SUCCESS" in run("promtool", "check", "config", DEPLOY / "prometheus" / "prometheus.yml")


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_unit_tests_of_the_rules(path: Path) -> None:
    assert "SUCCESS" in run("promtool", "test", "rules", path)


@pytest.mark.parametrize(
    ("tests", "old", "new", "why"),
    [
        ("health", "margin_pool_health <= 1.2\n", "margin_pool_health < 1.2\n", "at the limit counts"),
        ("health", "margin_pool_level == -1\n", "margin_pool_level == -2\n", "unknown is told"),
        ("health", "unless margin_pool_health <= 1.2\n", "unless margin_pool_health <= 1.248\n", "what hysteresis holds is told"),
        ("health", " or last_over_time(margin_pool_level[10m]) == -1", "", "unknown, then gone, is told"),
        ("health", "unless on (job, venue, account, pool) margin_pool_level", "unless margin_pool_level", "a pool may move"),
        ("data", ',stream!="contract_info"', "", "a list that comes once a minute is not silent"),
        ("data", " + 0.1 * count by (job, instance, venue, stream) (margin_stream_up)", "", "many accounts, many reconnects"),
        ("delivery", 'unless on (job, instance) margin_heartbeats_total{result="sent"}', "", "one success is enough"),
        ("health", "keep_firing_for: 2m", "keep_firing_for: 1m", "an alert does not end at once"),
        ("data", 'reason!="rotation"', 'reason!="closed"', "planned reconnects do not count"),
        ("health", "higher is worse", "lower is worse", "the words are tested too"),
    ],
    ids=lambda value: value if value.isalpha() else "",
)
def test_the_unit_tests_can_fail(tmp_path: Path, tests: str, old: str, new: str, why: str) -> None:
    changed = tmp_path / "rules" / RULES.name
    changed.parent.mkdir()
    assert old in RULES.read_text()
    changed.write_text(RULES.read_text().replace(old, new))
    shutil.copytree(TESTS[0].parent, tmp_path / "tests")
    with pytest.raises(AssertionError, match="FAILED"):
        run("promtool", "test", "rules", tmp_path / "tests" / f"{tests}.yml")


def test_each_alert_is_seen_to_fire_and_not_to_fire() -> None:
    seen: dict[str, set[bool]] = {name: set() for name in ALERTS}
    for path in TESTS:
        for test in yaml.safe_load(path.read_text())["tests"]:
            for case in test["alert_rule_test"]:
                seen[case["alertname"]].add(bool(case["exp_alerts"]))
    assert {name for name, cases in seen.items() if True not in cases} == set(), "never seen to fire"
    assert {name for name, cases in seen.items() if False not in cases} == set(), "never seen not to fire"


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_what_and_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    assert name.startswith("Margin")
    assert rule["labels"]["severity"] in SEVERITIES
    annotations = rule["annotations"]
    assert annotations.keys() == {"summary", "description", "runbook_url"}
    place, anchor = annotations["runbook_url"].rsplit("/runbook#", 1)
    assert anchor in {*RuleBook.model_fields, name}, "the anchor is a rule of the daemon or the alert itself"
    assert "$externalLabels.margin_monitor_url" in place
    assert not re.search(r"\d+ ms|TODO", annotations["description"])


def test_names_are_unique_and_severities_are_all_there() -> None:
    names = [rule.get("alert") or rule["record"] for rule in rules()]
    assert not [name for name, count in Counter(names).items() if count > 1]
    assert {rule["labels"]["severity"] for rule in ALERTS.values()} == SEVERITIES


def test_the_ladder_is_that_of_the_product() -> None:
    ladder = {level.word: limit for level, limit in BOOK.health.ladder}
    assert {word: limits(f"MarginHealth{word.capitalize()}")[0] for word in ladder} == ladder
    assert all(ALERTS[f"MarginHealth{word.capitalize()}"]["labels"]["severity"] == word for word in ladder)
    assert limits("MarginHealthLiquidation")[1] == BOOK.guarantee_asset_ratio.liquidation
    for word, level in (("Critical", Level.CRITICAL), ("High", Level.HIGH)):
        of_level, of_health = limits(f"MarginPoolLevel{word}")
        assert of_level == level
        assert of_health == ladder[word.lower()], (
            "where the alert of health begins: any other limit leaves levels without an alert"
        )


@pytest.mark.parametrize(
    ("alert", "limit", "why"),
    [
        ("MarginDataStale", BOOK.stale.high, "the limit `high` of stale: older pools cannot improve"),
        ("MarginReconcileWarning", BOOK.reconcile.warning, "reconcile"),
        ("MarginReconcileHigh", BOOK.reconcile.high, "reconcile"),
        ("MarginClockOffset", BOOK.clock.warning, "clock"),
        ("MarginOutboxStuck", WAIT_S_MAX, "here the heartbeat is withheld"),
        ("MarginLoopLag", LAG_S_MAX / 2, "half of what withholds the heartbeat"),
        ("MarginPoolUnknown", Level.UNKNOWN, "the level"),
    ],
)
def test_limits_are_those_of_the_product(alert: str, limit: float, why: str) -> None:
    assert limits(alert) == [limit], why


def test_a_dead_daemon_is_told_before_its_pools_are_missed() -> None:
    """Or each of its pools would call somebody before the inhibition of Alertmanager has its source."""
    seconds = {
        name: in_seconds(ALERTS[name]["for"])
        for name in ("MarginMonitorDown", "MarginPoolVanished", "MarginPoolVanishedCritical")
    }
    down = seconds.pop("MarginMonitorDown")
    evaluation = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["global"]["evaluation_interval"]
    assert all(down + 2 * in_seconds(evaluation) <= missed for missed in seconds.values())
    kept = in_seconds(ALERTS["MarginPoolUnknown"]["keep_firing_for"])
    assert kept > seconds["MarginPoolVanishedCritical"], "between the two nothing is resolved"


def in_seconds(duration: str) -> int:
    """Of `90s` or `2m`."""
    return int(duration[:-1]) * {"s": 1, "m": 60}[duration[-1]]


def test_amtool_accepts_the_configuration() -> None:
    assert "SUCCESS" in run("amtool", "check-config", DEPLOY / "alertmanager" / "alertmanager.yml")


@pytest.mark.parametrize(
    ("severity", "receiver"),
    [
        ("info", "tell"),
        ("warning", "tell"),
        ("high", "tell"),
        ("critical", "page"),
        ("emergency", "page"),
        ("liquidation", "page"),
        ("unknown", "page"),
    ],
)
def test_who_is_called(severity: str, receiver: str) -> None:
    path = DEPLOY / "alertmanager" / "alertmanager.yml"
    said = run("amtool", "config", "routes", "test", f"--config.file={path}", f"severity={severity}", "alertname=MarginHealth")
    assert receiver in said.split()


def test_inhibitions_name_alerts_that_there_are() -> None:
    config: dict[str, Any] = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text())
    names = {*ALERTS, "MarginHealth"}  # the daemon's own
    for rule in config["inhibit_rules"]:
        for matcher in [*rule["source_matchers"], *rule["target_matchers"]]:
            label, pattern = re.fullmatch(r'(\w+)(?:=~|!=|=)"(.+)"', matcher).groups()  # type: ignore[union-attr]
            assert label == "alertname"
            assert [name for name in names if re.fullmatch(pattern, name)], matcher
        assert rule["equal"], "or one pool would silence another"
