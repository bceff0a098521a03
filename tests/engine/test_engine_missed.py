"""What the stream owed: updates that were lost are told, those on their way are not; dropped rows are counted; doubted tables."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from coin_world import VENUE as HTX
from coin_world import CoinWorld
from engine_world import VENUE, World, figures_of
from msgspec import structs

from monitor.model.alerts import Level, Transition
from monitor.model.events import (
    AccountUpdate,
    AssetRate,
    AssetRates,
    Balance,
    CoinSnapshot,
    CoinUpdate,
    GuaranteeTables,
    ModeChanged,
    Position,
    Price,
    PriceKind,
    Prices,
    Settlement,
    StreamDown,
    StreamUp,
)
from monitor.rules import RuleBook


def live(rules: RuleBook | None = None, **wallets: float) -> World:
    """An account whose stream is up and whose picture was taken."""
    world = World(rules or RuleBook(), wallets=wallets or {"USDT": 1000.0})
    world.start()
    world.feed(StreamUp(VENUE, "main", "user"))
    world.seconds(1, keep_fresh=True)
    return world


def missed(said: list[Transition]) -> list[tuple[str, str]]:
    return [(t.key.pool, t.level.word) for t in said if t.key.subject == "missed update"]


def changed(world: World, *, after_ms: int = 100, **wallets: float) -> None:
    """REST shows other wallets, changed just now."""
    world.now_ms += after_ms
    world.wallets = wallets
    rows = tuple(Balance(asset, wallet, wallet, world.now_ms) for asset, wallet in wallets.items())
    world.snapshot(as_of_ms=world.now_ms, balances=rows)


def update(world: World, *rows: Balance, positions: tuple[Position, ...] = ()) -> None:
    event = AccountUpdate(
        venue=VENUE, account="main", event_time_ms=world.now_ms, reason="DEPOSIT", balances=rows, positions=positions
    )
    world.feed(event)


def down(world: World) -> None:
    world.feed(StreamDown(VENUE, "main", "user", "reset"))


@pytest.mark.parametrize(
    ("wallet", "level", "why"),
    [
        (995.0, None, "half a percent is below the rule's tolerance: counted, not told"),
        (985.0, "warning", "more than 1 %"),
        (900.0, "high", "more than 5 %"),
        (1100.0, "high", "either way: what is misread may as well hide a loss"),
    ],
)
def test_a_change_that_only_rest_shows_is_told_by_its_size(wallet: float, level: str | None, why: str) -> None:
    world = live()
    changed(world, USDT=wallet)
    assert world.pool().equity == wallet, "the figures are right at once"
    said = world.seconds(5, keep_fresh=True)
    assert missed(said) == ([("USD", level)] if level else []), why
    assert world.engine.event_counts().missed == {VENUE: 1}
    assert missed(world.seconds(60, keep_fresh=True)) == [], "once"


def test_the_message_names_the_row_and_both_figures() -> None:
    world = live()
    changed(world, USDT=900.0)
    [told] = [t for t in world.seconds(5, keep_fresh=True) if t.key.subject == "missed update"]
    assert told.momentary
    assert told.key.rule == "reconcile"
    assert "a change of USDT" in told.summary
    assert "equity 1,000 → 900" in told.summary


def test_a_lost_trade_is_told_though_it_moved_no_equity() -> None:
    world = live()
    world.now_ms += 100
    world.position = Position("BTCUSDT", "BOTH", 2.0, 20_000.0, world.now_ms, margin_asset="USDT")
    world.snapshot(as_of_ms=world.now_ms)
    said = world.seconds(5, keep_fresh=True)
    assert missed(said) == [("USD", "high")]
    [told] = [t for t in said if t.key.subject == "missed update"]
    assert "BTCUSDT BOTH" in told.summary
    assert "maintenance margin 80 → 160" in told.summary


def same_time(world: World) -> None:
    update(world, Balance("USDT", 900.0, 900.0, world.now_ms))


def other_time_same_value(world: World) -> None:
    """The venue's two clocks need not agree to the millisecond."""
    update(world, Balance("USDT", 900.0, 900.0, world.now_ms - 7))


def one_of_two_on_their_way(world: World) -> None:
    update(world, Balance("USDT", 950.0, 950.0, world.now_ms - 7))
    update(world, Balance("USDT", 900.0, 900.0, world.now_ms))


def a_later_one_only(world: World) -> None:
    update(world, Balance("USDT", 890.0, 890.0, world.now_ms + 50))


def of_another_row(world: World) -> None:
    update(world, Balance("USDC", 5.0, 5.0, world.now_ms))


def stream_breaks(world: World) -> None:
    world.feed(StreamDown(VENUE, "main", "user", "reset"))


@pytest.mark.parametrize(
    ("then", "told", "why"),
    [
        (same_time, False, "the event of that change was on its way"),
        (other_time_same_value, False, "the same, by its value"),
        (one_of_two_on_their_way, False, "two were, the picture held the second"),
        (a_later_one_only, True, "another change came; that one did not"),
        (of_another_row, True, "it says nothing of the wallet"),
        (stream_breaks, False, "within the patience: what it owed is part of the gap, which is told as one"),
    ],
)
def test_an_event_that_is_on_its_way_is_none_that_was_lost(then: Callable[[World], None], told: bool, why: str) -> None:
    world = live()
    changed(world, USDT=900.0)
    world.now_ms += 1000
    then(world)
    assert bool(missed(world.seconds(5, keep_fresh=True))) is told, why


def test_a_stream_that_is_closed_for_its_deafness_is_told_of() -> None:
    """The adapter looks again after its own patience and closes the stream: that must not forget what was lost."""
    world = live()
    changed(world, USDT=900.0)
    world.now_ms += 4000
    assert missed(world.feed(StreamDown(VENUE, "main", "user", "deaf"))) == [("USD", "high")]


def never_up(world: World) -> None:
    world.engine._schemes[VENUE].trust.rows.carried[:] = False


def mode(world: World) -> None:
    world.feed(ModeChanged(VENUE, "main", world.mode, world.now_ms))


@pytest.mark.parametrize(
    ("before", "why"),
    [
        (down, "after a gap the picture shows what happened in it"),
        (never_up, "the stream is not open yet"),
        (mode, "the account's pooling changed, everything is read anew"),
    ],
)
def test_what_the_stream_did_not_owe_is_not_missed(before: Callable[[World], None], why: str) -> None:
    world = live()
    before(world)
    changed(world, USDT=900.0)
    assert missed(world.seconds(5, keep_fresh=True)) == [], why
    assert world.engine.event_counts().missed == {VENUE: 0}


def test_the_first_picture_after_a_gap_is_no_loss_but_the_second_may_show_one() -> None:
    world = live()
    world.feed(StreamDown(VENUE, "main", "user", "reset"))
    changed(world, USDT=900.0)
    world.feed(StreamUp(VENUE, "main", "user"))
    changed(world, USDT=800.0)
    assert missed(world.seconds(5, keep_fresh=True)) == [("USD", "high")]


def test_switched_off_it_is_counted_all_the_same() -> None:
    world = live(RuleBook.model_validate({"reconcile": {"enabled": False}}))
    changed(world, USDT=900.0)
    assert missed(world.seconds(5, keep_fresh=True)) == []
    assert world.engine.event_counts().missed == {VENUE: 1}


def test_patience_is_the_rules() -> None:
    world = live(RuleBook.model_validate({"reconcile": {"unheard_s": 20.0}}))
    changed(world, USDT=900.0)
    assert missed(world.seconds(19, keep_fresh=True)) == []
    assert missed(world.seconds(1, keep_fresh=True)) == [("USD", "high")]


# ------------------------------------------------------------------ coins


def coin() -> CoinWorld:
    world = CoinWorld()
    world.start({"BTC260327": 500.0})
    world.feed(StreamUp(HTX, "main", "user"))
    world.seconds(1, {"BTC260327": 10_000.0})
    return world


def coin_picture(world: CoinWorld, legs: dict[str, float]) -> CoinSnapshot:
    positions = tuple(Position(code, "LONG", n, 10_000.0, world.now_ms, margin_asset="BTC") for code, n in legs.items())
    return CoinSnapshot(
        venue=HTX, account="main", as_of_ms=world.now_ms, balance=world.balance(), positions=positions, implied_prices={}
    )


def test_a_coins_lost_push_is_told_and_its_next_one_in_time_is_not_lost() -> None:
    world = coin()
    world.now_ms += 100
    world.snapshot({"BTC260327": 500.0}, static=0.9)
    assert missed(world.seconds(5, {"BTC260327": 10_000.0})) == [("BTC", "high")]
    world.now_ms += 100
    world.snapshot({"BTC260327": 500.0}, static=0.8)
    pushed = CoinUpdate(
        venue=HTX, account="main", event_time_ms=world.now_ms + 1, reason="contract.transfer", balances=(world.balance(0.8),)
    )
    world.feed(pushed)
    assert missed(world.seconds(5, {"BTC260327": 10_000.0})) == []


def test_a_settlement_is_nothing_that_was_missed() -> None:
    world = coin()
    world.feed(Settlement(HTX, "BTC", True, world.now_ms))
    world.snapshot({"BTC260327": 500.0}, static=0.9)
    world.feed(Settlement(HTX, "BTC", False, world.now_ms))
    assert missed(world.seconds(5, {"BTC260327": 10_000.0})) == []


def test_each_coin_has_its_own_first_picture() -> None:
    """The second coin's first picture came after the account was trusted: it shows no change."""
    world = coin()
    other = CoinWorld(now_ms=world.now_ms)
    balance = structs.replace(other.balance(5.0), coin="ETH")
    world.feed(structs.replace(coin_picture(world, {"BTC260327": 500.0}), balance=balance, positions=()))
    assert missed(world.seconds(5, {"BTC260327": 10_000.0})) == []
    assert world.engine.event_counts().missed == {HTX: 0}


# ------------------------------------------------------------------ dropped rows


def test_rows_that_are_not_taken_are_counted_by_reason() -> None:
    world = live()
    t = world.now_ms
    world.feed(Prices(VENUE, PriceKind.MARK, [Price("BTCUSDT", 1.0, t - 5000), Price("NEVERUSDT", 1.0, t + 1)]))
    rows = [AssetRate("USDT", 0.5, 0.5, 0.5, t - 5000), AssetRate("NEVER", 0.5, 0.5, 0.5, t + 1)]
    world.feed(AssetRates(VENUE, rows))
    update(world, Balance("USDT", 5.0, 5.0, 1), positions=(Position("BTCUSDT", "BOTH", 0.0, 0.0, 1),))
    assert world.engine.event_counts().dropped == {
        (VENUE, "older_price"): 1,
        (VENUE, "older_rate"): 1,
        (VENUE, "older_account_row"): 2,
        (VENUE, "unknown_symbol"): 1,
        (VENUE, "unknown_asset"): 1,
    }
    assert world.pool().equity == 1000.0, "none of them moved a figure"


def test_what_is_repeated_is_not_dropped() -> None:
    world = live()
    price = Prices(VENUE, PriceKind.MARK, [Price("BTCUSDT", 20_000.0, world.now_ms)])
    row = Balance("USDT", 990.0, 990.0, world.now_ms)
    for _ in range(3):
        world.feed(price)
        update(world, row)
    world.snapshot(as_of_ms=world.now_ms, balances=(Balance("USDT", 990.0, 990.0, world.now_ms - 3),))
    assert set(world.engine.event_counts().dropped.values()) == {0}, "an older row that says the same is none that was lost"


def test_a_coins_older_push_is_counted() -> None:
    world = coin()
    old = structs.replace(world.balance(0.1), version_ms=1)
    world.feed(CoinUpdate(venue=HTX, account="main", event_time_ms=1, reason="snapshot", balances=(old,)))
    assert world.engine.event_counts().dropped[HTX, "older_account_row"] == 1
    assert world.pool().equity == 1.0


# ------------------------------------------------------------------ doubted tables


def test_a_mismatch_of_the_requirement_doubts_the_tables_once_until_it_is_mended() -> None:
    world = live()
    marks = {"BTCUSDT": 20_000.0}
    seen = []
    for maintenance in (80.0, 80.004, 100.0, 100.0, 100.0, 80.0, 100.0):
        world.snapshot(figures=figures_of(1000.0, maintenance), implied_prices=marks)
        seen.append(world.engine.take_doubted_tables())
    doubt = [(VENUE, "main")]
    assert seen == [[], [], doubt, [], [], [], doubt], "5e-5 is rounding; a mismatch is doubted once; a new one anew"


def test_a_mismatch_of_the_equity_alone_says_nothing_of_tables() -> None:
    world = live()
    world.snapshot(figures=figures_of(900.0, 80.0), implied_prices={"BTCUSDT": 20_000.0})
    assert world.engine.take_doubted_tables() == []


def test_a_factor_that_is_not_the_tables_doubts_the_tables() -> None:
    world = coin()
    told = structs.replace(world.balance(), adjust_factor=0.2, venue_equity=1.0, venue_position_margin=0.5)
    picture = structs.replace(coin_picture(world, {"BTC260327": 500.0}), balance=told)
    world.feed(picture)
    assert world.engine.take_doubted_tables() == []
    for later_ms, doubted in ((1, [(HTX, "main")]), (2, [])):
        row = structs.replace(told, adjust_factor=0.25, version_ms=world.now_ms + later_ms)
        world.feed(structs.replace(picture, as_of_ms=row.version_ms, balance=row))
        assert world.engine.take_doubted_tables() == doubted
    said = world.feed(GuaranteeTables(HTX, world.now_ms, (world.factor_table(0.25),)))
    assert [t.level for t in said if t.key.rule == "tier_change"] == [Level.WARNING]
