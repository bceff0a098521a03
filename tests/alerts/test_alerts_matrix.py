"""Five channels times thirteen answers, on real sockets: each answer in the words of the service, what it means, and why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from alerts_answers import NOTICE, PATHS, never, reset, says, send, slow_body, text
from alerts_kit import Answer, Receiver
from alerts_tls import self_signed

from monitor.alerts.channels import CHANNELS
from monitor.alerts.channels.base import GiveUp, Outcome, RetryAt, Sent

KINDS = ("slack", "telegram", "webhook", "alertmanager", "pagerduty")
ANSWERS = ("2xx", "400", "403", "404", "410", "429", "429 in 7 s", "500", "503", "timeout", "reset", "TLS error", "slow body")


def bot(status: int, description: str, **parameters: Any) -> Answer:
    """As the Bot API refuses."""
    body = {"ok": False, "error_code": status, "description": description}
    return says(status, body | ({"parameters": parameters} if parameters else {}))


def pager(status: int, message: str, *errors: str) -> Answer:
    """As the Events API refuses."""
    return says(status, {"status": "invalid event", "message": message, "errors": errors})


Cell = tuple[Answer | None, Outcome, str]  # the answer (None: the connection never gets so far), its outcome, the reason
NO_HEADER = {"Retry-After": "7"}

TABLE: dict[tuple[str, str], Cell] = {
    ("slack", "2xx"): (text(200, "ok"), Sent(), "Slack's word for taken"),
    ("telegram", "2xx"): (says(200, {"ok": True, "result": {"message_id": 1}}), Sent(), "status and body say so"),
    ("webhook", "2xx"): (text(202, ""), Sent(), "accepted is enough"),
    ("alertmanager", "2xx"): (text(200, ""), Sent(), "an empty 200"),
    ("pagerduty", "2xx"): (says(202, {"status": "success", "message": "Event processed"}), Sent(), "202 is the acceptance"),

    ("slack", "400"): (text(400, "invalid_payload"), GiveUp("http_400: invalid_payload"), "the same payload stays invalid"),
    ("telegram", "400"): (bot(400, "Bad Request: chat not found"), GiveUp("http_400: Bad Request: chat not found"), "wrong"),
    ("webhook", "400"): (text(400, "canary"), GiveUp("http_400"), "our JSON stays; a stranger's words are not told"),
    ("alertmanager", "400"): (text(400, "canary"), GiveUp("http_400"), "it does not like our labels, now or later"),
    ("pagerduty", "400"): (pager(400, "Event object is invalid", "'severity' is missing"),
                           GiveUp("http_400: 'severity' is missing"), "documented as not to be retried"),

    ("slack", "403"): (text(403, "action_prohibited"), GiveUp("http_403: action_prohibited"), "an admin forbade it"),
    ("telegram", "403"): (bot(403, "Forbidden: bot was blocked by the user"),
                          GiveUp("http_403: Forbidden: bot was blocked by the user"), "only the user can unblock it"),
    ("webhook", "403"): (text(403, ""), GiveUp("http_403"), "a wrong token stays wrong"),
    ("alertmanager", "403"): (text(403, ""), GiveUp("http_403"), "a wrong password stays wrong"),
    ("pagerduty", "403"): (text(403, "Forbidden"), GiveUp("http_403"), "a key of the wrong kind"),

    ("slack", "404"): (text(404, "no_service"), GiveUp("http_404: no_service"), "the webhook was removed"),
    ("telegram", "404"): (bot(404, "Not Found"), GiveUp("http_404: Not Found"), "the token was revoked"),
    ("webhook", "404"): (text(404, ""), GiveUp("http_404"), "nobody lives at this path"),
    ("alertmanager", "404"): (text(404, ""), GiveUp("http_404"), "a wrong path prefix"),
    ("pagerduty", "404"): (text(404, ""), GiveUp("http_404"), "a wrong address"),

    ("slack", "410"): (text(410, "channel_is_archived"), GiveUp("http_410: channel_is_archived"), "archived until a person acts"),
    ("telegram", "410"): (text(410, ""), GiveUp("http_410"), "gone says that it does not come back"),
    ("webhook", "410"): (text(410, ""), GiveUp("http_410"), "gone says that it does not come back"),
    ("alertmanager", "410"): (text(410, '"API v1 removed"'), GiveUp("http_410"), "a version that is no more"),
    ("pagerduty", "410"): (text(410, ""), GiveUp("http_410"), "gone says that it does not come back"),

    ("slack", "429"): (text(429, "rate_limited"), RetryAt("http_429: rate_limited"), "no time said: our own back-off"),
    ("telegram", "429"): (bot(429, "Too Many Requests"), RetryAt("http_429: Too Many Requests"), "no time said: back off"),
    ("webhook", "429"): (text(429, ""), RetryAt("http_429"), "no time said: our own back-off"),
    ("alertmanager", "429"): (text(429, ""), RetryAt("http_429"), "no time said: our own back-off"),
    ("pagerduty", "429"): (text(429, ""), RetryAt("http_429"), "PagerDuty never says a time: back off"),

    ("slack", "429 in 7 s"): (says(429, {"ok": False}, **NO_HEADER), RetryAt("http_429", 7.0), "to the second"),
    ("telegram", "429 in 7 s"): (bot(429, "Too Many Requests: retry after 7", retry_after=7), RetryAt("http_429", 7.0),
                                 "Telegram says it in the body"),
    ("webhook", "429 in 7 s"): (says(429, {}, **NO_HEADER), RetryAt("http_429", 7.0), "to the second"),
    ("alertmanager", "429 in 7 s"): (says(429, {}, **NO_HEADER), RetryAt("http_429", 7.0), "a proxy before it may"),
    ("pagerduty", "429 in 7 s"): (says(429, {}, **NO_HEADER), RetryAt("http_429", 7.0), "should it ever say one"),

    ("slack", "500"): (text(500, "rollup_error"), RetryAt("http_500: rollup_error"), "their trouble passes"),
    ("telegram", "500"): (text(500, "<html>"), RetryAt("http_500"), "their trouble passes"),
    ("webhook", "500"): (text(500, "<html>"), RetryAt("http_500"), "a deploy, perhaps"),
    ("alertmanager", "500"): (text(500, "<html>"), RetryAt("http_500"), "its cluster settles"),
    ("pagerduty", "500"): (pager(500, "Internal error"), RetryAt("http_500: Internal error"), "documented as to be retried"),

    ("slack", "503"): (text(503, "<html>"), RetryAt("http_503"), "maintenance"),
    ("telegram", "503"): (text(503, "<html>"), RetryAt("http_503"), "maintenance"),
    ("webhook", "503"): (text(503, "<html>"), RetryAt("http_503"), "maintenance"),
    ("alertmanager", "503"): (text(503, "<html>"), RetryAt("http_503"), "it starts"),
    ("pagerduty", "503"): (text(503, "<html>"), RetryAt("http_503"), "maintenance"),

    **{(kind, "timeout"): (never, RetryAt("timeout"), "no answer says nothing") for kind in KINDS},
    **{(kind, "reset"): (reset, RetryAt("connection_lost"), "taken or not: again, with the same id") for kind in KINDS},
    **{(kind, "TLS error"): (None, RetryAt("tls_failed"), "a stranger's certificate: never without, perhaps it is renewed")
       for kind in KINDS},

    ("slack", "slow body"): (slow_body(200), RetryAt("timeout"), "a 200 without its word proves nothing"),
    ("telegram", "slow body"): (slow_body(200), RetryAt("timeout"), "its acceptance is in the body that never ends"),
    ("webhook", "slow body"): (slow_body(200), Sent(), "the status was the acceptance; the rest is not waited for"),
    ("alertmanager", "slow body"): (slow_body(200), Sent(), "the status was the acceptance; the rest is not waited for"),
    ("pagerduty", "slow body"): (slow_body(202), Sent(), "the status was the acceptance; the rest is not waited for"),
}  # fmt: skip


@pytest.fixture
async def untrusted(tmp_path: Path) -> AsyncIterator[tuple[str, list[str]]]:
    """A receiver whose certificate nobody vouches for: its address, and what it was sent all the same."""
    got: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        got.append(request.path)
        return web.json_response({"ok": True})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self_signed(tmp_path)).start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}", got
    await runner.cleanup()


def test_the_table_is_whole() -> None:
    assert set(KINDS) == set(CHANNELS)
    assert set(TABLE) == {(kind, answer) for kind in KINDS for answer in ANSWERS}
    assert all(why for _, _, why in TABLE.values())


@pytest.mark.parametrize("answer", [answer for answer in ANSWERS if answer != "TLS error"])
async def test_channels_and_answers(there: Receiver, answer: str) -> None:
    cells = {kind: TABLE[kind, answer] for kind in KINDS}
    there.answers |= {PATHS[kind]: reply for kind, (reply, _, _) in cells.items() if reply is not None}
    outcomes = dict(zip(KINDS, await asyncio.gather(*(send(kind, there.base) for kind in KINDS)), strict=True))
    for kind, (_, expected, why) in cells.items():
        assert outcomes[kind] == expected, f"{kind}: {why}"
    assert sorted(path for path, *_ in there.got) == sorted(PATHS.values()), "one attempt each, at the right place"
    assert all(headers["Idempotency-Key"] == NOTICE.id for _, headers, _ in there.got), "each attempt carries the id"


async def test_channels_and_a_certificate_that_nobody_vouches_for(untrusted: tuple[str, list[str]]) -> None:
    base, got = untrusted
    for kind in KINDS:
        _, expected, why = TABLE[kind, "TLS error"]
        assert await send(kind, base) == expected, f"{kind}: {why}"
    assert got == [], "not a byte of the message, allow_insecure or not"
