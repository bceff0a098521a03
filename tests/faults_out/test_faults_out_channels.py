"""Fault rows 37 to 41: the receivers. Each: what arrives where, the metric, the log event, and how soon all is well again."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest
from conftest_e2e import until
from faults_out_kit import (
    Answer,
    Stage,
    crossing,
    drips,
    exchange,
    logged,
    metric,
    metric_becomes,
    never,
    plunge,
    ready,
    reset,
    running,
    says,
    text,
)

from monitor.model.alerts import Level

ONLY_TELEGRAM = {"routes": [{"channels": ["telegram"]}]}


async def test_row_37_telegram_429_is_obeyed_to_the_second_and_a_critical_alert_goes_elsewhere(
    stage: Stage, events: list[Any], record_property: Any
) -> None:
    wait_s = 4
    stage.orders["telegram"].append(says(429, {"ok": False, "parameters": {"retry_after": wait_s}}))
    async with exchange() as there, running(there, stage, alerts=ONLY_TELEGRAM, delivery={"fail_over_s": 1.0}) as monitor:
        await ready(monitor)
        plunge(there)
        await until(lambda: bool(stage.of("telegram")), "the first attempt")
        refused = stage.of("telegram")[0]
        await until(lambda: bool(stage.alerts()), "the critical alert on the other channel")
        elsewhere = next(got for got in stage.taken if got.channel != "telegram")
        assert elsewhere.at_s - refused.at_s < wait_s, "a critical alert does not wait for it"
        await monitor.desk.handle([crossing(Level.WARNING), crossing(Level.HIGH, Level.WARNING)])
        await until(lambda: len(stage.of("telegram")) >= 2, "taken up again")
        await until(lambda: bool(stage.of("telegram", "test")), "what waited meanwhile")
        first, second = stage.of("telegram")[:2]
        (merged,) = stage.of("telegram", "test")
        assert second.at_s - first.at_s >= wait_s, "not a moment before"
        assert second.at_s - first.at_s < wait_s + 2
        assert second.id == first.id
        assert "replaces 1 earlier message" in merged.text, "what waited of one incident was merged"
        assert await metric(monitor, "margin_notifications_total", channel="telegram", result="retry") == 1
        await metric_becomes(monitor, 0, "margin_outbox_pending", channel="telegram")
    assert logged(events, "alert_retry", channel="telegram", reason="http_429")[0]["wait_s"] >= wait_s
    assert logged(events, "alert_falls_over", channel="telegram")
    record_property("recovery_s", round(second.at_s - first.at_s - wait_s, 2))


async def test_row_37_telegram_gets_one_message_per_second_and_chat(stage: Stage) -> None:
    async with exchange() as there:
        async with running(there, stage, alerts=ONLY_TELEGRAM) as monitor:
            await monitor.desk.handle([crossing(Level.HIGH, account=f"account{number}") for number in range(4)])
            await until(lambda: len(stage.of("telegram", "test")) >= 4, "all of them")
        gaps_s = [later.at_s - sooner.at_s for sooner, later in pairwise(stage.of("telegram", "test"))]
        assert min(gaps_s) >= 0.8, gaps_s  # a second at the sender; without the limit it would be milliseconds


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(says(403, {"ok": False, "description": "Forbidden: bot was blocked by the user"}), id="403 blocked"),
        pytest.param(says(400, {"ok": False, "description": "Bad Request: chat not found"}), id="400 no such chat"),
    ],
)
async def test_row_38_a_blocked_telegram_bot_is_told_on_the_others(
    stage: Stage, events: list[Any], record_property: Any, refusal: Answer
) -> None:
    stage.always["telegram"] = refusal
    async with exchange() as there, running(there, stage) as monitor:
        await ready(monitor)
        plunge(there)
        await until(lambda: bool(stage.alerts()), "the alert elsewhere")
        await until(lambda: bool(stage.alerts("channel")), "the broken channel is told on the webhook")
        told = stage.alerts("channel")[0]
        assert (told["subject"], told["level"]) == ("telegram", "high")
        await metric_becomes(monitor, 1, "margin_channel_broken", channel="telegram")
        stage.always.clear()
        mended = time.monotonic()
        await until(lambda: any(alert["reason"] == "resolved" for alert in stage.alerts("channel")), "its end is told too")
        recovery_s = time.monotonic() - mended
        await metric_becomes(monitor, 0, "margin_channel_broken", channel="telegram")
        await metric_becomes(monitor, 0, "margin_outbox_pending", channel="telegram")
    assert logged(events, "alert_refused", channel="telegram")
    assert recovery_s < 5
    record_property("recovery_s", round(recovery_s, 2))


async def test_row_38_a_telegram_group_that_moved_is_followed(stage: Stage, events: list[Any]) -> None:
    moved = {"ok": False, "description": "Bad Request", "parameters": {"migrate_to_chat_id": -100777}}
    stage.orders["telegram"].append(says(400, moved))
    async with exchange() as there, running(there, stage, alerts=ONLY_TELEGRAM) as monitor:
        await monitor.desk.handle([crossing(Level.HIGH)])
        await until(lambda: len(stage.of("telegram", "test")) == 2, "sent again")
        assert [got.body["chat_id"] for got in stage.of("telegram", "test")] == ["1", "-100777"]
        assert await metric(monitor, "margin_channel_broken", channel="telegram") == 0
    assert logged(events, "telegram_chat_moved", chat_id=-100777)


async def test_row_39_slack_429_waits(stage: Stage, events: list[Any], record_property: Any) -> None:
    stage.orders["slack"].append(says(429, **{"Retry-After": "2"}))
    async with exchange() as there, running(there, stage) as monitor:
        await ready(monitor)
        plunge(there)
        await until(lambda: len(stage.of("slack")) >= 2, "taken up again")
        first, second = stage.of("slack")[:2]
        assert 2 <= second.at_s - first.at_s < 4
        assert first.id == second.id
        assert await metric(monitor, "margin_notifications_total", channel="slack", result="retry") == 1
        assert await metric(monitor, "margin_channel_broken", channel="slack") == 0
    assert logged(events, "alert_retry", channel="slack", reason="http_429")
    record_property("recovery_s", round(second.at_s - first.at_s - 2, 2))


@pytest.mark.parametrize(
    ("status", "word"),
    [(400, "invalid_payload"), (403, "action_prohibited"), (404, "channel_not_found"), (410, "channel_is_archived")],
)
async def test_row_39_a_permanent_slack_failure_goes_elsewhere(
    stage: Stage, events: list[Any], record_property: Any, status: int, word: str
) -> None:
    stage.always["slack"] = text(status, word)
    async with exchange() as there, running(there, stage, alerts={"routes": [{"channels": ["slack"]}]}) as monitor:
        await ready(monitor)
        began = time.monotonic()
        plunge(there)
        # The route names Slack alone: the critical alert falls over to the next channel because this one is broken.
        await until(lambda: any("health" in got.text for got in stage.taken if got.channel == "telegram"), "elsewhere")
        elsewhere_s = time.monotonic() - began
        assert elsewhere_s < 5
        await metric_becomes(monitor, 1, "margin_channel_broken", channel="slack")
        stage.always.clear()  # or the end waits for what cannot be sent
    assert word in logged(events, "alert_refused", channel="slack")[0]["reason"]
    record_property("recovery_s", round(elsewhere_s, 2))


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        pytest.param(never, "timeout", id="no answer"),
        pytest.param(says(500), "http_500", id="500"),
        pytest.param(says(503), "http_503", id="503"),
        pytest.param(drips, "http_500", id="slow-loris"),
    ],
)
async def test_row_40_a_webhook_in_trouble_is_tried_again_with_the_same_id(
    stage: Stage, events: list[Any], record_property: Any, trouble: Answer, reason: str
) -> None:
    stage.orders["webhook"] += [trouble, trouble]
    async with exchange() as there, running(there, stage) as monitor:
        await monitor.desk.handle([crossing(Level.CRITICAL)])
        await until(lambda: bool(stage.of("webhook", "test")), "the first attempt")
        began = time.monotonic()
        await until(lambda: bool(stage.alerts("test")), "taken at last")
        recovery_s = time.monotonic() - began
        assert recovery_s < 6, "two attempts of at most a second, and two short waits"
        assert len({got.id for got in stage.of("webhook", "test")[:3]}) == 1
        assert stage.of("slack", "test")[0].at_s < stage.of("webhook", "test")[1].at_s, "no other channel waited for it"
        await metric_becomes(monitor, 2, "margin_notifications_total", channel="webhook", result="retry")
    assert len(logged(events, "alert_retry", channel="webhook", reason=reason)) == 2
    record_property("recovery_s", round(recovery_s, 2))


async def test_row_41_an_answer_that_is_lost_may_double_a_message_that_the_id_makes_harmless(
    stage: Stage, events: list[Any], record_property: Any
) -> None:
    stage.orders["webhook"].append(reset)
    async with exchange() as there, running(there, stage) as monitor:
        await monitor.desk.handle([crossing(Level.CRITICAL)])
        await until(lambda: len(stage.of("webhook", "test")) >= 2, "once more, since nobody knows")
        first, second = stage.of("webhook", "test")[:2]
        assert first.body == second.body
        assert first.id == second.id == first.body["id"]
        await metric_becomes(monitor, 1, "margin_notifications_total", channel="webhook", result="retry")
        await metric_becomes(monitor, 0, "margin_outbox_pending", channel="webhook")
    assert logged(events, "alert_retry", channel="webhook", reason="connection_lost")
    record_property("recovery_s", round(second.at_s - first.at_s, 2))
