"""What the nearest programs get wrong, put to the whole engine: events in, figures out. One test for each defect, by its number.

The formulas behind them have rows of their own in tests/margin; here it is the product's figure that must not have the defect.
"""

from __future__ import annotations

import numpy as np
import pytest
from coin_world import VENUE as HTX
from coin_world import CoinWorld
from engine_world import START_MS, VENUE, World, figures_of
from msgspec import structs

from monitor.model.alerts import Level
from monitor.model.events import (
    AssetRate,
    AssetRates,
    Balance,
    Brackets,
    Instruments,
    LeverageChanged,
    Mode,
    Position,
    Price,
    PriceKind,
    Prices,
)
from monitor.model.figures import PoolFigures
from monitor.model.instruments import Bracket, BracketTable, Instrument

# Continuous: 510,000 × (1 % − 0.5 %) = 2,550, the deduction of ccxt's example.
CCXT = (Bracket(1, 0, 510_000, 0.005, 0, 100), Bracket(2, 510_000, 1e9, 0.01, 2_550, 50))
BTC_2022 = (
    Bracket(1, 0, 50_000, 0.004, 0, 125),
    Bracket(2, 50_000, 250_000, 0.005, 50, 100),
    Bracket(3, 250_000, 1_000_000, 0.01, 1_300, 50),
    Bracket(4, 1_000_000, 1e9, 0.025, 16_300, 20),
)
PERCENT = (Bracket(1, 0, 1e9, 0.01, 0, 100),)


def single(wallet: float, legs: dict[str, tuple[float, float]], tables: dict[str, tuple[Bracket, ...]]) -> World:
    """A single-asset account in USDT. legs: quantity and entry by symbol; all at their entry at first."""
    first, *others = (
        Position(symbol, "BOTH", quantity, entry, START_MS, margin_asset="USDT") for symbol, (quantity, entry) in legs.items()
    )
    world = World(mode=Mode.SINGLE_ASSET, wallets={"USDT": wallet}, position=first)
    world.feed(Instruments(VENUE, tuple(Instrument(symbol, "USDT") for symbol in legs)))
    world.feed(Brackets(VENUE, "main", tuple(BracketTable(symbol, table) for symbol, table in tables.items()), START_MS))
    for symbol, (_, entry) in legs.items():
        world.mark(entry, symbol)
    world.snapshot(positions=(first, *others), leverages=dict.fromkeys(legs, 10.0))
    return world


def pool(world: World) -> PoolFigures:
    return world.pool("USDT")


def test_d01_the_deduction_of_the_tier_counts() -> None:
    """D1: ccxt says 10,000 for 1,000,000 of notional; the venue says 7,450. At every border both tiers say the same."""
    world = single(100_000, {"BTCUSDT": (10.0, 100_000)}, {"BTCUSDT": CCXT})
    assert pool(world).requirement == pytest.approx(7_450, rel=1e-14)
    world = single(1e7, {"BTCUSDT": (1.0, 50_000)}, {"BTCUSDT": BTC_2022})
    for border in (50_000.0, 250_000.0, 1_000_000.0):
        around = []
        for mark in (border * (1 - 1e-9), border, border * (1 + 1e-9)):
            world.mark(mark)
            around.append(pool(world).requirement)
        assert around == pytest.approx([around[1]] * 3, rel=1e-7), f"continuous at {border:,.0f}"


def test_d02_a_safe_account_has_a_small_ratio_and_no_liquidation_price() -> None:
    """D2: ccxt derives the collateral from the liquidation price; where the venue answers 0 it has no ratio, or 0."""
    world = single(100_000, {"BTCUSDT": (1.0, 20_000)}, {"BTCUSDT": PERCENT})
    safe = pool(world)
    assert safe.positions[0].liquidation_price is None
    assert any(reason.startswith("liquidation_price: none") for reason in safe.unknown)
    assert safe.margin_ratio == pytest.approx(200 / 100_000)
    assert safe.health == pytest.approx(500)


def test_d03_the_ratio_is_the_coins_and_not_one_positions() -> None:
    """D3: ccxt divides each position's margin by the whole balance, so that two positions look half as risky each."""
    one, two = CoinWorld(), CoinWorld()
    one.start({"BTC260327": 500.0})
    two.start({"BTC260327": 500.0, "BTC260626": 500.0})
    assert two.pool().requirement == pytest.approx(2 * one.pool().requirement)
    assert two.pool().health == pytest.approx(one.pool().health / 2)
    figures = two.pool()
    assert figures.guarantee_asset_ratio == pytest.approx(1 / 1.0 - 0.2), "falls towards trouble, 0 liquidates"
    assert figures.margin_ratio == pytest.approx(0.2 * 1.0 / 1), "rises towards trouble, 1 liquidates"


def test_d03_margin_goes_by_the_last_price_and_the_mark_is_shown_beside_it() -> None:
    """D3: the venue sizes margin by the last price, and liquidates only where the mark agrees."""
    world = CoinWorld()
    world.start({"BTC260327": 500.0})
    world.feed(Prices(HTX, PriceKind.MARK, [Price("BTC260327", 20_000.0, world.now_ms)]))
    figures = world.pool()
    assert figures.positions[0].price == 10_000.0
    assert figures.equity == pytest.approx(1.0), "the mark moves nothing that is judged"
    assert figures.guarantee is not None
    at_mark = (1 + 50_000 * (1 / 10_000 - 1 / 20_000)) / (50_000 / 20_000 / 10) - 0.2
    assert figures.guarantee.guarantee_asset_ratio_at_mark == pytest.approx(at_mark)


def test_d04_a_push_without_marks_or_margins_blanks_nothing() -> None:
    """D4: ccxt.pro replaces a position by a push that has no mark, margin or liquidation price."""
    world = World()
    world.start()
    world.update(
        balances=(Balance("USDT", 990.0, 990.0, world.now_ms),),
        positions=(Position("BTCUSDT", "BOTH", 2.0, 20_000.0, world.now_ms),),
    )
    [position] = world.pool().positions
    assert (position.price, position.leverage, position.margin_asset, position.bracket) == (20_000.0, 20.0, "USDT", 1)
    assert position.maintenance_margin == 160.0
    assert position.liquidation_price is not None


def crossing(world: World, symbol: str, low: float, high: float) -> float:
    """The mark at which health is 1, by halving the interval: nothing but the engine's own equity and requirement."""

    def surplus(mark: float) -> float:
        world.mark(mark, symbol)
        figures = pool(world)
        assert figures.equity is not None
        assert figures.requirement is not None
        return figures.equity - figures.requirement

    falls = surplus(low) > surplus(high)
    for _ in range(200):
        middle = (low + high) / 2
        if (surplus(middle) > 0) is falls:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def test_d05_longs_and_shorts_of_one_book_against_brute_force() -> None:
    """D5: freqtrade's dry run leaves out the side, so that a short in profit counts as a loss: +10 became −10."""
    legs = {"BTCUSDT": (1.0, 100.0), "ETHUSDT": (-1.0, 100.0), "SOLUSDT": (40.0, 2.0)}
    world = single(5.0, legs, dict.fromkeys(legs, PERCENT))
    world.mark(90.0, "ETHUSDT")
    figures = pool(world)
    pnl = {position.symbol: position.unrealized_pnl for position in figures.positions}
    assert pnl == pytest.approx({"BTCUSDT": 0.0, "ETHUSDT": 10.0, "SOLUSDT": 0.0})
    assert figures.equity == pytest.approx(15.0)
    said = {position.symbol: position.liquidation_price for position in figures.positions}
    now = {"BTCUSDT": 100.0, "ETHUSDT": 90.0, "SOLUSDT": 2.0}
    for symbol, price in said.items():
        found = crossing(world, symbol, now[symbol] / 2, now[symbol] * 2)
        assert found == pytest.approx(price, rel=1e-12), symbol
        world.mark(now[symbol], symbol)


def test_d06_the_tier_goes_by_the_notional_at_the_mark() -> None:
    """D6: freqtrade looks the tier up with the collateral: 4,950 instead of 8,700 for 999,999 at 10x."""
    world = single(99_999.9, {"BTCUSDT": (1.0, 999_999)}, {"BTCUSDT": BTC_2022})
    figures = pool(world)
    assert figures.requirement == pytest.approx(8_699.99, rel=1e-12)
    assert figures.positions[0].bracket == 3
    world.mark(1_500_000.0)
    assert pool(world).positions[0].bracket == 4, "by the mark of now, not by the entry"


def test_d08_the_parts_are_the_venues_total_and_nothing_counts_twice() -> None:
    """D8: passivbot adds the unrealised PnL to a figure that holds it already."""
    world = World(wallets={"USDT": 1000.0, "BTC": 0.1})
    world.start(20_500.0)
    world.rate("BTC", 20_000.0, haircut=0.05)
    world.snapshot(figures=figures_of(1000 + 500 + 0.1 * 19_000, 82.0), implied_prices={"BTCUSDT": 20_500.0})
    figures = world.pool()
    values = [min((asset.equity or 0) * (asset.bid or 0), (asset.equity or 0) * (asset.ask or 0)) for asset in figures.assets]
    assert sum(values) == pytest.approx(figures.equity)
    wallets = {asset.asset: asset.wallet for asset in figures.assets}
    pnl = sum(position.unrealized_pnl or 0 for position in figures.positions)
    assert {asset.asset: asset.equity for asset in figures.assets} == pytest.approx(
        {"USDT": wallets["USDT"] + pnl, "BTC": wallets["BTC"]}
    )
    assert sum(position.maintenance_margin or 0 for position in figures.positions) == pytest.approx(figures.requirement)
    assert figures.reconcile_difference == 0, "and both are the venue's own totals"


def test_d09_other_positions_maintenance_counts_in_the_liquidation_price() -> None:
    """D9: TorchTrade says 95.40 where 99.40 is true: 4.6 % of room shown, 0.6 % left."""
    flat_rate = (Bracket(1, 0, 1e9, 0.004, 0, 100),)
    other = (Bracket(1, 0, 1e9, 0.04, 0, 100),)
    world = single(5.0, {"BTCUSDT": (1.0, 100.0), "ETHUSDT": (100.0, 1.0)}, {"BTCUSDT": flat_rate, "ETHUSDT": other})
    price = next(p.liquidation_price for p in pool(world).positions if p.symbol == "BTCUSDT")
    assert price == pytest.approx(99.40, abs=0.005)
    world.mark(price)  # type: ignore[arg-type]
    assert pool(world).health == pytest.approx(1.0, rel=1e-12)


def test_d14_an_account_without_positions_has_no_number_instead_of_a_large_one() -> None:
    """D14: FuturesMarginMonitor says 999, and computes its ratio with the initial margin."""
    world = World(position=Position("BTCUSDT", "BOTH", 0.0, 0.0, START_MS))
    world.start()
    figures = world.pool()
    assert (figures.health, figures.margin_ratio, figures.level) == (None, 0.0, Level.OK)
    assert np.isnan(world.engine.table().health).all(), "no series, no sentinel"
    world = World()
    world.start()
    assert world.pool().margin_ratio == pytest.approx(80 / 1000), "maintenance, not the initial margin of 1,000"


def test_d16_a_stressed_price_has_its_own_tier_and_either_side_its_own_price() -> None:
    """D16: the okx monitor keeps the maintenance of now under stress, and searches to one side only."""
    world = single(300_000.0, {"BTCUSDT": (10.0, 60_000)}, {"BTCUSDT": BTC_2022})
    before = pool(world)
    world.mark(120_000.0)
    assert pool(world).requirement == pytest.approx(1_200_000 * 0.025 - 16_300)
    assert pool(world).requirement != pytest.approx(2 * (before.requirement or 0))
    long = before.positions[0].liquidation_price
    short = pool(single(300_000.0, {"BTCUSDT": (-10.0, 60_000)}, {"BTCUSDT": BTC_2022})).positions[0].liquidation_price
    assert long == pytest.approx((600_000 - 300_000 - 1_300) / (10 * (1 - 0.01))), "below, by the tier at that price"
    assert short == pytest.approx((600_000 + 300_000 + 1_300) / (10 * (1 + 0.01))), "above"


def test_d17_a_symbol_that_is_not_known_is_unknown_and_not_bitcoin() -> None:
    """D17: liquidation-risk-engine has fixed tables, and uses Bitcoin's for what it does not know."""
    world = World()
    world.start()
    world.update(positions=(Position("NEWUSDT", "BOTH", 5.0, 1.0, world.now_ms, margin_asset="USDT"),))
    world.mark(1.0, "NEWUSDT")
    world.feed(Instruments(VENUE, (Instrument("NEWUSDT", "USDT"),)))
    world.mark(1.0, "NEWUSDT")
    figures = world.pool()
    assert (figures.requirement, figures.health, figures.level) == (None, None, Level.UNKNOWN)
    assert any("no brackets of NEWUSDT" in reason for reason in figures.unknown)


def test_d17_a_table_that_is_not_sound_is_used_and_said_once() -> None:
    """D17: a row of its table does not meet the next; nobody is told."""
    world = World()
    world.start()
    jump = (CCXT[0], structs.replace(CCXT[1], deduction=0.0))
    said = world.feed(Brackets(VENUE, "main", (BracketTable("BTCUSDT", jump),), world.now_ms))
    said += world.snapshot()
    texts = [t.summary for t in said if t.key.rule == "tier_change" and "not sound" in t.summary]
    assert len(texts) == 1
    assert "BTCUSDT: maintenance margin jumps by 2550 at bracket 2" in texts[0]
    assert world.pool().requirement == pytest.approx(100), "there is no other table"
    assert not [t for t in world.snapshot() if "not sound" in t.summary], "once"
    sound = World()
    assert not [t for t in sound.start() + sound.snapshot() if "not sound" in t.summary]


def test_d19_a_stablecoin_counts_at_its_rate_and_both_position_modes_count() -> None:
    """D19: exchanges_dashboard leaves one-way positions out, and takes every stablecoin for a dollar."""
    world = World(wallets={"USDT": 1000.0})
    world.start()
    world.feed(AssetRates(VENUE, [AssetRate("USDT", 0.97, 0.97 * 0.99, 0.97 * 1.01, world.now_ms + 1)]))
    assert world.pool().equity == pytest.approx(1000 * 0.97 * 0.99)
    for side, quantity in (("BOTH", 1.0), ("LONG", 1.0), ("SHORT", -1.0)):
        one = World(position=Position("BTCUSDT", side, quantity, 20_000.0, START_MS, margin_asset="USDT"))
        one.start()
        assert one.pool().requirement == pytest.approx(80), side


def test_d20_maintenance_margin_is_not_initial_margin() -> None:
    """D20: LEAN takes the one for the other; leverage moves the initial margin only."""
    world = World()
    world.start()
    before = world.pool()
    assert (before.initial_margin, before.requirement) == (1000.0, 80.0)
    world.feed(LeverageChanged(VENUE, "main", "BTCUSDT", 5.0, world.now_ms))
    after = world.pool()
    assert (after.initial_margin, after.requirement) == (4000.0, 80.0)
    assert after.health == before.health
