"""What HTX itself has published: every recorded account, position, settlement and worked example, to twelve digits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import oracle_htx as oracle
import pytest

from monitor.margin import guarantee, joint
from monitor.margin.guarantee_tables import FactorTables, LadderTables
from monitor.model.figures import Array
from monitor.model.instruments import FactorTable, FactorTier, LadderTable, LadderTier

INF = float("inf")


def agrees(got: Any, published: float, places: float = 1e-12) -> bool:
    return abs(float(np.asarray(got).item()) - published) <= places * max(1.0, abs(published))


def one(value: float) -> Array:
    return np.array([value], np.float64)


# ------------------------------------------------------------------ margin_cases.json

CASES = {
    "position_margin": {"position_margin_btc", "position_margin_eos", "lock_same_contract_tom"},
    "net_position": {"net_position_one_period"},
    "available_margin_cap": {"ladder_80_btc_20x"},
    "account": {"ada_rest_account_position", "ada_ws_account_two_sided"},
    "settlement": {"ada_settlement"},
    "transferable": {"transfer_seed_example"},
}


@pytest.fixture(scope="session")
def cases(shared: Path) -> dict[str, dict[str, Any]]:
    content = json.loads((shared / "data/htx/margin_cases.json").read_bytes())
    return {case["id"]: case for case in content["cases"]}


def test_every_case_is_judged_here(cases: dict[str, dict[str, Any]]) -> None:
    assert {(case["kind"], name) for name, case in cases.items()} == {(kind, name) for kind in CASES for name in CASES[kind]}


def sides(given: dict[str, Any]) -> tuple[Array, Array]:
    """Leg margins of the contracts of a case, long and short."""
    contracts = sorted({leg["contract"] for leg in given["positions"]})
    margins = {"buy": np.zeros(len(contracts)), "sell": np.zeros(len(contracts))}
    for leg in given["positions"]:
        worth = guarantee.notional(one(given["face"]), one(leg["volume"]), one(leg["last_price"]))
        margin = guarantee.leg_margin(worth, one(given["lever_rate"]))
        margins[leg["direction"]][contracts.index(leg["contract"])] = margin[0]
    return margins["buy"], margins["sell"]


def lock_of(given: dict[str, Any]) -> guarantee.Locked:
    longs, shorts = sides(given)
    return guarantee.lock(longs, shorts, np.zeros(len(longs), np.intp), 1)


@pytest.mark.parametrize("name", sorted(CASES["position_margin"]))
def test_position_margin(cases: dict[str, dict[str, Any]], name: str) -> None:
    case = cases[name]
    locked, expect = lock_of(case["input"]), dict(case["expect"])
    longs, shorts = sides(case["input"])
    got = {
        "margin_position": locked.margin,
        "sum_long": longs.sum(),
        "sum_short": shorts.sum(),
        "locked_same": locked.same,
        "locked_cross": locked.cross,
        "saving_ratio_of_total": locked.saved / locked.total,
    }
    published = expect.pop("published_4_decimals", {})
    for key, value in expect.items():
        assert agrees(got[key], value), key
    for key, value in published.items():
        cut = np.floor(getattr(locked, {"locked_same": "same", "margin_position": "margin"}.get(key, key)) * 10_000) / 10_000
        assert agrees(cut, value), f"{key}, cut to 4 places"


@pytest.mark.parametrize("name", sorted(CASES["net_position"]))
def test_net_position(cases: dict[str, dict[str, Any]], name: str) -> None:
    case = cases[name]
    held = {leg["direction"]: one(leg["volume"]) for leg in case["input"]["positions"]}
    net = guarantee.net_contracts(held["buy"], held["sell"], np.zeros(1, np.intp), 1)
    assert net.tolist() == [case["expect"]["net_position"]]


def ladder_tiers(records: list[dict[str, Any]]) -> tuple[LadderTier, ...]:
    def end(value: float | None) -> float:
        return INF if value is None else value

    return tuple(
        LadderTier(
            r["min_margin_balance"], end(r["max_margin_balance"]), r["min_margin_available"], end(r["max_margin_available"])
        )
        for r in records
    )


@pytest.mark.parametrize("name", sorted(CASES["available_margin_cap"]))
def test_usable_margin(cases: dict[str, dict[str, Any]], name: str) -> None:
    given = cases[name]["input"]
    tables = LadderTables()
    row = tables.row(LadderTable("BTC", given["lever_rate"], ladder_tiers(given["ladders"])))
    cap = tables.cap(np.array([row]), one(given["margin_balance"]))
    assert agrees(cap, cases[name]["expect"]["available_cap"])


@pytest.mark.parametrize("name", sorted(CASES["account"]))
def test_whole_account(cases: dict[str, dict[str, Any]], name: str) -> None:
    given, expect = cases[name]["input"], cases[name]["expect"]
    legs = given["positions"]
    assert len({leg["contract"] for leg in legs}) == 1, "one contract: its liquidation price is the venue's own"
    last = np.array([leg["last_price"] for leg in legs])
    signed = np.array([leg["volume"] * (1 if leg["direction"] == "buy" else -1) for leg in legs], np.float64)
    face, leverage = np.full(len(legs), given["face"]), np.full(len(legs), given["lever_rate"])
    worth = guarantee.notional(face, signed, last)
    pnl = guarantee.unrealized_pnl(worth, np.array([leg["cost_hold"] for leg in legs]), last)
    locked = lock_of(given)
    static, real, frozen = (one(given[key]) for key in ("margin_static", "profit_real", "margin_frozen"))
    factor, used = one(given["adjust_factor"]), locked.margin + frozen
    equity = guarantee.margin_balance(static, one(pnl.sum()))
    got = {
        "margin_balance": equity,
        "margin_position": locked.margin,
        "margin_available": guarantee.available(equity, locked.margin, frozen),
        "profit_unreal": one(pnl.sum()),
        "risk_rate": guarantee.guarantee_asset_ratio(equity, used, factor),
        "withdraw_available": guarantee.transferable(static, real, one(pnl.sum()), used, one(given["transfer_profit_ratio"])),
        "liquidation_price": guarantee.liquidation_price_factor(equity, one(worth.sum()), locked.margin, factor) * last[:1],
    }
    if "profit_rate" in expect:
        cost = np.array([leg["cost_open"] for leg in legs])
        at_open = guarantee.leg_margin(guarantee.notional(face, signed, cost), leverage)
        got["profit_rate"] = guarantee.unrealized_pnl(worth, cost, last) / at_open
    for key, value in expect.items():
        if value is None:
            assert np.isnan(got[key]).all(), key
        else:
            assert agrees(got[key], value), key


@pytest.mark.parametrize("name", sorted(CASES["settlement"]))
def test_settlement(cases: dict[str, dict[str, Any]], name: str) -> None:
    """The settled PnL counts from cost_hold to the settlement price, and equity passes the settlement unbroken."""
    given, expect = cases[name]["input"], cases[name]["expect"]
    (leg,) = given["positions"]
    price = one(leg["settlement_price"])
    sign = 1 if leg["direction"] == "buy" else -1
    worth = guarantee.notional(one(given["face"]), one(sign * leg["volume"]), price)
    settled = guarantee.unrealized_pnl(worth, one(leg["cost_hold_pre"]), price)
    realised = sum(given[key] for key in ("offset_profitloss", "fee", "delivery_fee", "clawback"))
    assert agrees(settled, expect["settlement_profit_unreal"])
    assert agrees(settled + realised, expect["settlement_profit_real"])
    before = guarantee.margin_balance(one(given["margin_balance_init"] + realised), settled)
    after_pnl = guarantee.unrealized_pnl(worth, one(expect["cost_hold_after"]), price)
    after = guarantee.margin_balance(one(given["margin_balance_init"] + realised) + settled, after_pnl)
    assert agrees(before, expect["margin_balance"])
    assert agrees(after, expect["margin_balance"])


@pytest.mark.parametrize("name", sorted(CASES["transferable"]))
def test_transferable(cases: dict[str, dict[str, Any]], name: str) -> None:
    given = cases[name]["input"]
    static = given["equity_init"] + given["net_transfer"] + given["profit_real"]
    keys = ("profit_real", "profit_unreal", "used_margin", "transfer_profit_ratio")
    amount = guarantee.transferable(one(static), *(one(given[key]) for key in keys))
    assert agrees(amount, cases[name]["expect"]["transferable"])


# ------------------------------------------------------------------ the records themselves


def records(node: Any, field: str) -> Iterator[dict[str, Any]]:
    """Every object with this field, at any depth."""
    if isinstance(node, dict):
        if field in node:
            yield node
        for value in node.values():
            yield from records(value, field)
    elif isinstance(node, list):
        for value in node:
            yield from records(value, field)


@pytest.fixture(scope="session")
def published(shared: Path) -> list[Any]:
    return [json.loads((shared / "data/htx" / name).read_bytes()) for name in ("rest_private.json", "ws_notification.json")]


def test_account_records(published: list[Any]) -> None:
    accounts = list(records(published, "risk_rate"))
    assert len(accounts) == 4, "all that the recordings hold"
    for account in accounts:
        static, real, unreal, position, frozen, factor, balance = (
            one(account[key])
            for key in (
                "margin_static", "profit_real", "profit_unreal", "margin_position", "margin_frozen", "adjust_factor",
                "margin_balance",
            )
        )  # fmt: skip
        used = position + frozen
        equity = guarantee.margin_balance(static, unreal)
        ratio = guarantee.guarantee_asset_ratio(equity, used, factor)
        assert agrees(equity, balance[0])
        assert agrees(guarantee.available(equity, position, frozen), account["margin_available"])
        assert agrees(guarantee.transferable(static, real, unreal, used, one(0.0)), account["withdraw_available"])
        if account["risk_rate"] is None:
            assert np.isnan(ratio).all(), "nothing used is no risk, not a ratio of 0"
            assert guarantee.requirement(used, factor).tolist() == [0.0]
        else:
            assert agrees(ratio, account["risk_rate"])


def test_position_records(published: list[Any]) -> None:
    positions = list(records(published, "position_margin"))
    assert len(positions) == 4, "all that the recordings hold"
    for position in positions:
        face = one(10.0)  # ADA
        contracts = one(position["volume"] * (1 if position["direction"] == "buy" else -1))
        last, leverage, opened = (one(position[key]) for key in ("last_price", "lever_rate", "cost_open"))
        worth = guarantee.notional(face, contracts, last)
        profit = guarantee.unrealized_pnl(worth, opened, last)
        assert agrees(guarantee.leg_margin(worth, leverage), position["position_margin"])
        assert agrees(guarantee.unrealized_pnl(worth, one(position["cost_hold"]), last), position["profit_unreal"])
        assert agrees(profit, position["profit"])
        assert agrees(
            profit / guarantee.leg_margin(guarantee.notional(face, contracts, opened), leverage), position["profit_rate"]
        )


@pytest.mark.parametrize(
    ("balance", "margin", "factor", "risk_rate", "why"),
    [
        (12.186361450698276582, 5.036261079774375503, 0.075, 2.344723929650649798, "XRP 5x, coin-margined swap"),
        (446.417641681222726716, 11.049723756906077348, 0.4, 40.000796572150656768, "ADA 20x, delivery"),
        (24.97302007, 23.5793, 0.015, 1.044107779705080303, "BTC-USDT, the older linear kind: same formula"),
    ],
)
def test_risk_rate_that_others_quote(balance: float, margin: float, factor: float, risk_rate: float, why: str) -> None:
    assert agrees(guarantee.guarantee_asset_ratio(one(balance), one(margin), one(factor)), risk_rate), why


def test_new_margin_ratio_is_the_inverse_of_health() -> None:
    """A later linear account: risk_rate there is equity / requirement − 1, new_risk_rate its margin ratio."""
    old, new = 249.265098252125, 0.003995762920935011
    used, factor = one(8.0), one(0.4)
    required = guarantee.requirement(used, factor)
    equity = required * (old + 1)
    ratio = guarantee.guarantee_asset_ratio(equity, used, factor)
    assert agrees(joint.health(equity, required), old + 1)
    assert agrees(joint.margin_ratio(equity, required), new)
    assert agrees(factor / (ratio + factor), new)


def test_published_tables(shared: Path) -> None:
    samples = json.loads((shared / "data/htx/rest_public.json").read_bytes())["samples"]
    answers = {sample["path"]: sample["response"].get("data") for sample in samples}
    (factors,) = answers["/api/v1/contract_adjustfactor"][0]["list"]
    tiers = tuple(
        FactorTier(t["ladder"], t["min_size"], INF if t["max_size"] is None else t["max_size"], t["adjust_factor"])
        for t in factors["ladders"]
    )
    tables = FactorTables()
    row = tables.row(FactorTable("BTC", factors["lever_rate"], tiers))
    net = np.array([0, 1999, 2000, 14_999, 15_000, 1e6])
    assert tables.factor(np.full(6, row), net).tolist() == [0.65, 0.65, 0.8, 0.8, 0.85, 0.85]

    (ladder,) = answers["/api/v1/contract_ladder_margin"][0]["list"]
    ladders = LadderTables()
    row = ladders.row(LadderTable("BTC", ladder["lever_rate"], ladder_tiers(ladder["ladders"])))
    equity = np.array([0.0, 20, 50, 80, 380, 980, 1000])
    assert ladders.cap(np.full(7, row), equity).tolist() == pytest.approx([0, 20, 35, 50, 110, 170, 171], rel=1e-15)


# ------------------------------------------------------------------ the oracle's records


def test_oracle_speaks_like_the_venue(published: list[Any], shared: Path) -> None:
    """Field by field, so that a test which feeds an adapter from the oracle feeds it what the venue would send."""
    account = oracle.random_account(seed=7, size=6)[0]
    accounts, positions = list(records(published, "risk_rate")), list(records(published, "position_margin"))
    assert set(oracle.account_record(account)) == max((set(each) for each in accounts if "positions" not in each), key=len)
    assert len(oracle.position_records(account)) == 6
    for record in oracle.position_records(account):
        assert set(record) == min((set(each) for each in positions), key=len), "the fields that all versions have"
    public = json.loads((shared / "data/htx/rest_public.json").read_bytes())
    (adjust,) = (each for each in records(public, "list") if "adjust_factor" in str(each))
    (ladder,) = (each for each in records(public, "list") if "min_margin_balance" in str(each))
    laddered = replace(account, leverage=20, ladder=oracle.BTC_LADDER_20X)
    assert shape(oracle.adjustfactor_record(account)) == shape(adjust)
    assert oracle.ladder_record(laddered) == ladder, "the published ladder itself"
    (elements,) = records(public, "transfer_profit_ratio")
    assert set(oracle.elements_record(account)) <= set(elements)
    contracts = next(records(public, "contract_size"))
    assert all(set(record) <= set(contracts) for record in oracle.contract_records(account))


def shape(record: dict[str, Any]) -> tuple[list[str], list[str], list[str]]:
    """The keys of a table, of its first entry, of its first tier."""
    entry = record["list"][0]
    return sorted(record), sorted(entry), sorted(entry["ladders"][0])
