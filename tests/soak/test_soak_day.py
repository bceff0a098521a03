"""A day of 24 hours in minutes: both venues, the 24 h roll, listen keys, settlement and delivery, four maintenance windows.

The exchange's clock moves `STEP_S` at a time, and not before the monitor has seen the step before. The monitor's periods run on
the monotonic clock, so they are divided by the same factor; deadlines that a busy machine may miss stay as they are.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import time
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from conftest_e2e import Receiver, config_for, running, until
from msgspec import Struct, field

from monitor.app import Monitor
from monitor.model.figures import PoolKey
from monitor.sim.exchange import SimExchange
from monitor.sim.htx import history

SPEED = float(os.environ.get("MARGIN_SOAK_SPEED", "480"))  # simulated seconds per real second; the machine may be slower
STEP_S = 10
HOUR_S = 3600
DAY_S = 24 * HOUR_S
START = datetime(2026, 11, 26, 20, tzinfo=UTC)  # a Thursday: twelve hours later the weekly contracts are delivered
WINDOWS_H = (3, 9, 15, 21)  # maintenance
WINDOW_S = 600
LISTEN_KEY_S = 1800  # a key is extended twice in its life
WARM_H = 4  # caches, pools of connections and allocators are what they will be
GROWTH_BYTES_MAX = 5 << 20  # of the monitor and the simulated exchange in one process
CANDLES_MAX = 60  # the exchange keeps days of candles otherwise, and its growth would hide ours

MAIN_USD = PoolKey("binance_usdm", "main", "USD")


def compressed(seconds: float) -> float:
    return seconds / SPEED


class Sample(Struct):
    """What the process holds at the end of an hour."""

    rss_bytes: int
    tasks: int
    descriptors: int


class Witness(Struct):
    """Everything that went wrong without anybody raising it."""

    errors: list[dict[str, Any]] = field(default_factory=list)
    unhandled: list[dict[str, Any]] = field(default_factory=list)

    def log(self, _logger: object, method: str, event: Any) -> Any:
        if method in ("error", "critical", "exception") or event.get("exc_info"):
            self.errors.append(dict(event))
        raise structlog.DropEvent


def config(there: SimExchange, receiver: Receiver) -> Any:
    binance = {
        "keep_alive_s": compressed(LISTEN_KEY_S) * 0.95,
        "keep_alive_retry_s": 0.2,
        "rotate_after_s": compressed(23 * HOUR_S),
        "rotate_jitter_s": compressed(0.5 * HOUR_S),
        "overlap_s": 0.2,
        "settle_s": 1.0,
        "reload_s": compressed(HOUR_S),
        "clock_sync_s": 1.5,
        "reconcile_s": 1.0,
        "fallback_s": 0.2,
        "backoff_min_s": 0.05,
        "backoff_max_s": 0.5,
        "retry_min_s": 0.02,
        "retry_max_s": 0.1,
    }
    htx = {
        "reload_s": compressed(HOUR_S),
        "discover_s": 1.0,
        "reconcile_s": 1.0,
        "fallback_s": 0.2,
        "clock_sync_s": 1.5,
        "settle_s": 1.0,
        "settle_poll_s": 0.1,
        "unavailable_pause_s": 0.2,
        "backoff_min_s": 0.05,
        "backoff_max_s": 0.5,
        "retry_min_s": 0.02,
        "retry_max_s": 0.1,
        "last_quiet_s": 1.0,
        "takeover_s": 0.2,
    }
    # A second of this machine is minutes of the exchange: ages are judged accordingly.
    stale = {"warning": SPEED * 1.0, "high": SPEED * 5.0, "critical": SPEED * 10.0, "reconcile_due_s": SPEED * 10.0}
    accounts = [
        {"name": "main", "venue": "binance_usdm", "api_key": {"env": "KEY"}, "api_secret": {"env": "SECRET"}},
        {"name": "coins", "venue": "htx_coin_futures", "api_key": {"env": "HTX_KEY"}, "api_secret": {"env": "HTX_SECRET"}},
    ]
    venues = {"binance_usdm": binance, "htx_coin_futures": htx}
    return config_for(there, receiver, accounts=accounts, venues=venues, rules={"stale": stale})


class Day:
    """The exchange's day, step by step, and what the monitor does with it."""

    def __init__(self, there: SimExchange, monitor: Monitor) -> None:
        self.there = there
        self.monitor = monitor
        self.samples: list[Sample] = []
        self.slow_steps = 0
        self.down_for_maintenance = 0
        self._began = time.monotonic()
        self._start_ms = there.now_ms()

    @property
    def passed_s(self) -> float:
        return (self.there.now_ms() - self._start_ms) / 1000

    async def step(self) -> None:
        """Ten seconds at the exchange, then as long as it takes until they are seen, then the pace."""
        self.there.clock(advance_ms=(STEP_S - 1) * 1000)
        await self.there.step(1)
        mark = next(stream for stream in self.monitor.readout.streams() if stream.stream == "mark_price")
        now_ms = self.there.now_ms()
        deadline = time.monotonic() + 2.0
        while (mark.last_event_ms or 0) < now_ms and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        self.slow_steps += (mark.last_event_ms or 0) < now_ms
        ahead_s = self._began + self.passed_s / SPEED - time.monotonic()
        await asyncio.sleep(max(0.0, ahead_s))

    async def until_hour(self, hour: float) -> None:
        while self.passed_s < hour * HOUR_S:
            before = int(self.passed_s // HOUR_S)
            await self.step()
            if int(self.passed_s // HOUR_S) > before:
                self.samples.append(sample())

    async def steps_until(self, condition: Any, what: str, deadline_s: float = 30.0) -> None:
        deadline = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < deadline, f"{what}: {self.monitor.readout.missing()}"
            await self.step()

    async def maintenance(self) -> None:
        """Both venues answer REST with a page, HTX hangs up as well. Then it is as if nothing had been."""
        self.there.fault("reject_rest", count=1_000_000, status=503, html=True)
        self.there.htx_control.fault("maintenance")
        await self.until_hour((self.passed_s + WINDOW_S) / HOUR_S)
        await self.steps_until(lambda: any(not stream.up for stream in self.monitor.readout.streams()), "it was noticed")
        self.down_for_maintenance += 1
        self.there.fault("clear")
        self.there.htx_control.fault("clear")
        await self.steps_until(self.well, "well after maintenance")

    def well(self) -> bool:
        return not self.monitor.readout.missing() and all(stream.up for stream in self.monitor.readout.streams())


def sample() -> Sample:
    gc.collect()
    with open("/proc/self/statm") as statm:
        pages = int(statm.read().split()[1])
    return Sample(pages * os.sysconf("SC_PAGE_SIZE"), len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd")))


@pytest.mark.timeout(900)
async def test_row_51_memory_tasks_and_descriptors_stay_flat_through_a_day(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], record_property: Any
) -> None:
    witness = Witness()
    structlog.configure(processors=[witness.log])
    monkeypatch.setattr(history, "CANDLES_MAX", CANDLES_MAX)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: witness.unhandled.append(context))
    renewals = 0
    try:
        async with SimExchange("calm", 7, frozen=True, start_ms=round(START.timestamp() * 1000)) as there:
            extend = there.binance.listen_keys.extend

            def counted(account: Any) -> str:
                nonlocal renewals
                renewals += 1
                return extend(account)

            monkeypatch.setattr(there.binance.listen_keys, "extend", counted)
            async with running(config(there, receiver), there) as monitor:
                day = Day(there, monitor)
                await day.steps_until(day.well, "ready")
                weekly = min(contract for contract in held(there, "BTC"))
                for hour in WINDOWS_H:
                    await day.until_hour(hour)
                    await day.maintenance()
                    if hour == 9:
                        assert weekly in held(there, "BTC"), "not yet delivered"
                        assert weekly in seen(monitor, "BTC")
                    if hour == 15:
                        assert weekly not in held(there, "BTC"), "the weekly contract was delivered at 08:00 UTC"
                        assert weekly not in seen(monitor, "BTC")
                await day.until_hour(24.5)
                await day.steps_until(day.well, "well at the end")
                streams = {f"{stream.venue} {stream.stream}": dict(stream.reconnects) for stream in monitor.readout.streams()}
                await until(lambda: agrees(there, monitor), "the exchange's own figures at the end")
                took_s = time.monotonic() - day._began
    finally:
        structlog.reset_defaults()

    assert not witness.unhandled
    assert not witness.errors
    assert day.down_for_maintenance == len(WINDOWS_H)
    assert renewals >= 48
    for name, reasons in streams.items():
        if name.startswith("binance") and name != "binance_usdm asset_index":
            assert reasons.get("rotation", 0) >= 1, f"{name} was rolled before its 24 hours: {reasons}"
            assert not set(reasons) - {"rotation"}, f"{name} was never lost: {reasons}"
    early, late = day.samples[WARM_H : WARM_H + 4], day.samples[-4:]
    growth = statistics.median(s.rss_bytes for s in late) - statistics.median(s.rss_bytes for s in early)
    with capsys.disabled():
        print(
            f"\n{day.passed_s / HOUR_S:.1f} h in {took_s:.0f} s: {renewals} renewals, streams {streams},"
            f" RSS {early[0].rss_bytes >> 20} → {late[-1].rss_bytes >> 20} MiB ({growth / 2**20:+.1f}),"
            f" tasks {early[0].tasks} → {late[-1].tasks}, descriptors {early[0].descriptors} → {late[-1].descriptors},"
            f" slow steps {day.slow_steps}, messages {len(receiver.webhook)}"
        )
    assert growth < GROWTH_BYTES_MAX
    assert statistics.median(s.tasks for s in late) <= statistics.median(s.tasks for s in early) + 4
    assert statistics.median(s.descriptors for s in late) <= statistics.median(s.descriptors for s in early) + 4
    told = {(message["rule"], message["level"]) for message in receiver.webhook}
    assert not {rule for rule, _ in told} & {"reconcile", "health", "guarantee_asset_ratio"}, "the figures never lied"
    record_property("recovery_s", 0)


def held(there: SimExchange, coin: str) -> set[str]:
    positions = there.ledger()["venues"]["htx_coin_futures"]["accounts"]["main"]["coins"][coin]["positions"]
    return {leg["contract_code"] for leg in positions}


def seen(monitor: Monitor, coin: str) -> set[str]:
    pool = monitor.readout.pool(PoolKey("htx_coin_futures", "coins", coin))
    return set() if pool is None else {position.symbol for position in pool.positions}


def agrees(there: SimExchange, monitor: Monitor) -> bool:
    pool, theirs = monitor.readout.pool(MAIN_USD), there.ledger()["venues"]["binance_usdm"]["accounts"]["main"]["totals"]
    return pool is not None and all(
        ours is not None and abs(ours - float(own)) <= 1e-9 * max(1.0, abs(float(own)))
        for ours, own in ((pool.equity, theirs["equity"]), (pool.requirement, theirs["maintenance_margin"]))
    )
