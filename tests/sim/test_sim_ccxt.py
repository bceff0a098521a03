"""A third party's client uses the simulator as the exchange: ccxt reads the same balances, positions and tiers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import ccxt.async_support as ccxt
import pytest

from monitor.sim import SimExchange


@pytest.fixture
async def sim() -> AsyncIterator[SimExchange]:
    """The default account; ccxt signs with the real time, so the clock must stand at it."""
    async with SimExchange("crash", seed=7, frozen=True) as exchange:
        await exchange.step(12)
        exchange.order("LINKUSDT", "BUY", "100")
        yield exchange


@pytest.fixture
async def client(sim: SimExchange) -> AsyncIterator[Any]:
    account = sim.account()
    exchange = ccxt.binanceusdm(
        {
            "apiKey": account.api_key,
            "secret": account.api_secret,
            "enableRateLimit": False,
            "options": {"fetchMarkets": {"types": ["linear"]}, "fetchCurrencies": False, "adjustForTimeDifference": True},
        }
    )
    exchange.has["fetchCurrencies"] = False
    base = f"http://127.0.0.1:{sim.port}"
    for name, version in (("fapiPublic", "v1"), ("fapiPublicV2", "v2"), ("fapiPublicV3", "v3")):
        exchange.urls["api"][name] = exchange.urls["api"][name.replace("Public", "Private")] = f"{base}/fapi/{version}"
    exchange.urls["api"]["sapi"] = f"{base}/sapi/v1"
    yield exchange
    await exchange.close()


def books(sim: SimExchange) -> Any:
    return sim.ledger()["venues"]["binance_usdm"]["accounts"]["main"]


@pytest.mark.parametrize("use_v2", [False, True])
async def test_balances(sim: SimExchange, client: Any, use_v2: bool) -> None:
    balance = await client.fetch_balance({"useV2": use_v2})
    assets = books(sim)["assets"]
    assert {"USDT", "USDC", "BTC", "ETH"} <= set(assets)
    for asset, row in assets.items():
        assert balance[asset]["total"] == pytest.approx(float(row["equity"]), abs=2e-8), asset
        assert balance[asset]["free"] == pytest.approx(float(row["available"]), abs=2e-8), asset
    totals = books(sim)["totals"]
    assert float(balance["info"]["totalMarginBalance"]) == pytest.approx(float(totals["equity"]), abs=2e-8)
    assert float(balance["info"]["totalMaintMargin"]) == pytest.approx(float(totals["maintenance_margin"]), abs=2e-8)


@pytest.mark.parametrize("options", [{}, {"useV2": True}, {"method": "account"}, {"method": "account", "useV2": True}])
async def test_positions(sim: SimExchange, client: Any, options: dict[str, Any]) -> None:
    positions = {p["info"]["symbol"]: p for p in await client.fetch_positions(None, options) if p["contracts"]}
    expected = {p["symbol"]: p for p in books(sim)["positions"]}
    assert set(positions) == set(expected)
    assert len(expected) == 8
    for symbol, position in positions.items():
        row = expected[symbol]
        signed = position["contracts"] * (1 if position["side"] == "long" else -1)
        assert signed == float(row["quantity"]), symbol
        assert position["unrealizedPnl"] == pytest.approx(float(row["pnl"]), abs=2e-8), symbol
        assert position["notional"] == pytest.approx(abs(float(row["notional"])), abs=2e-8), symbol
        assert position["initialMargin"] == pytest.approx(float(row["initial_margin"]), rel=1e-6), symbol
        if "method" not in options:
            assert position["markPrice"] == float(row["mark_price"]), symbol
            assert position["entryPrice"] == float(row["entry_price"]), symbol
            assert (position["liquidationPrice"] or 0.0) == pytest.approx(float(row["liquidation_price"]), abs=2e-8), symbol


async def test_leverage_tiers(sim: SimExchange, client: Any) -> None:
    tiers = await client.fetch_leverage_tiers()
    by_id = {client.markets[symbol]["id"]: rows for symbol, rows in tiers.items()}
    contracts = sim.binance.market.contracts
    assert set(by_id) == set(contracts)
    for symbol, rows in by_id.items():
        read = [(t["minNotional"], t["maxNotional"], t["maintenanceMarginRate"], t["maxLeverage"]) for t in rows]
        brackets = contracts[symbol].brackets
        assert read == [(float(b.floor), float(b.cap), float(b.rate), float(b.leverage_max)) for b in brackets], symbol


async def test_a_wrong_secret_is_an_authentication_error_there_too(client: Any) -> None:
    client.secret = "wrong"
    with pytest.raises(ccxt.AuthenticationError):
        await client.fetch_balance()


async def test_markets_and_modes(sim: SimExchange, client: Any) -> None:
    markets = await client.load_markets()
    assert {m["id"] for m in markets.values()} == set(sim.binance.market.contracts)
    assert markets["BTC/USDC:USDC"]["linear"] is True
    sim.leverage("BTCUSDT", 33)
    leverages = await client.fetch_leverages()
    assert leverages["BTC/USDT:USDT"]["longLeverage"] == 33
    rates = await client.fetch_funding_rates()
    assert Decimal(str(rates["BTC/USDT:USDT"]["markPrice"])) == sim.binance.market.contracts["BTCUSDT"].mark
