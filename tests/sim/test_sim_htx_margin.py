"""The simulator's own arithmetic against the venue's published figures, worked examples and its own definitions."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.sim.htx import margin
from monitor.sim.htx.account import Leg, Purse
from monitor.sim.htx.dates import PERIODS_WITH_NEXT_QUARTER
from monitor.sim.htx.market import Coin, Contract
from monitor.sim.htx.settlement import settle
from monitor.sim.htx.tables import adjust_table, adjust_tiers, ladder_rows

D = Decimal
# Published profits come from reciprocals cut at 18 decimals; the last digits may differ.
TOLERANCE = D("1E-14")


def is_near(value: Decimal, published: Any) -> bool:
    return abs(value - D(published)) <= TOLERANCE * max(1, abs(D(published)))


def make_coin(face: Any, prices: dict[str, Any], factor: Any = "0.2", lever: int = 20, ratio: Any = 0) -> Coin:
    return Coin(
        symbol="C",
        face=D(face),
        price_tick=D("0.000001"),
        index=D(1),
        periods=PERIODS_WITH_NEXT_QUARTER,
        adjust={lever: adjust_tiers([(0, factor)])},
        ladders={},
        transfer_profit_ratio=D(ratio),
        delivery_fee_rate=D(0),
        settlement_s=1,
        contracts=[Contract(code, "C", "quarter", 0, "", D(0), D(0), *[D(price)] * 5) for code, price in prices.items()],
    )


def make_purse(lever: int, static: Any, realised: Any, legs: list[dict[str, Any]]) -> Purse:
    purse = Purse("C", lever, D(static) - D(realised), D(realised))
    for row in legs:
        cost_hold = D(row.get("cost_hold", row["last_price"]))
        leg = Leg(row["contract"], row["direction"], int(row["volume"]), D(row.get("cost_open", cost_hold)), cost_hold)
        purse.legs[(leg.contract, leg.direction)] = leg
    return purse


def cases(shared: Path, kind: str) -> list[dict[str, Any]]:
    """Numbers as text, so that no digit is lost."""
    text = (shared / "data/htx/margin_cases.json").read_text()
    found = [case for case in json.loads(text, parse_float=str, parse_int=str)["cases"] if case["kind"] == kind]
    assert found
    return found


def test_published_accounts(shared: Path) -> None:
    for case in cases(shared, "account"):
        given_, expected = case["input"], case["expect"]
        lever = int(given_["lever_rate"])
        prices = {row["contract"]: row["last_price"] for row in given_["positions"]}
        coin = make_coin(given_["face"], prices, given_["adjust_factor"], lever, given_["transfer_profit_ratio"])
        purse = make_purse(lever, given_["margin_static"], given_["profit_real"], given_["positions"])
        now = margin.figures(purse, coin)
        found = {
            "margin_balance": now.equity,
            "margin_position": now.position_margin,
            "margin_available": now.available,
            "profit_unreal": now.pnl,
            "risk_rate": now.guarantee_ratio,
            "withdraw_available": now.withdrawable,
            "liquidation_price": now.liquidation_price,
            "profit_rate": now.legs[0].pnl_rate,
        }
        for name, published in expected.items():
            value = found[name]
            assert (value is None) == (published is None), (case["id"], name)
            assert value is None or is_near(value, published), (case["id"], name, value, published)


def test_published_margins(shared: Path) -> None:
    for case in cases(shared, "position_margin"):
        legs = case["input"]["positions"]
        lever = int(case["input"]["lever_rate"])
        coin = make_coin(case["input"]["face"], {row["contract"]: row["last_price"] for row in legs}, lever=lever)
        now = margin.figures(make_purse(lever, 100, 0, legs), coin)
        expected = case["expect"]
        assert is_near(now.position_margin, expected["margin_position"]), case["id"]
        if "locked_same" in expected:
            assert is_near(now.locked_same, expected["locked_same"])
            assert is_near(now.locked_cross, expected["locked_cross"])


def test_published_net_position_cap_settlement_and_transfer(shared: Path) -> None:
    for case in cases(shared, "net_position"):
        legs = [Leg(r["contract"], r["direction"], int(r["volume"]), D(1), D(1)) for r in case["input"]["positions"]]
        assert margin.net_position(legs) == int(case["expect"]["net_position"])
    for case in cases(shared, "available_margin_cap"):
        names = ("min_margin_balance", "max_margin_balance", "min_margin_available", "max_margin_available")
        ladder = ladder_rows([[row[name] for name in names] for row in case["input"]["ladders"]])
        cap = margin.margin_cap(ladder, int(case["input"]["lever_rate"]), D(case["input"]["margin_balance"]))
        assert cap == D(case["expect"]["available_cap"])
    for case in cases(shared, "transferable"):
        i = case["input"]
        amounts = [D(i[n]) for n in ("equity_init", "profit_real", "profit_unreal", "used_margin", "transfer_profit_ratio")]
        assert is_near(margin.withdrawable(*amounts), case["expect"]["transferable"])
    for case in cases(shared, "settlement"):
        i, expected = case["input"], case["expect"]
        (row,) = i["positions"]
        coin = make_coin(i["face"], {"Q": row["settlement_price"]})
        leg = Leg("Q", row["direction"], int(row["volume"]), D(row["cost_hold_pre"]), D(row["cost_hold_pre"]))
        purse = Purse("C", 20, D(i["margin_balance_init"]), D(i["offset_profitloss"]), D(i["fee"]), {("Q", leg.direction): leg})
        settle(purse, coin, {"Q": D(row["settlement_price"])}, set(), 0)
        assert is_near(purse.balance, expected["margin_balance"])
        assert is_near(purse.settlements[0]["settlement_profit_real"], expected["settlement_profit_real"])
        assert is_near(purse.settlements[0]["positions"][0]["settlement_profit_unreal"], expected["settlement_profit_unreal"])
        assert leg.cost_hold == D(expected["cost_hold_after"])
        assert purse.profit_real == 0


def test_locking_across_four_contracts_step_by_step() -> None:
    """The worked example of the reference: unit u = 100 / 9500 / 20."""
    volumes = {"CW": (400, 100), "NW": (0, 300), "CQ": (200, 50), "NQ": (100, 350)}
    legs = [
        {"contract": code, "direction": side, "volume": volume, "last_price": 9500}
        for code, pair in volumes.items()
        for side, volume in zip(("buy", "sell"), pair, strict=True)
        if volume
    ]
    now = margin.figures(make_purse(20, 1, 0, legs), make_coin(100, dict.fromkeys(volumes, 9500)))
    unit = D(100) / 9500 / 20
    assert is_near(now.locked_same, 250 * unit)
    assert is_near(now.locked_cross, 450 * unit)
    assert is_near(now.position_margin, 1025 * unit)
    assert str(now.position_margin).startswith("0.539473")
    assert now.net_position == 300 + 300 + 150 + 250, "periods do not net against each other"


@pytest.mark.parametrize(
    ("equity", "cap", "why"),
    [
        ("19", "19", "below the first step all of it counts"),
        ("20", "20", "the seam"),
        ("30", "25", "half of what is above"),
        ("380", "110", "the third seam"),
        ("1980", "220", "beyond the last step it rises by 1 / leverage"),
        ("-3", "-3", "a debt is no less a debt"),
    ],
)
def test_ladder(equity: str, cap: str, why: str) -> None:
    ladder = ladder_rows([(0, 20, 0, 20), (20, 80, 20, 50), (80, 380, 50, 110), (380, 980, 110, 170), (980, None, 170, None)])
    assert margin.margin_cap(ladder, 20, D(equity)) == D(cap), why


@pytest.mark.parametrize(
    ("net", "factor", "why"),
    [
        (0, "0.65", "from nothing on"),
        (1999, "0.65", "both ends belong to a tier"),
        (2000, "0.8", "the next one"),
        (14_999, "0.8", "up to its end"),
        (10**9, "0.85", "the last has no end"),
    ],
)
def test_adjust_factor_of_btc_at_125x(net: int, factor: str, why: str) -> None:
    assert margin.adjust_factor(adjust_table("BTC")[125], net) == D(factor), why


@pytest.mark.parametrize(
    ("balance", "realised", "pnl", "used", "ratio", "expected", "why"),
    [
        ("10", "0", "0", "4", "0", "6", "what is not used is free"),
        ("10", "3", "0", "4", "0", "9", "profit of the period covers margin first"),
        ("10", "6", "0", "4", "0", "10", "what of it is left stays inside"),
        ("10", "6", "0", "4", "0.5", "11", "unless the coin settles in real time"),
        ("10", "-1", "-2", "4", "1", "3", "losses count at once, realised or not"),
        ("10", "0", "5", "4", "1", "6", "unrealised profit never counts"),
        ("1", "0", "-9", "4", "1", "0", "never below nothing"),
    ],
)
def test_withdrawable(balance: str, realised: str, pnl: str, used: str, ratio: str, expected: str, why: str) -> None:
    assert margin.withdrawable(D(balance), D(realised), D(pnl), D(used), D(ratio)) == D(expected), why


def test_nothing_used_is_no_ratio_at_all_and_an_open_order_is_a_use() -> None:
    coin = make_coin(10, {"Q": 5}, lever=10)
    purse = make_purse(10, 3, 0, [])
    now = margin.figures(purse, coin)
    assert (now.guarantee_ratio, now.margin_ratio, now.liquidation_price, now.liquidation_factor) == (None,) * 4
    assert not now.is_due
    assert margin.leg_margin(D(10), 10, D(5), 10) == 2, "the help page's example"


legs_of_two_contracts = st.lists(
    st.fixed_dictionaries(
        {
            "contract": st.sampled_from(["A", "B"]),
            "direction": st.sampled_from(["buy", "sell"]),
            "volume": st.integers(1, 5000),
            "cost_hold": st.integers(5_000, 20_000),
        }
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda leg: (leg["contract"], leg["direction"]),
)


@given(
    legs=legs_of_two_contracts, price_a=st.integers(8_000, 12_000), price_b=st.integers(8_000, 12_000), static=st.integers(1, 200)
)
def test_laws(legs: list[dict[str, Any]], price_a: int, price_b: int, static: int) -> None:
    """Locking frees at most half; ratios agree on who is due; at the estimated price equity meets its requirement."""
    prices = {"A": price_a, "B": price_b}
    legs = [{**leg, "last_price": prices[leg["contract"]]} for leg in legs]
    purse = make_purse(20, static, 0, legs)
    now = margin.figures(purse, make_coin(100, prices))
    total = sum(row.margin for row in now.legs)
    assert now.locked_cross >= 0
    assert total / 2 <= now.position_margin <= total
    assert now.guarantee_ratio is not None
    if abs(now.guarantee_ratio) > D("1E-15"):
        assert now.is_due == (now.guarantee_ratio < 0)
        if now.margin_ratio is not None:
            assert now.is_due == (now.margin_ratio >= 1)
    estimates = []
    if now.liquidation_factor is not None:
        estimates.append(now.liquidation_factor)
    if now.liquidation_price is not None:
        estimates.append(now.liquidation_price / now.legs[0].price)
    for factor in estimates:
        there = {code: D(price) * factor for code, price in prices.items()}
        then = margin.figures(purse, make_coin(100, there))
        # What cutting at 18 decimals may do: to each reciprocal price, and to the estimate itself.
        gross_usd = D(100 * sum(leg["volume"] for leg in legs))
        gross = sum(row.margin for row in then.legs) * 20
        tolerance = gross_usd * D("1E-17") + gross * D("1E-17") / factor + D("1E-15")
        assert abs(then.equity - then.adjust_factor * then.position_margin) <= tolerance
