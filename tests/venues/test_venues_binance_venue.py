"""The adapter as a whole against a scripted exchange: real sockets, the rules in tenths of seconds."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError
from structlog.testing import capture_logs
from venues_exchange import (
    Exchange,
    access,
    account_answer,
    index_frame,
    mark_frame,
    now_ms,
    quick,
    refusal,
    risk_answer,
    script_account,
    steps,
    until,
)

from monitor.model.events import (
    AccountSnapshot,
    AccountUpdate,
    AssetRates,
    Brackets,
    Degraded,
    Event,
    Instruments,
    Mode,
    ModeChanged,
    Prices,
    StreamDown,
    StreamUp,
    VenueCall,
)
from monitor.venues.base import AccountAccess
from monitor.venues.binance.settings import BinanceSettings
from monitor.venues.binance.venue import BinanceVenue, reconcile_period_s


class Running:
    """A venue under test with all that it emitted."""

    def __init__(self, venue: BinanceVenue, events: list[Event]) -> None:
        self.venue = venue
        self.events = events

    def of(self, kind: type[Any], **fields: Any) -> list[Any]:
        return [
            event
            for event in self.events
            if isinstance(event, kind) and all(getattr(event, name) == value for name, value in fields.items())
        ]

    def index(self, kind: type[Any], **fields: Any) -> int:
        """Place of the first such event."""
        return self.events.index(self.of(kind, **fields)[0])

    def up(self, stream: str) -> bool:
        return any(status.up for status in self.venue.streams if status.stream == stream)


@asynccontextmanager
async def exchange_with_account() -> AsyncIterator[Exchange]:
    exchange = Exchange()
    script_account(exchange)
    async with exchange.serve():
        yield exchange


@asynccontextmanager
async def running(settings: BinanceSettings, accounts: Sequence[AccountAccess] = (access(),)) -> AsyncIterator[Running]:
    events: list[Event] = []
    venue = BinanceVenue(settings, accounts, events.append, now_ms)
    task = asyncio.create_task(venue.run())
    try:
        yield Running(venue, events)
        if task.done():
            task.result()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def ticking(exchange: Exchange, *, marks: bool = True, rates: bool = True) -> AsyncIterator[None]:
    """A healthy market stream, faster than the real one."""

    async def tick() -> None:
        while True:
            at = now_ms()
            if marks:
                await exchange.send_market(mark_frame(at), "!markPrice@arr@1s")
            if rates:
                await exchange.send_market(index_frame(at), "!assetIndex@arr")
            await asyncio.sleep(0.02)

    task = asyncio.create_task(tick())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def update_frame(time_ms: int, wallet: str) -> dict[str, Any]:
    return {
        "e": "ACCOUNT_UPDATE",
        "E": time_ms,
        "T": time_ms,
        "a": {"m": "ORDER", "B": [{"a": "USDT", "wb": wallet, "cw": wallet, "bc": "0"}]},
    }


# ------------------------------------------------------------------ start


async def test_a_start_brings_everything_the_engine_needs() -> None:
    async with exchange_with_account() as exchange, ticking(exchange), running(quick(exchange)) as run:
        for kind in (Instruments, Brackets, AccountSnapshot, Prices, AssetRates):
            await until(partial(run.of, kind), f"{kind.__name__} after the start")
        await until(lambda: all(status.up for status in run.venue.streams), "all streams up")
        assert run.of(StreamUp, stream="market", account="")
        assert run.of(StreamUp, stream="user", account="main")
        snapshot = run.of(AccountSnapshot)[0]
        assert snapshot.mode is Mode.MULTI_ASSETS
        assert snapshot.positions[0].quantity == 0.01
        assert abs(snapshot.as_of_ms - now_ms()) < 10_000
        assert run.venue.counters.frames["mark_price"] > 0
        assert not run.venue.counters.refused


async def test_the_clock_is_asked_before_the_first_signed_call() -> None:
    async with exchange_with_account() as exchange, running(quick(exchange)) as run:
        await until(lambda: run.of(AccountSnapshot), "a snapshot")
        assert exchange.asked[0].path == "/fapi/v1/time"


async def test_the_snapshot_is_asked_after_the_stream_is_open_and_held_events_follow_it() -> None:
    """What arrives while the snapshot is on its way must neither be lost nor come before it."""
    release = asyncio.Event()
    streams_open_when_asked: list[int] = []

    async with exchange_with_account() as exchange:

        async def slow_account(_: web.Request) -> dict[str, Any]:
            streams_open_when_asked.append(len(exchange.users))
            await release.wait()
            return account_answer()

        exchange.answers["GET", "/fapi/v3/account"] = slow_account
        async with running(quick(exchange)) as run:
            await until(lambda: streams_open_when_asked, "the account is asked")
            assert streams_open_when_asked[0] == 1
            await exchange.send_user(update_frame(now_ms(), "1001"))
            await exchange.send_user({"e": "MARGIN_CALL", "E": now_ms(), "cw": "3", "p": []})
            await until(lambda: run.of(VenueCall), "an alarm does not wait for the snapshot")
            assert not run.of(AccountUpdate), "an account event waits for the snapshot"
            release.set()
            await until(lambda: run.of(StreamUp, stream="user"), "the user stream is up")
            order = [run.index(AccountSnapshot), run.index(AccountUpdate), run.index(StreamUp, stream="user")]
            assert order == sorted(order)
            assert run.of(AccountUpdate)[0].balances[0].wallet == 1001


async def test_row_29_an_account_event_that_had_to_be_dropped_asks_for_a_snapshot_of_its_own() -> None:
    """The snapshot on its way may be older than what was dropped: it ends nothing, the next one does."""
    asked, release = asyncio.Event(), asyncio.Event()

    async with exchange_with_account() as exchange:

        async def slow_account(_: web.Request) -> dict[str, Any]:
            if asked.is_set():
                return account_answer("1005")
            asked.set()
            await release.wait()
            return account_answer("1000")

        exchange.answers["GET", "/fapi/v3/account"] = slow_account
        settings = quick(exchange, buffer_events_max=3, fallback_s=60, reconcile_s=60)  # none comes by itself
        async with running(settings) as run:
            await asked.wait()
            for wallet in ("1001", "1002", "1003", "1004", "1005"):
                await exchange.send_user(update_frame(now_ms(), wallet))
            await until(lambda: run.venue.counters.frames.get("user") == 5, "all are read")
            assert run.venue.counters.refused == {"held_too_long": 3}
            release.set()
            await until(lambda: run.of(StreamUp, stream="user"), "the user stream is up")
            before = run.events[: run.index(StreamUp, stream="user")]
            wallets = [event.balances[0].wallet for event in before if isinstance(event, AccountSnapshot | AccountUpdate)]
            assert wallets == [1000, 1005, 1004, 1005], "the late picture, the one that holds what was dropped, what came since"


# ------------------------------------------------------------------ user stream


async def test_an_expired_listen_key_gives_a_new_key_a_new_socket_and_a_snapshot() -> None:
    async with exchange_with_account() as exchange:
        exchange.answers["POST", "/fapi/v1/listenKey"] = steps({"listenKey": "first"}, {"listenKey": "second"})
        async with running(quick(exchange)) as run:
            await until(lambda: run.up("user"), "the user stream is up")
            snapshots = len(run.of(AccountSnapshot))
            expired = {"e": "listenKeyExpired", "E": "1576653824250", "listenKey": "first"}  # a time as text must not hide it
            await exchange.send_user(expired)
            await exchange.send_user(expired)  # it has come twice on the live venue
            await until(lambda: exchange.users and exchange.users[-1][0] == "second", "the second key")
            await until(lambda: len(run.of(StreamUp, stream="user")) == 2, "up again")
            assert len(run.of(AccountSnapshot)) > snapshots
            assert len(run.of(StreamDown, stream="user")) == 1
            assert exchange.count("POST", "/fapi/v1/listenKey") == 2
            await exchange.send_user(expired)  # late, of the key before: nothing to do
            await exchange.send_user(update_frame(now_ms(), "77"))
            await until(lambda: run.of(AccountUpdate), "the stream goes on")
            assert exchange.count("POST", "/fapi/v1/listenKey") == 2
            assert exchange.count("DELETE", "/fapi/v1/listenKey") == 0


async def test_a_dropped_user_stream_is_a_gap_until_the_next_snapshot() -> None:
    async with exchange_with_account() as exchange, running(quick(exchange)) as run:
        await until(lambda: run.up("user"), "the user stream is up")
        await exchange.users[0][1].close(code=1012)
        await until(lambda: len(run.of(StreamUp, stream="user")) == 2, "up again")
        down = run.index(StreamDown, stream="user")
        ups = [place for place, event in enumerate(run.events) if isinstance(event, StreamUp) and event.stream == "user"]
        assert any(isinstance(event, AccountSnapshot) for event in run.events[down : ups[1]])
        status = next(status for status in run.venue.streams if status.stream == "user")
        assert status.reconnects == {"close_1012": 1}


async def test_while_the_user_stream_is_out_snapshots_come_by_rest() -> None:
    async with exchange_with_account() as exchange:
        exchange.refuse_streams = True
        async with running(quick(exchange, fallback_s=0.05, backoff_min_s=20, backoff_max_s=30)) as run:
            await until(lambda: len(run.of(AccountSnapshot)) >= 3, "snapshots without a stream")
            assert not run.of(StreamUp, stream="user")
            assert run.of(StreamDown, stream="user")[0].reason


async def test_streams_come_back_by_themselves() -> None:
    async with exchange_with_account() as exchange:
        exchange.refuse_streams = True
        async with ticking(exchange), running(quick(exchange)) as run:
            await until(lambda: len(run.of(StreamDown)) == 2, "market and user stream are down")
            exchange.refuse_streams = False
            await until(lambda: all(status.up for status in run.venue.streams), "all streams up")
            assert all(status.reconnects["http_5xx"] >= 1 for status in run.venue.streams)


async def test_attempts_are_counted_when_we_knock() -> None:
    """A slow answer with the listen key must not move a dial to the end of its window: with those of the next it is too many."""
    knocked: list[float] = []
    async with exchange_with_account() as exchange:

        async def slow_key(_: web.Request) -> dict[str, Any]:
            await asyncio.sleep(0 if exchange.count("POST", "/fapi/v1/listenKey") > 1 else 0.4)
            return {"listenKey": "first"}

        def knock(_: Any) -> None:
            knocked.append(time.monotonic())

        exchange.answers["POST", "/fapi/v1/listenKey"] = slow_key
        exchange.refuse_streams = True
        exchange.on_refused = knock
        async with running(quick(exchange, attempts_max=4, attempts_window_s=0.6, backoff_min_s=0.01, backoff_max_s=0.02)):
            await until(lambda: len(knocked) >= 14, "attempts go on", 20)
    for first, fifth in zip(knocked, knocked[4:], strict=False):
        assert fifth - first >= 0.6 - 0.1, "never five within a window (0.1 s: what a busy machine needs to accept)"


async def test_two_listen_keys_that_end_are_told_and_a_doubled_notice_is_not() -> None:
    async with exchange_with_account() as exchange, running(quick(exchange)) as run:
        for times in (1, 2):
            await until(lambda: run.up("user"), "up")
            notice = {"e": "listenKeyExpired", "E": now_ms(), "listenKey": "first"}
            await exchange.send_user(notice)
            await exchange.send_user(notice)
            await until(lambda times=times: len(run.of(StreamDown, stream="user")) == times, "down")
            assert len(run.of(Degraded)) == times - 1
    [told] = run.of(Degraded)
    assert (told.account, told.kind) == ("main", "listen_key")
    assert "2 times within 10 min" in told.text


async def test_a_listen_key_that_cannot_be_extended_is_renewed() -> None:
    async with exchange_with_account() as exchange:
        exchange.answers["PUT", "/fapi/v1/listenKey"] = refusal(400, -1125, "This listenKey does not exist.")
        exchange.answers["POST", "/fapi/v1/listenKey"] = steps({"listenKey": "first"}, {"listenKey": "second"})
        async with running(quick(exchange, keep_alive_s=0.2)) as run:
            await until(lambda: exchange.users and exchange.users[-1][0] == "second", "the renewed key")
            await until(lambda: len(run.of(StreamUp, stream="user")) >= 2, "up again, with a snapshot")


async def test_one_failed_extension_is_tried_again_without_a_gap() -> None:
    async with exchange_with_account() as exchange:
        exchange.answers["PUT", "/fapi/v1/listenKey"] = steps(refusal(503, -1, "Service Unavailable."), {"listenKey": "first"})
        async with running(quick(exchange, keep_alive_s=0.1, keep_alive_retry_s=0.02, tries=1)) as run:
            await until(lambda: exchange.count("PUT", "/fapi/v1/listenKey") >= 3, "extensions go on")
            assert exchange.opened["user"] == 1
            assert not run.of(StreamDown, stream="user")


async def test_a_refused_row_makes_the_adapter_ask_again() -> None:
    async with exchange_with_account() as exchange, running(quick(exchange)) as run:
        await until(lambda: run.up("user"), "the user stream is up")
        snapshots = len(run.of(AccountSnapshot))
        frame = update_frame(now_ms(), "5")
        frame["a"]["B"].append({"a": "USDC", "wb": "NaN", "cw": "1"})
        await exchange.send_user(frame)
        await until(lambda: len(run.of(AccountSnapshot)) > snapshots, "a snapshot for the lost row")
        assert [balance.asset for balance in run.of(AccountUpdate)[0].balances] == ["USDT"]
        assert run.venue.counters.refused == {"not_a_balance": 1}


async def test_a_silent_user_route_is_found_out_by_what_snapshots_show() -> None:
    """It looks like an account on which nothing happens, until something happens."""
    async with exchange_with_account() as exchange, running(quick(exchange, hearing_grace_s=0.05)) as run:
        await until(lambda: run.up("user"), "the user stream is up")
        exchange.answers["GET", "/fapi/v3/account"] = account_answer(wallet="900")
        run.venue.request_snapshot("main")
        await until(lambda: run.of(StreamDown, stream="user"), "the stream is found deaf")
        assert "/private" in run.of(StreamDown, stream="user")[0].reason
        await until(lambda: len(run.of(StreamUp, stream="user")) == 2, "a new connection")


async def test_a_change_that_the_stream_told_proves_it_alive() -> None:
    settings = {"hearing_grace_s": 0.01, "reconcile_s": 0.03, "weight_limit": 1_000_000}
    async with exchange_with_account() as exchange, running(quick(exchange, **settings)) as run:
        await until(lambda: run.up("user"), "the user stream is up")
        await exchange.send_user(update_frame(now_ms(), "900"))
        await until(lambda: run.of(AccountUpdate), "the update")
        exchange.answers["GET", "/fapi/v3/account"] = account_answer(wallet="900")
        before = len(run.of(AccountSnapshot))
        await until(lambda: len(run.of(AccountSnapshot)) > before + 4, "snapshots that show the change, beyond the grace")
        assert not run.of(StreamDown, stream="user")
        assert exchange.opened["user"] == 1


async def test_an_unknown_mode_is_never_guessed() -> None:
    async with exchange_with_account() as exchange:
        exchange.answers["GET", "/fapi/v1/accountConfig"] = steps({"dualSidePosition": False}, {"multiAssetsMargin": True})
        async with running(quick(exchange)) as run:
            await until(lambda: run.of(AccountSnapshot), "a snapshot")
            assert run.of(AccountSnapshot)[0].mode is Mode.MULTI_ASSETS


async def test_a_changed_mode_is_told_and_read_again() -> None:
    async with exchange_with_account() as exchange, running(quick(exchange)) as run:
        await until(lambda: run.up("user"), "the user stream is up")
        exchange.answers["GET", "/fapi/v1/accountConfig"] = {"multiAssetsMargin": False, "dualSidePosition": False}
        await exchange.send_user({"e": "ACCOUNT_CONFIG_UPDATE", "E": now_ms(), "T": now_ms(), "ai": {"j": False}})
        await until(lambda: run.of(AccountSnapshot, mode=Mode.SINGLE_ASSET), "a snapshot in the new mode")
        assert run.index(ModeChanged) < run.index(AccountSnapshot, mode=Mode.SINGLE_ASSET)


async def test_many_order_events_cost_few_snapshots() -> None:
    async with exchange_with_account() as exchange, running(quick(exchange, order_debounce_s=0.2)) as run:
        await until(lambda: run.up("user"), "the user stream is up")
        before = len(run.of(AccountSnapshot))
        for number in range(50):
            await exchange.send_user(
                {
                    "e": "ORDER_TRADE_UPDATE",
                    "E": now_ms(),
                    "T": now_ms(),
                    "o": {"s": "BTCUSDT", "c": f"mine-{number}", "x": "NEW"},
                }
            )
        await until(lambda: len(run.of(AccountSnapshot)) > before, "a snapshot after the orders")
        assert len(run.of(AccountSnapshot)) == before + 1
        assert not run.of(VenueCall)


async def test_answers_of_two_moments_are_asked_again() -> None:
    """A fill between the two calls: amounts differ, and the venue's totals would not fit the positions."""
    async with exchange_with_account() as exchange:
        exchange.answers["GET", "/fapi/v3/positionRisk"] = steps(risk_answer("0.02"), risk_answer("0.01"))
        async with running(quick(exchange)) as run:
            await until(lambda: run.of(AccountSnapshot), "a snapshot")
            assert exchange.count("GET", "/fapi/v3/positionRisk") == 2
            assert run.of(AccountSnapshot)[0].positions[0].quantity == 0.01
            assert run.of(AccountSnapshot)[0].figures


async def test_rotation_of_the_user_stream_leaves_no_gap() -> None:
    async with exchange_with_account() as exchange, running(quick(exchange, rotate_after_s=0.4)) as run:
        await until(lambda: exchange.opened["user"] >= 2, "a second connection")
        await until(lambda: len(exchange.users) == 1, "the first one is closed")
        assert not run.of(StreamDown)
        status = next(status for status in run.venue.streams if status.stream == "user")
        assert status.reconnects.get("rotation", 0) >= 1
        assert set(status.reconnects) == {"rotation"}
        assert status.up


async def test_a_rejected_key_is_told_and_tried_slowly() -> None:
    async with exchange_with_account() as exchange:
        rejected = refusal(401, -2015, "Invalid API-key, IP, or permissions for action.")
        for call in (("POST", "/fapi/v1/listenKey"), ("GET", "/fapi/v3/account"), ("GET", "/fapi/v1/leverageBracket")):
            exchange.answers[call] = rejected
        async with ticking(exchange), running(quick(exchange, auth_retry_s=30)) as run:
            await until(lambda: run.of(StreamDown, stream="user"), "the account is told to be down")
            await until(lambda: run.up("mark_price"), "the market goes on")
            await until(lambda: exchange.count("GET", "/fapi/v3/account") >= 1, "the snapshot was tried")
            status = next(status for status in run.venue.streams if status.stream == "user")
            assert "-2015" in status.down_reason
            assert exchange.count("POST", "/fapi/v1/listenKey") == 1, "no spinning"
            assert exchange.count("GET", "/fapi/v3/account") == 1


async def test_accounts_do_not_disturb_each_other() -> None:
    async with exchange_with_account() as exchange:

        def listen_key(request: web.Request) -> Any:
            if request.headers["X-MBX-APIKEY"] == "key-bad":
                return web.json_response({"code": -2015, "msg": "rejected"}, status=401)
            return {"listenKey": request.headers["X-MBX-APIKEY"]}

        exchange.answers["POST", "/fapi/v1/listenKey"] = listen_key
        async with running(quick(exchange), (access("bad"), access("good"))) as run:
            await until(lambda: run.of(StreamUp, account="good", stream="user"), "the good account is up")
            assert not run.of(StreamUp, account="bad", stream="user")
            assert {key for key, _ in exchange.users} == {"key-good"}


async def test_request_snapshot_brings_one() -> None:
    async with exchange_with_account() as exchange, running(quick(exchange)) as run:
        await until(lambda: run.up("user"), "the user stream is up")
        before = len(run.of(AccountSnapshot))
        run.venue.request_snapshot("main")
        run.venue.request_snapshot("nobody")  # an alias that is gone after a reload
        await until(lambda: len(run.of(AccountSnapshot)) == before + 1, "the snapshot that was asked for")


async def test_brackets_on_request_are_the_accounts_own() -> None:
    async with exchange_with_account() as exchange, running(quick(exchange)) as run:
        await until(lambda: run.of(Brackets), "the first brackets")
        before = len(run.of(Brackets))
        run.venue.request_tables("main")
        run.venue.request_tables("nobody")
        await until(lambda: len(run.of(Brackets)) == before + 1, "asked for once")


async def test_reconciliation_goes_on_by_itself() -> None:
    async with exchange_with_account() as exchange, running(quick(exchange, reconcile_s=0.1, weight_limit=100_000)) as run:
        await until(lambda: len(run.of(AccountSnapshot)) >= 4, "regular snapshots")
        assert not run.of(StreamDown, stream="user")


@pytest.mark.parametrize(
    ("accounts", "settings", "period_s", "why"),
    [
        (1, {}, 30, "one account: the period that was set"),
        (60, {}, 60, "20 of weight each, 1,200 of weight a minute to spend"),
        (1000, {}, 1000, "a thousand accounts share the same weight"),
        (60, {"weight_limit": 6000}, 30, "a larger limit is used"),
    ],
)
def test_reconciliation_keeps_within_the_weight(accounts: int, settings: dict[str, Any], period_s: float, why: str) -> None:
    assert reconcile_period_s(BinanceSettings(**settings), accounts) == period_s, why


async def test_a_snapshot_of_before_a_change_of_mode_is_not_emitted_after_it() -> None:
    """It would show the old pooling as the new one."""
    asked, release = asyncio.Event(), asyncio.Event()
    async with exchange_with_account() as exchange:

        async def config(_: web.Request) -> dict[str, Any]:
            joint = not asked.is_set()
            asked.set()
            await release.wait()
            return {"multiAssetsMargin": joint, "dualSidePosition": False}

        exchange.answers["GET", "/fapi/v1/accountConfig"] = config
        async with running(quick(exchange)) as run:
            await until(lambda: asked.is_set() and exchange.users, "the first snapshot is on its way")
            await exchange.send_user({"e": "ACCOUNT_CONFIG_UPDATE", "E": now_ms(), "T": now_ms(), "ai": {"j": False}})
            await until(lambda: run.of(ModeChanged), "the change is told")
            release.set()
            await until(lambda: run.up("user"), "the stream is up")
            assert {snapshot.mode for snapshot in run.of(AccountSnapshot)} == {Mode.SINGLE_ASSET}


@pytest.mark.parametrize(
    ("settings", "place", "why"),
    [
        ({"rest": "fapi.binance.com"}, "rest", "no scheme"),
        ({"rest": "https://fapi.binance.com/"}, "rest", "a slash at the end would double the path's"),
        ({"streams": "https://fstream.binance.com"}, "streams", "not a WebSocket address"),
        ({"market_route": "market"}, "market_route", "a route begins with a slash"),
        ({"reconcile_s": 0}, "reconcile_s", "no pause at all"),
        ({"reconcil_s": 30}, "reconcil_s", "a typing error is not ignored"),
        ({"rotate_after_s": 60}, "rotate_jitter_s", "jitter of half an hour would rotate without end"),
        ({"fault_s": 20}, "fault_s", "told after it is replaced"),
        ({"backoff_min_s": 60}, "backoff_min_s", "the first pause above the longest"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], place: str, why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        BinanceSettings(**settings)
    assert place in str(caught.value), why


@pytest.mark.parametrize(
    ("settings", "market", "user"),
    [
        (
            {},
            "wss://fstream.binance.com/market/stream?streams=!markPrice@arr@1s/!assetIndex@arr/!contractInfo",
            "wss://fstream.binance.com/private/ws/KEY",
        ),
        (
            {"streams": "ws://127.0.0.1:9", "market_route": "", "private_route": ""},
            "ws://127.0.0.1:9/stream?streams=!markPrice@arr@1s/!assetIndex@arr/!contractInfo",
            "ws://127.0.0.1:9/ws/KEY",
        ),
    ],
)
def test_addresses(settings: dict[str, Any], market: str, user: str) -> None:
    assert BinanceSettings(**settings).market_url() == market
    assert BinanceSettings(**settings).user_url("KEY") == user


# ------------------------------------------------------------------ market stream


async def test_a_silent_route_is_no_stream_and_rest_takes_over() -> None:
    """The wrong route accepts the connection and stays silent."""
    async with exchange_with_account() as exchange, running(quick(exchange, first_frame_s=0.2)) as run:
        await until(lambda: exchange.opened["market"] >= 2, "the silent connection is given up")
        down = run.of(StreamDown, stream="market")[0]
        assert "/market" in down.reason
        await until(lambda: run.of(Prices) and run.of(AssetRates), "prices and rates by REST")
        assert run.of(Prices)[0].rows[0].price == 49000.5
        assert not run.of(StreamUp, stream="market")
        mark = next(status for status in run.venue.streams if status.stream == "mark_price")
        assert mark.reconnects["no_first_frame"] >= 1


async def test_a_stall_is_told_first_and_replaced_then() -> None:
    settings = {"fault_s": 0.2, "silence_s": 0.6, "first_frame_s": 0.6}
    async with exchange_with_account() as exchange, running(quick(exchange, **settings)) as run:
        async with ticking(exchange):
            await until(lambda: run.up("mark_price"), "the market stream is up")
        await until(lambda: run.of(StreamDown, stream="market"), "the stall is told")
        assert exchange.opened["market"] == 1, "before the connection is replaced"
        await until(lambda: exchange.opened["market"] >= 2, "the connection is replaced")
        async with ticking(exchange):
            await until(lambda: len(run.of(StreamUp, stream="market")) == 2, "up again")


async def test_frames_whose_event_time_stands_still_are_no_data() -> None:
    settings = {"fault_s": 0.2, "silence_s": 0.5, "first_frame_s": 0.5}
    async with exchange_with_account() as exchange, running(quick(exchange, **settings)) as run:
        frozen = now_ms()
        await until(lambda: exchange.market, "connected")
        while exchange.opened["market"] < 3:
            await exchange.send_market(mark_frame(frozen), "!markPrice@arr@1s")
            await asyncio.sleep(0.02)
        assert len(run.of(StreamUp, stream="market")) == 1, "the same time on a new connection is no data either"
        assert run.of(StreamDown, stream="market")


async def test_asset_rates_that_die_alone_are_taken_over_while_mark_prices_go_on() -> None:
    settings = {"fault_s": 0.2, "silence_s": 0.5, "index_replace_s": 0.3}
    async with exchange_with_account() as exchange, running(quick(exchange, **settings)) as run:
        async with ticking(exchange):
            await until(lambda: run.up("mark_price") and run.up("asset_index"), "both are up")
        async with ticking(exchange, rates=False):
            await until(lambda: not run.up("asset_index"), "the rates are down")
            asked = exchange.count("GET", "/fapi/v1/assetIndex")
            await until(lambda: exchange.count("GET", "/fapi/v1/assetIndex") > asked, "the rates come by REST")
            await until(lambda: exchange.opened["market"] >= 2, "a second connection is tried")
            await until(lambda: len(exchange.market) == 1, "it takes over")
            assert run.up("mark_price")
            assert not run.of(StreamDown, stream="market"), "mark prices had no gap"


async def test_rotation_of_the_market_stream_leaves_no_gap() -> None:
    async with (
        exchange_with_account() as exchange,
        ticking(exchange),
        running(quick(exchange, rotate_after_s=0.5, overlap_s=0.1)) as run,
    ):
        await until(lambda: len(exchange.market) == 2, "both connections deliver for a while")
        await until(lambda: len(exchange.market) == 1, "then the older one is closed")
        assert run.up("mark_price")
        assert not run.of(StreamDown, stream="market")
        assert len(run.of(StreamUp, stream="market")) == 1


async def test_a_changed_contract_reloads_contracts_and_every_accounts_brackets() -> None:
    notice = {
        "e": "contractInfo",
        "E": 1669356423908,
        "s": "BTCUSDT",
        "ct": "PERPETUAL",
        "cs": "TRADING",
        "bks": [{"bs": 1, "bnf": 0, "bnc": 5000, "mmr": 0.01, "cf": 0, "mi": 21, "ma": 50}],
    }
    async with exchange_with_account() as exchange, running(quick(exchange)) as run:
        await until(lambda: run.of(Brackets) and run.of(Instruments) and exchange.market, "started")
        await exchange.send_market(notice, "!contractInfo")
        await until(lambda: run.of(Brackets, account=""), "the public brackets")
        await until(lambda: exchange.count("GET", "/fapi/v1/leverageBracket") == 2, "the account's own brackets again")
        await until(lambda: exchange.count("GET", "/fapi/v1/exchangeInfo") == 2, "the contracts again")


async def test_garbage_on_every_stream_is_survived() -> None:
    garbage = [
        "",
        "{",
        "null",
        "[1,2]",
        '{"e":5}',
        '{"stream":"x","data":' + "[" * 5000,
        json.dumps({"e": "ACCOUNT_UPDATE", "a": 1}),
    ]
    async with exchange_with_account() as exchange, running(quick(exchange)) as run:
        await until(lambda: run.up("user") and exchange.market, "started")
        for text in garbage:
            await exchange.send_user(text)
            for connection in exchange.market:
                await connection.send_str(text)
        await exchange.send_user(update_frame(now_ms(), "9"))
        await until(lambda: run.of(AccountUpdate), "the user stream goes on")
        async with ticking(exchange):
            await until(lambda: run.up("mark_price"), "the market stream goes on")
        assert exchange.opened == {"market": 1, "user": 1}
        assert run.venue.counters.refused["not_json"] > 0


async def test_no_secret_is_logged_even_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    """Libraries log request lines, and ours hold listen keys and signatures."""
    caplog.set_level(logging.DEBUG)
    async with exchange_with_account() as exchange:
        exchange.answers["POST", "/fapi/v1/listenKey"] = {"listenKey": "canary-listen-key"}
        exchange.answers["GET", "/fapi/v1/leverageBracket"] = refusal(503, -1)
        with capture_logs() as logs:
            async with ticking(exchange), running(quick(exchange)) as run:
                await until(lambda: all(status.up for status in run.venue.streams), "all streams up")
                await until(lambda: any(log["event"] == "brackets_not_loaded" for log in logs), "a failed call")
                await exchange.users[0][1].close(code=1011)
                await until(lambda: len(run.of(StreamUp, stream="user")) == 2, "up again")
        signatures = [asked.query["signature"] for asked in exchange.asked if "signature" in asked.query]
        assert signatures
        shown = f"{caplog.text} {logs} {run.events} {run.venue.streams} {run.venue.counters}"
        for secret in ("canary-listen-key", "key-main", "secret-main", *signatures):
            assert secret not in shown


async def test_nothing_runs_on_after_a_stop() -> None:
    async with exchange_with_account() as exchange:
        async with ticking(exchange), running(quick(exchange)) as run:
            await until(lambda: all(status.up for status in run.venue.streams), "all streams up")
            before = asyncio.all_tasks()
            assert len(before) > 5
        await until(lambda: not exchange.market and not exchange.users, "all connections are closed")
        assert exchange.count("DELETE", "/fapi/v1/listenKey") == 0, "other programs of the owner may use the key"
