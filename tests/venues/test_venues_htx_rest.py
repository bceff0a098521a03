"""REST against a scripted exchange: what each refusal asks for, the limits, and that nothing secret is told."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import structlog
from aiohttp import web
from structlog.testing import capture_logs
from venues_htx_exchange import Asked, Exchange, access, now_ms, ok, picture, quick, refusal, script, serve

from monitor.model.streams import Counters
from monitor.venues.base import Fault, VenueError
from monitor.venues.clock import VenueClock
from monitor.venues.htx.budget import Budget
from monitor.venues.htx.keys import check_key
from monitor.venues.htx.rest import RestClient, in_settlement
from monitor.venues.htx.signing import ACCOUNT_POSITION_INFO, CONTRACT_INFO, TIMESTAMP, TRADE, Endpoint, NotAllowedError, Scope

PATH = "/api/v1/contract_account_position_info"


class Client:
    def __init__(self, rest: RestClient, exchange: Exchange, counters: Counters, clock: VenueClock) -> None:
        self.rest, self.exchange, self.counters, self.clock = rest, exchange, counters, clock

    async def picture(self) -> bytes:
        return await self.rest.call(ACCOUNT_POSITION_INFO, [("symbol", "BTC")], access=access())


@asynccontextmanager
async def client(degraded: Callable[[str, str], None] = lambda _kind, _text: None, **changes: Any) -> AsyncIterator[Client]:
    exchange = Exchange()
    script(exchange)
    async with serve(exchange):
        settings = quick(exchange, **changes)
        counters, clock = Counters(), VenueClock(now_ms)
        timeout = aiohttp.ClientTimeout(total=settings.total_timeout_s, sock_connect=settings.connect_timeout_s)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            budget = Budget(settings, now_ms)
            rest = RestClient(http, settings, budget, clock, counters, now_ms, structlog.get_logger(), degraded)
            yield Client(rest, exchange, counters, clock)


async def test_a_signed_post_with_its_body_and_an_answer_of_the_wrong_content_type() -> None:
    async with client() as c:
        assert json.loads(await c.picture())["status"] == "ok"
        [asked] = c.exchange.asked
        assert (asked.method, asked.path, asked.body) == ("POST", PATH, {"symbol": "BTC"})
        assert "symbol" not in asked.query, "of a POST only the four identity parameters are signed"
        assert c.counters.rest == {"ok": 1}


async def test_an_address_that_the_firewall_refuses_pauses_and_is_told_once() -> None:
    told: list[tuple[str, str]] = []
    async with client(lambda kind, text: told.append((kind, text))) as c:
        c.exchange.answers[PATH] = lambda _: web.Response(status=403, text="<html>")
        results = await asyncio.gather(*(c.picture() for _ in range(4)), return_exceptions=True)
        assert {error.reason for error in results} == {Fault.FIREWALL}
        asked = len(c.exchange.asked)
        with pytest.raises(VenueError) as caught:
            await c.rest.sync_clock()
        assert caught.value.reason is Fault.FIREWALL, "no call of any kind to that host"
        assert len(c.exchange.asked) == asked
        [(kind, text)] = told
        assert kind == "firewall"
        assert text.endswith("UTC, the streams go on")


async def test_a_wrong_secret_is_refused_by_the_exchange() -> None:
    """Proves that the scripted exchange does check signatures."""
    async with client() as c:
        c.exchange.secrets["key-main"] = "another"
        with pytest.raises(VenueError) as caught:
            await c.picture()
        assert (caught.value.reason, caught.value.code) == (Fault.AUTH, 12008)


@pytest.mark.parametrize(
    ("answer", "reason", "code", "asked", "why"),
    [
        (refusal(403), Fault.AUTH, 403, 1, "invalid key"),
        (refusal(12005), Fault.AUTH, 12005, 1, "address not allowed: no other try"),
        (refusal(1004), Fault.UNAVAILABLE, 1004, 3, "busy: tried again"),
        (refusal(1431), Fault.UNAVAILABLE, 1431, 3, "maintenance until …"),
        ({"status": "maintain"}, Fault.UNAVAILABLE, None, 1, "maintenance: not again before the pause is over"),
        (refusal(1032), Fault.RATE_LIMIT, 1032, 1, "too fast"),
        (refusal(1077), Fault.REFUSED, 1077, 1, "in settlement"),
        (refusal(1013), Fault.REFUSED, 1013, 1, "unknown coin"),
        (refusal(9999), Fault.REFUSED, 9999, 1, "a code that is not in the book"),
        ({"status": "error", "err-code": "api-signature-not-valid", "err-msg": "x"}, Fault.AUTH, None, 1, "words and hyphens"),
        ({"status": "error", "err-code": "1032", "err-msg": "x"}, Fault.RATE_LIMIT, 1032, 1, "a number as text"),
        ({"code": 12003, "message": "x"}, Fault.AUTH, 12003, 1, "the envelope of v3"),
        ({"status": "error"}, Fault.UNAVAILABLE, None, 3, "an error without code"),
        ({}, Fault.UNAVAILABLE, None, 3, "no envelope"),
        ([1], Fault.UNAVAILABLE, None, 3, "no object"),
        (lambda _: web.Response(text="<html>Maintenance</html>"), Fault.UNAVAILABLE, None, 3, "a page"),
        (lambda _: web.Response(status=503, text="<html>"), Fault.UNAVAILABLE, None, 3, "5xx"),
        (lambda _: web.Response(status=403, text="<html>"), Fault.FIREWALL, None, 1, "a firewall"),
        (lambda _: web.Response(status=429, text="slow down"), Fault.RATE_LIMIT, None, 1, "429 without envelope"),
        (
            lambda _: web.Response(status=302, headers={"Location": "/api/v1/timestamp"}),
            Fault.UNAVAILABLE,
            None,
            3,
            "no redirects",
        ),
        (lambda _: web.Response(text='{"status":"ok","data":NaN}'), Fault.UNAVAILABLE, None, 3, "no JSON"),
        (lambda _: web.Response(body=b" " * 3000), Fault.BAD_ANSWER, None, 1, "larger than the cap"),
    ],
)
async def test_what_a_refusal_asks_for(answer: Any, reason: Fault, code: int | None, asked: int, why: str) -> None:
    async with client(answer_bytes_max=2000) as c:
        c.exchange.answers[PATH] = answer
        with pytest.raises(VenueError) as caught:
            await c.picture()
        assert (caught.value.reason, caught.value.code) == (reason, code), why
        assert c.exchange.count(PATH) == asked, why
        assert in_settlement(caught.value) is (code == 1077)


async def test_a_wrong_time_is_corrected_and_the_call_made_once_more() -> None:
    async with client() as c:
        answers = iter([refusal(12001), ok([picture()])])
        c.exchange.answers[PATH] = lambda _: next(answers)
        c.exchange.answers["/api/v1/timestamp"] = lambda _: {"status": "ok", "ts": now_ms() + 120_000}
        with capture_logs() as logs:
            await c.picture()
        assert [asked.path for asked in c.exchange.asked] == [PATH, "/api/v1/timestamp", PATH]
        assert 110_000 < c.clock.offset_ms < 130_000
        assert [log["event"] for log in logs] == ["clock_skew"]


async def test_a_time_that_stays_wrong_is_the_owners_matter() -> None:
    async with client() as c:
        c.exchange.answers[PATH] = refusal(12001)
        with pytest.raises(VenueError) as caught:
            await c.picture()
        assert (caught.value.reason, c.exchange.count(PATH)) == (Fault.AUTH, 2)
        assert caught.value.wait_s(now_ms()) > 0


@pytest.mark.parametrize(
    ("headers", "wait_ms", "why"),
    [
        ({"ratelimit-reset": "800", "ratelimit-interval": "3000"}, 800, "a duration, as the documentation reads"),
        ({"ratelimit-reset": "absolute+900"}, 900, "a moment, as it was recorded"),
        ({"ratelimit-interval": "500"}, 500, "else one window"),
        ({}, 3000, "else our own window"),
        ({"ratelimit-reset": "9" * 15}, 60_000, "not for ever"),
        ({"ratelimit-reset": "soon"}, 3000, "no number"),
    ],
)
async def test_the_pause_after_a_rate_limit(headers: dict[str, str], wait_ms: int, why: str) -> None:
    async with client() as c:
        c.exchange.answers[PATH] = refusal(1032)
        c.exchange.headers = {name: str(now_ms() + 900) if value == "absolute+900" else value for name, value in headers.items()}
        asked_ms = now_ms()
        with pytest.raises(VenueError) as caught:
            await c.picture()
        assert caught.value.retry_at_ms is not None
        assert wait_ms - 300 <= caught.value.retry_at_ms - asked_ms <= wait_ms + 2000, why
        with pytest.raises(VenueError) as again:
            await c.picture()
        assert (again.value.reason, c.exchange.count(PATH)) == (Fault.RATE_LIMIT, 1), "during the pause nothing is asked"
        await c.rest.call(TRADE, [("symbol", "X")])  # the limits are apart


async def test_nothing_is_asked_when_nothing_remains() -> None:
    async with client() as c:
        c.exchange.headers = {"ratelimit-remaining": "0", "ratelimit-reset": "60000"}
        await c.picture()
        with pytest.raises(VenueError) as caught:
            await c.picture()
        assert caught.value.reason is Fault.RATE_LIMIT
        assert c.exchange.count(PATH) == 1


async def test_row_33_one_pause_is_of_all_keys_of_the_user() -> None:
    async with client() as c:
        for alias in ("main", "second"):
            c.rest.identify(access(alias), "63628520")
        c.exchange.answers[PATH] = refusal(1032)
        with pytest.raises(VenueError):
            await c.picture()
        with pytest.raises(VenueError) as caught:
            await c.rest.call(ACCOUNT_POSITION_INFO, [("symbol", "BTC")], access=access("second"))
        assert (caught.value.reason, c.exchange.count(PATH)) == (Fault.RATE_LIMIT, 1)


async def test_a_silent_exchange_times_out() -> None:
    async with client(total_timeout_s=0.1, tries=2) as c:

        async def never(_: Asked) -> None:
            await asyncio.sleep(5)

        c.exchange.answers[PATH] = never
        began = time.monotonic()
        with pytest.raises(VenueError) as caught:
            await c.picture()
        assert (caught.value.reason, c.exchange.count(PATH)) == (Fault.TIMEOUT, 2)
        assert time.monotonic() - began < 2


async def test_an_unreachable_host() -> None:
    async with client(rest="http://127.0.0.1:1") as c:
        with pytest.raises(VenueError) as caught:
            await c.rest.call(TIMESTAMP)
        assert caught.value.reason is Fault.NETWORK


async def test_no_secret_in_errors_or_logs() -> None:
    async with client() as c:
        with capture_logs() as logs:
            for answer in (refusal(12008, "key-main " + "A" * 40), refusal(1030), {"status": "maintain"}, refusal(1032)):
                c.exchange.answers[PATH] = answer
                with pytest.raises(VenueError) as caught:
                    await c.picture()
                text = f"{caught.value!r} {caught.value} {caught.value.detail} {logs}"
                for canary in ("secret-main", "Signature", "AccessKeyId", "A" * 40, "127.0.0.1"):
                    assert canary not in text


async def test_a_call_that_is_not_in_the_table_is_not_sent() -> None:
    async with client() as c:
        with pytest.raises(NotAllowedError):
            await c.rest.call(Endpoint("POST", "/api/v1/contract_order", Scope.PRIVATE, signed=True), access=access())
        assert c.exchange.asked == []
        await c.rest.call(CONTRACT_INFO)


# ------------------------------------------------------------------ keys


def key(permission: str = "readOnly", **changes: Any) -> dict[str, Any]:
    row = {"accessKey": "key-main", "status": "normal", "permission": permission, "ipAddresses": "1.1.1.1", "validDays": -1}
    return {"code": 200, "message": "success", "data": [row | changes]}


@pytest.mark.parametrize(
    ("answer", "found", "why"),
    [
        (key(), [], "a read-only key bound to an address"),
        (key("readOnly,trade"), [("warn", "trade")], "the documented sample: it may trade"),
        (key("readOnly,trade,withdraw"), [("warn", "trade"), ("refuse", "withdraw")], "it can move money away"),
        (key("readOnly, Withdraw"), [("refuse", "Withdraw")], "however it is written"),
        (key("readOnly,margin"), [("warn", "margin")], "a right that is not known"),
        (key("trade"), [("warn", "trade"), ("warn", "readOnly")], "cannot read"),
        (key(""), [("warn", "")], "unknown is not safe"),
        (key(ipAddresses=""), [("warn", "ipAddresses")], "works from anywhere"),
        (key(validDays=3), [("warn", "validDays")], "ends soon"),
        (key(status="suspended"), [("warn", "status")], "suspended"),
        (key(accessKey="other"), [("warn", "")], "another key's rights are not ours"),
        (refusal(2002, "not allowed"), [("warn", "")], "permissions unknown"),
        ({"code": 1002, "message": "forbidden"}, [("warn", "")], "the same in the other envelope"),
        ({"code": 200, "data": "x"}, [("warn", "")], "unreadable"),
    ],
)
async def test_key_findings(answer: dict[str, Any], found: list[tuple[str, str]], why: str) -> None:
    async with client() as c:
        c.exchange.answers["/v2/user/uid"] = {"code": 200, "data": 63628520}
        c.exchange.answers["/v2/user/api-key"] = answer
        findings = await check_key(c.rest, access())
        assert [(finding.verdict, finding.right) for finding in findings] == found, why
        assert all("key-main" not in finding.text for finding in findings)
        asked = c.exchange.asked[1]
        assert (asked.query["uid"], asked.query["accessKey"]) == ("63628520", "key-main")


async def test_a_sub_account_may_not_ask_for_its_rights() -> None:
    async with client() as c:
        c.exchange.answers["/v2/user/uid"] = refusal(1254)
        [finding] = await check_key(c.rest, access())
        assert finding.verdict == "warn"
        assert "permissions unknown" in finding.text
