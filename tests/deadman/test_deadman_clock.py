"""Our clock against the venue's, and data that are too old: through the engine, each row with its reason."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.engine.engine import Engine
from monitor.engine.scheme import AccountSetup
from monitor.model.alerts import Incident, IncidentKey, Level, Transition
from monitor.model.events import ClockOffset, Price, PriceKind, Prices, TimePassed
from monitor.rules import RuleBook
from monitor.rules.clock import ClockRule

VENUE = "binance_usdm"
KEY = IncidentKey(VENUE, "", "", "clock")
START_MS = 1_795_325_664_000


def engine(rules: RuleBook | None = None, restored: dict[IncidentKey, Incident] | None = None) -> Engine:
    rules = rules or RuleBook()
    return Engine([AccountSetup(VENUE, "main", rules)], rules, restored)


def compared(one: Engine, offset_ms: int, error_ms: int = 20) -> list[Transition]:
    return one.step(ClockOffset(VENUE, offset_ms, error_ms), START_MS)


def open_clock_incident(level: Level = Level.WARNING) -> dict[IncidentKey, Incident]:
    fields = {"id": "1", "opened_ms": 0, "changed_ms": 0, "summary": ""}
    return {KEY: Incident(key=KEY, level=level, worst=level, known_level=level, **fields)}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("offset_s", "was", "level", "why"),
    [
        (0.0, 0, 0, "equal"),
        (0.9, 0, 0, "harmless"),
        (1.0, 0, 0, "the limit itself is allowed: above it is told"),
        (1.01, 0, 2, "warning"),
        (-1.01, 0, 2, "either direction"),
        (5.0, 0, 2, "still warning"),
        (-5.1, 0, 3, "high: signed requests are refused"),
        (0.9, 2, 2, "inside the hysteresis nothing changes"),
        (0.79, 2, 0, "clear of it"),
        (-4.5, 3, 3, "the same above"),
    ],
)
def test_the_rule(offset_s: float, was: int, level: int, why: str) -> None:
    assert ClockRule().judge(np.array([offset_s]), np.array([was], np.int8)).tolist() == [level], why


def test_a_wrong_clock_is_told_once_worse_and_over() -> None:
    one = engine()
    said = [compared(one, offset_ms) for offset_ms in (300, 1_500, 1_600, -6_000, 1_500, 0)]
    assert [[(t.key, t.was.word, t.level.word) for t in some] for some in said] == [
        [],
        [(KEY, "ok", "warning")],
        [],
        [(KEY, "warning", "high")],
        [(KEY, "high", "warning")],
        [(KEY, "warning", "ok")],
    ]
    assert said[1][0].summary.startswith("our clock is 1.5 s behind the venue's, limit 1 s; set the system clock (NTP)")
    assert said[3][0].summary.startswith("our clock is 6.0 s ahead of the venue's, limit 5 s")
    assert said[5][0].summary == "our clock agrees with the venue's again"
    assert one.clock_offsets_ms() == {VENUE: 0}


def test_what_a_slow_answer_may_explain_is_not_told() -> None:
    one = engine()
    assert compared(one, 1_500, error_ms=900) == [], "sure of it are 0.6 s"
    assert one.clock_offsets_ms() == {VENUE: 1_500}, "the metric shows the best guess"
    [told] = compared(one, 2_500, error_ms=900)
    assert told.value == pytest.approx(1.6)


def test_switched_off_it_is_measured_but_not_told() -> None:
    one = engine(RuleBook(clock=ClockRule(enabled=False)))
    assert compared(one, 60_000) == []
    assert one.clock_offsets_ms() == {VENUE: 60_000}


def test_after_a_restart_it_is_neither_told_again_nor_forgotten() -> None:
    one = engine(restored=open_clock_incident())
    assert compared(one, 1_500) == [], "known"
    assert [(t.was.word, t.level.word) for t in compared(one, 10)] == [("warning", "ok")]


@pytest.mark.parametrize(
    ("venue", "enabled", "why"),
    [
        (VENUE, True, ""),
        (VENUE, False, "the rule is switched off"),
        ("htx_coin_futures", True, "no account of the venue is watched any more"),
    ],
)
def test_an_incident_of_a_venue_that_nobody_judges_any_more_ends(venue: str, enabled: bool, why: str) -> None:
    rules = RuleBook(clock=ClockRule(enabled=enabled))
    one = Engine([AccountSetup(VENUE, "main", rules)], rules, {IncidentKey(venue, "", "", "clock"): open_clock_incident()[KEY]})
    assert [t.summary for t in one.abandoned(START_MS)] == ([why] if why else [])


def test_the_monitors_own_incidents_are_not_the_engines_to_end() -> None:
    incident = open_clock_incident()[KEY]
    own = {IncidentKey("", "", "", "store"): incident, IncidentKey("", "", "", "channel", "desk"): incident}
    assert engine(restored=own).abandoned(START_MS) == []


def test_the_clock_is_no_pools_level() -> None:
    one = engine()
    compared(one, 60_000)
    one.step(TimePassed(), START_MS)
    assert one.table().level.tolist() == []


def test_too_old_is_what_nobody_has_seen_for_the_critical_limit() -> None:
    one = engine()
    one.step(ClockOffset(VENUE, 0, 0), START_MS - 600_000)  # the keys were checked long before: nothing ages yet
    one.step(TimePassed(), START_MS)
    assert one.too_old() == [], "not there yet, but it began this moment"
    one.step(TimePassed(), START_MS + 74_000)
    assert one.too_old() == [], "15 s to begin with, then 60 s"
    one.step(TimePassed(), START_MS + 75_000)
    names = [f"the mark price feed of {VENUE}", f"account main of {VENUE}"]
    assert one.too_old() == names

    one.step(Prices(VENUE, PriceKind.MARK, [Price("BTCUSDT", 20_000.0, START_MS)]), START_MS + 75_000)
    assert one.too_old() == names, "a price of a contract that nobody named is none"
