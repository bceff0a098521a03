"""Runs one after the other: what a stop, a hanging file and a configuration that is refused late do to a reload."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest_e2e import Receiver, config_for, data_for, fetch, until
from structlog.testing import capture_logs

from monitor import app
from monitor.config import Config, from_data
from monitor.reload import Daemon, Stage
from monitor.sim.binance.account import SimAccount, SimPosition
from monitor.sim.exchange import SimExchange
from monitor.systemd import ServiceManager

STOPS_WITHIN_S = 15.0  # it flushes for at most 10


async def test_row_5_a_stop_while_the_new_configuration_is_read(receiver: Receiver) -> None:
    reading, read = threading.Event(), threading.Event()
    async with SimExchange("calm", 7) as there:
        config = config_for(there, receiver)

        def load_again() -> Config:
            reading.set()
            read.wait(60)  # a file on a disk that hangs
            return config

        runs = Daemon(config, load_again, ServiceManager({}))
        task = asyncio.create_task(runs.run())
        await until(runs.monitor.started.is_set, "the first run")
        first, reload = runs.monitor, asyncio.create_task(runs.reload())
        try:
            await until(reading.is_set, "it reads, and waits for what does not come")
            assert runs.stage is Stage.LOADING
            runs.stop()
            async with asyncio.timeout(STOPS_WITHIN_S):
                await task
        finally:
            read.set()
            await reload
        assert (runs.stage, runs.monitor is first) == (Stage.STOPPING, True)


async def test_row_5_each_stage_of_a_run_leads_to_its_end(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a process and its signals: a stop in the moment between two runs."""
    async with SimExchange("calm", 7) as there:
        config = config_for(there, receiver)
        runs = Daemon(config, lambda: config, ServiceManager({}))
        built = runs._monitor

        def stopped_meanwhile(*args: Any) -> app.Monitor:
            runs.stop()
            return built(*args)

        task = asyncio.create_task(runs.run())
        await until(runs.monitor.started.is_set, "the first run")
        monkeypatch.setattr(runs, "_monitor", stopped_meanwhile)
        first = runs.monitor
        assert await runs.reload() == []
        assert runs.stage is Stage.CHANGING
        async with asyncio.timeout(STOPS_WITHIN_S):
            await task
        assert (runs.stage, runs.monitor is first, runs.monitor.started.is_set()) == (Stage.STOPPING, False, False)
        assert await runs.reload() == ["the daemon is stopping"]


async def test_row_9_a_configuration_that_is_refused_late_goes_and_the_old_one_comes_back(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(app, "KEY_CHECK_S", 0.1)
    accounts = [
        SimAccount("main", wallets={"USDT": 50_000}, positions=[SimPosition("BTCUSDT", "4")]),
        SimAccount("rich", wallets={"USDT": 1_000}, rights={"enableWithdrawals": True}),
    ]
    async with SimExchange("calm", 7, accounts=accounts, htx_accounts=[], noise=0.0) as there:
        rich = there.account("rich")
        data, environ = data_for(there, receiver, tmp_path / "store.sqlite3")
        keys = {"api_key": {"env": "RICH_KEY"}, "api_secret": {"env": "RICH_SECRET"}}
        wider = {**data, "accounts": [*data["accounts"], {"name": "rich", "venue": "binance_usdm", **keys}]}
        environ |= {"RICH_KEY": rich.api_key, "RICH_SECRET": rich.api_secret}
        old, new = (from_data(one, environ) for one in (data, wider))
        with capture_logs() as logs:
            daemon = Daemon(old, lambda: new, ServiceManager({}))
            task = asyncio.create_task(daemon.run())
            try:
                await until(lambda: daemon.monitor.proven, "the old configuration has proven itself")
                there.fault("delay_rest", path="apiRestrictions", delay_ms=2000)
                assert await daemon.reload() == []
                await until(lambda: daemon.monitor.config is new and daemon.monitor.started.is_set(), "the new one is in force")
                await until(lambda: daemon.monitor.config is old and daemon.monitor.started.is_set(), "and the old one again")
                assert not task.done()
                _, text = await fetch(f"{daemon.monitor.server.url}metrics")
                assert "margin_config_last_reload_successful 0" in text
                assert [line["log_level"] for line in logs if line["event"] == "reload_refused"] == ["error"]
                await until(lambda: bool(about_reload(receiver)), "the owner is notified")
                assert "rich" in about_reload(receiver)[0]["summary"]
                await until(lambda: daemon.monitor.readout.missing() == [], "it watches")
            finally:
                daemon.stop()
                async with asyncio.timeout(STOPS_WITHIN_S):
                    await task


def about_reload(receiver: Receiver) -> list[dict[str, Any]]:
    return [alert for alert in receiver.webhook if alert["rule"] == "degraded"]
