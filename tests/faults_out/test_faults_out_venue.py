"""Fault rows 52 and 53: what the venue says that nobody knows, and a key that is worth nothing any more."""

from __future__ import annotations

import time
from typing import Any

from conftest_e2e import until
from faults_out_kit import Stage, exchange, logged, metric, metric_becomes, plunge, ready, running

from monitor.sim.exchange import SimExchange


async def test_row_52_unknown_events_are_counted_and_survived(stage: Stage, events: list[Any], record_property: Any) -> None:
    async with exchange() as there, running(there, stage) as monitor:
        await ready(monitor)
        said_before = len(events)
        for family in ("market", "private"):
            there.fault("garbage", form="unknown_event", family=family, count=50)
        began = time.monotonic()
        await metric_becomes(monitor, 100, "margin_frames_refused_total", venue="binance_usdm", reason="unknown_event")
        assert all(stream.up and not stream.reconnects for stream in monitor.readout.streams()), "the streams go on"
        await until(lambda: bool(logged(events, "frame_refused", reason="unknown_event")), "logged")
        about = [event for event in events[said_before:] if "unknown" in str(event)]
        assert len(about) == 1, "a hundred, of one kind: once"
        plunge(there)
        await until(lambda: bool(stage.alerts()), "and it watches on")
        record_property("recovery_s", round(time.monotonic() - began, 2))


async def test_row_53_a_key_that_is_revoked_is_told_at_once_and_not_hammered(
    stage: Stage, events: list[Any], record_property: Any
) -> None:
    retry_s = 4.0
    async with exchange() as there:
        over = {"venues": {"binance_usdm": {"auth_retry_s": retry_s, "reconcile_s": 1.0, "snapshot_pause_s": 0.1}}}
        async with running(there, stage, **over) as monitor:
            await ready(monitor)
            revoke(there)
            began = time.monotonic()

            def told() -> list[dict[str, Any]]:
                return [alert for got in stage.taken for alert in got.alerts if "-2015" in alert["summary"]]

            await until(lambda: bool(logged(events, "account_not_watched", code=-2015)), "logged", 30)
            await until(lambda: bool(told()), "told with its cause", 30)
            assert time.monotonic() - began < 5, "at once"
            assert (told()[0]["rule"], told()[0]["level"], told()[0]["subject"]) == ("venue_call", "critical", "key_refused")
            refused = await refusals(monitor)
            await until(lambda: time.monotonic() - began > 15, "a while", 30)
            calls = await refusals(monitor) - refused
            assert calls <= 30, "a slow retry, no hammering"
            assert len([alert for alert in told() if alert["rule"] == "venue_call"]) == len(
                {g.channel for g in stage.taken if g.alerts}
            )
            assert await metric(monitor, "margin_stream_up", stream="user") == 0
            there.fault("clear")
            mended = time.monotonic()
            await metric_becomes(monitor, 1, "margin_stream_up", 30, stream="user")
            await ready(monitor)
            recovery_s = time.monotonic() - mended
            assert recovery_s < retry_s + 10
    record_property("recovery_s", round(recovery_s, 2))


async def test_row_53_the_same_at_htx(stage: Stage, events: list[Any], record_property: Any) -> None:
    accounts = [
        {"name": "coins", "venue": "htx_coin_futures", "api_key": {"env": "HTX_KEY"}, "api_secret": {"env": "HTX_SECRET"}}
    ]
    # HTX names the pause itself nowhere: ours is a minute, which the test need not see to its end.
    over = {"accounts": accounts, "venues": {"htx_coin_futures": {"auth_retry_s": 2.0, "reconcile_s": 1.0, "fallback_s": 0.5}}}
    async with SimExchange("calm", 7, noise=0.0) as there, running(there, stage, **over) as monitor:
        await ready(monitor)
        there.htx_control.fault("reject_rest", count=10_000, path="contract_", code=403, message="invalid access key")
        there.htx_control.fault("kill_sockets", path="/notification")
        began = time.monotonic()
        await until(lambda: bool(stage.alerts("venue_call")), "told with its cause", 30)
        assert time.monotonic() - began < 5, "at once"
        (told,) = stage.alerts("venue_call")
        assert (told["account"], told["level"], told["subject"]) == ("coins", "critical", "key_refused")
        assert logged(events, "account_not_watched", reason="auth")
        assert await metric(monitor, "margin_rest_requests_total", venue="htx_coin_futures", result="403") >= 1
        there.htx_control.fault("clear")
        mended = time.monotonic()
        await metric_becomes(monitor, 1, "margin_stream_up", 60, stream="user")
        await ready(monitor)
        assert len(stage.alerts("venue_call")) == 1
        record_property("recovery_s", round(time.monotonic() - mended, 2))


def revoke(there: SimExchange) -> None:
    """All signed calls are refused, and the socket is cut, as the venue does."""
    message = "Invalid API-key, IP, or permissions for action."
    for path in (
        "/fapi/v1/listenKey",
        "/fapi/v2",
        "/fapi/v3",
        "/fapi/v1/accountConfig",
        "/fapi/v1/symbolConfig",
        "/leverageBracket",
    ):
        there.fault("reject_rest", count=10_000, path=path, status=401, code=-2015, msg=message)
    there.fault("kill_sockets", family="private")


async def refusals(monitor: Any) -> float:
    return await metric(monitor, "margin_rest_requests_total", result="-2015")
