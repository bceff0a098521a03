"""REST in the place of prices that do not come: of one quiet contract, or of all while a stream is out.

A contract on which nobody trades tells nothing, and so does a dead stream. REST tells them apart: its last trade is either the
one we know, and then the price is confirmed up to a moment before the answer, or one that the stream kept from us.
"""

import asyncio
from collections.abc import Coroutine
from typing import NoReturn

from monitor.model.events import Price, PriceKind, Prices
from monitor.model.streams import count
from monitor.venues.base import Fault, VenueError
from monitor.venues.htx import reference
from monitor.venues.htx.contracts import Contracts
from monitor.venues.htx.market import Feed
from monitor.venues.htx.rest import UNKNOWN_CODES
from monitor.venues.htx.rows import VENUE
from monitor.venues.htx.shared import Shared
from monitor.venues.htx.signing import INDEX, MARK_PRICE_KLINE, TRADE
from monitor.venues.htx.wire import Topic
from monitor.venues.stream import Backoff

_AT_ONCE = 8
_OF_ONE_CONTRACT = frozenset({Fault.REFUSED, Fault.BAD_ANSWER})


class QuietPrices:
    """Asks for what was quiet for too long, the longest first."""

    def __init__(self, shared: Shared, contracts: Contracts) -> None:
        self._shared = shared
        self._contracts = contracts
        self._trades: Feed
        self._heard_at: dict[Topic, float] = {}  # loop time of the last news, by push or by REST
        self._pushed_ms: dict[str, int] = {}  # venue's time of the last trade that the stream told, by contract
        self._unheard: dict[str, tuple[int, float]] = {}  # a trade that only REST told: its time, and when we saw it

    def attach(self, trades: Feed) -> None:
        self._trades = trades

    def heard(self, kind: PriceKind, row: Price) -> None:
        """News by push."""
        self._heard_at[kind, row.symbol] = asyncio.get_running_loop().time()
        if kind is PriceKind.LAST:
            self._pushed_ms[row.symbol] = row.event_time_ms

    async def run(self) -> NoReturn:
        settings = self._shared.settings
        backoff = Backoff(settings.retry_min_s, settings.backoff_max_s)
        while True:
            await asyncio.sleep(settings.takeover_s)
            failure = await self._ask_all(self._quiet())
            if failure is None:
                backoff.reset()
                continue
            self._shared.log.warning("prices_not_taken_over", reason=failure.reason, code=failure.code, detail=failure.detail)
            await asyncio.sleep(failure.wait_s(self._shared.now_ms()) + backoff.next_s())

    # -------------------------------------------------------------- what to ask

    def _quiet(self) -> list[Topic]:
        settings = self._shared.settings
        now = asyncio.get_running_loop().time()
        codes = [row.symbol for row in self._contracts.in_use()]
        wanted: dict[Topic, float] = {(PriceKind.LAST, code): settings.last_quiet_s for code in codes}
        wanted |= {(PriceKind.MARK, code): settings.mark_quiet_s for code in codes}
        wanted |= {(PriceKind.INDEX, coin): settings.mark_quiet_s for coin in self._contracts.coins_in_use()}
        self._heard_at = {topic: self._heard_at.get(topic, now - wanted[topic]) for topic in wanted}  # new ones are asked at once
        quiet = [topic for topic, quiet_s in wanted.items() if now - self._heard_at[topic] >= quiet_s]
        return sorted(quiet, key=self._heard_at.__getitem__)

    async def _ask_all(self, quiet: list[Topic]) -> VenueError | None:
        """The first fault that would meet every call; the rest is not asked then."""
        calls = [topic for topic in quiet if topic[0] is not PriceKind.INDEX]
        if len(calls) < len(quiet) and (failure := await self._guarded(self._index(), "")):
            return failure
        for begin in range(0, len(calls), _AT_ONCE):
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._guarded(self._one(*topic), topic[1])) for topic in calls[begin : begin + _AT_ONCE]
                ]
            if failures := [failure for task in tasks if (failure := task.result()) is not None]:
                return failures[0]
        return None

    async def _guarded(self, call: Coroutine[None, None, None], code: str) -> VenueError | None:
        try:
            await call
        except VenueError as exc:
            if exc.reason not in _OF_ONE_CONTRACT:
                return exc
            self._shared.log.debug("price_not_taken_over", contract=code, code=exc.code, detail=exc.detail)
            count(self._shared.counters.refused, "no_rest_price")
            if exc.code in UNKNOWN_CODES:
                self._contracts.request()
        return None

    # -------------------------------------------------------------- the calls

    async def _one(self, kind: PriceKind, code: str) -> None:
        now = asyncio.get_running_loop().time()
        self._heard_at[kind, code] = now  # whatever the answer: the next look is a quiet period away
        await (self._last(code) if kind is PriceKind.LAST else self._mark(code))

    async def _index(self) -> None:
        prices = reference.index_prices(await self._shared.rest.call(INDEX), self._shared.counters)
        now = asyncio.get_running_loop().time()
        coins = self._contracts.coins_in_use()
        self._heard_at |= {(PriceKind.INDEX, coin): now for coin in coins}
        self._emit(PriceKind.INDEX, [row for row in prices.rows if row.symbol in coins])

    async def _mark(self, code: str) -> None:
        body = await self._shared.rest.call(MARK_PRICE_KLINE, [("period", "1min"), ("size", "1"), ("symbol", code)])
        self._emit(PriceKind.MARK, [reference.mark_price(body, code)])

    async def _last(self, code: str) -> None:
        told = reference.last_trade(await self._shared.rest.call(TRADE, [("symbol", code)]))
        # The trades of the last moment may be missing in the answer: one that comes by push must not look late.
        proven_ms = max(told.trade_ms, told.answer_ms - self._shared.settings.confirm_margin_ms)
        if told.trade_ms < self._pushed_ms.get(code, 0):
            return  # a push came meanwhile, or the answer is an old one: it confirms nothing
        self._emit(PriceKind.LAST, [Price(code, told.price, proven_ms)])
        self._compare(code, told.trade_ms)

    def _emit(self, kind: PriceKind, rows: list[Price]) -> None:
        if rows := [row for row in rows if not self._shared.from_the_future(row.event_time_ms)]:
            self._shared.emit(Prices(VENUE, kind, rows))

    def _compare(self, code: str, trade_ms: int) -> None:
        """Did the stream tell the trade that REST tells?"""
        since_ms = self._trades.listening_since_ms((PriceKind.LAST, code))
        if since_ms is None:
            self._unheard.pop(code, None)
            return
        grace_s = self._shared.settings.hearing_grace_s
        pushed_ms = self._pushed_ms.get(code, 0)
        now = asyncio.get_running_loop().time()
        if trade_ms <= max(pushed_ms, since_ms + round(1000 * grace_s)):
            self._unheard.pop(code, None)
            self._trades.proven()
            return
        first_ms, seen_at = self._unheard.setdefault(code, (trade_ms, now))
        if pushed_ms >= first_ms:
            self._unheard[code] = (trade_ms, now)
        elif now - seen_at >= grace_s:
            self._unheard.pop(code)
            self._trades.deaf(f"{code} was traded, and the stream did not tell")
