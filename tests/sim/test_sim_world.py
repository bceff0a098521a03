"""The world and the clock: determinism, what each scenario does, real time, and the simulator's independence."""

from __future__ import annotations

import ast
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sim_client import Rest, reader, until

from monitor.sim import SimExchange
from monitor.sim.clock import SimClock
from monitor.sim.scenarios import SCENARIOS, scenario_named

START_MS = 1_750_006_800_000


async def healths(scenario: str, seed: int, ticks: int) -> list[float]:
    sim = SimExchange(scenario, seed, frozen=True, start_ms=START_MS)
    values = [_health(sim)]
    for _ in range(ticks):
        await sim.step()
        values.append(_health(sim))
    return values


def _health(sim: SimExchange) -> float:
    value: float = sim.ledger()["venues"]["binance_usdm"]["accounts"]["main"]["pools"]["USD"]["health"]
    return value


@pytest.mark.parametrize("seed", [1, 7, 99])
async def test_crash_passes_every_level_and_partly_recovers(seed: int) -> None:
    path = await healths("crash", seed, 130)
    first = {limit: next(tick for tick, health in enumerate(path) if health <= limit) for limit in (2.0, 1.5, 1.2)}
    assert 2.5 <= path[0] <= 3.0
    assert 10 < first[2.0] < first[1.5] < first[1.2] <= 40
    assert 1.0 < min(path) < 1.1, "emergency, short of liquidation"
    assert path[-1] > 2.0
    assert max(path[110:]) - min(path[110:]) < 0.1, "it rests"


async def test_calm_stays_healthy() -> None:
    path = await healths("calm", 3, 200)
    assert min(path) > 2.5
    assert len(set(path)) > 190, "prices move with each tick"


async def test_slow_bleed_bleeds_by_drift_and_by_funding() -> None:
    sim = SimExchange("slow-bleed", 7, frozen=True, start_ms=START_MS)
    before = _health(sim)
    await sim.step(300)
    assert _health(sim) < before - 0.3
    paid = [row for row in sim.account().income if row["incomeType"] == "FUNDING_FEE"]
    assert {row["time"] for row in paid} == {START_MS + minute * 60_000 for minute in range(1, 6)}


async def test_depeg_takes_three_percent_off_usdt_alone() -> None:
    sim = SimExchange("depeg", 7, frozen=True, start_ms=START_MS)
    assets, contracts = sim.binance.market.assets, sim.binance.market.contracts
    usdt, usdc, btc_in_usdt, btc_in_usdc = (
        float(x) for x in (assets["USDT"].index, assets["USDC"].index, contracts["BTCUSDT"].mark, contracts["BTCUSDC"].mark)
    )
    await sim.step(60)
    assert float(assets["USDT"].index) / usdt == pytest.approx(0.97, abs=0.001)
    assert float(assets["USDC"].index) / usdc == pytest.approx(1.0, abs=0.001)
    assert float(contracts["BTCUSDC"].mark) / btc_in_usdc == pytest.approx(1.0, abs=0.005)
    assert float(contracts["BTCUSDT"].mark) / btc_in_usdt == pytest.approx(1 / 0.97, abs=0.005), "dearer in a cheaper coin"


async def test_the_same_seed_gives_the_same_books() -> None:
    async def run(seed: int) -> dict[str, Any]:
        sim = SimExchange("crash", seed, frozen=True, start_ms=START_MS)
        await sim.step(20)
        sim.order("BTCUSDT", "SELL", "0.5")
        await sim.step(20)
        return sim.ledger()

    first, again, other = await run(5), await run(5), await run(6)
    assert first == again
    assert first["venues"]["binance_usdm"]["marks"] != other["venues"]["binance_usdm"]["marks"]


def test_keys_come_from_the_seed() -> None:
    def key(seed: int) -> tuple[str, str]:
        account = SimExchange(seed=seed, frozen=True).account()
        return account.api_key, account.api_secret

    assert key(5) == key(5) != key(6)
    assert all(len(part) == 64 for part in key(5))


@pytest.mark.parametrize("name", ["slow_bleed", "slow-bleed", "Slow Bleed"])
def test_scenario_names_are_read_kindly(name: str) -> None:
    assert scenario_named(name) is SCENARIOS["slow_bleed"]


def test_an_unknown_scenario_is_told_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="crash"):
        scenario_named("boom")


def test_the_clock_runs_freezes_and_jumps() -> None:
    real = [100.0]
    clock = SimClock(start_ms=1_000, speed=10.0, monotonic=lambda: real[0])
    real[0] += 0.5
    assert clock.now_ms() == 6_000, "ten simulated seconds per real one"
    clock.freeze()
    real[0] += 9
    assert clock.now_ms() == 6_000
    clock.advance(250)
    clock.freeze(False)
    real[0] += 0.125
    assert clock.now_ms() == 7_500


async def test_left_alone_the_clock_is_the_real_one_and_ticks_come(session: aiohttp.ClientSession) -> None:
    async with SimExchange(tick_seconds=1.0) as sim:
        assert abs(sim.now_ms() - time.time() * 1000) < 500
    async with SimExchange(tick_seconds=0.02) as sim, reader(sim, "/market/ws/!markPrice@arr@1s") as here:
        frames = await here.frames(5)
        assert [f[0]["E"] for f in frames] == sorted({f[0]["E"] for f in frames})
        assert await Rest(sim, session).get("/fapi/v3/account")
        sim.clock(frozen=True)
        tick = sim.state()["tick"]
        await asyncio.sleep(0.1)
        assert sim.state()["tick"] == tick


async def test_stop_ends_every_socket_and_a_reader_that_does_not_read_holds_up_nobody() -> None:
    sim = SimExchange(frozen=True, symbols=300)
    await sim.start()
    async with reader(sim, "/market/ws/!markPrice@arr@1s") as lazy:
        lazy.socket.transport.pause_reading()
        async with reader(sim, "/market/ws/btcusdt@markPrice@1s") as keen:
            await sim.step(10)
            await keen.frames(10)
        await sim.stop()
        lazy.socket.transport.resume_reading()
    await until(lambda: not sim.binance.hub.connections)


async def test_the_module_runs_by_itself(project_root: Path, session: aiohttp.ClientSession) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "monitor.sim",
        "--scenario",
        "crash",
        "--seed",
        "7",
        cwd=project_root,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            line = json.loads(await process.stdout.readline())
        venue = line["venues"]["binance_usdm"]
        assert set(venue) == {"rest", "streams", "api_key", "api_secret"}
        assert venue["streams"] == venue["rest"].replace("http", "ws")
        async with session.get(f"{venue['rest']}/sim/state") as answer:
            assert (await answer.json())["scenario"] == "crash"
    finally:
        process.terminate()
        await process.wait()


def test_the_simulator_imports_nothing_of_the_monitor(project_root: Path) -> None:
    files = sorted((project_root / "monitor/sim").rglob("*.py"))
    assert len(files) > 10
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, file
                names = [node.module or ""]
            for name in names:
                assert not name.startswith("monitor") or name.startswith("monitor.sim"), f"{file}: {name}"
