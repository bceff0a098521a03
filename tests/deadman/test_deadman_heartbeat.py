"""The call to the outside, against real receivers that behave and misbehave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from deadman_kit import Parts, service, task_of, until
from pydantic import ValidationError
from structlog.testing import capture_logs

from monitor import heartbeat as module
from monitor.deadman import Reason
from monitor.heartbeat import Heartbeat, HeartbeatSettings
from monitor.model.secret import Secret

NOW_MS = 1_795_325_664_000


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECHECK_S", 0.02)
    monkeypatch.setattr(module, "RETRY_S", 0.02)


@contextlib.asynccontextmanager
async def beating(url: str, parts: Parts | None = None, **settings: Any) -> AsyncIterator[Heartbeat]:
    """A heartbeat many times a second: the least period of the configuration is one second."""
    settings = {"allow_insecure": True, "period_s": 0.02, "method": "get"} | settings
    unwell = (parts or Parts()).dead_man.unwell
    one = Heartbeat(Secret(url), HeartbeatSettings.model_construct(**settings), unwell, lambda: NOW_MS)
    async with task_of(one.run()):
        yield one


@pytest.mark.parametrize("method", ["get", "post"])
async def test_it_beats_and_says_nothing(method: str) -> None:
    async with service() as there, beating(there.url, method=method) as heart:
        await until(lambda: len(there.calls) >= 3, "three beats")
        assert set(there.calls) == {(method.upper(), "/ping/5f0c-canary", b"")}, "no word of the accounts leaves the house"
        await until(lambda: heart.status.results.get("sent", 0) >= 3, "counted")
        assert heart.status.last_success_ms == NOW_MS


async def test_the_period_is_kept() -> None:
    async with service() as there, beating(there.url, period_s=30.0):
        await until(lambda: there.calls, "the first one comes at once: a restart must not look like a death")
        await asyncio.sleep(0.3)
        assert len(there.calls) == 1


async def test_it_is_withheld_for_a_reason_and_resumed_without_it() -> None:
    parts = Parts()
    with capture_logs() as logs:
        async with service() as there, beating(there.url, parts) as heart:
            await until(lambda: there.calls, "a beat")
            parts.old = ["the mark price feed"]
            await until(lambda: logs and logs[-1]["event"] == "heartbeat_withheld", "told")
            assert logs[-1]["reasons"] == ["data_too_old"]
            await until(lambda: heart.status.results["sent"] == len(there.calls), "the last one is through")
            count = len(there.calls)
            await asyncio.sleep(0.2)  # ten periods
            assert len(there.calls) == count, "silence is the message"
            parts.problem = "disk is full"
            await until(lambda: logs[-1]["reasons"] == ["data_too_old", "store_at_risk"], "a further reason is told too")
            parts.old, parts.problem = [], ""
            await until(lambda: len(there.calls) > count, "beats again")
    assert [line["event"] for line in logs] == ["heartbeat_withheld", "heartbeat_withheld", "heartbeat_resumed"], "once each"


async def _redirect(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("/elsewhere")


async def _fails(request: web.Request) -> web.StreamResponse:
    return web.Response(status=500, text="x" * 1000)


async def _gone(request: web.Request) -> web.StreamResponse:
    return web.Response(status=404)


async def _late(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(30)
    return web.Response()


async def _reset(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@pytest.mark.parametrize(
    ("answer", "result", "why"),
    [
        (_redirect, "http_302", "a redirect is not followed: it could lead anywhere"),
        (_fails, "http_500", "not taken"),
        (_gone, "http_404", "the check was deleted there"),
        (_late, "timeout", "a slow service holds up nothing"),
        (_reset, "connection_lost", "cut"),
    ],
)
async def test_what_goes_wrong_is_counted_and_tried_again(
    answer: Any, result: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.5)
    with capture_logs() as logs:
        async with service() as there:
            usual, there.answer = there.answer, answer
            async with beating(there.url, period_s=60.0) as heart:
                await until(lambda: heart.status.results.get(result, 0) >= 2, why)
                assert heart.status.last_success_ms is None
                there.answer = usual
                await until(lambda: heart.status.results.get("sent"), "sooner than in a whole period")
            assert {path for _, path, _ in there.calls} == {"/ping/5f0c-canary"}
    assert {line["event"] for line in logs} == {"heartbeat_failed"}
    assert "canary" not in str(logs), "the address is a secret"


async def test_an_endless_answer_is_not_read() -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(bytes(1 << 16))
                sent += 1 << 16
        return response

    async with service() as there:
        there.answer = endless
        async with beating(there.url, period_s=60.0) as heart:
            await until(lambda: heart.status.results.get("sent"), "its status is the acceptance")
            await until(lambda: sent, "it did send")
    assert sent < 64 << 20, "cut off"


@pytest.mark.parametrize(
    ("url", "allow_insecure", "result", "why"),
    [
        ("https://localhost:{port}/x", False, "private_address", "a public name that leads into our own network"),
        ("https://127.0.0.1:{port}/x", True, "tls_failed", "no fallback to plain text"),
        ("http://127.0.0.1:1/x", True, "connect_failed", "nobody listens"),
        ("http://nobody.invalid/x", True, "name_not_resolved", "no such name"),
        (f"http://{'a' * 70}.example/x", True, "bad_url", "no name at all"),
    ],
)
async def test_where_it_does_not_get_through(url: str, allow_insecure: bool, result: str, why: str) -> None:
    async with service() as there:
        port = there.url.split(":")[2].split("/")[0]
        async with beating(url.format(port=port), allow_insecure=allow_insecure) as heart:
            await until(lambda: heart.status.results, why)
        assert set(heart.status.results) == {result}, why
        assert there.calls == []


async def test_a_bug_in_the_judgement_is_no_beat_and_no_harm() -> None:
    def bug() -> dict[Reason, str]:
        raise RuntimeError("bug")

    async with service() as there:
        settings = HeartbeatSettings.model_construct(allow_insecure=True, period_s=0.02, method="get")
        heart = Heartbeat(Secret(there.url), settings, bug, lambda: NOW_MS)
        async with task_of(heart.run()):
            await until(lambda: heart.status.results.get("crashed", 0) >= 2, "survived")
        assert there.calls == []


@pytest.mark.parametrize(
    ("settings", "said", "why"),
    [
        ({"url": "http://hc.example.org/canary"}, "must be https", "whoever reads it on the way could feed it"),
        ({"url": "https://10.0.0.1/canary"}, "private address", "not by default"),
        ({"url": "https://169.254.169.254/canary"}, "private address", "the metadata of a cloud machine"),
        ({"url": "ftp://hc.example.org/canary"}, "must be a URL", "no such scheme"),
        ({"url": "https://hc.example.org/canary", "period_s": 0.5}, "greater than or equal to 1", "a flood"),
        ({"url": "https://hc.example.org/canary", "method": "put"}, "'get' or 'post'", "no such way"),
        ({"urls": "https://hc.example.org/canary"}, "Extra inputs", "a misspelt key"),
    ],
)
def test_bad_settings(settings: dict[str, Any], said: str, why: str) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        HeartbeatSettings.model_validate(settings)
    assert "canary" not in str(caught.value), why


def test_good_settings() -> None:
    assert HeartbeatSettings().url is None, "off by default"
    local = HeartbeatSettings.model_validate({"url": "http://127.0.0.1:3001/api/push/x", "allow_insecure": True})
    assert local.url == Secret("http://127.0.0.1:3001/api/push/x")
    assert "3001" not in repr(local)
