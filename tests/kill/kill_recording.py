"""Sets of events as an exchange sent them: of the recordings beside the project, and of a lively minute at the simulated one."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest_e2e import Receiver, config_for, running, until
from msgspec import Struct, structs

from monitor.app import Monitor
from monitor.engine.engine import Engine
from monitor.engine.scheme import AccountSetup
from monitor.model.events import (
    AccountSnapshot,
    AccountUpdate,
    AssetRates,
    Balance,
    CoinBalance,
    CoinSnapshot,
    CoinUpdate,
    Event,
    Mode,
    Position,
    Prices,
    TimePassed,
)
from monitor.model.streams import Counters
from monitor.rules import RuleBook
from monitor.sim.exchange import SimExchange
from monitor.venues.binance.user_wire import UserWire as BinanceUserWire
from monitor.venues.htx.user_wire import UserWire as HtxUserWire

BINANCE, HTX = "binance_usdm", "htx_coin_futures"
OF_THE_LAST_ANSWER = (
    *("key", "level", "reconcile_difference", "withdrawable"),
    *("venue_age_ms", "venue_equity", "venue_requirement", "venue_withdrawable"),
)
PICTURES = (AccountSnapshot, CoinSnapshot)
FREE = (AccountSnapshot, AccountUpdate, CoinSnapshot, CoinUpdate, Prices, AssetRates)  # these may come in any order


class Recording(Struct):
    """What came first, what may come in any order, and the venue's time at the end.

    First are the descriptions of the venue and the first full picture: before it the adapter holds an account's events back.
    """

    venue: str
    first: list[Event]
    free: list[Event]
    end_ms: int

    def state(self, events: Sequence[Event]) -> dict[str, Any]:
        """Everything that is known after `events`, whose order and number are the caller's."""
        engine = Engine([AccountSetup(self.venue, "main", RuleBook())])
        for event in [*self.first, *events, TimePassed()]:
            engine.step(event, self.end_ms)
        engine.step(TimePassed(), self.end_ms + 1000)  # what comes in two frames is whole by then
        pools = {key.pool: engine.figures(key) for key in engine.table().keys}
        return {name: _known(figures) for name, figures in sorted(pools.items())}

    def disordered(self, rng: random.Random) -> list[Event]:
        """Shuffled, some split into single rows, some twice or three times."""
        events = [part for event in self.free for part in (_rows(event) if rng.random() < 0.5 else (event,))]
        events += rng.choices(events, k=rng.randint(0, len(events) // 2))
        rng.shuffle(events)
        return events


def _known(figures: Any) -> Any:
    """Plain values, sums to 12 digits. What is said of the venue's last answer is left out: it depends on which came last."""
    fields = {name: value for name, value in structs.asdict(figures).items() if name not in OF_THE_LAST_ANSWER}
    fields["positions"] = sorted(map(repr, map(_rounded, map(structs.asdict, fields["positions"]))))
    fields["assets"] = sorted(map(repr, map(_rounded, map(structs.asdict, fields["assets"]))))
    if fields["guarantee"] is not None:
        fields["guarantee"] = _rounded(structs.asdict(fields["guarantee"]) | {"venue": {}})
    return _rounded(fields)


def _rounded(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _rounded(value) if isinstance(value, dict) else float(f"{value:.12g}") if isinstance(value, float) else value
        for name, value in fields.items()
    }


def _rows(event: Event) -> Iterator[Event]:
    """The same, row by row. A full picture is one."""
    match event:
        case AccountUpdate() | CoinUpdate():
            for balance in event.balances:
                yield structs.replace(event, balances=(balance,), positions=())  # type: ignore[arg-type]  of its own kind
            for position in event.positions:
                yield structs.replace(event, balances=(), positions=(position,))
        case Prices() | AssetRates():
            for row in event.rows:
                yield structs.replace(event, rows=[row])  # type: ignore[list-item]
        case _:
            yield event


# ------------------------------------------------------------------ the recordings beside the project


def binance_recorded(shared: Path) -> Recording:
    """Four frames of account holders, of 2023 and 2026, and an empty picture of before."""
    frames = json.loads((shared / "data/binance/recorded_user_events.json").read_text())["events"]
    wire = BinanceUserWire("main", counters := Counters())
    updates = [event for frame in frames for event in wire.receive(json.dumps(frame).encode()).events]
    assert len(updates) == 4
    assert not counters.refused
    before = AccountSnapshot(
        venue=BINANCE,
        account="main",
        as_of_ms=frames[0]["T"] - 1000,
        mode=Mode.MULTI_ASSETS,
        hedge=False,
        balances=(Balance("USDT", 5000.0, 5000.0, frames[0]["T"] - 5000),),
        positions=(Position("BTCUSDT", "BOTH", 1.0, 30_000.0, frames[0]["T"] - 5000, margin_asset="USDT"),),
        leverages={},
        open_order_margins={},
        figures=(),
        implied_prices={},
    )
    return Recording(BINANCE, [before], updates, frames[-1]["E"])


def htx_recorded(shared: Path) -> Recording:
    """The pushes of one fill, which two topics tell, and a picture of before with another leg."""
    messages = [m["message"] for m in json.loads((shared / "data/htx/ws_notification.json").read_text())["messages"]]
    pushes = [m for m in messages if m.get("topic") in ("accounts.ada", "positions.ada") and m["op"] == "notify"]
    wire = HtxUserWire("main", counters := Counters(), 8 << 20)
    updates = [update for push in pushes for _, update in wire.receive(gzip.compress(json.dumps(push).encode())).updates]
    assert len(updates) == 2
    assert not counters.refused
    at_ms = pushes[0]["ts"]
    balance = CoinBalance(
        coin="ADA",
        margin_static=400.0,
        profit_real=0.0,
        margin_frozen=0.0,
        leverage=10.0,
        adjust_factor=None,
        version_ms=at_ms - 2000,
    )
    leg = Position("ADA201225", "SHORT", -9.0, 0.09, at_ms - 2000, margin_asset="ADA")
    before = CoinSnapshot(venue=HTX, account="main", as_of_ms=at_ms - 1000, balance=balance, positions=(leg,), implied_prices={})
    return Recording(HTX, [before], updates, at_ms)


# ------------------------------------------------------------------ a lively minute


async def lively(venue: str, monkeypatch: pytest.MonkeyPatch) -> Recording:
    """The real adapter at the simulated exchange: fills, transfers, prices, rates, and a picture before, amid and after them."""
    said: list[Event] = []
    emit = Monitor.emit

    def noted(self: Monitor, event: Event) -> None:
        said.append(event)
        emit(self, event)

    monkeypatch.setattr(Monitor, "emit", noted)
    keys = {"api_key": {"env": "KEY"}, "api_secret": {"env": "SECRET"}}
    if venue == HTX:
        keys = {"api_key": {"env": "HTX_KEY"}, "api_secret": {"env": "HTX_SECRET"}}
    accounts = [{"name": "main", "venue": venue, **keys}]
    async with SimExchange("calm", 7, tick_seconds=0.2) as there:
        config = config_for(there, Receiver(), accounts=accounts, alerts={"channels": []})
        async with running(config, there) as monitor:
            await until(lambda: monitor.readout.missing() == [], "ready", 30)
            await _lives(there, monitor, venue, said)
            end_ms = there.now_ms()
    pictures = {
        event.balance.coin if isinstance(event, CoinSnapshot) else "": event
        for event in reversed(said)
        if isinstance(event, PICTURES)
    }
    first = [event for event in said if not isinstance(event, (*FREE, TimePassed))] + [*pictures.values()]
    free = [event for event in said if isinstance(event, FREE) and not any(event is picture for picture in pictures.values())]
    return Recording(venue, first, free, end_ms)


async def _lives(there: SimExchange, monitor: Monitor, venue: str, said: list[Event]) -> None:
    async def more(kind: type[Any], act: Any) -> None:
        before = sum(isinstance(event, kind) for event in said)
        act()
        await until(lambda: sum(isinstance(event, kind) for event in said) > before, f"a {kind.__name__}")

    for turn in range(4):
        if venue == BINANCE:
            await more(AccountUpdate, lambda turn=turn: there.order("SOLUSDT", ("BUY", "SELL")[turn % 2], f"{10 + turn}"))
            await more(AccountUpdate, lambda turn=turn: there.order("BTCUSDT", "SELL", f"0.{turn + 1}"))
            await more(AccountUpdate, lambda turn=turn: there.transfer("USDT", f"{-100 - turn}"))
            await more(AccountUpdate, lambda: there.transfer("USDC", "7.5"))
        else:
            side = ("buy", "sell")[turn % 2]
            await more(CoinUpdate, lambda turn=turn, side=side: there.htx_control.order("BTC_CQ", side, "open", 3 + turn))
            await more(CoinUpdate, lambda turn=turn: there.htx_control.transfer("BTC", f"0.0{turn + 1}"))
        await more(Prices, lambda: None)
        if turn == 1:
            kind = AccountSnapshot if venue == BINANCE else CoinSnapshot
            await more(kind, lambda: [one.request_snapshot("main") for one in monitor.readout._venues])
