"""Row 36: a storm of events, and a reader that falls behind. The venue runs in a thread of its own: it never waits for us.

Nothing piles up on our side but what the sockets' buffers hold: one task reads a stream, decodes and judges at once, and while it
does not, the venue's sends stop. What waited there is old, and must say so.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

import pytest
from venues_exchange import Exchange, access, mark_frame, now_ms, quick, script_account, until

from monitor.model.events import AccountUpdate, Event, Prices, StreamDown
from monitor.venues.binance.venue import BinanceVenue

T = TypeVar("T")
SYMBOLS = 550
HEAD, TAIL = '{"stream":"!markPrice@arr@1s","data":[', "]}"


class Elsewhere:
    """The scripted exchange in its own thread and loop."""

    def __init__(self) -> None:
        self.exchange = Exchange()
        script_account(self.exchange)
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._serving = threading.Event()

    @contextmanager
    def serving(self) -> Iterator[Elsewhere]:
        thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)
        thread.start()
        try:
            assert self._serving.wait(10)
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._end.set)
            thread.join(10)
            self._loop.close()

    async def _serve(self) -> None:
        async with self.exchange.serve():
            self._serving.set()
            await self._end.wait()

    async def does(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def frames(self, count: int, per_s: float) -> None:
        """Each frame names all symbols, about 90 KB; with each an account update. per_s 0: as fast as they are taken."""
        rows = ",".join(
            f'{{"e":"markPriceUpdate","E":#,"s":"S{n}USDT","p":"@","ap":"100.00000000","P":"100.00000000",'
            f'"i":"100.00000000","r":"0.00010000","T":#,"x":"{"0" * 20}"}}'
            for n in range(SYMBOLS)
        )
        for n in range(count):
            price, at = f"{100 + n}", str(now_ms())
            for connection in list(self.exchange.market):
                with suppress(ConnectionError):
                    await connection.send_str(HEAD + rows.replace("#", at).replace("@", price) + TAIL)
            await self.exchange.send_user(transfer(n))
            if per_s:
                await asyncio.sleep(1 / per_s)


def transfer(number: int) -> dict[str, Any]:
    at = now_ms()
    balance = {"a": "USDT", "wb": str(number), "cw": str(number), "bc": "0"}
    return {"e": "ACCOUNT_UPDATE", "E": at, "T": at, "a": {"m": "DEPOSIT", "B": [balance], "P": []}}


class Reader:
    """What the adapter emitted, and how old it was in that moment by the clock that both sides share."""

    def __init__(self, work_s: float = 0.0) -> None:
        self.work_s = work_s
        self.stall_s = 0.0
        self.prices: list[tuple[float, float, float]] = []  # (price, true age, s; age beyond what the event tells, s)
        self.wallets: list[float] = []
        self.others: list[Event] = []

    def emit(self, event: Event) -> None:
        if isinstance(event, Prices) and len(event.rows) == SYMBOLS:
            age_s = (now_ms() - event.rows[0].event_time_ms) / 1000
            self.prices.append((event.rows[0].price, age_s, age_s - event.late_ms / 1000))
            time.sleep(self.work_s + self.stall_s)  # a loop that is blocked: nothing else runs here
            self.stall_s = 0.0
        elif isinstance(event, AccountUpdate):
            self.wallets += [row.wallet for row in event.balances]
        else:
            self.others.append(event)


@asynccontextmanager
async def reading(there: Elsewhere, reader: Reader, **settings: Any) -> Any:
    venue = BinanceVenue(quick(there.exchange, **settings), [access()], reader.emit, now_ms)
    task = asyncio.create_task(venue.run())
    try:
        await until(lambda: there.exchange.market and any(s.up for s in venue.streams if s.stream == "user"), "connected", 10)
        yield venue
        if task.done():
            task.result()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_row_36_ten_times_the_frames_for_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    """600 frames, as fast as they are taken, before a reader that needs 2 ms for each: those of 4,000 accounts."""
    reader = Reader(work_s=0.002)
    with Elsewhere().serving() as there:
        async with reading(there, reader) as venue:
            began = time.monotonic()
            await there.does(there.frames(600, per_s=0))
            await until(lambda: reader.prices and reader.prices[-1][0] == 699, "the newest price was judged", 20)
            took_s = time.monotonic() - began
            await until(lambda: len(reader.wallets) == 600, "every account event came", 20)
    assert reader.wallets == list(range(600)), "in their order"
    ages, untold = sorted(age for _, age, _ in reader.prices), max(beyond for _, _, beyond in reader.prices)
    with capsys.disabled():
        print(
            f"\nburst: {len(ages)} frames in {took_s:.1f} s, age when judged p50 {ages[len(ages) // 2]:.3f} s,"
            f" p99 {ages[len(ages) * 99 // 100]:.3f} s, worst {ages[-1]:.3f} s; worst not told {untold:.3f} s"
        )
    assert ages[-1] < 5, "what waits is bounded by the buffers"
    assert untold < 2, "and it is never judged as if it were of now"
    assert not venue.counters.refused


async def test_row_36_a_reader_that_slept_catches_up_and_tells_the_age_of_what_had_waited() -> None:
    reader = Reader()
    with Elsewhere().serving() as there:
        async with reading(there, reader, fault_s=4, silence_s=6) as venue:
            sending = asyncio.create_task(there.does(there.frames(160, per_s=40)))
            await until(lambda: len(reader.prices) >= 10, "prices flow")
            reader.stall_s, slept_at = 2.5, len(reader.prices)
            await until(lambda: len(reader.prices) > slept_at + 1, "it sleeps, and wakes", 20)
            woke = time.monotonic()
            await until(lambda: reader.prices[-1][1] < 0.5, "caught up", 20)
            assert time.monotonic() - woke < 2
            await sending
            await until(lambda: reader.prices[-1][0] == 259, "the newest price was judged", 20)
            await until(lambda: len(reader.wallets) == 160, "every account event came", 20)
            assert len(venue.streams[0].reconnects) == 0, "a backlog that is worked off ends no connection"
    assert reader.wallets == list(range(160))
    waited = [(age, beyond) for _, age, beyond in reader.prices if age >= 1.5]
    assert waited, "some had waited"
    assert max(beyond for _, _, beyond in reader.prices) < 1.5, "the age is told"
    assert not [event for event in reader.others if isinstance(event, StreamDown)]


async def test_row_36_prices_that_stay_late_are_no_life_and_rest_takes_over() -> None:
    """A path that swells: each frame comes, and each is 1.5 s late."""
    reader: list[Event] = []
    exchange = Exchange()
    script_account(exchange)
    async with exchange.serve():
        venue = BinanceVenue(quick(exchange, fault_s=1.2, silence_s=2.5), [access()], reader.append, now_ms)
        task = asyncio.create_task(venue.run())
        try:
            await until(lambda: exchange.market, "connected")
            while not venue.streams[0].up:
                await exchange.send_market(mark_frame(now_ms()), "!markPrice@arr@1s")
                await asyncio.sleep(0.02)
            asked = exchange.count("GET", "/fapi/v1/premiumIndex")
            late = now_ms() - 1500
            deadline = time.monotonic() + 10
            while exchange.opened["market"] < 2:
                assert time.monotonic() < deadline, "the connection is replaced"
                await exchange.send_market(mark_frame(max(late, now_ms() - 1500)), "!markPrice@arr@1s")
                await asyncio.sleep(0.05)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    downs = [event.reason for event in reader if isinstance(event, StreamDown) and event.stream == "market"]
    assert any("late" in reason for reason in downs), downs
    assert exchange.count("GET", "/fapi/v1/premiumIndex") > asked, "REST takes over"
    assert max(event.late_ms for event in reader if isinstance(event, Prices)) >= 1200
