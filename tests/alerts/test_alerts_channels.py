"""What the channels send, and how they take answers that only one of them gives. The common ones: test_alerts_matrix.py."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiohttp import web
from alerts_answers import NOTICE, PATHS, ROUTING_KEY, Notebook, http_date, says, send, slow_body, text
from alerts_kit import Answer, Receiver

from monitor.alerts.channels.base import GiveUp, Outcome, RetryAt, Sent
from monitor.alerts.channels.http import BODY_BYTES_MAX

EVERY = ("slack", "telegram", "webhook", "alertmanager", "pagerduty")
QUIET = ("webhook", "alertmanager", "pagerduty")  # their status says all
NO_DATE = {"Retry-After": "Fri, 31 Dec 9999 23:59:59 -9999", "Date": "Thu, 01 Jan 0000 00:00:00 GMT"}


@pytest.mark.parametrize(
    ("kinds", "answer", "outcome", "why"),
    [
        (QUIET, says(204), Sent(), "any 2xx is an acceptance"),
        (QUIET, text(200, "<html>"), Sent(), "their body says nothing more"),
        (("slack",), text(200, "ok"), Sent(), "Slack's word"),
        (("slack",), text(200, "ok\n"), Sent(), "others that speak its language end the line"),
        (("slack",), text(200, "<html>log in"), RetryAt("not_slack"), "row 19: a page in between is no acceptance"),
        (("slack",), says(204), RetryAt("not_slack"), "row 19: nor is nothing"),
        (QUIET, says(200, **NO_DATE), Sent(), "row 8: a time that no calendar has is no error of ours"),
        (EVERY, says(503, {"ok": False}, **NO_DATE), RetryAt("http_503", 3600.0), "row 8: nor is it obeyed"),
        (EVERY, says(503, {"ok": False}, **{"Retry-After": "Sun, 22 Nov 99999999999999999999 05:35:24 GMT"}),
         RetryAt("http_503"), "row 8: nor does it overflow"),
        (("telegram",), text(200, "<html>log in"), RetryAt("not_telegram"), "a page in between is no acceptance"),
        (("telegram",), says(200, {"ok": False}), RetryAt("not_ok"), "Telegram says it in the body"),
        (EVERY, says(307, Location="/elsewhere"), GiveUp("http_307"), "redirects are not followed"),
        (("slack",), text(404, "no /services/T1/B1/canary here"), GiveUp("http_404"), "a page may repeat the secret address"),
        (("telegram",), says(404, {"ok": False, "description": "no bot123:canary"}), GiveUp("http_404"), "not the token"),
        (("pagerduty",), says(400, {"message": f"not {ROUTING_KEY}"}), GiveUp("http_400"), "not the key"),
        (("pagerduty",), says(400, {"message": "invalid", "errors": ["Length of 'routing_key' is incorrect"]}),
         GiveUp("http_400: Length of 'routing_key' is incorrect"), "PagerDuty names the field"),
        (("pagerduty",), says(400, [1]), GiveUp("http_400"), "not PagerDuty's JSON"),
        (("telegram", "webhook", "alertmanager"), says(401, {"ok": False}), GiveUp("http_401"), "a wrong token stays wrong"),
        (EVERY, says(429, {"ok": False}, **{"Retry-After": http_date(90), "Date": http_date(0)}), RetryAt("http_429", 90.0),
         "a date, against the receiver's own clock"),
        (EVERY, says(429, {"ok": False}, **{"Retry-After": http_date(-90), "Date": http_date(0)}), RetryAt("http_429", 0.0),
         "a date that is past"),
        (EVERY, says(429, {"ok": False}, **{"Retry-After": "soon"}), RetryAt("http_429"), "not a time"),
        (EVERY, says(429, {"ok": False}, **{"Retry-After": "999999999999"}), RetryAt("http_429", 3600.0), "not for ever"),
        (("telegram",), says(429, {"ok": False, "parameters": {"retry_after": 291}}), RetryAt("http_429", 291.0),
         "Telegram says it in the body"),
        (EVERY, says(503, {"ok": False}, **{"Retry-After": "30"}), RetryAt("http_503", 30.0), "maintenance with its end"),
        (EVERY, text(408, ""), RetryAt("http_408"), "the receiver's time-out, not a refusal"),
        (EVERY, slow_body(500), RetryAt("http_500"), "the status says enough"),
        (EVERY, slow_body(403), GiveUp("http_403"), "the status says enough"),
    ],
)  # fmt: skip
async def test_answers(there: Receiver, kinds: tuple[str, ...], answer: Answer, outcome: Outcome, why: str) -> None:
    for kind in kinds:
        there.answers[PATHS[kind]] = answer
    outcomes = await asyncio.gather(*(send(kind, there.base) for kind in kinds))
    assert dict(zip(kinds, outcomes, strict=True)) == dict.fromkeys(kinds, outcome), why
    assert {path for path, *_ in there.got} == {PATHS[kind] for kind in kinds}
    assert all(headers["Idempotency-Key"] == NOTICE.id for _, headers, _ in there.got), "each attempt carries the id"


@pytest.mark.parametrize("kind", EVERY)
async def test_nobody_listens(kind: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused
        assert await send(kind, f"http://127.0.0.1:{taken.getsockname()[1]}") == RetryAt("connect_failed")


@pytest.mark.parametrize("kind", EVERY)
async def test_a_name_that_leads_home_is_refused(kind: str, there: Receiver) -> None:
    port = there.base.rpartition(":")[2]
    assert await send(kind, f"https://localhost:{port}", allow_insecure=False) == GiveUp(
        "its name leads to a private address; allow_insecure: true permits it"
    )
    assert there.got == []


@pytest.mark.parametrize("kind", EVERY)
async def test_plain_http_behind_https_is_a_tls_failure(kind: str, there: Receiver) -> None:
    assert await send(kind, there.base.replace("http:", "https:")) == RetryAt("tls_failed")


async def test_a_huge_body_is_read_to_its_cap(there: Receiver) -> None:
    written = 0

    async def flood(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse(status=400)
        await response.prepare(request)
        while True:
            await response.write(b"a" * 65536)
            written += 65536

    there.answers[PATHS["slack"]] = flood
    assert await send("slack", there.base) == GiveUp("http_400")
    assert written < 100 * BODY_BYTES_MAX, "what the sockets buffer, not all of it"


# ------------------------------------------------------------------ requests


async def test_slack_payload(there: Receiver) -> None:
    assert await send("slack", there.base) == Sent()
    (payload,) = there.at(PATHS["slack"])
    assert payload["text"].startswith("[CRITICAL] new: main · USD · binance_usdm · health\n")
    assert (payload["mrkdwn"], payload["link_names"]) == (False, False)


async def test_webhook_payload(there: Receiver) -> None:
    assert await send("webhook", there.base, bearer_token="canary") == Sent()
    ((_, headers, payload),) = there.got
    assert headers["Authorization"] == "Bearer canary"
    assert (payload["schema"], payload["id"], payload["summary"]) == (1, NOTICE.id, False)
    (alert,) = payload["alerts"]
    assert {key: alert[key] for key in ("id", "reason", "level", "severity", "told_level", "at", "venue", "account", "rule")} == {
        "id": NOTICE.id,
        "reason": "first",
        "level": "critical",
        "severity": 4,
        "told_level": "ok",
        "at": "2026-11-22T05:34:24.000Z",
        "venue": "binance_usdm",
        "account": "main",
        "rule": "health",
    }


async def test_telegram_payload(there: Receiver) -> None:
    assert await send("telegram", there.base, message_thread_id=7) == Sent()
    (payload,) = there.at(PATHS["telegram"])
    assert payload["text"].startswith("<b>[CRITICAL] new: main · USD · binance_usdm · health</b>\n")
    assert (payload["chat_id"], payload["parse_mode"], payload["message_thread_id"]) == ("-100", "HTML", 7)


async def test_telegram_follows_a_chat_that_moved(there: Receiver) -> None:
    async def moved(request: web.Request) -> web.StreamResponse:
        if (await request.json())["chat_id"] == "-100777":
            return web.json_response({"ok": True})
        return web.json_response({"ok": False, "parameters": {"migrate_to_chat_id": -100777}}, status=400)

    there.answers[PATHS["telegram"]] = moved
    assert await send("telegram", there.base) == Sent()
    assert [payload["chat_id"] for payload in there.at(PATHS["telegram"])] == ["-100", "-100777"]


async def test_telegram_remembers_where_a_chat_moved_to(there: Receiver) -> None:
    async def moved(request: web.Request) -> web.StreamResponse:
        if (await request.json())["chat_id"] == "-100":
            return web.json_response({"ok": False, "parameters": {"migrate_to_chat_id": -100777}}, status=400)
        return web.json_response({"ok": True})

    there.answers[PATHS["telegram"]] = moved
    notes = Notebook()
    assert await send("telegram", there.base, notes=notes) == Sent()
    assert await send("telegram", there.base, notes=notes) == Sent(), "another process with the same notes"
    assert await send("telegram", there.base, notes=notes, chat_id="-200") == Sent(), "another chat in the configuration"
    assert [payload["chat_id"] for payload in there.at(PATHS["telegram"])] == ["-100", "-100777", "-100777", "-200"]


async def test_telegram_that_moves_in_circles_ends(there: Receiver) -> None:
    async def moved(request: web.Request) -> web.StreamResponse:
        chat_id = int((await request.json())["chat_id"])
        return web.json_response({"ok": False, "parameters": {"migrate_to_chat_id": chat_id - 1}}, status=400)

    there.answers[PATHS["telegram"]] = moved
    assert await send("telegram", there.base) == RetryAt("chat_moved")


async def test_telegram_refuses_the_markup(there: Receiver) -> None:
    async def strict(request: web.Request) -> web.StreamResponse:
        if "parse_mode" in await request.json():
            return web.json_response({"ok": False, "description": "Bad Request: can't parse entities"}, status=400)
        return web.json_response({"ok": True})

    there.answers[PATHS["telegram"]] = strict
    assert await send("telegram", there.base) == Sent()
    assert there.at(PATHS["telegram"])[1]["text"].startswith("[CRITICAL] new")
