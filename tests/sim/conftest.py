"""Simulated exchanges at a standstill: no time passes but by `step` and `clock`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from sim_client import Rest

from monitor.sim import SimAccount, SimExchange, SimPosition

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
