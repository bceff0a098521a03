"""REST against a scripted exchange: signature, clock, weight, pauses that the venue orders, and what errors become."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import structlog
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from venues_exchange import Exchange, PlainSecret, access, now_ms, quick, refusal, script_account, steps

from monitor.model.streams import Counters
from monitor.venues.base import Fault, VenueError
from monitor.venues.binance import reference, signing
from monitor.venues.binance.budget import Budget, Priority
from monitor.venues.binance.keys import check_key
from monitor.venues.binance.rest import RestClient
from monitor.venues.binance.signing import ACCOUNT, ALLOWED, EXCHANGE_INFO, LISTEN_KEY_OPEN, SERVER_TIME, Endpoint, Security
from monitor.venues.binance.venue import BinanceVenue
from monitor.venues.clock import VenueClock

SHARES = {Priority.SNAPSHOT: 0.95, Priority.TAKEOVER: 0.9, Priority.RELOAD: 0.8}


class Client:
    """A client, its parts and the exchange that it talks to."""

    def __init__(self, exchange: Exchange, rest: RestClient, budget: Budget, clock: VenueClock, counters: Counters) -> None:
        self.exchange = exchange
        self.rest = rest
        self.budget = budget
        self.clock = clock
        self.counters = counters


@asynccontextmanager
async def client(
    our_clock: Callable[[], int] = now_ms, degraded: Callable[[str, str], None] = lambda _kind, _text: None, **settings: Any
) -> AsyncIterator[Client]:
    exchange = Exchange()
    script_account(exchange)
    counters = Counters()
    async with (
        exchange.serve(),
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=settings.get("total_timeout_s", 5))) as http,
    ):
        budget = Budget(our_clock, counters, limit=2400, shares=SHARES)
        clock = VenueClock(our_clock)
        log = structlog.get_logger()
        yield Client(
            exchange,
            RestClient(http, quick(exchange, **settings), budget, clock, counters, our_clock, log, degraded),
            budget,
            clock,
            counters,
        )


# ------------------------------------------------------------------ signature and the table of calls


def test_published_signature() -> None:
    """The example of the venue's own documentation."""
    query = "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559"
    secret = PlainSecret("NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j")
    assert signing.signature(query, secret) == "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"


@pytest.mark.parametrize(
    ("parameters", "query", "why"),
    [
        ([], "recvWindow=5000&timestamp=1", "nothing but the time"),
        ([("symbol", "BTCUSDT")], "symbol=BTCUSDT&recvWindow=5000&timestamp=1", "ours first, the time after"),
        (
            [("symbol", "币安人生USDT")],
            f"symbol={quote('币安人生USDT')}&recvWindow=5000&timestamp=1",
            "encoded before it is signed",
        ),
        ([("a", "x y&z=1")], "a=x%20y%26z%3D1&recvWindow=5000&timestamp=1", "a space is %20, not +"),
    ],
)
def test_the_encoded_query_is_signed(parameters: Any, query: str, why: str) -> None:
    signed = signing.signed_query(ACCOUNT, parameters, PlainSecret("secret"), timestamp_ms=1, recv_window_ms=5000)
    digest = hmac.new(b"secret", query.encode(), hashlib.sha256).hexdigest()
    assert signed == f"{query}&signature={digest}", why


@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    st.sampled_from(
        ["/fapi/v1/order", "/fapi/v1/leverage", "/sapi/v1/capital/withdraw/apply", "/fapi/v1/listenKey", "/fapi/v3/account"]
    )
    | st.text(),
)
def test_what_is_not_in_the_table_is_neither_signed_nor_sent(method: str, path: str) -> None:
    endpoint = Endpoint(method, path, 1, Security.SIGNED)
    if endpoint in ALLOWED:
        return
    with pytest.raises(signing.NotAllowedError):
        signing.signed_query(endpoint, (), PlainSecret("s"), timestamp_ms=1, recv_window_ms=5000)


async def test_what_is_not_in_the_table_is_not_sent() -> None:
    async with client() as c:
        for method, path in (("POST", "/fapi/v1/order"), ("DELETE", "/fapi/v1/listenKey"), ("GET", "/fapi/v1/allOrders")):
            for security in Security:
                endpoint = Endpoint(method, path, 1, security)
                with pytest.raises(signing.NotAllowedError):
                    await c.rest.call(endpoint, access=access())
        assert not c.exchange.asked


def test_the_table_only_reads() -> None:
    writes = {(endpoint.method, endpoint.path) for endpoint in ALLOWED if endpoint.method != "GET"}
    assert writes == {("POST", "/fapi/v1/listenKey"), ("PUT", "/fapi/v1/listenKey")}


async def test_a_signed_call_as_the_venue_sees_it() -> None:
    async with client() as c:
        await c.rest.sync_clock()
        await c.rest.call(ACCOUNT, access=access())
        asked = c.exchange.asked[-1]
        unsigned, _, signature = asked.query_string.partition("&signature=")
        assert signature == hmac.new(b"secret-main", unsigned.encode(), hashlib.sha256).hexdigest()
        assert asked.key == "key-main"
        assert asked.query["recvWindow"] == "5000"
        await c.rest.call(LISTEN_KEY_OPEN, access=access())
        assert (c.exchange.asked[-1].query_string, c.exchange.asked[-1].key) == ("", "key-main"), "key only"
        await c.rest.call(EXCHANGE_INFO)
        assert c.exchange.asked[-1].key is None, "public calls carry no key"


# ------------------------------------------------------------------ clock


def test_offset_is_taken_at_half_the_round_trip_and_the_floor_never_runs_ahead() -> None:
    clock = VenueClock(lambda: 1000)
    clock.set(server_ms=5050, asked_ms=900, answered_ms=1100)
    assert clock.now_ms() == 5050
    assert clock.floor_ms() == 4950


async def test_a_wrong_clock_is_measured_again_and_the_call_repeated_once() -> None:
    ahead_ms = 60_000
    async with client() as c:

        def account(request: web.Request) -> Any:
            late = int(request.query["timestamp"]) < now_ms() + ahead_ms - 5000
            return refusal(400, -1021, "Timestamp for this request is outside of the recvWindow.")(request) if late else {}

        c.exchange.answers["GET", "/fapi/v1/time"] = lambda _: {"serverTime": now_ms() + ahead_ms}
        c.exchange.answers["GET", "/fapi/v3/account"] = account
        assert await c.rest.call(ACCOUNT, access=access()) == b"{}"
        assert [asked.path for asked in c.exchange.asked] == ["/fapi/v3/account", "/fapi/v1/time", "/fapi/v3/account"]
        assert abs(c.clock.offset_ms - ahead_ms) < 1000
        assert c.counters.rest["-1021"] == 1


async def test_a_clock_that_stays_wrong_is_not_repeated_for_ever() -> None:
    async with client() as c:
        c.exchange.answers["GET", "/fapi/v3/account"] = refusal(400, -1021)
        with pytest.raises(VenueError) as caught:
            await c.rest.call(ACCOUNT, access=access())
        assert caught.value.reason is Fault.CLOCK
        assert c.exchange.count("GET", "/fapi/v3/account") == 2


# ------------------------------------------------------------------ what errors become


@pytest.mark.parametrize(
    ("status", "code", "reason", "retryable", "tries", "why"),
    [
        (401, -2015, Fault.AUTH, False, 1, "key, address or permission"),
        (400, -2014, Fault.AUTH, False, 1, "key format"),
        (400, -1022, Fault.AUTH, False, 1, "signature: only the owner can repair it"),
        (500, -1000, Fault.UNAVAILABLE, True, 3, "their side"),
        (503, 0, Fault.UNAVAILABLE, True, 3, "maintenance"),
        (408, -1007, Fault.UNAVAILABLE, True, 3, "timeout behind the front"),
        (400, -1001, Fault.UNAVAILABLE, True, 3, "disconnected behind the front"),
        (400, -1008, Fault.UNAVAILABLE, True, 3, "overloaded"),
        (400, -1121, Fault.REFUSED, False, 1, "bad symbol: a repetition changes nothing"),
        (400, -99999, Fault.REFUSED, False, 1, "a code of next year"),
        (429, -1003, Fault.RATE_LIMIT, True, 1, "asking again would be a ban"),
        (418, -1003, Fault.BANNED, True, 1, "banned"),
        (403, 0, Fault.FIREWALL, True, 1, "web firewall"),
        (302, 0, Fault.REFUSED, False, 1, "redirects are not followed: they would carry the key elsewhere"),
    ],
)
async def test_refusals(status: int, code: int, reason: Fault, retryable: bool, tries: int, why: str) -> None:
    async with client() as c:
        c.exchange.answers["GET", "/fapi/v3/account"] = refusal(status, code, Location="/fapi/v1/ping")
        with pytest.raises(VenueError) as caught:
            await c.rest.call(ACCOUNT, access=access())
        assert (caught.value.reason, caught.value.retryable) == (reason, retryable), why
        assert c.exchange.count("GET", "/fapi/v3/account") == tries, why
        assert len(c.exchange.asked) == tries, "nothing else was asked"


async def test_a_fault_that_passes_is_not_seen() -> None:
    async with client() as c:
        html = web.Response(text="<html>Service Unavailable</html>", content_type="text/html")
        c.exchange.answers["GET", "/fapi/v3/account"] = steps(refusal(502, 0), lambda _: html, {"fine": True})
        assert b"fine" in await c.rest.call(ACCOUNT, access=access())
        assert c.counters.rest == {"unavailable": 2, "ok": 1}


@pytest.mark.parametrize(
    ("settings", "answer", "reason", "why"),
    [
        ({"total_timeout_s": 0.1}, "hang", Fault.TIMEOUT, "no answer"),
        ({"answer_bytes_max": 1000}, web.Response(body=b"[" + b"0," * 1000 + b"0]"), Fault.BAD_ANSWER, "an endless answer"),
        ({}, "drop", Fault.NETWORK, "the connection breaks"),
    ],
)
async def test_broken_answers(settings: dict[str, Any], answer: Any, reason: Fault, why: str) -> None:
    async with client(tries=1, **settings) as c:

        async def misbehave(request: web.Request) -> web.StreamResponse:
            if isinstance(answer, web.Response):
                return answer
            if answer == "drop":
                assert request.transport is not None
                request.transport.abort()
            else:
                await asyncio.Event().wait()
            return web.Response()

        c.exchange.answers["GET", "/fapi/v3/account"] = misbehave
        with pytest.raises(VenueError) as caught:
            await c.rest.call(ACCOUNT, access=access())
        assert caught.value.reason is reason, why
        assert c.counters.rest == {reason: 1}


async def test_nothing_is_listening() -> None:
    async with client(tries=2, rest="http://127.0.0.1:1") as c:
        with pytest.raises(VenueError) as caught:
            await c.rest.call(ACCOUNT, access=access())
        assert caught.value.reason is Fault.NETWORK


async def test_tls_that_fails_is_never_replaced_by_plain_text() -> None:
    async with client() as c:
        settings = quick(c.exchange, rest=f"https://{c.exchange.url}", tries=2)
        async with aiohttp.ClientSession() as http:
            rest = RestClient(http, settings, c.budget, c.clock, c.counters, now_ms, structlog.get_logger())
            with pytest.raises(VenueError) as caught:
                await rest.call(ACCOUNT, access=access())
        assert caught.value.reason is Fault.TLS
        assert not c.exchange.asked


@pytest.mark.parametrize("status", [401, 500, 429, 418, 403])
async def test_no_secret_in_errors_or_logs(status: int) -> None:
    """A venue's message may echo what we sent."""
    async with client(tries=2) as c:

        def echo(request: web.Request) -> web.Response:
            said = f"bad signature {request.query['signature']} for key {'K' * 64}"
            return web.json_response({"code": -1022, "msg": said}, status=status)

        c.exchange.answers["GET", "/fapi/v3/account"] = echo
        with capture_logs() as logs, pytest.raises(VenueError) as caught:
            await c.rest.call(ACCOUNT, access=access())
        shown = f"{caught.value!r} {caught.value} {logs}"
        for secret in ("secret-main", "key-main", "K" * 64, c.exchange.asked[0].query["signature"], "signature="):
            assert secret not in shown
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


# ------------------------------------------------------------------ weight and pauses


class HandClock:
    def __init__(self, ms: int) -> None:
        self.ms = ms

    def __call__(self) -> int:
        return self.ms


@pytest.mark.parametrize(
    ("status", "headers", "msg", "pause_ms", "why"),
    [
        (429, {"Retry_After": "7"}, "", 7_000, "to the second"),
        (429, {}, "", 30_000, "no time named"),
        (429, {"Retry_After": "soon"}, "", 30_000, "a time that is none"),
        (418, {"Retry_After": "720"}, "", 720_000, "a ban"),
        (418, {}, "", 120_000, "a ban that names no end"),
        (418, {}, "Way too many requests; IP banned until 1700000900000.", 900_000, "the end in the message"),
        (418, {"Retry_After": "10"}, "banned until 1700000900000", 900_000, "the later of both"),
        (403, {}, "", 300_000, "the firewall names none"),
    ],
)
async def test_ordered_pauses(status: int, headers: dict[str, str], msg: str, pause_ms: int, why: str) -> None:
    clock = HandClock(1_700_000_000_000)
    async with client(clock) as c:
        c.exchange.answers["GET", "/fapi/v3/account"] = refusal(status, -1003 if status != 403 else 0, msg, **headers)
        with pytest.raises(VenueError) as caught:
            await c.rest.call(ACCOUNT, access=access())
        assert caught.value.retry_at_ms == clock.ms + pause_ms, why
        asked = len(c.exchange.asked)
        clock.ms += pause_ms - 1
        for endpoint in (ACCOUNT, SERVER_TIME):
            with pytest.raises(VenueError) as again:
                await c.rest.call(endpoint, access=access())
            assert again.value.retry_at_ms == clock.ms + 1, "every call waits, the most urgent too"
        assert len(c.exchange.asked) == asked, "nothing was sent during the pause"
        clock.ms += 1
        await c.rest.call(SERVER_TIME)


async def test_a_retry_after_date() -> None:
    clock = HandClock(1_700_000_000_000)  # 2023-11-14 22:13:20 UTC
    async with client(clock) as c:
        c.exchange.answers["GET", "/fapi/v3/account"] = refusal(429, -1003, Retry_After="Tue, 14 Nov 2023 22:13:50 GMT")
        with pytest.raises(VenueError) as caught:
            await c.rest.call(ACCOUNT, access=access())
        assert caught.value.retry_at_ms == clock.ms + 30_000


_DAY_S = 86_400
_HUGE_DATE = "Fri, 31 Dec 99999999999999999999 23:59:59 GMT"


@pytest.mark.parametrize(
    ("status", "headers", "msg", "pause_s", "why"),
    [
        (429, {"Retry_After": "99999999999999999999"}, "", 3600, "an hour, then it is asked again"),
        (429, {"Retry_After": "9" * 401}, "", 3600, "no float holds it"),
        (429, {"Retry_After": "Fri, 31 Dec 9999 23:59:59 GMT"}, "", 3600, "a date of the last year that there is"),
        (429, {"Retry_After": _HUGE_DATE}, "", 30, "a date that no calendar has: as if no time were named"),
        (429, {"Retry_After": "1e400"}, "", 30, "not whole seconds"),
        (429, {"Retry_After": "-5"}, "", 30, "negative"),
        (429, {"Retry_After": "nan"}, "", 30, "no number"),
        (403, {"Retry_After": "99999999"}, "", 3600, "the firewall"),
        (418, {"Retry_After": "99999999"}, "", 3 * _DAY_S, "the venue's longest ban"),
        (418, {"Retry_After": str(3 * _DAY_S)}, "", 3 * _DAY_S, "which may be ordered"),
        (418, {"Retry_After": "Fri, 31 Dec 9999 23:59:59 GMT"}, "", 3 * _DAY_S, "a date beyond it"),
        (418, {}, "IP banned until 9999999999999.", 3 * _DAY_S, "an end in the message beyond it"),
        (418, {}, "IP banned until 99999999999999999999.", 3 * _DAY_S, "more digits than a time has: the first 13 are one"),
        (418, {"Retry_After": _HUGE_DATE}, "", 120, "a ban that names no end"),
    ],
)
async def test_row_8_no_number_from_outside_raises_or_waits_absurdly(
    status: int, headers: dict[str, str], msg: str, pause_s: int, why: str
) -> None:
    clock = HandClock(1_700_000_000_000)
    async with client(clock) as c:
        c.exchange.answers["GET", "/fapi/v3/account"] = refusal(status, -1003 if status != 403 else 0, msg, **headers)
        with pytest.raises(VenueError) as caught:
            await c.rest.call(ACCOUNT, access=access())
        assert caught.value.retry_at_ms == clock.ms + 1000 * pause_s, why
        clock.ms += 1000 * pause_s
        await c.rest.call(SERVER_TIME)


async def test_row_8_a_clock_that_is_set_back_makes_no_pause_longer_than_the_longest() -> None:
    clock = HandClock(1_700_000_000_000 + 400 * 1000 * _DAY_S)  # 400 days ahead, as a machine without a battery may be
    budget = Budget(clock, Counters(), limit=2400, shares=SHARES)
    budget.block(Fault.BANNED, clock.ms + 1000 * 120)
    clock.ms = 1_700_000_000_000
    with pytest.raises(VenueError) as caught:
        await budget.admit(1, Priority.SNAPSHOT)
    assert caught.value.wait_s(clock.ms) == 3 * _DAY_S
    clock.ms += 3 * 1000 * _DAY_S
    await budget.admit(1, Priority.SNAPSHOT)


@pytest.mark.parametrize(
    ("limit", "taken", "why"),
    [
        (2400, 2400, "the venue's own"),
        (6000, 6000, "of the test network"),
        (10**400, None, "an int of Python that no float holds"),
        (1, None, "one call a minute is no limit of this venue"),
        (0, None, "none at all"),
        (-5, None, "negative"),
    ],
)
def test_row_8_the_weight_limit_is_a_number_that_can_be(limit: int, taken: int | None, why: str) -> None:
    row = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": limit}
    assert reference.weight_limit(json.dumps({"symbols": [], "rateLimits": [row]}).encode()) == taken, why


@pytest.mark.parametrize(
    ("used", "admitted", "why"),
    [
        (1900, {Priority.SNAPSHOT, Priority.TAKEOVER, Priority.RELOAD}, "enough for all"),
        (1930, {Priority.SNAPSHOT, Priority.TAKEOVER}, "past 80 %: reloads wait"),
        (2170, {Priority.SNAPSHOT}, "past 90 %: only snapshots"),
        (2300, set(), "past 95 %: a ban is worse than a late snapshot"),
    ],
)
async def test_priorities_when_the_weight_runs_short(used: int, admitted: set[Priority], why: str) -> None:
    for priority in Priority:
        clock = HandClock(1_700_000_000_000)
        counters = Counters()
        budget = Budget(clock, counters, limit=2400, shares=SHARES)
        budget.observe(str(used))
        assert counters.weight_used == used
        waiting = asyncio.create_task(budget.admit(10, priority))
        for _ in range(3):
            await asyncio.sleep(0)
        assert waiting.done() is (priority in admitted), (why, priority)
        waiting.cancel()


async def test_who_waits_goes_on_in_the_next_minute() -> None:
    clock = HandClock(1_700_000_039_990)  # 10 ms before a full minute
    budget = Budget(clock, Counters(), limit=100, shares=SHARES)
    budget.observe("100")
    waiting = asyncio.create_task(budget.admit(10, Priority.SNAPSHOT))
    await asyncio.sleep(0)
    clock.ms += 10
    await asyncio.wait_for(waiting, 2)
    assert budget.used() == 10, "a new minute, a new count"


async def test_the_venues_own_count_is_believed_where_it_is_higher() -> None:
    """Other programs share the address; calls on their way are not in the header yet."""
    clock = HandClock(1_700_000_000_000)
    budget = Budget(clock, Counters(), limit=2400, shares=SHARES)
    await budget.admit(20, Priority.SNAPSHOT)
    budget.observe("5")
    assert budget.used() == 20
    budget.observe("500")
    assert budget.used() == 500
    for nonsense in (None, "", "x", "-5", "1" * 30, "５"):
        budget.observe(nonsense)
    assert budget.used() == 500


async def test_one_call_heavier_than_the_limit_is_made_all_the_same() -> None:
    budget = Budget(HandClock(1_700_000_000_000), Counters(), limit=5, shares=SHARES)
    await asyncio.wait_for(budget.admit(10, Priority.RELOAD), 1)


async def test_the_used_weight_header_is_read() -> None:
    async with client() as c:
        c.exchange.used_weight = 1234
        await c.rest.call(EXCHANGE_INFO)
        assert c.counters.weight_used == 1234


# ------------------------------------------------------------------ shut out by the venue


@pytest.mark.parametrize(
    ("status", "code", "msg", "kind", "end", "why"),
    [
        (418, -1003, "banned until 1700000125000.", "banned", "2023-11-14 22:15:25 UTC", "the end that the venue names"),
        (418, -1003, "", "banned", "2023-11-14 22:15:20 UTC", "no end named: two minutes"),
        (403, 0, "", "firewall", "2023-11-14 22:18:20 UTC", "the web firewall names no end: five minutes"),
        (429, -1003, "", None, "", "a pause of seconds: what it costs is told by the ages"),
    ],
)
async def test_row_14_who_is_shut_out_is_told_once_with_the_end(
    status: int, code: int, msg: str, kind: str | None, end: str, why: str
) -> None:
    at_ms = 1_700_000_000_000
    clock = HandClock(at_ms)
    told: list[tuple[str, str]] = []
    async with client(clock, lambda kind, text: told.append((kind, text))) as c:
        c.exchange.answers["GET", "/fapi/v1/exchangeInfo"] = refusal(status, code, msg)
        with capture_logs() as logs:
            calls = await asyncio.gather(*(c.rest.call(EXCHANGE_INFO) for _ in range(4)), return_exceptions=True)
            assert all(isinstance(call, VenueError) for call in calls), why
            with pytest.raises(VenueError):
                await c.rest.call(EXCHANGE_INFO)
        assert c.exchange.count("GET", "/fapi/v1/exchangeInfo") <= 4, "no request until the end"
        assert len([entry for entry in logs if entry["event"] == "venue_ordered_pause"]) == 1, "met together, told once"
        assert [of for of, _ in told] == ([kind] if kind else []), why
        assert all(f"until {end}" in text for _, text in told), why
        clock.ms += 3_600_000
        with pytest.raises(VenueError):
            await c.rest.call(EXCHANGE_INFO)
        assert len(told) == (2 if kind else 0), "the next one is news"


# ------------------------------------------------------------------ key check

RIGHTS = ("GET", "/sapi/v1/account/apiRestrictions")
GOOD_RIGHTS = {
    "ipRestrict": True,
    "enableReading": True,
    "enableWithdrawals": False,
    "enableInternalTransfer": False,
    "permitsUniversalTransfer": False,
    "enableSpotAndMarginTrading": False,
}


async def test_keys_are_checked_by_the_venues_word() -> None:
    async with client() as c:

        def rights(request: web.Request) -> dict[str, Any]:
            return {**GOOD_RIGHTS, "enableWithdrawals": request.headers["X-MBX-APIKEY"] == "key-rich"}

        c.exchange.answers[RIGHTS] = rights
        venue = BinanceVenue(quick(c.exchange), (access("rich"), access("poor")), lambda _: None, now_ms)
        found = await venue.check_keys()
        assert [(item.alias, item.verdict) for item in found] == [("rich", "refuse")]


@pytest.mark.parametrize(
    ("answer", "verdict", "words", "why"),
    [
        ({"isPortfolioMarginRetailEnabled": True}, "refuse", "is in Portfolio Margin", "another product: wrong figures"),
        ({"isPortfolioMarginRetailEnabled": False}, None, "", "an ordinary account"),
        ({"vipLevel": 0}, None, "", "an answer from before that product"),
        (refusal(404, 0), "warn", "Portfolio Margin is unknown", "a host without this call"),
        ({"isPortfolioMarginRetailEnabled": "perhaps"}, "warn", "Portfolio Margin is unknown", "an answer that cannot be read"),
    ],
)
async def test_portfolio_margin_is_refused(answer: Any, verdict: str | None, words: str, why: str) -> None:
    async with client(tries=1) as c:
        c.exchange.answers[RIGHTS] = GOOD_RIGHTS
        c.exchange.answers["GET", "/sapi/v1/account/info"] = answer
        found = await check_key(c.rest, access())
        assert [item.verdict for item in found] == ([verdict] if verdict else []), why
        assert all(words in item.text for item in found), why


@pytest.mark.parametrize(
    ("answer", "words", "why"),
    [
        (refusal(404, 0), "permissions unknown", "a host without this call, such as a test network"),
        (refusal(401, -2015), "rejects the key", "the key itself"),
        ({"x": 1}, "permissions unknown", "an answer that says nothing"),
        ([], "permissions unknown", "no answer of this kind"),
    ],
)
async def test_unknown_rights_are_a_warning(answer: Any, words: str, why: str) -> None:
    async with client(tries=1) as c:
        c.exchange.answers[RIGHTS] = answer
        found = await check_key(c.rest, access())
        assert found, why
        assert {item.verdict for item in found} == {"warn"}, why
        assert words in found[0].text, why
