"""What the engine says and when: limits, hysteresis, missing data, restarts. Each row says why."""

from __future__ import annotations

import numpy as np
import pytest
from engine_world import START_MS, TIERS, VENUE, World, figures_of, levels, open_incident
from msgspec import structs

from monitor.model.alerts import Level
from monitor.model.events import (
    AssetRate,
    AssetRates,
    Balance,
    Brackets,
    ClockOffset,
    Instruments,
    LeverageChanged,
    Mode,
    ModeChanged,
    Position,
    Price,
    PriceKind,
    Prices,
    StreamDown,
    StreamUp,
    TimePassed,
    VenueCall,
    VenueFigures,
)
from monitor.model.instruments import AssetInfo, BracketTable, Instrument
from monitor.rules import RuleBook
from monitor.rules.health import HealthRule


def mark_at(health: float) -> float:
    """The BTC mark at which the default account has this health."""
    return 19_000.0 / (1 - 0.004 * health)


def test_each_limit_is_told_once_on_the_way_down_and_once_on_the_way_up() -> None:
    world = World()
    assert levels(world.start()) == []
    said = []
    for health in (2.5, 1.99, 1.99, 1.45, 1.19, 1.18, 1.05, 0.9, 3.0):
        said += levels(world.mark(mark_at(health)))
    assert said == [
        ("ok", "warning"),
        ("warning", "high"),
        ("high", "critical"),
        ("critical", "emergency"),
        ("emergency", "liquidation"),
        ("liquidation", "ok"),
    ]


def test_equity_at_120_percent_of_maintenance_is_critical() -> None:
    """The threshold of the first seed, as it is named."""
    world = World()
    world.start()
    [transition] = world.mark(mark_at(1.2))
    assert transition.level is Level.CRITICAL
    assert transition.limit == 1.2
    assert transition.value == pytest.approx(1.2)
    assert transition.figures is not None
    assert transition.figures.margin_ratio == pytest.approx(1 / 1.2)


def test_margin_ratio_of_50_percent_warns_when_the_rule_is_on() -> None:
    world = World(RuleBook.model_validate({"margin_ratio": {"enabled": True}, "health": {"enabled": False}}))
    world.start()
    assert levels(world.mark(mark_at(2.0001)), "margin_ratio") == []
    assert levels(world.mark(mark_at(2.0)), "margin_ratio") == [("ok", "warning")]


@pytest.mark.parametrize(
    ("health", "level", "why"),
    [
        (1.19, "critical", "below the limit"),
        (1.21, "critical", "inside the hysteresis nothing clears"),
        (1.2479, "critical", "still inside 4 %"),
        (1.2485, "high", "beyond it one step clears, not all"),
        (2.09, "ok", "beyond all"),
    ],
)
def test_hysteresis(health: float, level: str, why: str) -> None:
    world = World()
    world.start()
    world.mark(mark_at(1.19))
    world.mark(mark_at(health))
    assert Level(world.pool().level).word == level, why


def test_limits_of_one_account_are_its_own() -> None:
    world = World(RuleBook(health=HealthRule(warning=5, high=4, critical=3)))
    world.start()
    assert levels(world.mark(mark_at(2.9))) == [("ok", "critical")]


def test_levers_bring_the_pool_back_where_they_say() -> None:
    world = World()
    world.start()
    [transition] = world.mark(mark_at(1.1))
    send = next(lever for lever in transition.levers if lever.what == "send")
    world.update(balances=(Balance("USDT", 1000 + send.amount, 1000 + send.amount, world.now_ms),))
    assert world.pool().health == pytest.approx(send.health)


def test_closing_what_the_lever_says_does_it_too() -> None:
    world = World()
    world.start()
    price = mark_at(1.1)
    [transition] = world.mark(price)
    close = next(lever for lever in transition.levers if lever.what == "close")
    realised = close.amount * (price - 20_000)
    world.update(
        balances=(Balance("USDT", 1000 + realised, 1000 + realised, world.now_ms),),
        positions=(Position("BTCUSDT", "BOTH", 1 - close.amount, 20_000, world.now_ms),),
    )
    assert world.pool().health == pytest.approx(close.health)


def test_causes_add_up_to_the_move_of_equity_since_the_last_message() -> None:
    world = World(wallets={"USDT": 1000.0, "BTC": 0.1})
    world.start()
    world.rate("BTC", 20_000.0, haircut=0.05)
    world.seconds(1, keep_fresh=True)
    before = world.pool().equity
    world.rate("BTC", 15_000.0, haircut=0.05)
    world.update(balances=(Balance("USDT", 900.0, 900.0, world.now_ms),))
    said = [t for t in world.mark(mark_at(1.2) - 1420) if t.key.rule == "health"]
    assert before is not None
    assert said[0].figures is not None
    assert said[0].figures.equity is not None
    parts = {cause.what: cause.amount for cause in said[0].causes}
    assert sum(parts.values()) == pytest.approx(said[0].figures.equity - before)
    assert parts["trades and fees USDT"] == pytest.approx(-100)
    assert parts["rate of BTC"] == pytest.approx(0.1 * -5000 * 0.95)


# ------------------------------------------------------------------ missing data


def test_silence_makes_unknown_and_resolves_nothing() -> None:
    """60 s without a price: the open incident is UNKNOWN; the next price judges it again."""
    world = World()
    world.start()
    world.mark(mark_at(1.15))
    said = world.seconds(62)
    assert levels(said) == [("critical", "unknown")]
    assert world.pool().level == Level.UNKNOWN
    feed = [t for t in said if t.key.subject == "mark price"]
    assert [(t.was.word, t.level.word) for t in feed] == [("ok", "warning"), ("warning", "high"), ("high", "critical")]
    back = world.seconds(1, keep_fresh=True)  # prices and rates are back
    assert ("unknown", "critical") in levels(back)


def test_old_data_cannot_improve_anything() -> None:
    """The user stream is down: what it would have told may be worse than the price is better."""
    world = World()
    world.start()
    world.mark(mark_at(1.15))
    world.feed(StreamDown(VENUE, "main", "user", "reset"))
    world.seconds(1)
    assert levels(world.mark(mark_at(3.0))) == []
    assert levels(world.mark(mark_at(1.05))) == [("critical", "emergency")], "worse is told at once"
    world.mark(mark_at(3.0))
    world.feed(StreamUp(VENUE, "main", "user"))
    assert ("emergency", "ok") in levels(world.snapshot(as_of_ms=world.now_ms))


def test_an_account_without_a_picture_ages_and_alerts() -> None:
    world = World()
    said = world.seconds(80)
    account = [(t.level.word) for t in said if t.key.subject == "account"]
    assert account == ["warning", "high", "critical"]


@pytest.mark.parametrize("price", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_bad_price_moves_nothing(price: float) -> None:
    """The wire refuses these; the engine does too."""
    world = World()
    world.start()
    before = world.pool()
    assert world.mark(price) == []
    assert world.pool().equity == before.equity


def test_a_repeating_feed_is_a_dead_feed() -> None:
    """Frames come, but their event time stands still."""
    world = World()
    world.start()
    frozen = world.now_ms
    said = []
    for _ in range(20):
        said += world.feed(Prices(VENUE, PriceKind.MARK, [Price("BTCUSDT", 19_999.0, frozen)]), after_ms=1000)
        said += world.feed(TimePassed())
    assert [t.level.word for t in said if t.key.subject == "mark price"] == ["warning", "high"]


def test_one_row_from_the_future_does_not_end_its_symbol() -> None:
    """A venue's slip, such as a time in microseconds: what comes after it in true time is not old."""
    world = World(wallets={"USDT": 1000.0, "USDC": 100.0})
    world.start()
    far_ms = world.now_ms * 1000
    world.feed(Prices(VENUE, PriceKind.MARK, [Price("BTCUSDT", 20_000.0, far_ms)]))
    world.feed(AssetRates(VENUE, [AssetRate("USDC", 1.0, 1.0, 1.0, far_ms)]))
    assert levels(world.mark(19_000.0)) == [("ok", "high")]
    assert "high" in [now for _, now in levels(world.rate("USDC", 0.98), "collateral_rate")]
    assert [t for t in world.seconds(40, keep_fresh=True) if t.key.rule == "stale"] == []
    assert world.engine.event_counts().dropped[VENUE, "older_price"] == 0
    old = Prices(VENUE, PriceKind.MARK, [Price("BTCUSDT", 30_000.0, world.now_ms - 1)])
    assert world.feed(old) == [], "the order of true times holds again"
    assert world.engine.event_counts().dropped[VENUE, "older_price"] == 1


def test_a_feed_that_repeats_a_time_of_the_future_is_dead_too() -> None:
    world = World()
    world.start()
    said = []
    for _ in range(20):
        row = Price("BTCUSDT", 20_000.0, START_MS * 1000)
        said += world.feed(Prices(VENUE, PriceKind.MARK, [row]), after_ms=1000)
        said += world.feed(TimePassed())
    assert [t.level.word for t in said if t.key.subject == "mark price"] == ["warning", "high"]


def test_the_future_begins_at_the_venues_clock_and_not_at_ours() -> None:
    """Ours is ten minutes behind: the venue's times are true, and an older one is old."""
    world = World()
    world.start()
    world.feed(ClockOffset(VENUE, 600_000, 10))
    at_ms = world.now_ms + 600_000
    world.feed(Prices(VENUE, PriceKind.MARK, [Price("BTCUSDT", 20_000.0, at_ms)]))
    assert levels(world.feed(Prices(VENUE, PriceKind.MARK, [Price("BTCUSDT", 19_000.0, at_ms - 1)]))) == []
    assert world.engine.event_counts().dropped[VENUE, "older_price"] == 1


def test_an_older_price_is_dropped() -> None:
    world = World()
    world.start()
    world.mark(19_500.0)
    world.feed(Prices(VENUE, PriceKind.MARK, [Price("BTCUSDT", 25_000.0, world.now_ms - 500)]))
    assert world.pool().positions[0].price == 19_500.0


def test_one_dead_symbol_among_living_ones_is_named_by_its_pool() -> None:
    world = World()
    world.start()
    said = []
    for _ in range(70):
        said += world.mark(1800.0, "ETHUSDC")
        said += world.seconds(1)
    assert ("ok", "warning") in [(t.was.word, t.level.word) for t in said if t.key.rule == "stale" and t.key.pool == "USD"]
    assert not [t for t in said if t.key.subject == "mark price"], "the feed itself lives"


def test_a_position_without_brackets_or_price_is_unknown_with_its_reason() -> None:
    world = World()
    world.start()
    world.update(positions=(Position("NEWUSDT", "BOTH", 5.0, 1.0, world.now_ms, margin_asset="USDT"),))
    pool = world.pool()
    assert pool.equity is None
    assert pool.health is None
    assert pool.level == Level.UNKNOWN
    assert any("no mark price of NEWUSDT" in reason for reason in pool.unknown)
    assert any("no brackets of NEWUSDT" in reason for reason in pool.unknown)


def test_health_without_positions_is_no_number_and_no_danger() -> None:
    world = World(position=Position("BTCUSDT", "BOTH", 0.0, 0.0, START_MS))
    world.start()
    pool = world.pool()
    assert (pool.health, pool.margin_ratio, pool.level) == (None, 0.0, Level.OK)


def test_liquidation_by_negative_equity() -> None:
    world = World()
    world.start()
    assert levels(world.mark(18_000.0)) == [("ok", "liquidation")]
    pool = world.pool()
    assert pool.margin_ratio is None
    assert any("margin_ratio" in reason for reason in pool.unknown)


# ------------------------------------------------------------------ restart


def test_what_was_open_is_not_crossed_again_after_a_restart() -> None:
    world = World(restored=open_incident(Level.CRITICAL))
    world.start(mark_at(1.19))
    assert world.pool().level == Level.CRITICAL
    assert levels(world.mark(mark_at(1.18))) == []
    assert levels(world.mark(mark_at(3.0))) == [("critical", "ok")], "and its end is still told"


def test_what_got_worse_meanwhile_is_told_after_a_restart() -> None:
    world = World(restored=open_incident(Level.WARNING))
    assert levels(world.start(mark_at(1.19))) == [("warning", "critical")]


def test_what_was_unknown_at_the_end_is_judged_again_and_not_forgotten() -> None:
    world = World(restored=open_incident(Level.UNKNOWN, known=Level.CRITICAL))
    assert levels(world.start(mark_at(1.21))) == [("unknown", "critical")], "inside the hysteresis of what was known"


def test_what_was_unknown_at_the_end_stays_so_until_there_are_figures() -> None:
    world = World(restored=open_incident(Level.UNKNOWN, known=Level.HIGH))
    world.feed(Instruments(VENUE, (Instrument("BTCUSDT", "USDT"),), (AssetInfo("USDT"),)))
    world.feed(Brackets(VENUE, "main", (BracketTable("BTCUSDT", TIERS),), world.now_ms))
    world.rate("USDT", 1.0)
    assert levels(world.snapshot()) == [], "the account is known, its price is not"
    assert world.pool().health is None
    said = world.mark(mark_at(1.3))
    assert [(t.was.word, t.level.word, t.summary) for t in said if t.key.rule == "health"] == [
        ("unknown", "high", "health 1.3 is at or below 1.5")
    ]


def test_what_was_blind_and_comes_back_without_a_price_stays_unknown() -> None:
    world = World()
    world.start(mark_at(1.3))
    world.feed(StreamDown(VENUE, "main", "user", "reset"))
    assert levels(world.seconds(70, keep_fresh=True)) == [("high", "unknown")]
    world.feed(StreamUp(VENUE, "main", "user"))
    unpriced = Position("ETHUSDC", "BOTH", 1.0, 2000.0, START_MS, margin_asset="USDC")
    assert levels(world.snapshot(positions=(world.position, unpriced)) + world.seconds(3, keep_fresh=True)) == []
    said = world.snapshot(positions=(world.position,)) + world.seconds(2, keep_fresh=True)
    assert levels(said) == [("unknown", "high")], "with figures it is judged again"


def test_incidents_of_what_is_gone_come_to_an_end() -> None:
    gone = open_incident(Level.HIGH, pool="BTCUSDT") | open_incident(Level.HIGH, account="sold")
    world = World(restored=gone)
    assert [t.summary for t in world.engine.abandoned(world.now_ms)] == ["the account is no longer watched"]
    assert [t.summary for t in world.start() if t.key.pool == "BTCUSDT"] == ["the pool no longer exists"]


# ------------------------------------------------------------------ collateral


@pytest.mark.parametrize(
    ("index", "level", "why"),
    [
        (1.004, "ok", "inside half a percent"),
        (0.994, "info", "0.6 % off its dollar"),
        (0.99, "info", "1 % exactly is not more than 1 %"),
        (0.989, "high", "the articles' 1 %"),
        (1.011, "high", "either way"),
        (0.96, "critical", "more than 3 %"),
    ],
)
def test_collateral_rate_off_its_dollar(index: float, level: str, why: str) -> None:
    world = World()
    world.start()
    said = levels(world.rate("USDT", index, after_ms=1000), "collateral_rate")
    assert [now for _, now in said] == ([] if level == "ok" else [level]), why


def test_collateral_rate_within_the_hour() -> None:
    """A pegged asset is compared with where it was as well: coming back to its dollar is a move too."""
    world = World(wallets={"USDT": 1000.0, "USDC": 500.0})
    world.start()
    world.rate("USDC", 0.994, after_ms=60_000)
    world.now_ms += 3_600_000
    world.snapshot()
    assert levels(world.rate("USDC", 0.994), "collateral_rate") == []
    assert levels(world.rate("USDC", 1.006, after_ms=60_000), "collateral_rate") == [("info", "high")], "1.2 % within the hour"


def test_section_3_what_has_no_peg_is_no_alarm_by_its_rate() -> None:
    """A BTC that falls by 3 % within an hour is an ordinary day; what it does to the margin is in health."""
    world = World(wallets={"USDT": 1000.0, "BTC": 0.1})
    world.start()
    said = [t for index in (20_000.0, 19_700.0, 19_300.0, 12_000.0) for t in world.rate("BTC", index, 0.05, after_ms=60_000)]
    assert {t.key.rule for t in said} <= {"health", "tier_change"}


def btc_world(**limits: float) -> World:
    """Equity 2,400 and health 30 at 20,000 USD: 1,000 USDT and 0.1 BTC that counts for 70 %; 80 are required."""
    rules = RuleBook.model_validate({"collateral_move": {"enabled": True} | limits, "health": {"enabled": False}})
    world = World(rules, wallets={"USDT": 1000.0, "BTC": 0.1})
    world.start()
    world.rate("BTC", 20_000.0, haircut=0.3)
    return world


@pytest.mark.parametrize(
    ("index", "level", "why"),
    [
        (20_000.0, None, "it stands still"),
        (30_000.0, None, "a rise costs nothing"),
        (16_600.0, None, "equity 2,400 → 2,162: 9.9 % of the health"),
        (16_500.0, "warning", "equity 2,400 → 2,155: 10.2 %"),
        (13_200.0, "warning", "equity 2,400 → 1,924: 19.8 %"),
        (13_100.0, "high", "equity 2,400 → 1,917: 20.1 %"),
    ],
)
def test_section_3_other_collateral_is_judged_by_the_health_that_its_move_takes(
    index: float, level: str | None, why: str
) -> None:
    world = btc_world()
    said = world.rate("BTC", index, haircut=0.3, after_ms=60_000)
    assert levels(said, "collateral_move") == ([] if level is None else [("ok", level)]), why


def test_section_3_what_it_says() -> None:
    world = btc_world()
    health = world.pool().health
    assert health == pytest.approx(30.0)
    [said] = [t for t in world.rate("BTC", 13_100.0, haircut=0.3, after_ms=60_000) if t.key.rule == "collateral_move"]
    assert said.key.subject == "BTC"
    assert said.value == pytest.approx(1 - world.pool().health / health), "nothing else moved: all of the fall is its"
    assert said.summary == (
        "the move of BTC took 20.1% of the pool's health, at or above 20%: 13,100 USD, from 20,000 USD within the last hour, "
        "48% of equity"
    )
    world.now_ms += 3_600_000
    world.snapshot()
    [calm] = [t for t in world.rate("BTC", 13_100.0, haircut=0.3) if t.key.rule == "collateral_move"]
    assert (calm.level, calm.was) == (Level.OK, Level.HIGH), "an hour later it is where it was"


def test_section_3_a_debt_that_grows_dearer_takes_health_too() -> None:
    rules = RuleBook.model_validate({"collateral_move": {"enabled": True}})
    world = World(rules, wallets={"USDT": 3000.0, "BTC": -0.1})
    world.start()
    world.rate("BTC", 10_000.0)
    assert levels(world.rate("BTC", 8_000.0, after_ms=60_000), "collateral_move") == []
    assert levels(world.rate("BTC", 12_500.0, after_ms=60_000), "collateral_move") == [("ok", "warning")], "2,000 → 1,750: 12.5 %"


@pytest.mark.parametrize("asset", ["USDC", "LDUSDT", "U", "USD1", "RWUSD", "BNFCR", "BFUSD", "FDUSD"])
def test_section_3_a_pegged_asset_has_one_rule_only(asset: str) -> None:
    rules = RuleBook.model_validate({"collateral_move": {"enabled": True, "warning": 0.001, "high": None}})
    world = World(rules, wallets={"USDT": 1000.0, asset: 1000.0})
    world.start()
    world.feed(Instruments(VENUE, (), (AssetInfo(asset),), complete=False))
    world.rate(asset, 1.0)
    said = world.rate(asset, 0.98, after_ms=60_000)
    assert levels(said, "collateral_rate") == [("ok", "high")]
    assert levels(said, "collateral_move") == []


def test_a_small_share_of_an_asset_is_silent() -> None:
    world = World(wallets={"USDT": 1000.0, "USDC": 5.0})
    world.start()
    assert levels(world.rate("USDC", 0.5, after_ms=1000), "collateral_rate") == []


def test_premium_of_two_percent() -> None:
    world = World(RuleBook.model_validate({"premium": {"enabled": True}}))
    world.start()
    assert levels(world.rate("USDT", 1.0199, after_ms=1000), "premium") == []
    assert levels(world.rate("USDT", 1.02, after_ms=1000), "premium") == [("ok", "info")]


def test_asset_mix_off_70_30() -> None:
    world = World(RuleBook.model_validate({"asset_mix": {"enabled": True}}), wallets={"USDT": 700.0, "USDC": 300.0})
    world.start()
    assert world.pool().level == Level.OK
    said = world.update(balances=(Balance("USDT", 800.0, 800.0, world.now_ms), Balance("USDC", 200.0, 200.0, world.now_ms)))
    assert {(t.key.subject, t.level.word) for t in said if t.key.rule == "asset_mix"} == {
        ("USDT", "warning"),
        ("USDC", "warning"),
    }


@pytest.mark.parametrize(
    ("wallet", "level"), [(-6_900.0, "ok"), (-7_000.0, "warning"), (-9_000.0, "high"), (-10_000.0, "critical")]
)
def test_auto_exchange_at_70_90_and_100_percent_of_10000_usd(wallet: float, level: str) -> None:
    world = World(wallets={"USDT": 1000.0, "USDC": 50_000.0})
    world.start()
    world.update(balances=(Balance("USDT", wallet, wallet, world.now_ms),))
    gauge = world.engine._schemes[VENUE].judge._gauges["auto_exchange"]
    assert Level(int(gauge.known.max())).word == level


# ------------------------------------------------------------------ trust in the figures


def test_reconcile_needs_three_answers_for_a_small_difference_and_one_for_a_large() -> None:
    world = World()
    world.start()
    said = [levels(world.snapshot(figures=figures_of(1020.0, 80.0)), "reconcile") for _ in range(3)]
    assert said == [[], [], [("ok", "warning")]]
    assert levels(world.snapshot(figures=figures_of(1100.0, 80.0)), "reconcile") == [("warning", "high")]
    assert levels(world.snapshot(figures=figures_of(1000.0, 80.0)), "reconcile") == [("high", "ok")]


def test_reconcile_compares_at_the_marks_that_the_venue_used() -> None:
    world = World()
    world.start()
    world.mark(19_500.0)
    world.snapshot(figures=figures_of(1000.0, 80.0), implied_prices={"BTCUSDT": 20_000.0})
    pool = world.pool()
    assert pool.reconcile_difference == 0
    assert pool.equity == pytest.approx(500.0), "the figures themselves are of now"


def test_a_picture_that_came_before_the_brackets_is_compared_when_they_come() -> None:
    world = World()
    world.feed(Instruments(VENUE, (Instrument("BTCUSDT", "USDT"),)))
    world.rate("USDT", 1.0)
    world.mark(20_000.0)
    world.snapshot(figures=figures_of(1000.0, 80.0))
    assert world.pool().reconcile_difference is None
    world.feed(Brackets(VENUE, "main", (BracketTable("BTCUSDT", TIERS),), world.now_ms))
    assert world.pool().reconcile_difference == 0


def test_withdrawable_is_the_venues_answer_carried_on() -> None:
    world = World()
    world.start()
    world.snapshot(figures=figures_of(1000.0, 80.0), implied_prices={"BTCUSDT": 20_000.0})
    assert world.pool().withdrawable == pytest.approx(1000.0)
    world.mark(19_900.0)
    # equity − initial margin fell by 100 and rose by 100 × 1/20 less margin
    assert world.pool().withdrawable == pytest.approx(1000.0 - 100.0 + 5.0)


def test_an_answer_of_0_is_not_carried_beyond_the_bound() -> None:
    """0 may stand for far below 0: what moved since does not make it withdrawable."""
    world = World(wallets={"USDT": 900.0})
    world.start(19_900.0)
    nothing = (VenueFigures("USD", 800.0, 79.6, withdrawable=0.0),)
    world.snapshot(figures=nothing, implied_prices={"BTCUSDT": 19_900.0})
    world.mark(20_050.0)  # equity 950, initial margin 1002.5
    assert world.pool().withdrawable == 0


def test_a_debt_without_a_position_is_the_worst_and_not_safe() -> None:
    """After a liquidation that cost more than there was."""
    world = World()
    world.start()
    said = world.update(
        balances=(Balance("USDT", -50.0, -50.0, world.now_ms),), positions=(Position("BTCUSDT", "BOTH", 0.0, 0.0, world.now_ms),)
    )
    [told] = [t for t in said if t.key.rule == "health"]
    assert told.level is Level.LIQUIDATION
    assert told.summary == "no position is left, and equity is below 0"
    over = world.update(balances=(Balance("USDT", 0.0, 0.0, world.now_ms),))
    assert [t.summary for t in over if t.key.rule == "health"] == ["nothing is at risk any more"]


def test_unknown_pools_show_no_figures_to_readers_of_columns() -> None:
    world = World()
    world.start()
    world.mark(mark_at(1.15))
    world.seconds(62)
    table = world.engine.table()
    assert table.level.tolist() == [Level.UNKNOWN]
    assert np.isnan([table.health[0], table.equity[0], table.margin_ratio[0], table.available[0]]).all()


def test_levers_clear_the_limit_and_not_only_reach_it() -> None:
    world = World()
    world.start()
    [told] = world.mark(mark_at(1.4))
    send = next(lever for lever in told.levers if lever.what == "send")
    said = world.update(balances=(Balance("USDT", 1000 + send.amount, 1000 + send.amount, world.now_ms),))
    assert levels(said) == [("high", "warning")]
    world = World()
    world.start()
    [told] = world.mark(mark_at(1.9))
    assert told.levers, "a warning has one too"


# ------------------------------------------------------------------ occurrences


def test_the_venues_own_call_is_critical_at_once() -> None:
    world = World()
    world.start()
    [said] = world.feed(VenueCall(VENUE, "main", "margin_call", ("BTCUSDT",), "the venue calls", world.now_ms))
    assert (said.level, said.momentary, said.summary) == (Level.CRITICAL, True, "the venue calls")


def test_leverage_and_mode_changes_are_told() -> None:
    world = World()
    world.start()
    [said] = world.feed(LeverageChanged(VENUE, "main", "BTCUSDT", 50.0, world.now_ms))
    assert said.summary == "leverage of BTCUSDT is now 50x, was 20x"
    [said] = world.feed(ModeChanged(VENUE, "main", Mode.SINGLE_ASSET, world.now_ms))
    assert "single asset" in said.summary
    assert not world.pool().trusted, "nothing is trusted until the next picture"
    world.snapshot(mode=Mode.SINGLE_ASSET)
    assert world.pool("USDT").trusted
    assert world.pool("USDT").equity == pytest.approx(1000.0)
    assert world.pool("USD").equity == 0


def test_changed_brackets_are_told_with_old_and_new_health() -> None:
    world = World()
    world.start()
    tiers = (structs.replace(TIERS[0], rate=0.008), TIERS[1])
    said = world.feed(Brackets(VENUE, "main", (BracketTable("BTCUSDT", tiers),), world.now_ms))
    [changed] = [t for t in said if t.key.rule == "tier_change"]
    assert "0.4000% → 0.8000%" in changed.summary
    assert "health 12.5 → 6.25" in changed.summary
    again = world.feed(Brackets(VENUE, "main", (BracketTable("BTCUSDT", tiers),), world.now_ms))
    assert not again, "the same table again is no news"


def test_a_changed_haircut_is_told() -> None:
    world = World(wallets={"USDT": 1000.0, "BTC": 0.1})
    world.start()
    world.rate("BTC", 20_000.0, haircut=0.05)
    assert not [t for t in world.rate("BTC", 20_001.0, haircut=0.05, after_ms=1000) if t.key.rule == "tier_change"]
    [said] = [t for t in world.rate("BTC", 20_001.0, haircut=0.10, after_ms=1000) if t.key.rule == "tier_change"]
    assert "95.00% → 90.00%" in said.summary


def test_events_of_unknown_accounts_and_venues_are_nobodys() -> None:
    world = World()
    world.start()
    assert world.feed(StreamDown("elsewhere", "main", "user", "x")) == []
    assert world.feed(StreamDown(VENUE, "nobody", "user", "x")) == []


def test_the_same_events_give_the_same_words() -> None:
    def run() -> list[object]:
        world = World(wallets={"USDT": 1000.0, "BTC": 0.01})
        said: list[object] = [*world.start()]
        for health in (2.5, 1.4, 1.1, 3.0):
            said += world.mark(mark_at(health))
            said += world.seconds(3)
        return said

    assert run() == run()
