"""The venue's own published and recorded figures, by the float formulas and by the oracle alike."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import ROUND_DOWN, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import Book, Leg, Tier, liquidation_price, pool_figures
from pool_arrays import arrays_of

from monitor.margin.joint import asset_value, available
from monitor.model.events import Mode


def load(shared: Path, name: str) -> Any:
    return json.loads((shared / "data" / "binance" / name).read_text())


def tiers_of(brackets: list[dict[str, Any]]) -> tuple[Tier, ...]:
    return tuple(
        Tier(str(b["notionalFloor"]), str(b["notionalCap"]), str(b["maintMarginRatio"]), str(b["cum"])) for b in brackets
    )


def book_of(
    legs: list[Leg], marks: dict[str, str], brackets: dict[str, tuple[Tier, ...]], wallet: str = "0", leverage: str = "1"
) -> Book:
    """A single-asset account in USDT."""
    return Book(
        Mode.SINGLE_ASSET,
        hedge=False,
        wallets={"USDT": wallet},
        rates={},
        legs=tuple(legs),
        marks=marks,
        margin_assets=dict.fromkeys(marks, "USDT"),
        brackets=brackets,
        leverages=dict.fromkeys(marks, leverage),
    )


def test_totals_of_a_real_single_asset_account(shared: Path) -> None:
    data = load(shared, "account_single_asset_2022.json")
    account = data["account"]
    position = account["positions"][0]
    mark = Fraction(position["positionInitialMargin"]) * int(position["leverage"]) / Fraction(position["positionAmt"])
    book = book_of(
        [Leg("BTCUSDT", "BOTH", position["positionAmt"], position["entryPrice"])],
        {"BTCUSDT": str(mark)},
        {"BTCUSDT": tiers_of(data["brackets_in_force"])},
        wallet=account["totalCrossWalletBalance"],
        leverage=position["leverage"],
    )
    exact = pool_figures(book, "USDT")
    # Floats take the implied mark as a price with 17 digits; the oracle takes it whole.
    arrays = arrays_of(replace(book, marks={"BTCUSDT": repr(float(mark))}), "USDT")
    got = arrays.figures()
    for field, ours, theirs in (
        ("totalMaintMargin", got.requirement, exact.maintenance),
        ("totalInitialMargin", got.initial_total, exact.initial),
        ("totalMarginBalance", got.equity, exact.equity),
        ("totalUnrealizedProfit", got.pnl[0], exact.legs[0].pnl),
        ("availableBalance", got.available, exact.available),
    ):
        # The mark is implied by a figure cut to 8 places, so PnL and all that follows is known to 1e-8 × leverage.
        assert ours == pytest.approx(float(account[field]), rel=0, abs=3e-8), field
        assert theirs is not None
        assert float(theirs) == pytest.approx(float(account[field]), rel=0, abs=3e-8), field
    assert got.margin_ratio == pytest.approx(0.0010531865, rel=1e-7), "D2: the ratio exists though no liquidation price does"
    assert got.health == pytest.approx(1 / 0.0010531865, rel=1e-7)
    assert np.isnan(arrays.prices()).all(), "the formula is negative and the venue answers 0: there is no liquidation price"
    assert liquidation_price(book, "USDT", "BTCUSDT") is None
    risk = data["positionRisk"][0]
    cut = (Decimal(risk["positionAmt"]) * Decimal(risk["markPrice"])).quantize(Decimal("1e-8"), ROUND_DOWN)
    assert str(cut) == risk["notional"], "the venue cuts to 8 places: why 2e-8 is the tolerance"


@pytest.mark.parametrize("row", [0, 1, 2])
def test_liquidation_prices_that_the_venue_gave_of_isolated_positions(shared: Path, row: int) -> None:
    brackets = {table["symbol"]: tiers_of(table["brackets"]) for table in load(shared, "leverage_brackets.json")}
    recorded = load(shared, "liquidation_prices.json")["isolated_one_way"][row]
    symbol = recorded["symbol"]
    leg = Leg(symbol, "BOTH", recorded["positionAmt"], recorded["entryPrice"], True, recorded["isolatedWallet"])
    book = book_of([leg], {symbol: recorded["markPrice"]}, {symbol: brackets[symbol]}, leverage=recorded["leverage"])
    venue = float(recorded["liquidationPrice"])
    arrays = arrays_of(book, symbol)
    assert arrays.prices()[0] == pytest.approx(venue, rel=0, abs=2e-8)
    exact = liquidation_price(book, symbol, symbol)
    assert exact is not None
    assert float(exact) == pytest.approx(venue, rel=0, abs=2e-8)
    slack = 2e-8 + 1e-8 * float(recorded["positionAmt"])  # the mark is printed with 8 places
    assert arrays.figures().pnl[0] == pytest.approx(float(recorded["unRealizedProfit"]), rel=0, abs=slack)
    assert arrays.figures().equity == pytest.approx(float(recorded["isolatedMargin"]), rel=0, abs=slack)


def test_the_cross_example_of_the_help_page(shared: Path) -> None:
    example = load(shared, "liquidation_prices.json")["cross_one_way_help_page"]
    # The page names one rate and deduction per position: a table of that one tier.
    book = book_of(
        [Leg(p["symbol"], "BOTH", p["qty"], p["entryPrice"]) for p in example["positions"]],
        {p["symbol"]: p["markPrice"] for p in example["positions"]},
        {p["symbol"]: (Tier("0", "1e12", p["maintMarginRate"], p["cum"]),) for p in example["positions"]},
        wallet=example["walletBalance"],
    )
    arrays = arrays_of(book, "USDT")
    at = arrays.symbols.index("BTCUSDT")
    assert arrays.prices()[at] == pytest.approx(26_316.89, abs=0.005)
    exact = liquidation_price(book, "USDT", "BTCUSDT")
    assert exact is not None
    assert float(exact) == pytest.approx(26_316.89, abs=0.005)


def test_the_help_page_of_multi_assets_mode_without_positions(shared: Path) -> None:
    page = load(shared, "multi_assets_help_page_state1.json")
    assets = list(page["assets"])
    wallet = np.array([float(page["assets"][asset]["walletBalance"]) for asset in assets])
    bid = np.array([float(page["rates"][f"{asset}USD"]["bidRate"]) for asset in assets])
    ask = np.array([float(page["rates"][f"{asset}USD"]["askRate"]) for asset in assets])
    equity = asset_value(wallet, bid, ask).sum()
    expected = page["expected"]["multi_assets"]
    assert equity == pytest.approx(float(expected["accountEquity"]), rel=1e-15)
    free = available(equity, np.zeros(()))
    assert free == pytest.approx(float(expected["uniAvailableForOrder"]), rel=1e-15)
    for asset, rate in zip(assets, ask, strict=True):
        assert f"{free / rate:.2f}" == expected[f"{asset}.availableForOrder"], "shared availability, at the asset's ask"


def test_the_tiers_of_2021_of_the_help_page() -> None:
    tiers = (
        Tier("0", "50000", "0.004", "0"),
        Tier("50000", "250000", "0.005", "50"),
        Tier("250000", "1000000", "0.01", "1300"),
    )
    for quantity, maintenance in (("264000", 264_000 * 0.01 - 1300), ("500000", 3700.0)):
        book = book_of([Leg("BTCUSDT", "BOTH", quantity, "1")], {"BTCUSDT": "1"}, {"BTCUSDT": tiers})
        assert arrays_of(book, "USDT").figures().requirement == maintenance
        assert pool_figures(book, "USDT").maintenance == Fraction(maintenance)
