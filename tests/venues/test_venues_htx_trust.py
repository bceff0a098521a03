"""Row 1 at the user's level: the real adapter on real sockets before the real engine; one coin is refused, missing or hangs.

Limits are in seconds, so that a minute of darkness passes in five; the venue answers ten times as often.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from venues_htx_exchange import (
    Asked,
    Exchange,
    Running,
    account_row,
    contract,
    leg,
    now_ms,
    ok,
    picture,
    push,
    refusal,
    running,
    script,
    serve,
    until,
)

from monitor.engine.engine import Engine
from monitor.engine.scheme import AccountSetup
from monitor.model.alerts import Level, Transition
from monitor.model.events import CoinsHeld, CoinSnapshot, StreamDown, StreamUp, TimePassed
from monitor.model.figures import PoolFigures, PoolKey
from monitor.rules import RuleBook
from monitor.venues.htx.rows import VENUE

ETH_CODE = "ETH301227"
PICTURE = "/api/v1/contract_account_position_info"
RULES = RuleBook.model_validate(
    {"stale": {"warning": 2.0, "high": 3.0, "critical": 4.5, "reconcile_due_s": 2.0, "unverified_s": 60.0}}
)


def of_coin(coin: str) -> dict[str, Any]:
    return picture(coin, 2.0, [leg(code=f"{coin}301227")])


class Watched:
    """The engine behind the adapter, and all that it has to say. `look` feeds what came, and the time."""

    def __init__(self, run: Running) -> None:
        self._run = run
        self._fed = 0
        self.engine = Engine([AccountSetup(VENUE, "main", RULES)], RULES)
        self.said: list[Transition] = []

    def look(self) -> None:
        while self._fed < len(self._run.events):
            self.said += self.engine.step(self._run.events[self._fed], now_ms())
            self._fed += 1
        self.said += self.engine.step(TimePassed(), now_ms())

    def stale(self, pool: str) -> list[str]:
        return [t.level.word for t in self.said if (t.key.rule, t.key.account, t.key.pool) == ("stale", "main", pool)]

    def pool(self, coin: str) -> PoolFigures | None:
        return self.engine.figures(PoolKey(VENUE, "main", coin))

    async def until(self, condition: Callable[[], Any], why: str) -> None:
        def looked() -> Any:
            self.look()
            return condition()

        await until(looked, why, 15)


@asynccontextmanager
async def two_coins(eth: Callable[[Asked], Any] | None = None) -> AsyncIterator[tuple[Exchange, Running, Watched]]:
    """An account with BTC and ETH. eth: what the venue answers on ETH from the start on."""
    exchange = Exchange()
    script(exchange)
    tiers = [{"ladder": 0, "min_size": 0, "max_size": None, "adjust_factor": 0.2}]
    table = [{"lever_rate": 10, "ladders": tiers}]
    exchange.answers["/api/v1/contract_contract_info"] = lambda _: ok([contract(), contract(ETH_CODE)])
    exchange.answers["/api/v1/contract_adjustfactor"] = lambda _: ok([{"symbol": c, "list": table} for c in ("BTC", "ETH")])
    exchange.answers["/api/v1/contract_account_info"] = lambda _: ok([account_row(), account_row("ETH")])
    answers_on(exchange, eth)
    async with (
        serve(exchange),
        running(exchange, total_timeout_s=30, reconcile_s=0.3, retry_min_s=0.2, backoff_max_s=1.0, private_calls=1000) as run,
    ):
        yield exchange, run, Watched(run)


def answers_on(exchange: Exchange, eth: Callable[[Asked], Any] | None) -> None:
    def answer(asked: Asked) -> Any:
        coin = asked.body["symbol"]
        return eth(asked) if eth is not None and coin == "ETH" else ok([of_coin(coin)])

    exchange.answers[PICTURE] = answer


def refused(_: Asked) -> Any:
    return refusal(1030, "the request is invalid")


def missing(_: Asked) -> Any:
    return ok([of_coin("BTC")])


async def never(_: Asked) -> Any:
    await asyncio.sleep(60)


TROUBLES = [refused, missing, never]


@pytest.mark.parametrize("eth", TROUBLES)
async def test_row_01_stream_down_and_one_coin_without_answers(eth: Callable[[Asked], Any]) -> None:
    async with two_coins() as (exchange, run, watched):
        await watched.until(lambda: run.of(StreamUp, account="main"), "all is known")
        exchange.refuse_auth = 2003  # the stream does not come back
        answers_on(exchange, eth)
        await exchange.user().socket.close()
        await watched.until(lambda: run.of(StreamDown, account="main"), "the stream is down")
        await watched.until(lambda: "critical" in watched.stale("ETH"), "the dark coin is told")
        figures = watched.pool("ETH")
        assert figures is not None
        assert figures.level == Level.UNKNOWN
        assert watched.stale("ETH") == ["warning", "high", "critical"]
        assert watched.stale("BTC") == [], "REST answers on it again and again"
        assert watched.stale("") == [], "of the account nothing is said, and nothing is fresh again"
        btc = watched.pool("BTC")
        assert btc is not None
        assert btc.level != Level.UNKNOWN, "what is wrong with ETH says nothing of it"
        answers_on(exchange, None)
        if eth is not never:
            await watched.until(lambda: watched.stale("ETH")[-1] == "ok", "answered again")


@pytest.mark.parametrize("eth", TROUBLES)
async def test_row_01_stream_up_and_one_coin_without_answers(eth: Callable[[Asked], Any]) -> None:
    """Its pushes go on, so it is known; that nobody confirms them is told."""
    async with two_coins() as (exchange, run, watched):
        await watched.until(lambda: run.of(StreamUp, account="main"), "all is known")
        answers_on(exchange, eth)

        async def pushed() -> None:
            while True:
                for coin in ("BTC", "ETH"):
                    await exchange.user().send(push("accounts." + coin.lower(), "snapshot", [account_row(coin)]))
                    await exchange.user().send(push("positions." + coin.lower(), "snapshot", [leg(code=f"{coin}301227")]))
                await asyncio.sleep(0.1)

        async with asyncio.TaskGroup() as group:
            pushes = group.create_task(pushed())
            await watched.until(lambda: "high" in watched.stale("ETH"), "told beyond its due time")
            figures = watched.pool("ETH")
            assert figures is not None
            assert not figures.trusted
            assert watched.stale("BTC") == []
            assert watched.engine.trusted()[VENUE, "main"].startswith("ETH: unverified")
            pushes.cancel()


@pytest.mark.parametrize("eth", TROUBLES)
async def test_row_01_a_coin_that_never_answers_from_the_start_is_there_and_delays_no_other(eth: Callable[[Asked], Any]) -> None:
    async with two_coins(eth) as (exchange, run, watched):
        await until(lambda: len(run.of(CoinSnapshot)) >= 4, "BTC's pictures go on")
        assert {event.balance.coin for event in run.of(CoinSnapshot)} == {"BTC"}
        await until(lambda: run.of(CoinsHeld), "the account holds both")
        assert run.of(CoinsHeld)[-1].coins == ("BTC", "ETH")
        assert not run.of(StreamUp, account="main"), "not all of the account is there"
        assert not run.status("user").up
        watched.look()
        figures = watched.pool("ETH")
        assert figures is not None, "nothing is known of it but that it is there"
        assert figures.level == Level.UNKNOWN
        assert any("no picture of ETH yet" in why for why in figures.unknown)
        await watched.until(lambda: (btc := watched.pool("BTC")) is not None and btc.trusted, "BTC is carried without the other")
        downs = len(run.of(StreamDown, account="main"))
        await exchange.user().socket.close()
        await watched.until(lambda: len(run.of(StreamDown, account="main")) > downs, "a coin was carried: the gap is told")


async def test_row_01_the_pause_of_a_refused_coin_is_its_own() -> None:
    """It grows with its own failures; good answers on the other do not shorten it."""
    async with two_coins(refused) as (exchange, run, _):

        def asked(coin: str) -> int:
            return sum(1 for one in exchange.asked if one.path == PICTURE and one.body["symbol"] == coin)

        await until(lambda: asked("BTC") >= 12, "BTC is asked at its pace")
        assert run.of(CoinSnapshot)
        assert asked("ETH") >= 2, "tried again"
