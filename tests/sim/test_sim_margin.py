"""The simulator's arithmetic against numbers that nobody here computed: the exchange's own and its help pages'."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from monitor.sim import SimAccount, SimExchange, SimPosition
from monitor.sim.binance.liquidation_price import Rest, solve
from monitor.sim.binance.margin import Figures, figures
from monitor.sim.binance.market import Bracket, bracket_of, bracket_table


def exchange(account: SimAccount, **marks: str) -> SimExchange:
    sim = SimExchange(accounts=[account], frozen=True, start_ms=1_750_006_800_000, noise=0.0)
    for symbol, mark in marks.items():
        sim.binance.market.contracts[symbol].mark = Decimal(mark)
    return sim


def figures_of(sim: SimExchange) -> Figures:
    return figures(sim.account(), sim.binance.market)


def table_of(rows: list[dict[str, Any]]) -> tuple[Bracket, ...]:
    return tuple(
        Bracket(
            row["bracket"],
            Decimal(str(row["notionalFloor"])),
            Decimal(str(row["notionalCap"])),
            Decimal(str(row["maintMarginRatio"])),
            Decimal(str(row["cum"])),
            row["initialLeverage"],
        )
        for row in rows
    )


def test_help_page_state_1(shared: Path) -> None:
    page = json.loads((shared / "data/binance/multi_assets_help_page_state1.json").read_text())
    wallets = {asset: row["walletBalance"] for asset, row in page["assets"].items()}
    joint = exchange(SimAccount("joint", wallets=wallets))
    for symbol, rate in page["rates"].items():
        collateral = joint.binance.market.assets[symbol.removesuffix("USD")]
        collateral.index = Decimal(rate["index"])
        collateral.buffer, collateral.ask_buffer = Decimal(rate["bidBuffer"]), Decimal(rate["askBuffer"])
        assert (collateral.bid, collateral.ask) == (Decimal(rate["bidRate"]), Decimal(rate["askRate"]))
    now, expected = figures_of(joint), page["expected"]["multi_assets"]
    assert now.totals.equity == Decimal(expected["accountEquity"])
    assert now.totals.available == Decimal(expected["uniAvailableForOrder"])
    assert round(now.assets["USDT"].available, 2) == Decimal(expected["USDT.availableForOrder"])
    assert round(now.assets["USDC"].available, 2) == Decimal(expected["USDC.availableForOrder"])
    assert now.totals.maintenance == 0
    joint.mode(multi_assets=False)
    for name, amount in page["expected"]["single_asset"].items():
        assert figures_of(joint).assets[name.split(".")[0]].available == Decimal(amount)


def test_a_recorded_single_asset_account(shared: Path) -> None:
    recorded = json.loads((shared / "data/binance/account_single_asset_2022.json").read_text())
    account, position = recorded["account"], recorded["account"]["positions"][0]
    mark = Decimal(account["totalPositionInitialMargin"]) * 2 / Decimal(position["positionAmt"])  # leverage 2
    sim = exchange(
        SimAccount(
            "recorded",
            multi_assets=False,
            wallets={"USDT": account["totalWalletBalance"]},
            positions=[SimPosition("BTCUSDT", position["positionAmt"], position["entryPrice"], leverage=2)],
        ),
        BTCUSDT=str(mark),
    )
    sim.binance.market.contracts["BTCUSDT"].brackets = bracket_table([(50_000, "0.004", 125), (600_000, "0.005", 100)])
    totals = figures_of(sim).totals
    for name, value, tolerance in (
        ("totalMaintMargin", totals.maintenance, "1e-8"),
        ("totalUnrealizedProfit", totals.pnl, "1e-6"),
        ("totalMarginBalance", totals.equity, "1e-6"),
        ("totalInitialMargin", totals.position_initial, "1e-6"),
        ("availableBalance", totals.available, "1e-6"),
        ("maxWithdrawAmount", totals.max_withdraw, "1e-6"),
    ):
        assert abs(value - Decimal(account[name])) <= Decimal(tolerance), name
    assert sim.ledger()["venues"]["binance_usdm"]["accounts"]["recorded"]["positions"][0]["liquidation_price"] == "0"


def test_recorded_isolated_liquidation_prices(shared: Path) -> None:
    cases = json.loads((shared / "data/binance/liquidation_prices.json").read_text())
    tables = {
        row["symbol"]: table_of(row["brackets"])
        for row in json.loads((shared / "data/binance/leverage_brackets.json").read_text())
    }
    for case in cases["isolated_one_way"]:
        table, quantity, mark = tables[case["symbol"]], Decimal(case["positionAmt"]), Decimal(case["markPrice"])
        price = solve([(quantity, Decimal(case["entryPrice"]))], table, Rest(Decimal(case["isolatedWallet"])), mark)
        assert abs(price - Decimal(case["liquidationPrice"])) <= Decimal("2e-8"), case["symbol"]
        assert bracket_of(table, quantity * price).number == case["bracket_at_liquidation"]


def test_recorded_tables_are_the_tables_that_continuity_makes(shared: Path) -> None:
    for row in json.loads((shared / "data/binance/leverage_brackets.json").read_text()):
        recorded = table_of(row["brackets"])
        assert bracket_table((b.cap, b.rate, b.leverage_max) for b in recorded) == recorded, row["symbol"]


def test_the_help_pages_cross_example(shared: Path) -> None:
    case = json.loads((shared / "data/binance/liquidation_prices.json").read_text())["cross_one_way_help_page"]
    btc, eth = case["positions"]

    def tier(row: dict[str, str]) -> list[Bracket]:
        return [Bracket(1, Decimal(0), Decimal("1e12"), Decimal(row["maintMarginRate"]), Decimal(row["cum"]), 1)]

    notional = Decimal(eth["qty"]) * Decimal(eth["markPrice"])
    rest = Rest(
        wallet=Decimal(case["walletBalance"]),
        pnl=notional - Decimal(eth["qty"]) * Decimal(eth["entryPrice"]),
        maintenance=notional * Decimal(eth["maintMarginRate"]) - Decimal(eth["cum"]),
    )
    price = solve([(Decimal(btc["qty"]), Decimal(btc["entryPrice"]))], tier(btc), rest, Decimal(btc["markPrice"]))
    assert abs(price - Decimal(case["expected"]["BTCUSDT.liquidationPrice"])) <= Decimal(case["tolerance_abs"])


def test_joint_totals_by_hand() -> None:
    """One asset in the black, one in the red: the first counts at bid, the second at ask, margins at ask."""
    account = SimAccount(
        "hand",
        wallets={"USDT": "1000", "USDC": "100", "BTC": "0.5"},
        positions=[SimPosition("BTCUSDT", "0.1", "50000", leverage=10), SimPosition("ETHUSDC", "-1", "2500", leverage=5)],
    )
    sim = exchange(account, BTCUSDT="48000", ETHUSDC="2800")
    for asset, index in (("USDT", "1"), ("USDC", "1"), ("BTC", "48000")):
        sim.binance.market.assets[asset].index = Decimal(index)
    now = figures_of(sim)
    usdt, usdc = 1000 - 200, 100 - 300  # wallet and PnL: 0.1 × (48,000 − 50,000); −1 × (2,800 − 2,500)
    equity = usdt * Decimal("0.9999") + usdc * Decimal("1.0001") + Decimal("0.5") * 48000 * Decimal("0.95")
    assert now.totals.equity == equity
    # Both notionals (4,800 and 2,800) lie in the first tier: 0.4 %.
    assert now.totals.maintenance == (Decimal("19.2") + Decimal("11.2")) * Decimal("1.0001")
    assert now.totals.position_initial == (480 + 560) * Decimal("1.0001")
    assert now.totals.available == equity - 1040 * Decimal("1.0001")
    assert now.totals.wallet == 1000 * Decimal("0.9999") + 100 * Decimal("1.0001") + 24000 * Decimal("0.95")
    assert now.totals.pnl == -200 * Decimal("0.9999") - 300 * Decimal("1.0001")
    assert now.assets["BTC"].available == now.totals.available / (48000 * Decimal("1.05"))


@pytest.mark.parametrize(
    ("notional", "bracket", "maintenance", "why"),
    [
        ("50000", 1, "200", "the cap itself still belongs to the lower tier"),
        ("50000.01", 2, "200.00005", "beyond it the next rate, less its cum"),
        ("600000", 3, "3100", "600,000 × 0.0065 − 800"),
    ],
)
def test_tiers_by_hand(notional: str, bracket: int, maintenance: str, why: str) -> None:
    table = bracket_table([(50_000, "0.004", 125), (500_000, "0.005", 100), (3_000_000, "0.0065", 75)])
    tier = bracket_of(table, Decimal(notional))
    assert tier.number == bracket, why
    assert Decimal(notional) * tier.rate - tier.cum == Decimal(maintenance), why


def test_pools_of_a_single_asset_account() -> None:
    account = SimAccount(
        "pools",
        multi_assets=False,
        wallets={"USDT": "5000", "USDC": "700"},
        positions=[
            SimPosition("BTCUSDT", "0.1", "50000"),
            SimPosition("SOLUSDT", "10", "200", isolated_wallet="400"),
        ],
    )
    sim = exchange(account, BTCUSDT="49000", SOLUSDT="190")
    pools = figures_of(sim).pools
    assert {name: (pool.equity, pool.maintenance) for name, pool in pools.items()} == {
        "USDT": (Decimal(5000 - 400 - 100), Decimal("19.6")),
        "SOLUSDT": (Decimal(400 - 100), Decimal("9.5")),
        "USDC": (Decimal(700), Decimal(0)),
    }
    totals = figures_of(sim).totals
    assert totals.equity == 5000 - 200, "single-asset totals are the USDT asset's, isolated positions included"
    assert totals.cross_wallet == 4600


@pytest.mark.parametrize("account_name", ["joint", "cross", "hedge"])
def test_at_the_liquidation_price_equity_is_maintenance(account_name: str) -> None:
    """The price that is told is the price at which it happens: a step before nothing, a step beyond liquidation."""
    accounts = {
        "joint": SimAccount(
            "joint",
            wallets={"USDT": "3000", "BTC": "0.05"},
            positions=[SimPosition("BTCUSDT", "0.8"), SimPosition("ETHUSDC", "-3")],
        ),
        "cross": SimAccount("cross", multi_assets=False, wallets={"USDT": "8000"}, positions=[SimPosition("BTCUSDT", "-0.9")]),
        "hedge": SimAccount(
            "hedge",
            multi_assets=False,
            hedge=True,
            wallets={"USDT": "9000"},
            positions=[SimPosition("BTCUSDT", "0.9", side="LONG"), SimPosition("BTCUSDT", "-0.2", side="SHORT")],
        ),
    }
    account = accounts[account_name]
    sim = exchange(account)
    position = sim.ledger()["venues"]["binance_usdm"]["accounts"][account.name]["positions"][0]
    price = Decimal(position["liquidation_price"])
    direction = 1 if Decimal(position["quantity"]) > 0 else -1
    assert (Decimal(position["mark_price"]) - price) * direction > 0
    sim.price("BTCUSDT", price + direction * Decimal("0.01"))
    assert any(leg.symbol == "BTCUSDT" for leg in sim.account().open_legs())
    sim.price("BTCUSDT", price - direction * Decimal("0.01"))
    assert not sim.account().open_legs()
