"""Fault rows 48 to 50: clocks that step, zones, and a process that stands still."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest_e2e import until
from faults_out_kit import Stage, daemon, exchange, logged, metric, plunge, ready, recover, running

HOUR_S = 3600


@pytest.mark.parametrize("step_s", [-HOUR_S, HOUR_S, -30 * 24 * HOUR_S], ids=["an hour back", "an hour on", "a month back"])
async def test_row_48_the_wall_clock_steps(
    stage: Stage, events: list[Any], monkeypatch: pytest.MonkeyPatch, record_property: Any, step_s: int
) -> None:
    """All that the process asks of the wall clock is shifted; the monotonic clock goes on as it does."""
    async with exchange() as there, running(there, stage) as monitor:
        await ready(monitor)
        plunge(there)
        await until(lambda: len(stage.alerts()) == 1, "told")
        real, real_ns = time.time, time.time_ns
        monkeypatch.setattr(time, "time", lambda: real() + step_s)
        monkeypatch.setattr(time, "time_ns", lambda: real_ns() + step_s * 1_000_000_000)
        before = monitor.clock.now_ms()
        turned = sum(monitor.readout.ticks().counts)
        await until(lambda: sum(monitor.readout.ticks().counts) >= turned + 4, "prices flow on")
        assert 0 < monitor.clock.now_ms() - before < 60_000, "the monitor's clock neither stood nor jumped"
        assert await metric(monitor, "margin_pool_data_age_seconds", account="main") < 5
        assert len(stage.alerts()) == 1, "no repeat came early"
        assert not stage.alerts("stale")
        assert not stage.alerts("clock")
        recover(there)
        began = time.monotonic()
        await until(lambda: len(stage.alerts()) == 2, "and the end is told")
        assert stage.alerts()[1]["incident"]["duration_s"] < 60
    assert not logged(events, "stream_lost")
    record_property("recovery_s", round(time.monotonic() - began, 2))


async def test_row_48_another_boots_monotonic_clock(stage: Stage, tmp_path: Path, record_property: Any) -> None:
    """After a reboot the monotonic clock starts anew: what was open stays open and is told neither at once nor never."""
    shifted = another_boot()
    async with exchange() as there, daemon(there, stage, tmp_path) as one:
        await one.start()
        await one.ready()
        plunge(there)
        await until(lambda: len(stage.alerts()) == 1, "told")
        await one.kill()
        began = time.monotonic()
        await one.start(*shifted)
        await one.ready()
        recovery_s = time.monotonic() - began
        assert len(stage.alerts()) == 1, "not again"
        assert await one.metric("margin_pool_level", account="main") >= 4
        recover(there)
        await until(lambda: len(stage.alerts()) == 2, "its end is told")
        assert [event["reason"] for event in one.events("alert")] == ["first", "resolved"]
    record_property("recovery_s", round(recovery_s, 2))


def another_boot() -> tuple[str, ...]:
    """A prefix that starts a program with a monotonic clock 40 days ahead."""
    prefix = ("unshare", "--time", "--fork", "--kill-child", "--monotonic", str(40 * 24 * HOUR_S))
    try:
        subprocess.run([*prefix, "true"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no time namespaces here")
    return prefix


@pytest.mark.parametrize("zone", ["XXX-05:45", "EST5EDT,M3.2.0/2,M11.1.0/2", "YYY+11:30"])
async def test_row_49_inside_all_is_utc(stage: Stage, tmp_path: Path, zone: str) -> None:
    async with exchange() as there, daemon(there, stage, tmp_path) as one:
        await one.start(TZ=zone)
        await one.ready()
        plunge(there)
        await until(lambda: bool(stage.alerts()), "told")
        told = stage.alerts()[0]
        said = [told["at"], told["incident"]["opened_at"], *(event["timestamp"] for event in one.events("alert"))]
        text = stage.taken[0].text
        said += re.findall(r"since (\S+)", text)
        assert len(said) == 4
        for moment in said:
            assert moment.endswith("Z"), moment
            age = datetime.now(UTC) - datetime.fromisoformat(moment)
            assert abs(age.total_seconds()) < 60, f"{moment} in zone {zone}"
        assert told["incident"]["id"][:11] == datetime.fromisoformat(told["at"]).strftime("%Y%m%dT%H")
        assert await one.metric("margin_pool_data_age_seconds", account="main") < 5


async def test_row_50_a_process_that_stands_still_feeds_no_watchdog(stage: Stage, tmp_path: Path, record_property: Any) -> None:
    """STOP for seconds: no sign of life goes out, and after CONT the lag is seen, the data are back and nothing was lost."""
    watchdog_s, still_s = 2.0, 6.0
    manager = Manager(tmp_path / "notify")
    async with exchange() as there, daemon(there, stage, tmp_path) as one:
        try:
            await one.start(NOTIFY_SOCKET=str(manager.path), WATCHDOG_USEC=str(round(watchdog_s * 1e6)))
            await one.ready()
            await manager.hears("WATCHDOG=1", watchdog_s + 3)
            one.signal(signal.SIGSTOP)
            manager.forget()
            stopped = time.monotonic()
            plunge(there)  # in the dark
            await asyncio.sleep(still_s)  # this is the fault itself: so long it stands still
            assert "WATCHDOG=1" not in manager.forget(), "systemd would have started it again by now"
            one.signal(signal.SIGCONT)
            going = time.monotonic()
            assert going - stopped > 2 * watchdog_s
            await until(lambda: bool(stage.alerts()), "what was crossed in the dark is told", 15)
            told_s = time.monotonic() - going
            assert told_s < 5
            await manager.hears("WATCHDOG=1", watchdog_s + 10)
            assert await one.metric("margin_loop_lag_seconds") >= still_s - 2, "the probe saw it"
            await one.ready()
            recovery_s = time.monotonic() - going
        finally:
            manager.close()
    record_property("recovery_s", round(recovery_s, 2))


async def test_row_50_a_loop_that_is_blocked_feeds_no_watchdog(stage: Stage, tmp_path: Path, record_property: Any) -> None:
    """The process runs, its loop does not: the part that ticks hangs, as a bug would have it."""
    manager = Manager(tmp_path / "notify")
    hang = tmp_path / "hang.py"
    hang.write_text(
        "import asyncio, sys\n"
        "from monitor.alerts.desk import AlertDesk\n"
        "from monitor.cli import main\n"
        "tick, ticks = AlertDesk.tick, []\n"
        "async def hangs(self, now_ms):\n"
        "    ticks.append(now_ms)\n"
        "    await (asyncio.Event().wait() if len(ticks) > 4 else tick(self, now_ms))\n"
        "AlertDesk.tick = hangs\n"
        "main()\n"
    )
    async with exchange() as there, daemon(there, stage, tmp_path) as one:
        try:
            notify = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "1000000"}
            await one.start(command=(str(hang),), **notify)
            await manager.hears("WATCHDOG=1", 30)
            await until(lambda: bool(one.events("watchdog_withheld")), "it is withheld and logged", 30)
            assert one.events("watchdog_withheld")[0]["reasons"] == ["loop_slow"]
            assert await one.metric("margin_heartbeat_withheld", reason="loop_slow") == 1
            manager.forget()
            await asyncio.sleep(2.0)  # twice the watchdog's time
            assert "WATCHDOG=1" not in manager.forget()
        finally:
            manager.close()
        await one.kill()  # as systemd does
        began = time.monotonic()
        await one.start()
        await one.ready()
        record_property("recovery_s", round(time.monotonic() - began, 2))


class Manager:
    """A service manager's end of the notification socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(path))
        self._sock.setblocking(False)
        self._said = ""

    def forget(self) -> str:
        """What was said since the last time."""
        while True:
            try:
                self._said += self._sock.recv(4096).decode() + "\n"
            except BlockingIOError:
                said, self._said = self._said, ""
                return said

    async def hears(self, what: str, deadline_s: float) -> None:
        said = ""

        def heard() -> bool:
            nonlocal said
            said += self.forget()
            return what in said

        await until(heard, what, deadline_s)

    def close(self) -> None:
        self._sock.close()
