"""The adapter as a whole against a scripted exchange: real sockets, the rules in tenths of seconds."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs
from venues_htx_exchange import (
    CODE,
    NEXT_CODE,
    Asked,
    Exchange,
    Line,
    Running,
    account_row,
    contract,
    empty_row,
    kline,
    last_trade,
    leg,
    now_ms,
    ok,
    packed,
    picture,
    push,
    refusal,
    running,
    script,
    serve,
    trade,
    until,
)

from monitor.model.events import (
    CoinSnapshot,
    CoinUpdate,
    GuaranteeTables,
    Instruments,
    PriceKind,
    Prices,
    Settlement,
    StreamDown,
    StreamUp,
    VenueCall,
)

ACCOUNTS = "/api/v1/contract_account_info"
PICTURE = "/api/v1/contract_account_position_info"
CONTRACTS = "/api/v1/contract_contract_info"
TRADES = f"market.{CODE}.trade.detail"
MARKS = f"market.{CODE}.mark_price.1min"
INDEX = "market.BTC-USD.index.1min"


@asynccontextmanager
async def exchange_() -> AsyncIterator[Exchange]:
    exchange = Exchange()
    script(exchange)
    async with serve(exchange):
        yield exchange


def push_of(topic: str, event: str, rows: list[dict[str, Any]]) -> Callable[[], Any]:
    """With the time of its sending."""
    return lambda: push(topic, event, rows)


async def user_up(run: Running, times: int = 1) -> None:
    await until(lambda: len(run.of(StreamUp, account="main")) >= times, "the account's stream is up")


async def topics_subscribed(exchange: Exchange) -> None:
    def all_there() -> bool:
        topics = {topic for line in exchange.lines for topic in line.topics}
        return {TRADES, MARKS, INDEX} <= topics

    await until(all_there, "prices are subscribed to")


# ------------------------------------------------------------------ what waited on its way


async def test_trades_that_come_late_are_judged_as_late_and_are_no_news() -> None:
    async with exchange_() as exchange, running(exchange, last_quiet_s=1) as run:
        await topics_subscribed(exchange)
        await exchange.send("/ws", trade(10100))
        await until(
            lambda: run.prices(PriceKind.LAST, CODE)[-1:] and run.prices(PriceKind.LAST, CODE)[-1].price == 10100, "a trade"
        )
        old = now_ms() - 5000
        await exchange.send("/ws", trade(10200, ts=old))
        await until(lambda: 10200 in [row.price for row in run.prices(PriceKind.LAST, CODE)], "one that is 5 s late")
        [late] = [event for event in run.of(Prices) if event.rows[0].price == 10200]
        assert 4000 <= late.late_ms <= 6000
        await exchange.send("/ws", trade(10300))
        await until(lambda: 10300 in [row.price for row in run.prices(PriceKind.LAST, CODE)], "and one in time")
        [timely] = [event for event in run.of(Prices) if event.rows[0].price == 10300]
        assert timely.late_ms == 0


# ------------------------------------------------------------------ start


async def test_stream_first_then_the_picture_then_what_was_held_back() -> None:
    async with exchange_() as exchange:
        release = asyncio.Event()

        async def answer(_: Asked) -> dict[str, Any]:
            await exchange.user().send(push("positions.btc", "order.match", [leg(12)], now_ms() + 5))
            await exchange.user().send(push("positions.btc", "order.match", [leg(13)], now_ms() + 6))
            await release.wait()
            return ok([picture()])

        exchange.answers[PICTURE] = answer
        async with running(exchange, fallback_s=60) as run:  # nothing is asked before the stream is open
            await until(lambda: run.venue.counters.frames.get("positions") == 2, "the pushes came")
            assert not run.of(CoinUpdate), "held back"
            assert not run.of(StreamUp, account="main")
            release.set()
            await user_up(run)
            own = [e for e in run.events if isinstance(e, CoinSnapshot | CoinUpdate | StreamUp) and e.account]
            assert [type(event) for event in own][:4] == [CoinSnapshot, CoinUpdate, CoinUpdate, StreamUp]
            assert [update.positions[0].quantity for update in run.of(CoinUpdate)] == [12, 13]
            assert run.of(CoinUpdate)[0].positions[0].version_ms > run.of(CoinSnapshot)[0].positions[0].version_ms
        log = exchange.log
        assert max(log.index("sub accounts.*"), log.index("sub positions.*")) < log.index(f"POST {ACCOUNTS}")
        assert log.index(f"POST {ACCOUNTS}") < log.index(f"POST {PICTURE}")
        assert exchange.count(PICTURE) == 1, "ETH is empty: nobody asks for it"


async def test_everything_that_is_needed_comes_and_every_stream_is_up() -> None:
    async with exchange_() as exchange:
        exchange.pushes["public.*.contract_info"] = lambda line: line.send(
            push("public.btc.contract_info", "init", [contract(), contract(NEXT_CODE)])
        )
        async with running(exchange) as run:
            await topics_subscribed(exchange)
            await exchange.send("/ws", trade(10123.5))
            await exchange.send("/ws_index", kline(INDEX, "10124.5"))
            await exchange.send("/ws_index", kline(MARKS, "10125.5"))
            await until(lambda: all(status.up and status.first_data for status in run.venue.streams), "all streams are up")
            assert 10123.5 in [row.price for row in run.prices(PriceKind.LAST, CODE)]
            assert 10124.5 in [row.price for row in run.prices(PriceKind.INDEX, "BTC")]
            assert 10125.5 in [row.price for row in run.prices(PriceKind.MARK, CODE)]
            assert [event.stream for event in run.of(StreamUp, account="")].count("market") == 1
            tables = run.of(GuaranteeTables)
            assert any(event.factors for event in tables)
            assert any(event.terms for event in tables)
            assert run.of(Instruments)[0].rows[0].face == 100
            await until(lambda: f"market.{NEXT_CODE}.trade.detail" in exchange.open("/ws")[0].topics, "a notice lists a contract")
            names = {topic for line in exchange.lines for topic in line.topics}
            assert not [name for name in names if "_C" in name or "_N" in name], "no alias is ever a key"


async def test_data_before_the_confirmation_count() -> None:
    async with exchange_() as exchange:
        exchange.before_ack[TRADES] = trade(10321.0)
        exchange.before_ack["accounts.*"] = push("accounts.btc", "init", [account_row(equity=2.5)], now_ms() + 1000)
        async with running(exchange) as run:
            await user_up(run)
            await until(lambda: 10321.0 in [row.price for row in run.prices(PriceKind.LAST, CODE)], "the early trade")
            await until(lambda: run.of(CoinUpdate), "the early push")
            assert run.of(CoinUpdate)[0].balances[0].margin_static == 2.5
            assert run.events.index(run.of(CoinSnapshot)[0]) < run.events.index(run.of(CoinUpdate)[0])


async def test_heartbeats_of_both_kinds_are_answered_at_once() -> None:
    async with exchange_() as exchange, running(exchange) as run:
        await user_up(run)
        await exchange.send("/ws", {"ping": 18212558000})
        await exchange.send("/ws_index", {"ping": 18212558001})
        await exchange.send("/notification", {"op": "ping", "ts": "1492420473058"})
        await until(lambda: {"pong": 18212558000} in exchange.open("/ws")[0].said, "a number")
        await until(lambda: {"pong": 18212558001} in exchange.open("/ws_index")[0].said, "a number")
        for line in exchange.open("/notification"):
            await until(lambda line=line: {"op": "pong", "ts": "1492420473058"} in line.said, "a string")


# ------------------------------------------------------------------ accounts


async def test_a_push_of_a_new_coin_is_taken_in_and_an_empty_one_is_not() -> None:
    async with exchange_() as exchange:
        exchange.answers[CONTRACTS] = ok([contract(), contract("ETH301227"), contract("ADA301227")])
        async with running(exchange) as run:
            await user_up(run)
            await exchange.user().send(push("accounts.*", "snapshot", [empty_row("ADA"), account_row("ETH", 5.0)]))
            await until(lambda: [s for s in run.of(CoinSnapshot) if s.balance.coin == "ETH"], "ETH has its picture")
            await until(lambda: "market.ETH301227.trade.detail" in exchange.open("/ws")[0].topics, "and its prices")
            await until(lambda: [u for u in run.of(CoinUpdate) if u.balances[0].coin == "ETH"], "the push comes after it")
        assert not [asked for asked in exchange.asked if asked.body.get("symbol") == "ADA"]


async def test_only_the_coins_of_the_configuration() -> None:
    async with exchange_() as exchange, running(exchange, coins=("BTC",)) as run:
        await user_up(run)
        await exchange.user().send(push("accounts.eth", "snapshot", [account_row("ETH", 5.0)]))
        await exchange.user().send(push("accounts.btc", "snapshot", [account_row("BTC", 3.0)]))
        await until(lambda: run.of(CoinUpdate), "the push of BTC")
        assert exchange.count(ACCOUNTS) == 0
        assert {asked.body["symbol"] for asked in exchange.asked if asked.path == PICTURE} == {"BTC"}
        assert [update.balances[0].coin for update in run.of(CoinUpdate)] == ["BTC"]


async def test_a_leg_that_cannot_be_read_asks_for_a_picture() -> None:
    async with exchange_() as exchange, running(exchange) as run:
        await user_up(run)
        before = exchange.count(PICTURE)
        await exchange.user().send(push("positions.btc", "order.match", [leg() | {"volume": "NaN"}]))
        await until(lambda: exchange.count(PICTURE) > before, "a lost row is a wrong figure")
        assert not run.of(CoinUpdate)


async def test_a_liquidation_does_not_wait_for_a_picture() -> None:
    async with exchange_() as exchange:
        release = asyncio.Event()

        async def answer(_: Asked) -> dict[str, Any]:
            await release.wait()
            return ok([picture()])

        exchange.answers[PICTURE] = answer
        async with running(exchange) as run:
            await until(lambda: exchange.count(PICTURE) == 1, "the picture is asked for")
            await exchange.user().send(push("accounts.btc", "order.liquidation", [account_row(equity=0.01)]))
            await until(lambda: run.of(VenueCall), "the alarm")
            assert not run.of(CoinSnapshot)
            release.set()


async def test_each_account_has_its_own_socket_and_one_bad_key_disturbs_no_other() -> None:
    async with exchange_() as exchange:
        del exchange.secrets["key-second"]
        with capture_logs() as logs:
            async with running(exchange, aliases=("main", "second")) as run:
                await user_up(run)
                await until(lambda: run.venue.streams[-1].reconnects.get("auth", 0) >= 2, "tried again, slowly")
                assert run.venue.streams[-2].up
                assert not run.venue.streams[-1].up
                assert "rejects the key" in run.of(StreamDown, account="second")[0].reason
                assert {snapshot.account for snapshot in run.of(CoinSnapshot)} == {"main"}
                exchange.secrets["key-second"] = "secret-second"
                await until(lambda: run.venue.streams[-1].up, "the key was repaired")
        assert next(log["log_level"] for log in logs if log["event"] == "account_not_watched") == "error"
        assert "secret-main" not in str(logs)


async def test_regular_pictures_of_each_coin() -> None:
    async with exchange_() as exchange, running(exchange, reconcile_s=0.05) as run:
        await until(lambda: len(run.of(CoinSnapshot)) >= 4, "again and again")
        assert exchange.ever("/notification", "key-main") == 1


# ------------------------------------------------------------------ gaps


async def test_a_gap_ends_with_a_new_picture() -> None:
    async with exchange_() as exchange, running(exchange) as run:
        await user_up(run)
        await exchange.user().socket.close(code=1012)
        await until(lambda: run.of(StreamDown, account="main"), "the gap is told")
        await user_up(run, times=2)
        kinds = [type(e) for e in run.events if isinstance(e, CoinSnapshot | StreamUp | StreamDown) and e.account == "main"]
        after = kinds[kinds.index(StreamDown) :]
        assert CoinSnapshot in after[: after.index(StreamUp)]
        assert run.status("user").reconnects == {"close_1012": 1}


async def test_rest_pictures_while_the_stream_is_out() -> None:
    async with exchange_() as exchange:
        exchange.refuse_auth = 2003
        async with running(exchange, auth_retry_s=30) as run:
            await until(lambda: len(run.of(CoinSnapshot)) >= 3, "pictures by REST")
            assert not run.of(StreamUp, account="main")
            assert not run.status("user").up


@pytest.mark.parametrize("what", ["close", "error_on_sub"])
async def test_the_venue_hangs_up_or_refuses(what: str) -> None:
    async with exchange_() as exchange, running(exchange) as run:
        await user_up(run)
        if what == "close":
            await exchange.user().send({"op": "close", "ts": now_ms()})
            reason = "server_close"
        else:
            await exchange.user().send({"op": "sub", "topic": "accounts.*", "err-code": 2007, "ts": now_ms()})
            reason = "subscription_refused"
        await user_up(run, times=2)
        assert run.status("user").reconnects == {reason: 1}


async def test_silent_accounts_behind_live_heartbeats_are_a_dead_feed() -> None:
    async with exchange_() as exchange, running(exchange, silence_s=0.25) as run:

        async def beat() -> None:
            while True:
                for line in exchange.open("/notification"):
                    await line.send({"op": "ping", "ts": "1"})
                await asyncio.sleep(0.02)

        beating = asyncio.create_task(beat())
        try:
            await until(lambda: run.status("user").reconnects.get("silent"), "no account push, though something is held")
        finally:
            beating.cancel()


async def test_repeated_account_pushes_are_no_data_and_fresh_ones_are() -> None:
    async with exchange_() as exchange, running(exchange, silence_s=0.3) as run:
        await user_up(run)
        clock = asyncio.get_running_loop().time

        async def pushes(ts: int | None, until_at: float) -> None:
            while clock() < until_at and not run.status("user").reconnects:
                await exchange.user().send(push("positions.btc", "snapshot", [leg()], ts))
                await exchange.user().send(push("accounts.btc", "snapshot", [account_row()], ts))
                await asyncio.sleep(0.03)

        await pushes(None, clock() + 0.8)
        assert not run.status("user").reconnects, "alive"
        await pushes(now_ms(), clock() + 3)
        assert run.status("user").reconnects == {"silent": 1}, "a frozen time is a dead feed, though frames come"


async def test_silent_positions_are_a_dead_feed_though_the_account_is_pushed() -> None:
    async with exchange_() as exchange, running(exchange, silence_s=0.25) as run:
        await user_up(run)
        clock = asyncio.get_running_loop().time
        end = clock() + 5
        while clock() < end and not run.status("user").reconnects:
            await exchange.user().send(push("accounts.btc", "snapshot", [account_row()]))
            await asyncio.sleep(0.03)
        assert run.status("user").reconnects == {"silent": 1}


FLAT = account_row() | {"margin_position": 0}


@pytest.mark.parametrize(
    "closes",
    [
        [push_of("positions.btc", "order.match", [leg(0)])],
        [
            push_of("positions.btc", "order.match", []),
            push_of("accounts.btc", "order.match", [FLAT]),
        ],
    ],
    ids=["volume-0", "left-out"],
)
async def test_row_33_closing_the_last_leg_is_no_dead_stream(closes: list[Callable[[], Any]]) -> None:
    """Where no legs are held, no snapshots of legs come."""
    async with exchange_() as exchange, running(exchange, silence_s=0.3, reconcile_s=600.0) as run:
        await user_up(run)
        for close in closes:
            await exchange.user().send(close())
        before = len(run.of(CoinUpdate))
        clock = asyncio.get_running_loop().time
        end = clock() + 1.2
        while clock() < end and not run.status("user").reconnects:
            await exchange.user().send(push("accounts.btc", "snapshot", [FLAT]))
            await asyncio.sleep(0.03)
        assert len(run.of(CoinUpdate)) > before + 5
        assert not run.status("user").reconnects


async def test_row_33_a_coin_that_was_emptied_is_no_dead_stream() -> None:
    async with exchange_() as exchange, running(exchange, silence_s=0.3, reconcile_s=600.0) as run:
        await user_up(run)
        await exchange.user().send(push("positions.btc", "order.match", [leg(0)]))
        await exchange.user().send(push("accounts.btc", "contract.transfer", [empty_row("BTC")]))
        await until(lambda: len(run.of(CoinUpdate)) == 2, "both came")
        clock = asyncio.get_running_loop().time
        end = clock() + 1.2
        while clock() < end and not run.status("user").reconnects:
            await exchange.user().send({"op": "ping", "ts": "1"})
            await asyncio.sleep(0.03)
        assert not run.status("user").reconnects


async def test_an_empty_account_lives_on_heartbeats() -> None:
    async with exchange_() as exchange:
        exchange.answers[ACCOUNTS] = ok([empty_row("BTC")])
        async with running(exchange, silence_s=0.25) as run:
            clock = asyncio.get_running_loop().time
            end = clock() + 0.9
            while clock() < end:
                for path in ("/ws", "/ws_index"):
                    await exchange.send(path, {"ping": 1})
                await exchange.send("/notification", {"op": "ping", "ts": "1"})
                await asyncio.sleep(0.03)
            assert run.status("user").up
            assert run.status("last_price").up, "there is no price to wait for"
            assert run.status("index_price").up
            assert not any(status.reconnects for status in run.venue.streams)


async def test_an_unconfirmed_subscription_ends_the_connection() -> None:
    async with exchange_() as exchange:
        exchange.pushes["accounts.*"] = lambda line: line.send({"op": "error", "ts": 1})
        real = exchange._notification

        async def deaf(line: Line, said: dict[str, Any]) -> None:
            if said.get("topic") != "positions.*":
                await real(line, said)

        exchange._notification = deaf  # type: ignore[method-assign]
        async with running(exchange, subscribe_s=0.2) as run:
            await until(lambda: run.status("user").reconnects.get("not_subscribed"), "half a subscription is none")
            assert not run.of(StreamUp, account="main")


# ------------------------------------------------------------------ hostile frames


HOSTILE = [
    b"\x1f\x8b" + b"\xff" * 30,
    packed({"ping": 1})[:-6],
    b'{"ping":1}',
    gzip.compress(bytes(9 << 20), mtime=0),
    gzip.compress(b'{"ping":NaN}', mtime=0),
    packed({"ping": "x", "op": "ping", "ts": {}}),
]


@pytest.mark.parametrize(("path", "stream"), [("/ws", "last_price"), ("/ws_index", "index_price"), ("user", "user")])
async def test_hostile_frames_cost_at_most_one_reconnect_and_move_nothing(path: str, stream: str) -> None:
    async with exchange_() as exchange, running(exchange) as run:
        await user_up(run)
        await topics_subscribed(exchange)

        def lines() -> list[Line]:
            """Connections of the stream that were ever subscribed, oldest first."""
            wanted = "positions.*" if path == "user" else TRADES if path == "/ws" else INDEX
            return [line for line in exchange.lines if wanted in line.topics]

        for frame in HOSTILE * 2:
            await lines()[0].send(frame)
        await until(lambda: run.status(stream).reconnects == {"hostile_frames": 1}, "five in ten seconds")
        await until(lambda: len(lines()) == 2, "a new connection is subscribed")
        await user_up(run, times=2 if path == "user" else 1)
        refused = sum(run.venue.counters.refused.values())
        for frame in HOSTILE * 2:
            await lines()[1].send(frame)
        await until(lambda: sum(run.venue.counters.refused.values()) == refused + 2 * len(HOSTILE), "they are counted")
        assert run.status(stream).reconnects == {"hostile_frames": 1}
        assert not run.of(CoinUpdate)
        assert all(row.price in (10000.0, 10001.5, 10000.5) for event in run.of(Prices) for row in event.rows)


async def test_few_hostile_frames_cost_nothing() -> None:
    async with exchange_() as exchange, running(exchange) as run:
        await user_up(run)
        for frame in HOSTILE[:4]:
            await exchange.user().send(frame)
        await exchange.user().send(push("accounts.btc", "snapshot", [account_row(equity=2.25)]))
        await until(lambda: run.of(CoinUpdate), "the next good frame counts")
        assert run.status("user").reconnects == {}
        assert sum(run.venue.counters.refused.values()) == 4


async def test_a_time_from_the_future_moves_nothing() -> None:
    async with exchange_() as exchange, running(exchange) as run:
        await user_up(run)
        await topics_subscribed(exchange)
        ahead = now_ms() + 3_600_000
        await exchange.user().send(push("accounts.btc", "snapshot", [account_row(equity=9)], ahead))
        await exchange.send("/ws", trade(99.0, ts=ahead))
        await until(lambda: run.venue.counters.refused.get("from_the_future") == 2, "both are refused")
        await exchange.user().send(push("accounts.btc", "snapshot", [account_row(equity=2.5)]))
        await until(lambda: run.of(CoinUpdate), "the next good one counts")
        assert run.of(CoinUpdate)[0].balances[0].margin_static == 2.5
        assert 99.0 not in [row.price for row in run.prices(PriceKind.LAST, CODE)]


# ------------------------------------------------------------------ prices


async def test_a_quiet_contract_is_confirmed_by_rest_and_stays_fresh() -> None:
    async with exchange_() as exchange, running(exchange, last_quiet_s=0.1) as run:
        await until(lambda: len({row.event_time_ms for row in run.prices(PriceKind.LAST, CODE)}) >= 3, "the time advances")
        rows = run.prices(PriceKind.LAST, CODE)
        assert {row.price for row in rows} == {10000.0}
        assert all(row.event_time_ms < now_ms() - 1000 for row in rows), "a trade of the last moment must not look late"
        assert run.status("last_price").up, "the stream told all that there is to tell"


async def test_a_trade_that_only_rest_shows_proves_the_stream_deaf() -> None:
    async with exchange_() as exchange, running(exchange, last_quiet_s=0.05, hearing_grace_s=0.1) as run:
        await until(lambda: run.status("last_price").up, "quiet, and in order")
        exchange.answers["/market/trade"] = lambda asked: last_trade(asked, 9000.0, now_ms())
        await until(lambda: run.status("last_price").reconnects.get("deaf"), "the stream keeps trades from us")
        assert 9000.0 in [row.price for row in run.prices(PriceKind.LAST, CODE)], "and REST has the price meanwhile"


async def test_a_stream_that_tells_every_trade_is_not_called_deaf() -> None:
    async with exchange_() as exchange, running(exchange, last_quiet_s=0.05, hearing_grace_s=0.1) as run:
        await topics_subscribed(exchange)
        clock = asyncio.get_running_loop().time
        end = clock() + 0.8
        while clock() < end:
            at = now_ms()
            exchange.answers["/market/trade"] = lambda asked, at=at: last_trade(asked, 9000.0, at)
            await exchange.send("/ws", trade(9000.0, ts=at))
            await asyncio.sleep(0.06)
        assert run.status("last_price").reconnects == {}


async def test_silent_index_prices_are_an_outage_and_rest_takes_over() -> None:
    async with exchange_() as exchange:
        changes = {"index_fault_s": 0.15, "index_silence_s": 0.4, "mark_quiet_s": 0.1}
        async with running(exchange, **changes) as run:
            await topics_subscribed(exchange)
            await exchange.send("/ws_index", kline(INDEX, "10200.5"))
            await until(lambda: run.status("index_price").up, "data")
            taken = exchange.count("/api/v1/contract_index")
            await until(lambda: run.of(StreamDown, account="", stream="index"), "silence is an event")
            await until(lambda: exchange.count("/api/v1/contract_index") > taken, "REST takes over")
            await until(lambda: exchange.ever("/ws_index") >= 2, "and the connection is replaced")
            assert 10001.5 in [row.price for row in run.prices(PriceKind.MARK, CODE)]


async def test_one_contracts_missing_price_stops_no_other() -> None:
    async with exchange_() as exchange:
        exchange.answers[CONTRACTS] = ok([contract(NEXT_CODE), contract()])
        exchange.answers["/market/trade"] = lambda asked: (
            refusal(1014) if asked.query["symbol"] == NEXT_CODE else last_trade(asked, 10000.0, 1_600_000_000_000)
        )
        async with running(exchange, last_quiet_s=0.05) as run:
            await until(lambda: len(run.prices(PriceKind.LAST, CODE)) >= 3, "the other contract's price comes")
            before = exchange.count(CONTRACTS)
            await until(lambda: exchange.count(CONTRACTS) > before, "an unknown contract: the list is read again")


async def test_delivery_the_old_contract_goes_and_the_new_one_comes() -> None:
    async with exchange_() as exchange, running(exchange) as run:
        await topics_subscribed(exchange)
        await until(lambda: exchange.count(CONTRACTS) >= 1, "the list was read")
        await until(lambda: "public.*.contract_info" in {t for line in exchange.lines for t in line.topics}, "notices")
        exchange.answers[CONTRACTS] = ok([contract(NEXT_CODE)])
        await exchange.notices().send(push("public.btc.contract_info", "update", [contract(status=8), contract(NEXT_CODE)]))
        line = exchange.open("/ws")[0]
        await until(lambda: line.topics == {f"market.{NEXT_CODE}.trade.detail"}, "one left, one joined, on the same connection")
        await until(lambda: run.of(Instruments)[-1].complete and len(run.of(Instruments)[-1].rows) == 1, "the whole list again")
        await exchange.send("/ws", trade(5.0, CODE))
        await exchange.send("/ws", trade(6.0, NEXT_CODE))
        await until(lambda: run.prices(PriceKind.LAST, NEXT_CODE), "the new contract's price")
        assert 5.0 not in [row.price for row in run.prices(PriceKind.LAST, CODE)]


# ------------------------------------------------------------------ settlement


def told_settlements(run: Running) -> list[bool]:
    return [event.running for event in run.of(Settlement, coin="BTC")]


async def test_settlement_by_status_lasts_until_everything_was_read_again() -> None:
    async with exchange_() as exchange, running(exchange) as run:
        await user_up(run)
        await until(lambda: "public.*.contract_info" in {t for line in exchange.lines for t in line.topics}, "notices")
        exchange.answers[CONTRACTS] = ok([contract(status=5)])
        exchange.answers[PICTURE] = refusal(1077)
        await exchange.notices().send(push("public.btc.contract_info", "update", [contract(status=5)]))
        await until(lambda: told_settlements(run) == [True], "it begins")
        exchange.answers[CONTRACTS] = ok([contract()])
        asked = exchange.count(PICTURE)
        await until(lambda: exchange.count(PICTURE) >= asked + 2, "contracts trade again, the account is still refused")
        assert told_settlements(run) == [True]
        tables = exchange.count("/api/v1/contract_adjustfactor")
        exchange.answers[PICTURE] = lambda _: ok([picture(equity=2.125)])
        await until(lambda: told_settlements(run) == [True, False], "it is over")
        assert exchange.count("/api/v1/contract_adjustfactor") == tables + 1
        last = run.of(CoinSnapshot)[-1]
        assert last.balance.margin_static == 2.125
        over = run.of(Settlement, running=False)[0]
        assert run.events.index(last) < run.events.index(over)
        assert run.status("user").up, "a settlement is no gap"


@pytest.mark.parametrize("code", [1056, 1059, 1077, 1078, 1079, 1080])
async def test_settlement_by_the_code_of_a_refused_call(code: int) -> None:
    async with exchange_() as exchange:
        exchange.answers[PICTURE] = refusal(code)
        async with running(exchange) as run:
            await until(lambda: told_settlements(run) == [True], "it begins with the first refusal")
            await user_up(run)
            assert not run.of(CoinSnapshot), "a coin that settles cannot have its picture"
            exchange.answers[PICTURE] = lambda _: ok([picture()])
            await until(lambda: told_settlements(run) == [True, False], "it is over")
            assert len(run.of(CoinSnapshot)) >= 1


async def test_settlement_by_push() -> None:
    async with exchange_() as exchange, running(exchange) as run:
        await user_up(run)
        before = len(run.of(CoinSnapshot))
        await exchange.user().send(push("accounts.btc", "settlement", [account_row(equity=2.5)]))
        await exchange.user().send(push("positions.btc", "settlement", [leg()]))
        await until(lambda: told_settlements(run) == [True, False], "it begins, and everything is read again")
        assert len(run.of(CoinSnapshot)) > before
        await exchange.user().send(push("positions.btc", "settlement", [leg()]))
        await until(lambda: len(run.of(CoinUpdate)) == 3, "a late push")
        assert told_settlements(run) == [True, False], "it tells of what is over"


async def test_row_32_one_account_that_cannot_be_read_holds_up_no_other() -> None:
    async with exchange_() as exchange, running(exchange, aliases=("main", "second")) as run:
        for alias in ("main", "second"):
            await until(lambda a=alias: run.of(StreamUp, account=a), f"{alias} is up")
        limited = {"on": True}

        def answer(asked: Any) -> Any:
            return refusal(1032) if limited["on"] and asked.query["AccessKeyId"] == "key-second" else ok([picture(equity=2.125)])

        exchange.answers[PICTURE] = answer
        await exchange.user().send(push("accounts.btc", "settlement", [account_row(equity=2.5)]))
        await until(lambda: run.of(Settlement, running=False, account="main"), "over for the one that could be read")
        asked = exchange.count(PICTURE)
        await until(lambda: exchange.count(PICTURE) > asked, "the other one is tried on")
        assert not run.of(Settlement, running=False, account="second")
        limited["on"] = False
        await until(lambda: run.of(Settlement, running=False, account="second"), "its own end", 10)
        exchange.answers[CONTRACTS] = ok([contract(status=5)])
        await exchange.notices().send(push("public.btc.contract_info", "update", [contract(status=5)]))
        await until(lambda: told_settlements(run) == [True, False, False, True], "the next one")


async def test_row_32_the_next_settlement_begins_though_an_account_still_waits_for_the_end_of_the_last() -> None:
    async with exchange_() as exchange, running(exchange, aliases=("main", "second")) as run:
        for alias in ("main", "second"):
            await until(lambda a=alias: run.of(StreamUp, account=a), f"{alias} is up")
        exchange.answers[PICTURE] = lambda asked: (
            refusal(1032) if asked.query["AccessKeyId"] == "key-second" else ok([picture(equity=2.125)])
        )
        await exchange.user().send(push("accounts.btc", "settlement", [account_row(equity=2.5)]))
        await until(lambda: told_settlements(run) == [True, False], "over for one")
        await exchange.notices().send(push("public.btc.contract_info", "update", [contract(status=5)]))
        await until(lambda: told_settlements(run)[:3] == [True, False, True], "it begins for all")
        await until(lambda: told_settlements(run)[:4] == [True, False, True, False], "and ends as the contract trades")
        assert {event.account for event in run.of(Settlement, running=False)} == {"main"}


async def test_row_29_a_push_that_falls_out_while_it_waits_asks_for_a_snapshot() -> None:
    """It may be newer than the snapshot that was asked for before it came."""
    async with exchange_() as exchange:
        answering = asyncio.Event()

        async def slow(asked: Any) -> Any:
            row = picture(equity=2.0)
            await answering.wait()
            return ok([row])

        exchange.answers[PICTURE] = slow
        async with running(exchange, buffer_events_max=2, reconcile_s=600.0) as run:
            await until(lambda: exchange.count(PICTURE) == 1, "asked")
            await until(lambda: "accounts.*" in exchange.user().topics, "subscribed")
            for equity in (2.1, 2.2, 2.3):
                await exchange.user().send(push("accounts.btc", "order.match", [account_row(equity=equity)]))
            await until(lambda: run.venue.counters.refused.get("held_too_long"), "the first falls out")
            answering.set()
            await until(lambda: exchange.count(PICTURE) == 2, "asked again")


async def test_one_coins_settlement_does_not_hide_the_others() -> None:
    """The call for all coins fails as a whole: each listed coin is asked alone, and the empty ones are left out again."""
    async with exchange_() as exchange:
        exchange.answers[CONTRACTS] = ok([contract(), contract("ETH301227"), contract("ADA301227", status=5)])
        exchange.answers[ACCOUNTS] = refusal(1079)
        exchange.answers[PICTURE] = lambda asked: {
            "BTC": ok([picture("BTC")]),
            "ETH": ok([empty_row("ETH") | {"positions": []}]),
            "ADA": refusal(1077),
        }[asked.body["symbol"]]
        async with running(exchange) as run:
            await user_up(run)
            assert {snapshot.balance.coin for snapshot in run.of(CoinSnapshot)} == {"BTC"}
            assert [event.running for event in run.of(Settlement)] == [True]
            assert run.of(Settlement)[0].coin == "ADA"


# ------------------------------------------------------------------ maintenance, keys, end


async def test_maintenance_is_survived_and_named() -> None:
    async with exchange_() as exchange:
        script_answers = dict(exchange.answers)
        for path in exchange.answers:
            exchange.answers[path] = {"status": "maintain"}
        async with running(exchange) as run:
            await until(lambda: "maintenance" in run.status("user").down_reason, "the reason is named")
            assert not run.of(CoinSnapshot)
            asked = len(exchange.asked)
            await until(lambda: run.venue.counters.rest.get("unavailable", 0) > 3, "tried again")
            assert len(exchange.asked) - asked < 60, "without haste"
            exchange.answers.update(script_answers)
            await user_up(run)
            await until(lambda: run.of(Instruments), "contracts")
            await until(lambda: any(event.factors for event in run.of(GuaranteeTables)), "tables")


async def test_the_end_leaves_no_task_behind() -> None:
    async with exchange_() as exchange:
        before = asyncio.all_tasks()
        async with running(exchange) as run:
            await user_up(run)
            await topics_subscribed(exchange)
            assert len(asyncio.all_tasks()) > len(before)
        await until(lambda: not [line for line in exchange.lines if not line.socket.closed], "all sockets are closed")
        await until(lambda: asyncio.all_tasks() <= before | {asyncio.current_task()}, "all tasks ended")


async def test_check_keys_asks_the_spot_host_only() -> None:
    async with exchange_() as exchange:
        exchange.answers["/v2/user/uid"] = {"code": 200, "data": 1}
        exchange.answers["/v2/user/api-key"] = lambda asked: {
            "code": 200,
            "data": [{"accessKey": asked.query["accessKey"], "permission": "readOnly,withdraw", "ipAddresses": "1.1.1.1"}],
        }
        from venues_htx_exchange import access, quick

        from monitor.venues.htx.venue import HtxVenue

        venue = HtxVenue(quick(exchange), [access(), access("second")], lambda _: None, now_ms)
        findings = await venue.check_keys()
        assert [(finding.alias, finding.verdict) for finding in findings] == [("main", "refuse"), ("second", "refuse")]
        assert {asked.path for asked in exchange.asked} == {"/api/v1/timestamp", "/v2/user/uid", "/v2/user/api-key"}


async def test_a_snapshot_on_request() -> None:
    async with exchange_() as exchange, running(exchange) as run:
        await user_up(run)
        before = len(run.of(CoinSnapshot))
        run.venue.request_snapshot("main")
        run.venue.request_snapshot("nobody")
        await until(lambda: len(run.of(CoinSnapshot)) > before, "asked for")


async def test_the_tables_on_request() -> None:
    async with exchange_() as exchange, running(exchange) as run:
        await user_up(run)
        await until(lambda: len(run.of(GuaranteeTables)) >= 3, "all three, once")
        before = len(run.of(GuaranteeTables))
        run.venue.request_tables("nobody")
        run.venue.request_tables("main")
        await until(lambda: len(run.of(GuaranteeTables)) == before + 3, "asked for once")
