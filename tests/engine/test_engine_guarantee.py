"""Coin-margined futures through the engine: exact figures on random accounts, and what is said when."""

from __future__ import annotations

import math
from fractions import Fraction
from random import Random

import pytest
from coin_world import MINUTE_MS, START_MS, VENUE, CoinWorld, events_of, positions_of
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from oracle_htx import CoinAccount, coin_accounts, figures, liquidation_factor, single_coins

from monitor.engine import guarantee_changes as changes
from monitor.engine.engine import Engine
from monitor.engine.scheme import AccountSetup
from monitor.model.alerts import Level, Transition
from monitor.model.events import (
    CoinSnapshot,
    CoinUpdate,
    GuaranteeTables,
    Position,
    Price,
    PriceKind,
    Prices,
    Settlement,
    StreamUp,
    TimePassed,
)
from monitor.model.figures import PoolFigures, PoolKey
from monitor.model.instruments import CoinTerms, FactorTable, FactorTier, LadderTable, LadderTier
from monitor.rules import RuleBook

TOLERANCE = Fraction(1, 10**12)


def engine_of(accounts: list[CoinAccount]) -> Engine:
    engine = Engine([AccountSetup(VENUE, "main", RuleBook())])
    for account in accounts:
        for event in events_of(account):
            engine.step(event, START_MS)
    return engine


def pool_of(engine: Engine, coin: str) -> PoolFigures:
    got = engine.figures(PoolKey(VENUE, "main", coin))
    assert got is not None
    return got


def check(account: CoinAccount, got: PoolFigures) -> None:
    exact = figures(account)
    own = got.guarantee
    assert own is not None
    size = exact.gross

    def near(figure: float | None, wanted: Fraction) -> bool:
        return figure is not None and abs(Fraction(figure) - wanted) <= TOLERANCE * max(size, abs(wanted))

    assert near(got.equity, exact.equity)
    assert near(own.unrealized_pnl, exact.unrealized)
    assert near(own.used_margin, exact.position_margin)
    assert near(own.locked_same, exact.same)
    assert near(own.locked_cross, exact.cross)
    assert own.net_position == exact.net
    assert near(own.adjustment_factor, exact.factor)
    assert near(got.requirement, exact.requirement)
    if account.leverage >= 20 and not account.ladder:
        assert got.available is None, "limited by a ladder that is not known"
        assert any(reason.startswith("available: no margin ladder") for reason in got.unknown)
    else:
        assert near(got.available, exact.available)
    assert near(got.withdrawable, exact.transferable)
    if exact.ratio is None:
        assert got.guarantee_asset_ratio is None
        assert got.health is None
    else:
        assert near(got.guarantee_asset_ratio * float(exact.used), exact.ratio * exact.used)
        assert near(got.health * float(exact.requirement), exact.equity)
    x = liquidation_factor(account)
    if x is not None and own.price_factor_to_liquidation is not None and Fraction(1, 1000) < x < 1000:  # farther is rounding
        assert math.isclose(own.price_factor_to_liquidation, float(x), rel_tol=1e-9)
    assert got.reconcile_difference == 0 or got.reconcile_difference < 1e-9


@settings(max_examples=max(100, settings().max_examples))
@given(accounts=coin_accounts())
def test_engine_tells_what_exact_arithmetic_tells(accounts: list[CoinAccount]) -> None:
    engine = engine_of(accounts)
    for account in accounts:
        check(account, pool_of(engine, account.coin))


@given(account=single_coins(), seed=st.integers(0, 2**32), split=st.integers(1, 4))
def test_order_split_and_repetition_of_pushes_do_not_matter(account: CoinAccount, seed: int, split: int) -> None:
    """Partial pushes of the legs, in any order and twice, onto an empty account."""
    rng = Random(seed)
    straight = engine_of([account])
    *market, picture = events_of(account)
    mixed = Engine([AccountSetup(VENUE, "main", RuleBook())])
    positions = list(positions_of(account))
    pushes = [
        CoinUpdate(
            venue=VENUE, account="main", event_time_ms=START_MS, reason="order.match", positions=tuple(positions[i::split])
        )
        for i in range(split)
    ]
    balance = CoinUpdate(venue=VENUE, account="main", event_time_ms=START_MS, reason="order.match", balances=(picture.balance,))
    told = [*pushes, balance, *pushes[:2]]
    rng.shuffle(told)
    for event in [*market, *told, balance]:
        mixed.step(event, START_MS)
    one, two = pool_of(straight, account.coin), pool_of(mixed, account.coin)
    size = float(figures(account).gross)
    for name in ("equity", "requirement", "available"):
        ours, theirs = getattr(one, name), getattr(two, name)
        assert (ours is None and theirs is None) or math.isclose(ours, theirs, abs_tol=1e-12 * size), name


# ------------------------------------------------------------------ what is said


def levels(said: list[Transition], rule: str) -> list[tuple[str, str]]:
    return [(t.was.word, t.level.word) for t in said if t.key.rule == rule]


def price_at(health: float, contracts: float = 500.0) -> float:
    """1 BTC + n·100·(1/10000 − 1/P) = health × 0.2 × n·100/P/10, solved for P."""
    n = contracts * 100
    return (n + health * 0.2 * n / 10) / (1 + n / 10_000)


def test_both_senses_are_judged_and_the_same_ladder_holds() -> None:
    world = CoinWorld()
    world.start({"BTC231229": 500.0})
    said = []
    for health in (2.5, 1.99, 1.49, 1.19, 1.09, 0.99):
        said += world.last({"BTC231229": price_at(health)})
    assert [now for _, now in levels(said, "health")] == ["warning", "high", "critical", "emergency", "liquidation"]
    assert levels(said, "guarantee_asset_ratio") == [("ok", "liquidation")], "at or below 0 the venue liquidates"
    pool = world.pool()
    assert pool.health == pytest.approx(0.99)
    assert pool.guarantee_asset_ratio == pytest.approx(0.2 * 0.99 - 0.2)
    assert pool.margin_ratio == pytest.approx(1 / 0.99)
    levers = [t.levers for t in said if t.key.rule == "health"][-1]
    assert {lever.what for lever in levers} == {"send", "close"}


def test_a_partial_push_touches_only_the_legs_it_names() -> None:
    world = CoinWorld()
    world.start({"BTC231229": 500.0, "BTC240329": -200.0})
    world.push({"BTC231229": 400.0})
    assert {p.symbol: p.quantity for p in world.pool().positions} == {"BTC231229": 400.0, "BTC240329": -200.0}
    world.push({"BTC231229": 400.0})
    assert len(world.pool().positions) == 2, "a repeated row changes nothing"
    world.push({"BTC231229": 0.0})
    assert [p.symbol for p in world.pool().positions] == ["BTC240329"], "volume 0 is a closed leg"


def test_alerts_of_a_settling_coin_are_held_and_then_judged() -> None:
    world = CoinWorld()
    world.start({"BTC231229": 500.0})
    world.seconds(1, {"BTC231229": 10_000.0})
    world.settling(True)
    assert world.last({"BTC231229": price_at(1.15)}) == []
    said = world.settling(False)
    assert levels(said, "health") == [("ok", "critical")], "what is still so afterwards is told"


def test_row_32_the_end_of_a_settlement_is_each_accounts_own() -> None:
    engine = Engine([AccountSetup(VENUE, alias, RuleBook()) for alias in ("main", "second")])
    world = CoinWorld()
    world.engine = engine
    world.start({"BTC231229": 500.0})
    second = CoinSnapshot(
        venue=VENUE, account="second", as_of_ms=world.now_ms, balance=world.balance(), positions=(), implied_prices={}
    )
    legs = (Position("BTC231229", "LONG", 500.0, 10_000.0, world.now_ms, margin_asset="BTC"),)
    world.feed(structs.replace(second, positions=legs))
    world.settling(True)
    assert world.last({"BTC231229": price_at(1.15)}) == []
    said = world.feed(Settlement(VENUE, "BTC", False, world.now_ms, account="main"))
    assert [(t.key.account, t.level.word) for t in said if t.key.rule == "health"] == [("main", "critical")]
    said = world.feed(Settlement(VENUE, "BTC", False, world.now_ms, account="second"))
    assert [(t.key.account, t.level.word) for t in said if t.key.rule == "health"] == [("second", "critical")]


def test_a_settlement_that_does_not_end_is_unknown_after_five_minutes() -> None:
    world = CoinWorld()
    price = {"BTC231229": price_at(1.15)}
    world.start({"BTC231229": 500.0})
    world.last(price)
    world.seconds(2, price)
    world.settling(True)
    said = world.seconds(299, price)
    assert levels(said, "health") == []
    said = world.seconds(3, price)
    assert levels(said, "health") == [("critical", "unknown")]
    assert world.pool().level == Level.UNKNOWN
    assert levels(world.settling(False), "health") == [("unknown", "critical")]


@pytest.mark.parametrize("pictures", [False, True], ids=["no-pictures", "pictures-go-on"])
def test_a_settlement_that_does_not_end_is_told_of_a_pool_that_was_ok(pictures: bool) -> None:
    """No alert of the pool is open that could become UNKNOWN: its data's age says it, or nobody would know."""
    world = CoinWorld()
    price = {"BTC231229": 10_000.0}
    world.start({"BTC231229": 500.0})
    world.feed(StreamUp(VENUE, "main", "user"))
    world.seconds(2, price)
    world.settling(True)

    def stale(seconds: int) -> list[Transition]:
        said = []
        for _ in range(seconds):
            said += world.seconds(1, price)
            if pictures:
                said += world.snapshot({"BTC231229": 500.0})
        return [t for t in said if t.key.pool == "BTC"]

    assert stale(299) == [], "held"
    told = stale(900)
    assert [(t.key.rule, t.was.word, t.level.word) for t in told] == [("stale", "ok", "critical")], "once"
    assert told[0].summary == (
        "an input of the pool is 300 s old, limit 60 s; the figures are UNKNOWN; the venue says that BTC settles, for 300 s now"
    )
    world.settling(False)
    world.snapshot({"BTC231229": 500.0})  # the coin is read again
    said = world.seconds(2, price)
    assert [(t.key.rule, t.level.word, t.summary) for t in said if t.key.pool == "BTC"] == [
        ("stale", "ok", "an input of the pool is fresh again")
    ]


def test_a_coin_that_is_first_told_of_while_it_settles_is_held_too() -> None:
    world = CoinWorld()
    world.settling(True)
    assert levels(world.start({"BTC231229": 5_000.0}), "health") == [], "health 1.0, but held"
    assert levels(world.settling(False), "health") == [("ok", "liquidation")]


def test_what_the_settlement_resets_is_no_incident() -> None:
    """At 08:00 UTC realised profit moves into the static balance, and what may be transferred falls to 0 for a while."""
    world = CoinWorld()
    world.start({"BTC231229": 500.0})
    world.snapshot({"BTC231229": 500.0}, static=1.0, profit_real=0.3)
    assert world.snapshot({"BTC231229": 500.0}, static=1.0, profit_real=0.0, venue_withdrawable=0.0) == []


def test_a_delivery_that_breaks_a_lock_is_told_at_60_and_15_minutes() -> None:
    """400 long and 400 short in two periods: 6 → 4 BTC-tenths; the leg that stays costs more than while it was locked."""
    world = CoinWorld()
    prices = {"BTC231201": 10_000.0, "BTC231229": 10_000.0}
    world.start({"BTC231201": 400.0, "BTC231229": -400.0}, delivery_in_min=61)
    assert levels(world.seconds(1, prices), "settlement") == []
    world.now_ms += 2 * MINUTE_MS
    [told] = [t for t in world.seconds(1, prices) if t.key.rule == "settlement"]
    assert told.level is Level.WARNING
    # each leg: 100 × 400 / 10000 / 10 = 0.4 BTC; locked together 0.8 − 0.2 = 0.6, alone 0.4
    assert "cost 0.2 BTC more" in told.summary
    assert "0.6 → 0.4 BTC" in told.summary
    world.now_ms += 45 * MINUTE_MS
    assert levels(world.seconds(1, prices), "settlement") == [("warning", "high")]


def test_a_delivery_without_a_lock_is_not_told() -> None:
    world = CoinWorld()
    prices = {"BTC231201": 10_000.0, "BTC231229": 10_000.0}
    world.start({"BTC231201": 400.0, "BTC231229": 400.0}, delivery_in_min=10)
    assert levels(world.seconds(2, prices), "settlement") == []


def test_contracts_of_two_deliveries_never_merge() -> None:
    world = CoinWorld()
    world.start({"BTC231201": 400.0})
    world.snapshot({"BTC231229": 100.0}, static=1.0)
    assert [p.symbol for p in world.pool().positions] == ["BTC231229"]
    assert world.pool().positions[0].price is None, "the old contract's price is not the new one's"


def test_changed_tables_are_told_with_old_and_new_health() -> None:
    world = CoinWorld()
    world.start({"BTC231229": 500.0})
    tables = GuaranteeTables(VENUE, world.now_ms, (world.factor_table(0.4),))
    [told] = [t for t in world.feed(tables) if t.key.rule == "tier_change"]
    assert told.summary == (
        "the venue changed the margin tables of BTC: adjustment factor at 10x: 0.2 from 0 contracts → 0.4 from 0 contracts, "
        "0.4 from 10000 contracts → 0.8 from 10000 contracts; health 10 → 5"
    )
    assert not world.feed(tables), "the same table again is no news"
    terms = GuaranteeTables(VENUE, world.now_ms, (), (), (CoinTerms("BTC", True, 0.5),))
    assert not world.feed(terms), "told for the first time"
    other = FactorTable("BTC", 20.0, (FactorTier(0, 0, math.inf, 0.3),))
    world.feed(GuaranteeTables(VENUE, world.now_ms, (other,)))
    tiers = (FactorTier(0, 0, math.inf, 0.4),)
    [told] = world.feed(GuaranteeTables(VENUE, world.now_ms, (structs.replace(other, tiers=tiers),)))
    assert told.summary == "the venue changed the margin tables of BTC: at 20x, not at 10x; health 5 → 5"
    [told] = world.feed(GuaranteeTables(VENUE, world.now_ms, (), (), (CoinTerms("BTC", True, 0.25),)))
    assert "share of realised profit that may leave before settlement: 0.5 → 0.25" in told.summary
    ladder = LadderTable("BTC", 10.0, (LadderTier(0, 20, 0, 20), LadderTier(20, math.inf, 20, math.inf)))
    assert changes.of_ladders(
        ladder, structs.replace(ladder, tiers=(LadderTier(0, 10, 0, 10), LadderTier(10, math.inf, 10, math.inf)))
    ).text == ("margin ladder at 10x: 20 usable from 20 → 10 usable from 10")


def test_a_larger_net_position_falls_into_the_next_tier() -> None:
    world = CoinWorld()
    world.start({"BTC231229": 9_999.0})
    assert world.pool().guarantee.adjustment_factor == 0.2
    world.now_ms += 1
    world.push({"BTC231229": 10_000.0})
    assert world.pool().guarantee.adjustment_factor == 0.4


def test_row_33_available_is_unknown_without_the_ladder_that_limits_it() -> None:
    world = CoinWorld()
    world.start({"BTC231229": 500.0})
    assert world.pool().available == pytest.approx(0.5)
    world.now_ms += 1
    world.feed(GuaranteeTables(VENUE, world.now_ms, (structs.replace(world.factor_table(0.2), leverage=20.0),)))
    world.snapshot({"BTC231229": 500.0}, leverage=20.0)
    assert world.pool().available is None
    assert "available: no margin ladder of BTC at 20x, which limits it" in world.pool().unknown
    assert world.pool().health is not None
    ladder = LadderTable("BTC", 20.0, (LadderTier(0, 0.5, 0, 0.5), LadderTier(0.5, math.inf, 0.5, math.inf)))
    world.feed(GuaranteeTables(VENUE, world.now_ms, (), (ladder,)))
    assert world.pool().available == pytest.approx(0.5 + 0.5 / 20 - 0.25)


def test_row_33_an_available_margin_that_no_ladder_of_ours_explains_doubts_the_tables() -> None:
    world = CoinWorld()
    world.start({"BTC231229": 500.0})
    own = {"venue_equity": 1.0, "venue_position_margin": 0.5, "venue_available": 0.5}
    for after_ms, available, doubted in ((1, 0.5, []), (2, 0.4, [(VENUE, "main")])):
        row = structs.replace(world.balance(**own), venue_available=available, version_ms=world.now_ms + after_ms)
        world.feed(CoinUpdate(venue=VENUE, account="main", event_time_ms=row.version_ms, reason="snapshot", balances=(row,)))
        assert world.engine.take_doubted_tables() == doubted
    assert world.pool().available is None
    assert any("does not follow from the margin ladder" in reason for reason in world.pool().unknown)


def test_row_33_an_old_mark_price_is_not_shown_as_one_of_now() -> None:
    world = CoinWorld()
    price = {"BTC231229": 10_000.0}
    world.start({"BTC231229": 500.0})
    world.feed(Prices(VENUE, PriceKind.MARK, [Price("BTC231229", 10_000.0, world.now_ms)]))
    world.seconds(58, price)
    own = world.pool().guarantee
    assert own.guarantee_asset_ratio_at_mark == pytest.approx(1.8)
    world.seconds(3, price)
    assert world.pool().guarantee.guarantee_asset_ratio_at_mark is None
    assert "guarantee_asset_ratio_at_mark: the mark price of BTC231229 is 61 s old" in world.pool().unknown
    assert world.pool().guarantee_asset_ratio == pytest.approx(1.8)


def test_a_difference_is_counted_once_for_each_answer_on_its_own_coin() -> None:
    """Three answers in a row are a warning: neither answers on another coin, nor one that is older than what we know, count."""
    world = CoinWorld()
    world.start({"BTC231229": 500.0})

    def answer(coin: str, venue_equity: float, after_ms: int = 1000) -> list[Transition]:
        world.now_ms += max(0, after_ms)
        row = structs.replace(
            world.balance(), coin=coin, venue_equity=venue_equity, venue_position_margin=0.5 if coin == "BTC" else 0.0
        )
        legs = (Position("BTC231229", "LONG", 500.0, 10_000.0, row.version_ms, margin_asset="BTC"),) if coin == "BTC" else ()
        as_of_ms = world.now_ms + min(0, after_ms)
        row = structs.replace(row, version_ms=as_of_ms)
        prices = {"BTC231229": 10_000.0}
        return world.feed(
            CoinSnapshot(venue=VENUE, account="main", as_of_ms=as_of_ms, balance=row, positions=legs, implied_prices=prices)
        )

    said = answer("BTC", 1.02)
    for coin, after_ms in (("ETH", 1000), ("ETH", 1000), ("BTC", -500), ("BTC", -500)):
        said += answer(coin, 1.0, after_ms)
    assert levels(said, "reconcile") == []
    assert levels(answer("BTC", 1.02) + answer("BTC", 1.02), "reconcile") == [("ok", "warning")]


def test_without_price_or_table_the_pool_is_unknown_with_its_reason() -> None:
    world = CoinWorld()
    world.snapshot({"BTC231229": 500.0})
    pool = world.pool()
    assert pool.equity is None
    assert pool.level == Level.UNKNOWN
    assert any("BTC231229" in reason for reason in pool.unknown)


def test_an_empty_account_is_trusted_once_its_stream_is_up_and_alerts_of_nothing() -> None:
    """Nothing is held, so nothing is subscribed to and no picture comes: that is no outage."""
    world = CoinWorld()
    world.feed(StreamUp(VENUE, "main", "user"))
    said = [transition for _ in range(200) for transition in world.feed(TimePassed(), after_ms=1000)]
    assert said == []
    assert world.engine.trusted() == {(VENUE, "main"): ""}


def test_leverage_changes_are_told() -> None:
    world = CoinWorld()
    world.start({"BTC231229": 500.0})
    told = world.feed(
        CoinUpdate(
            venue=VENUE,
            account="main",
            event_time_ms=world.now_ms,
            reason="switch_lever_rate",
            balances=(world.balance(leverage=20.0),),
        )
    )
    assert "leverage of BTC is now 20x, was 10x" in [t.summary for t in told]
