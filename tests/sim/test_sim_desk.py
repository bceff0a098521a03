"""What the simulated exchange refuses, and the settings that change how a position is margined."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from sim_client import Rest, reader

from monitor.sim import SimAccount, SimExchange, SimPosition
from monitor.sim.refused import RefusedError


def position(sim: SimExchange, account: str, symbol: str) -> Any:
    rows = sim.ledger()["venues"]["binance_usdm"]["accounts"][account]["positions"]
    return next(row for row in rows if row["symbol"] == symbol)


@pytest.mark.parametrize(
    ("change", "code", "why"),
    [
        (lambda s: s.order("NOSUCH", "BUY", 1), -1121, "unknown symbol"),
        (lambda s: s.order("BTCUSDT", "HOLD", 1), -1117, "neither BUY nor SELL"),
        (lambda s: s.order("BTCUSDT", "BUY", 0), -4003, "nothing to trade"),
        (lambda s: s.order("BTCUSDT", "BUY", 1, "LONG"), -4061, "a hedge leg in one-way mode"),
        (lambda s: s.order("BTCUSDT", "BUY", 1, account="hedge"), -4061, "a one-way order in hedge mode"),
        (lambda s: s.order("BTCUSDT", "SELL", "0.5", "LONG", account="hedge"), -2022, "more than the leg holds"),
        (lambda s: s.cancel(1), -2011, "unknown order"),
        (lambda s: s.leverage("BTCUSDT", 126), -4028, "beyond the first tier's leverage"),
        (lambda s: s.margin_type("ETHUSDT", True), -4168, "no isolated margin in Multi-Assets mode"),
        (lambda s: s.margin_type("BTCUSDT", True, account="single"), -4048, "there is a position"),
        (lambda s: s.mode(multi_assets=True, account="single"), -4168, "an isolated symbol bars Multi-Assets mode"),
        (lambda s: s.mode(hedge=True), -4068, "position mode with positions"),
        (lambda s: s.margin("BTCUSDT", 1, account="single"), -4054, "a cross position has no margin of its own"),
        (lambda s: s.transfer("DOGE", 1), -4046, "not an asset of the futures wallet"),
    ],
)
async def test_refusals(sim: SimExchange, change: Callable[[SimExchange], Any], code: int, why: str) -> None:
    books = sim.ledger()
    with pytest.raises(RefusedError) as refused:
        change(sim)
    assert refused.value.code == code, why
    assert sim.ledger() == books, "a refusal changes nothing"


@pytest.mark.parametrize(
    ("start", "why"),
    [
        (SimAccount("a", positions=[SimPosition("BTCUSDT", 1, side="LONG")]), "hedge leg, one-way account"),
        (SimAccount("a", hedge=True, positions=[SimPosition("BTCUSDT", 1)]), "one-way leg, hedge account"),
        (SimAccount("a", positions=[SimPosition("BTCUSDT", 1, isolated_wallet=5)]), "isolated in Multi-Assets mode"),
        (SimAccount("a", wallets={"DOGE": 1}), "an asset that nobody lists"),
    ],
)
def test_impossible_accounts(start: SimAccount, why: str) -> None:
    with pytest.raises(ValueError, match="a: "):
        SimExchange(accounts=[start], frozen=True)
    assert why


async def test_isolated_margin_comes_from_the_cross_wallet_and_goes_back(session: aiohttp.ClientSession) -> None:
    start = SimAccount("iso", multi_assets=False, wallets={"USDT": "10000"})
    async with SimExchange(accounts=[start], frozen=True, noise=0.0) as sim:
        sim.price("ETHUSDT", "3000")
        sim.margin_type("ETHUSDT", True)
        sim.leverage("ETHUSDT", 10)
        key = (await Rest(sim, session).listen_key())["listenKey"]
        async with reader(sim, f"/private/ws/{key}") as here:
            sim.order("ETHUSDT", "BUY", 2)
            opened = (await here.event("ACCOUNT_UPDATE"))["a"]
            sim.margin("ETHUSDT", 150)
            added = (await here.event("ACCOUNT_UPDATE"))["a"]
            sim.order("ETHUSDT", "SELL", "0.5")
            reduced = (await here.event("ACCOUNT_UPDATE"))["a"]
    # 6,000 at 10x; fee 3. Adding moves margin, not the wallet. A quarter closed gives a quarter of 750 back, less 0.75 fee.
    assert [(b["wb"], b["cw"]) for b in opened["B"]] == [("9997.00000000", "9397.00000000")]
    assert opened["P"][0]["iw"] == "600.00000000"
    assert [(b["wb"], b["cw"]) for b in added["B"]] == [("9997.00000000", "9247.00000000")]
    assert (added["m"], added["P"][0]["iw"]) == ("MARGIN_TRANSFER", "750.00000000")
    assert [(b["wb"], b["cw"]) for b in reduced["B"]] == [("9996.25000000", "9433.75000000")]
    assert reduced["P"][0]["iw"] == "562.50000000"


async def test_new_tiers_change_the_maintenance_margin(sim: SimExchange) -> None:
    sim.price("BTCUSDT", "100000")
    assert Decimal(position(sim, "single", "BTCUSDT")["maintenance_margin"]) == 50_000 * Decimal("0.004")
    sim.brackets("BTCUSDT", [(20_000, "0.01", 50), (200_000, "0.02", 25)])
    row = position(sim, "single", "BTCUSDT")
    assert (Decimal(row["maintenance_margin"]), row["bracket"]) == (50_000 * Decimal("0.02") - 200, 2)


async def test_each_hedge_leg_has_its_own_tier_and_both_one_liquidation_price(sim: SimExchange) -> None:
    sim.price("BTCUSDT", "150000")
    rows = sim.ledger()["venues"]["binance_usdm"]["accounts"]["hedge"]["positions"]
    assert [(r["side"], r["bracket"]) for r in rows] == [("LONG", 2), ("SHORT", 1)]
    assert rows[0]["liquidation_price"] == rows[1]["liquidation_price"] != "0"


async def test_bookings_are_listed(sim: SimExchange, session: aiohttp.ClientSession) -> None:
    rest = Rest(sim, session, "single")
    sim.order("BTCUSDT", "SELL", "0.1", account="single")
    sim.funding("BTCUSDT", "0.001", account="single")
    rows = await rest.get("/fapi/v1/income", symbol="BTCUSDT")
    assert [row["incomeType"] for row in rows] == ["COMMISSION", "FUNDING_FEE"]
    assert [row["incomeType"] for row in await rest.get("/fapi/v1/income", incomeType="FUNDING_FEE")] == ["FUNDING_FEE"]


async def test_a_delisted_contract_is_told(sim: SimExchange, session: aiohttp.ClientSession) -> None:
    async with reader(sim, "/market/ws/!contractInfo") as here:
        sim.status("SUIUSDT", "SETTLING")
        frame = await here.frame()
    assert (frame["s"], frame["cs"]) == ("SUIUSDT", "SETTLING")
    info = await Rest(sim, session).call("GET", "/fapi/v1/exchangeInfo")
    assert {row["symbol"] for row in info["symbols"] if row["status"] != "TRADING"} == {"SUIUSDT"}
