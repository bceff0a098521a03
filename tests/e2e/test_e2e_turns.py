"""How a run begins and ends: nothing that was crossed is lost on the way, and a ban outlives a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from conftest_e2e import Receiver, config_for, running, until
from sqlite_file import opened_file

from monitor.app import Ended, Monitor
from monitor.model.events import VenueCall
from monitor.sim.exchange import SimExchange


@pytest.mark.parametrize("why", Ended)
async def test_whoever_ends_it_while_keys_are_checked_gets_what_he_asked_for(receiver: Receiver, why: Ended) -> None:
    """A reload in that moment must begin a new run, not end the daemon."""
    async with SimExchange("calm", 7) as exchange:
        exchange.fault("delay_rest", path="apiRestrictions", delay_ms=8000)
        monitor = Monitor(config_for(exchange, receiver))
        run = asyncio.create_task(monitor.run())
        await until(lambda: hasattr(monitor, "server") and monitor.server.port > 0, "the page is up")
        monitor.end(why)
        async with asyncio.timeout(6):
            assert await run is why


@pytest.mark.parametrize("why", Ended)
async def test_occurrences_on_their_way_to_the_disk_are_not_cut_off(receiver: Receiver, tmp_path: Path, why: Ended) -> None:
    """They never come again: a liquidation order in the last moment before the end must be told after it."""
    file, calls = tmp_path / "state.db", 3000
    async with SimExchange("calm", 7) as exchange:
        monitor = Monitor(config_for(exchange, receiver, file, alerts={"channels": []}))
        run = asyncio.create_task(monitor.run())
        await monitor.started.wait()
        for number in range(calls):
            monitor.emit(VenueCall("binance_usdm", "main", "liquidation", ("BTCUSDT",), f"order {number}", number))
        await asyncio.sleep(0.02)  # the first of them are being committed
        monitor.end(why)
        assert await run is why
    with opened_file(file) as store:
        assert store.execute("select count(*) from incidents").fetchone() == (calls,)
    store.close()


async def test_a_rate_that_moved_is_not_calm_after_a_restart(receiver: Receiver, tmp_path: Path) -> None:
    """What it moved from an hour ago is known only to those who were there: the store remembers it."""
    file = tmp_path / "state.db"
    async with SimExchange("calm", 7, htx_accounts=()) as exchange:
        rules = {"collateral_move": {"enabled": True, "warning": 0.001, "high": None}}
        config = config_for(exchange, receiver, file, rules=rules)

        def told(monitor: Monitor) -> list[str]:
            return [one.key.subject for one in monitor.readout.incidents() if one.key.rule == "collateral_move"]

        async with running(config, exchange) as monitor:
            await until(lambda: not monitor.readout.missing(), "ready")
            btc = next(rate.index for rate in monitor.readout.rates()["binance_usdm"] if rate.asset == "BTC")
            exchange.rate("BTC", round(btc * 0.9, 2))
            await until(lambda: told(monitor) == ["BTC"], "told")
        receiver.webhook.clear()
        async with running(config, exchange) as monitor:
            await until(lambda: not monitor.readout.missing(), "ready again")
            await asyncio.sleep(3)
            assert told(monitor) == ["BTC"]
        assert not [alert for alert in receiver.webhook if alert["reason"] == "resolved"], "nothing is calm again"


async def test_a_ban_outlives_a_restart(receiver: Receiver, tmp_path: Path) -> None:
    """Each request during a ban makes it longer, also those of a program that has forgotten it."""
    file = tmp_path / "state.db"
    venues: dict[str, Any] = {"binance_usdm": {"reconcile_s": 0.5}}
    async with SimExchange("calm", 7, htx_accounts=()) as exchange:
        config = config_for(exchange, receiver, file, venues=venues)
        message = f"Way too many requests; IP(127.0.0.1) banned until {exchange.now_ms() + 600_000}."
        async with running(config, exchange) as monitor:
            await until(lambda: not monitor.readout.missing(), "ready")
            exchange.fault("reject_rest", count=1, path="/fapi/v3/account", status=418, code=-1003, msg=message)
            await until(lambda: monitor.readout.counters()["binance_usdm"].rest.get("-1003", 0) > 0, "banned")
            await asyncio.sleep(1.5)  # a tick
        async with running(config, exchange) as monitor:
            await asyncio.sleep(2)
            asked = monitor.readout.counters()["binance_usdm"].rest
            assert not set(asked) - {"banned"}, "no request, only refusals of our own"
            assert any(incident.key.rule == "stale" for incident in monitor.readout.incidents()) or monitor.readout.missing()
