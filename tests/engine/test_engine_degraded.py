"""What is told when the way to the venue is impaired, and how old a price is that came late."""

from __future__ import annotations

import pytest
from engine_world import START_MS, VENUE, World

from monitor.model.alerts import Level
from monitor.model.events import Degraded, Price, PriceKind, Prices, TimePassed
from monitor.model.figures import PoolKey
from monitor.rules import RuleBook
from monitor.rules.occurrences import DegradedRule


@pytest.mark.parametrize(
    ("account", "rules", "levels", "why"),
    [
        ("", RuleBook(), [Level.HIGH], "of the whole venue: nobody's account, and the venue's own rules"),
        ("main", RuleBook(), [Level.HIGH], "of one account"),
        ("main", RuleBook(degraded=DegradedRule(level="info")), [Level.INFO], "as loud as it is configured"),
        ("", RuleBook(degraded=DegradedRule(enabled=False)), [], "switched off"),
        ("other", RuleBook(), [], "an account that nobody watches"),
    ],
)
def test_impaired_ways_are_told_once_and_need_no_end(account: str, rules: RuleBook, levels: list[Level], why: str) -> None:
    world = World(rules)
    world.start()
    said = world.feed(Degraded(VENUE, account, "banned", "a ban until then", START_MS))
    assert [transition.level for transition in said] == levels, why
    for transition in said:
        assert (transition.key.account, transition.key.rule, transition.key.subject) == (account, "degraded", "banned")
        assert transition.momentary
        assert transition.summary == "a ban until then"
        assert transition.levers == (), "no money mends it"


@pytest.mark.parametrize(("late_ms", "age_ms"), [(0, 1000), (4000, 5000)])
def test_a_price_that_waited_in_buffers_is_as_old_as_it_is(late_ms: int, age_ms: int) -> None:
    """Row 36: its event time is new to us, and still it is not of now."""
    world = World()
    world.start()
    world.rate("USDT", 1.0, after_ms=60_000)
    world.feed(Prices(VENUE, PriceKind.MARK, [Price("BTCUSDT", 20_000.0, world.now_ms)], late_ms))
    world.snapshot()
    world.feed(TimePassed(), after_ms=1000)
    figures = world.engine.figures(PoolKey(VENUE, "main", "USD"))
    assert figures is not None
    assert figures.age_ms == age_ms
