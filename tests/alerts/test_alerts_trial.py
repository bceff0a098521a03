"""The test message: by the channels' own code, marked as what it is, and each refusal told without a secret."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from alerts_kit import T0, Answer, Receiver, settings, webhook

from monitor.alerts import trial
from monitor.alerts.settings import AlertSettings


def refuses(status: int, text: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text)

    return answer


def three(base: str) -> AlertSettings:
    slack: dict[str, Any] = {"kind": "slack", "name": "ops", "webhook_url": f"{base}/canary", "allow_insecure": True}
    return settings(webhook("desk", base), slack, webhook("old", base))


async def test_all_are_tried_and_each_says_how_it_went(there: Receiver) -> None:
    there.answers |= {"/canary": refuses(404, "no_service"), "/old": refuses(503, "<html>canary")}
    results = await trial.test_alert(three(there.base))
    assert [(one.channel, one.kind, one.ok, one.refusal) for one in results] == [
        ("desk", "webhook", True, ""),
        ("ops", "slack", False, "http_404: no_service"),
        ("old", "webhook", False, "http_503"),
    ]
    assert all(0 <= one.ms < 1000 for one in results)
    assert len(there.got) == 3, "one attempt each, no retries"
    assert "canary" not in repr(results)


async def test_it_is_marked_as_a_test_and_takes_the_way_of_a_critical_one(there: Receiver) -> None:
    await trial.test_alert(three(there.base), now_ms=lambda: T0)
    (body,) = there.at("/desk")
    (alert,) = body["alerts"]
    assert body["text"].startswith("[TEST] happened: margin-monitor itself · test\n" + trial.SUMMARY)
    assert (alert["level"], alert["rule"], alert["account"], alert["at"]) == ("critical", "test", "", "2026-11-22T05:34:24.000Z")
    assert there.at("/canary")[0]["text"].startswith("[TEST] happened")
    assert len({headers["Idempotency-Key"] for _, headers, _ in there.got}) == 1, "one message, the same on every channel"


async def test_only_the_named_ones_each_once(there: Receiver) -> None:
    results = await trial.test_alert(three(there.base), ["old", "desk", "old"])
    assert [one.channel for one in results] == ["old", "desk"]
    assert sorted(path for path, *_ in there.got) == ["/desk", "/old"]


async def test_an_unknown_name_is_refused_before_anything_is_sent(there: Receiver) -> None:
    with pytest.raises(trial.UnknownChannelError, match="no channel is called odl; there are: desk, ops, old"):
        await trial.test_alert(three(there.base), ["desk", "odl"])
    assert there.got == []


async def test_without_channels_there_is_nothing_to_try() -> None:
    assert await trial.test_alert(AlertSettings()) == []
