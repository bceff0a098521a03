"""The dead man's figure: at most 60 s after the trouble began the last sign of life went out. All four kinds of trouble.

Whoever waits outside must miss it however the monitor fails. In real time where that is seconds; where a limit of the product is
longer it is divided by SPEED, and the limit itself is held against the figure.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from conftest_e2e import until
from faults_canary import Canaries
from faults_out_kit import (
    Stage,
    crossing,
    daemon,
    exchange,
    logged,
    metric,
    metric_becomes,
    never,
    ready,
    running,
)
from test_faults_out_store import SmallDisk, mounted

from monitor import deadman, heartbeat
from monitor.model.alerts import Level

STOPS_S_MAX = 60.0
SPEED = 15.0
QUIET_S = 4.0  # with a beat each second it is surely over then
BEATS = {"period_s": 1.0}


def beats(canaries: Canaries) -> list[float]:
    """When each came, monotonic."""
    return [at for at, path in canaries.visits if path.endswith(canaries.latest["heartbeat.url"])]


async def beating(canaries: Canaries) -> None:
    count = len(beats(canaries))
    await until(lambda: len(beats(canaries)) >= count + 2, "it beats", 30)


async def stopped(canaries: Canaries, since_s: float, within_s: float = STOPS_S_MAX) -> None:
    """No beat is younger than `within_s` after the trouble began, and none comes any more."""

    def quiet() -> bool:
        return time.monotonic() - max(beats(canaries)) > QUIET_S

    await until(quiet, "it stops", within_s + QUIET_S + 10)
    assert max(beats(canaries)) - since_s <= within_s


@pytest.mark.timeout(180)
async def test_it_stops_when_the_loop_hangs(stage: Stage, tmp_path: Path) -> None:
    """The part that ticks waits for ever; all else in the process goes on."""
    hang, order = tmp_path / "hang.py", tmp_path / "hang_now"
    hang.write_text(
        "import asyncio, pathlib\n"
        "from monitor.alerts.desk import AlertDesk\n"
        "from monitor.cli import main\n"
        "tick = AlertDesk.tick\n"
        "async def hangs(self, now_ms):\n"
        f"    await (asyncio.Event().wait() if pathlib.Path({str(order)!r}).exists() else tick(self, now_ms))\n"
        "AlertDesk.tick = hangs\n"
        "main()\n"
    )
    async with exchange() as there, daemon(there, stage, tmp_path, heartbeat=BEATS) as one:
        await one.start(command=(str(hang),))
        await one.ready()
        await beating(stage.canaries)
        order.touch()
        await stopped(stage.canaries, time.monotonic())
        assert one.events("heartbeat_withheld")[-1]["reasons"] == ["loop_slow"]
        assert await one.metric("margin_heartbeat_withheld", reason="loop_slow") == 1


@pytest.mark.timeout(180)
async def test_it_stops_when_the_process_stands_still(stage: Stage, tmp_path: Path) -> None:
    """A call that blocks the loop itself, as a bug in C would: then nobody can even say why."""
    block, order = tmp_path / "block.py", tmp_path / "block_now"
    block.write_text(
        "import pathlib, time\n"
        "from monitor.app import Monitor\n"
        "from monitor.cli import main\n"
        "emit = Monitor.emit\n"
        "def blocks(self, event):\n"
        f"    while pathlib.Path({str(order)!r}).exists():\n"
        "        time.sleep(0.05)\n"
        "    return emit(self, event)\n"
        "Monitor.emit = blocks\n"
        "main()\n"
    )
    async with exchange() as there, daemon(there, stage, tmp_path, heartbeat=BEATS) as one:
        await one.start(command=(str(block),))
        await one.ready()
        await beating(stage.canaries)
        order.touch()
        try:
            await stopped(stage.canaries, time.monotonic())
        finally:
            order.unlink()
        await beating(stage.canaries)
        assert await one.metric("margin_loop_lag_seconds") >= QUIET_S - 2, "the probe saw it afterwards"


@pytest.mark.timeout(180)
async def test_it_stops_when_all_streams_are_silent(stage: Stage, events: list[Any]) -> None:
    async with exchange() as there, running(there, stage, heartbeat=BEATS) as monitor:
        await ready(monitor)
        await beating(stage.canaries)
        there.fault("silence_stream")
        there.fault("reject_rest", count=1_000_000, path="/fapi/v1/premiumIndex")
        await stopped(stage.canaries, time.monotonic())
        assert "stream_down" in logged(events, "heartbeat_withheld")[-1]["reasons"]
        assert await metric(monitor, "margin_heartbeat_withheld", reason="stream_down") == 1
        there.fault("clear")
        await until(lambda: bool(logged(events, "heartbeat_resumed")), "it goes on", 60)


@pytest.mark.timeout(180)
async def test_it_stops_when_the_outbox_is_stuck(stage: Stage, events: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver takes nothing and does not say why."""
    assert deadman.WAIT_S_MAX + heartbeat.RECHECK_S + heartbeat.TIMEOUT_S <= STOPS_S_MAX
    monkeypatch.setattr(deadman, "WAIT_S_MAX", deadman.WAIT_S_MAX / SPEED)
    stage.always["webhook"] = never
    async with exchange() as there, running(there, stage, heartbeat=BEATS) as monitor:
        await ready(monitor)
        await beating(stage.canaries)
        await monitor.desk.handle([crossing(Level.HIGH)])
        await stopped(stage.canaries, time.monotonic(), STOPS_S_MAX / SPEED + 1)
        assert logged(events, "heartbeat_withheld")[-1]["reasons"] == ["outbox_stuck"]
        assert await metric(monitor, "margin_heartbeat_withheld", reason="outbox_stuck") == 1
        stage.always.clear()
        await until(lambda: bool(logged(events, "heartbeat_resumed")), "it drains again", 30)


@pytest.mark.timeout(180)
async def test_it_stops_when_the_disk_is_full_though_nothing_happens(
    stage: Stage, events: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a calm night nobody writes. That the disk filled up must not be found by the crossing that matters."""
    assert deadman.STORE_CHECK_S + heartbeat.RECHECK_S + heartbeat.TIMEOUT_S <= STOPS_S_MAX
    monkeypatch.setattr(deadman, "STORE_CHECK_S", deadman.STORE_CHECK_S / SPEED)
    monkeypatch.setattr("monitor.alerts.own.STORE_RETRY_EVERY_S", 1.0)
    with mounted(tmp_path, "640k") as place:
        disk = SmallDisk(place)
        async with exchange() as there, running(there, stage, place / "state.db", heartbeat=BEATS) as monitor:
            await ready(monitor)
            await beating(stage.canaries)
            disk.fill()
            await stopped(stage.canaries, time.monotonic(), STOPS_S_MAX / SPEED + 1)
            assert logged(events, "heartbeat_withheld")[-1]["reasons"] == ["store_at_risk"]
            await until(lambda: bool(stage.alerts("store")), "and it is told")
            assert await metric(monitor, "margin_heartbeat_withheld", reason="store_at_risk") == 1
            disk.free()
            await until(lambda: bool(logged(events, "heartbeat_resumed")), "room again", 30)
            await metric_becomes(monitor, 0, "margin_heartbeat_withheld", reason="store_at_risk")
