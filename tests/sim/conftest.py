"""Simulated exchanges at a standstill: no time passes but by `step` and `clock`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from sim_client import Rest
from sim_htx_client import HtxRest

from monitor.sim import SimAccount, SimExchange, SimHtxAccount, SimHtxPosition, SimPosition

START_MS = 1_750_006_800_000  # 17:00 UTC: no funding for seven hours

SINGLE = SimAccount(
    "single",
    multi_assets=False,
    wallets={"USDT": "50000", "USDC": "10000"},
    positions=(
        SimPosition("BTCUSDT", "0.5", leverage=10),
        SimPosition("ETHUSDC", "-2", leverage=5),
        SimPosition("SOLUSDT", "100", leverage=10, isolated_wallet="2000"),
    ),
)
HEDGE = SimAccount(
    "hedge",
    multi_assets=False,
    hedge=True,
    wallets={"USDT": "20000"},
    positions=(SimPosition("BTCUSDT", "0.4", side="LONG"), SimPosition("BTCUSDT", "-0.1", side="SHORT")),
)
MULTI = SimAccount(
    "multi",
    wallets={"USDT": "20000", "USDC": "5000", "BTC": "0.1"},
    positions=(SimPosition("BTCUSDT", "0.3"), SimPosition("ETHUSDC", "-5"), SimPosition("ETHBTC", "2")),
)


@pytest.fixture
async def sim() -> AsyncIterator[SimExchange]:
    """Four accounts: the default one's kind (multi), single-asset with an isolated position, hedge, and an empty one."""
    accounts = (MULTI, SINGLE, HEDGE, SimAccount("empty"))
    exchange = SimExchange(seed=7, accounts=accounts, frozen=True, start_ms=START_MS, noise=0.0)
    async with exchange:
        yield exchange


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as client:
        yield client


@pytest.fixture
def rest(sim: SimExchange, session: aiohttp.ClientSession) -> Rest:
    return Rest(sim, session)


# Positions at a basis that is nobody's round number; ETH unlocked at a high leverage; ADA as in the venue's own samples.
HTX_MIXED = SimHtxAccount(
    "mixed",
    coins={"BTC": "2.5", "ETH": "40", "ADA": "5000"},
    realised={"BTC": "0.25"},
    leverages={"BTC": 20, "ETH": 5, "ADA": 10},
    positions=(
        SimHtxPosition("BTC_CW", "buy", 4000, "96000"),
        SimHtxPosition("BTC_CW", "sell", 1000, "98000"),
        SimHtxPosition("BTC_CQ", "sell", 1500, "97000", "97500"),
        SimHtxPosition("ETH_NW", "sell", 300, "3500"),
    ),
)
HTX_OTHER = SimHtxAccount("other", coins={"BTC": "1"}, permission="readOnly,trade", may_ask_key=False)


@pytest.fixture
async def htx_sim() -> AsyncIterator[SimExchange]:
    """At a standstill, prices unmoved by ticks; two HTX accounts."""
    accounts = (HTX_MIXED, HTX_OTHER)
    exchange = SimExchange(seed=7, htx_accounts=accounts, frozen=True, start_ms=START_MS, noise=0.0)
    async with exchange:
        yield exchange


@pytest.fixture
def htx_rest(htx_sim: SimExchange, session: aiohttp.ClientSession) -> HtxRest:
    return HtxRest(htx_sim, session)
