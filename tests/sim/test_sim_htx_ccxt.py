"""A third party's client uses the simulated HTX as the exchange: ccxt reads the same balances and positions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import ccxt.async_support as ccxt
import pytest
from sim_htx_client import books

from monitor.sim import SimExchange


class CoinFutures(ccxt.htx):  # type: ignore[misc]
    """ccxt reads inverse swaps, another product, in one go with futures: here futures alone."""

    async def fetch_markets(self, params: Any = None) -> Any:
        return await self.fetch_markets_by_type_and_sub_type("future", "inverse")


@pytest.fixture
async def sim() -> AsyncIterator[SimExchange]:
    """The default account, after a while; ccxt signs with the real time, so the clock must stand at it."""
    async with SimExchange("crash", seed=7, frozen=True) as exchange:
        await exchange.step(12)
        if any(coin.is_settling for coin in exchange.htx.market.coins.values()):
            exchange.clock(advance_ms=30_000)  # the test began at 08:00 UTC
        exchange.htx_control.order("ETH_CQ", "buy", "open", 50, "2000")
        yield exchange


@pytest.fixture
async def client(sim: SimExchange) -> AsyncIterator[Any]:
    account = sim.htx.account()
    exchange = CoinFutures(
        {
            "apiKey": account.api_key,
            "secret": account.api_secret,
            "enableRateLimit": False,
            "options": {"defaultType": "future", "defaultSubType": "inverse"},
        }
    )
    exchange.has["fetchCurrencies"] = False
    exchange.urls["hostnames"]["contract"] = f"127.0.0.1:{sim.htx.port}"
    exchange.urls["api"]["contract"] = "http://{hostname}"
    yield exchange
    await exchange.close()


async def test_balances(sim: SimExchange, client: Any) -> None:
    balance = await client.fetch_balance({"type": "future", "subType": "inverse"})
    coins = books(sim, "main")
    assert {coin["symbol"] for coin in balance["info"]["data"]} == set(coins)
    for symbol, row in coins.items():
        assert balance[symbol]["free"] == float(row["available"]), symbol
        assert balance[symbol]["used"] == float(row["frozen_margin"]), symbol
    assert balance["ETH"]["used"] > 0
    told = {row["symbol"]: row for row in balance["info"]["data"]}
    for symbol, row in coins.items():
        assert float(told[symbol]["margin_balance"]) == float(row["equity"]), symbol
        assert float(told[symbol]["margin_position"]) == float(row["position_margin"]), symbol
    assert float(told["BTC"]["risk_rate"]) == pytest.approx(float(coins["BTC"]["guarantee_asset_ratio"]))


async def test_positions(sim: SimExchange, client: Any) -> None:
    positions = await client.fetch_positions(None, {"type": "future", "subType": "inverse"})
    read = {(p["info"]["contract_code"], p["info"]["direction"]): p for p in positions}
    expected = {(r["contract_code"], r["direction"]): r for coin in books(sim, "main").values() for r in coin["positions"]}
    assert set(read) == set(expected)
    assert len(expected) == 11
    faces = {"BTC": 100.0, "ETH": 10.0}
    for key, position in read.items():
        row = expected[key]
        assert position["side"] == ("long" if key[1] == "buy" else "short"), key
        assert position["contracts"] == row["volume"], key
        assert position["contractSize"] == faces[key[0][:3]], key
        assert position["entryPrice"] == float(row["cost_open"]), key
        assert position["unrealizedPnl"] == float(row["profit_unreal"]), key
        assert position["initialMargin"] == float(row["position_margin"]), key
        assert position["lastPrice"] == float(row["last_price"]), key


async def test_markets(sim: SimExchange, client: Any) -> None:
    markets = await client.load_markets()
    contracts = {contract.code: contract for coin in sim.htx.market.coins.values() for contract in coin.contracts}
    assert {m["id"]: m["expiry"] for m in markets.values()} == {code: c.delivery_ms for code, c in contracts.items()}
    assert all(m["inverse"] and m["future"] and m["active"] for m in markets.values())


async def test_a_wrong_secret_is_refused_there_too(client: Any) -> None:
    client.secret = "wrong"
    with pytest.raises(ccxt.ExchangeError, match="12008"):
        await client.fetch_balance({"type": "future", "subType": "inverse"})
