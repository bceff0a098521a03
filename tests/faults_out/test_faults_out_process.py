"""Fault rows 44 to 47 and 54: the process dies, starts again, is given a bad configuration, or is started twice.

The daemon as a user starts it, in a process of its own; the exchange and the receiver live here.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from aiohttp import web
from conftest_e2e import until
from faults_out_kit import Daemon, Stage, daemon, exchange, plunge, recover, says

RESTART_S_MAX = 5.0  # from a start to the message that waited, by the promise; plus what a busy machine adds
SLACK_S = 10.0


async def test_row_44_killed_between_crossing_and_send(stage: Stage, tmp_path: Path, record_property: Any) -> None:
    """The receiver asked for patience, so the crossing is on disk and was never taken when the daemon dies."""
    stage.always["webhook"] = says(429, **{"Retry-After": "1"})
    async with exchange() as there, daemon(there, stage, tmp_path) as one:
        await one.start()
        await one.ready()
        plunge(there)
        await until(lambda: bool(stage.of("webhook")), "the crossing is on its way")
        tried = stage.of("webhook")[0]
        assert await one.metric("margin_outbox_pending", channel="webhook") == 1
        await one.kill()
        assert not stage.taken
        stage.always.clear()
        began = time.monotonic()
        await one.start()
        await until(lambda: bool(stage.alerts()), "sent after the restart", RESTART_S_MAX + SLACK_S)
        recovery_s = time.monotonic() - began
        assert stage.taken[0].id == tried.id
        await one.ready()
        assert len(stage.alerts()) == 1, "once"
        assert await one.metric("margin_outbox_pending", channel="webhook") == 0
        assert await one.metric("margin_notifications_total", channel="webhook", result="sent") == 1
        assert [event["notice"] for event in one.events("alert_sent", channel="webhook")] == [tried.id]
    record_property("recovery_s", round(recovery_s, 2))


async def test_row_45_killed_between_send_and_mark(stage: Stage, tmp_path: Path, record_property: Any) -> None:
    """The receiver has it, and its answer never arrives: one duplicate, with the same id."""

    async def takes_and_waits(request: web.Request) -> web.StreamResponse:
        stage.taken.append(stage.got[-1])
        await asyncio.sleep(30)
        raise AssertionError("the sender should be dead")

    stage.orders["webhook"].append(takes_and_waits)
    delivery = {"total_s": 20}
    async with exchange() as there, daemon(there, stage, tmp_path) as one:
        config = json.loads(json.dumps(one_config(one)))
        config["alerts"]["delivery"] |= delivery
        one.write(config)
        await one.start()
        await one.ready()
        plunge(there)
        await until(lambda: len(stage.taken) == 1, "taken")
        await one.kill()
        began = time.monotonic()
        await one.start()
        await until(lambda: len(stage.taken) == 2, "once more", RESTART_S_MAX + SLACK_S)
        recovery_s = time.monotonic() - began
        await one.ready()
        assert len(stage.taken) == len(stage.alerts()) == 2, "one duplicate, not two"
        first, second = stage.taken
        assert (first.id, first.body) == (second.id, second.body)
        assert await one.metric("margin_outbox_pending", channel="webhook") == 0
        assert [event["notice"] for event in one.events("alert_sent", channel="webhook")] == [first.id]
    record_property("recovery_s", round(recovery_s, 2))


async def test_row_46_restarts_with_an_open_alert(stage: Stage, tmp_path: Path, record_property: Any) -> None:
    async with exchange() as there, daemon(there, stage, tmp_path) as one:
        await one.start()
        await one.ready()
        plunge(there)
        await until(lambda: len(stage.alerts()) == 1, "told")
        for number in (signal.SIGKILL, signal.SIGTERM):
            one.signal(number)
            assert await one.ended() == (0 if number == signal.SIGTERM else -signal.SIGKILL)
            await one.start()
            await one.ready()
            (incident,) = json.loads((await one.get("api/v1/alerts"))[1])["incidents"]
            assert incident["id"] == stage.alerts()[0]["incident"]["id"], "known, and the same"
            assert len(stage.alerts()) == 1, "not told again inside the repeat window"
        recover(there)
        began = time.monotonic()
        await until(lambda: len(stage.alerts()) == 2, "its end is told")
        recovery_s = time.monotonic() - began
        first, last = stage.alerts()
        assert (last["reason"], last["level"]) == ("resolved", "ok")
        assert last["incident"]["id"] == first["incident"]["id"]
        assert await one.metric("margin_pool_level", account="main") == 0
        assert [event["reason"] for event in one.events("alert")] == ["first", "resolved"]
    record_property("recovery_s", round(recovery_s, 2))


async def test_row_47_a_reload_with_an_error_changes_nothing(stage: Stage, tmp_path: Path, record_property: Any) -> None:
    async with exchange() as there, daemon(there, stage, tmp_path) as one:
        await one.start()
        await one.ready()
        good = one.config.read_text()
        one.config.write_text(good.replace("api_key", "api_kye"))
        check = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "monitor", "check-config", str(one.config), stderr=asyncio.subprocess.PIPE
        )
        _, said = await check.communicate()
        assert check.returncode == 2
        assert b"api_kye" in said
        assert b"api_key" in said, "with the key that was meant"
        assert b"Traceback" not in said
        one.signal(signal.SIGHUP)
        await until(lambda: bool(one.events("reload_refused")), "the refusal is logged")
        assert await one.metric("margin_config_last_reload_successful") == 0
        plunge(there)
        await until(lambda: bool(stage.alerts()), "the old configuration watches on")
        one.config.write_text(good)
        mended = time.monotonic()
        one.signal(signal.SIGHUP)
        await until(lambda: bool(one.events("reloading")), "taken")
        async with asyncio.timeout(30):  # the run before it may answer for another moment
            while await one.metric("margin_config_last_reload_successful") != 1:  # noqa: ASYNC110  it is in another process
                await asyncio.sleep(0.05)
        recovery_s = time.monotonic() - mended
        assert len(stage.alerts()) == 1
    record_property("recovery_s", round(recovery_s, 2))


async def test_row_54_a_second_instance_on_one_store_does_not_start(stage: Stage, tmp_path: Path, record_property: Any) -> None:
    (tmp_path / "second").mkdir()
    async with exchange() as there, daemon(there, stage, tmp_path) as first:
        await first.start()
        await first.ready()
        async with daemon(there, stage, tmp_path / "second", store=one_config(first)["store"]) as second:
            await second.start()
            assert await second.ended() == 1
            assert f"process {first.pid}" in second.text()
            assert "hint:" in second.text()
            assert "Traceback" not in second.text()
            plunge(there)
            await until(lambda: bool(stage.alerts()), "the first one watches on")
            assert await first.metric("margin_alerts_total", rule="health") == 1
            await first.kill()
            began = time.monotonic()
            await second.start()  # the lock died with its holder
            await second.ready()
            recovery_s = time.monotonic() - began
            assert len(stage.alerts()) == 1, "it knows what the first one told"
            assert len(second.events("web_listening")) == 1, "of its two starts"
    record_property("recovery_s", round(recovery_s, 2))


def one_config(one: Daemon) -> dict[str, Any]:
    import yaml

    config: dict[str, Any] = yaml.safe_load(one.config.read_text())
    return config
