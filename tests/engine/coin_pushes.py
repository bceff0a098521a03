"""The simulated HTX's own desk, its pushes as they go over the wire, and an engine that gets them as a test likes."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from monitor.engine.engine import Engine
from monitor.engine.scheme import AccountSetup
from monitor.model.alerts import Transition
from monitor.model.events import CoinSnapshot, Event, GuaranteeTables, Instruments, Price, PriceKind, Prices, StreamUp, TimePassed
from monitor.model.figures import PoolFigures, PoolKey
from monitor.model.instruments import FactorTable, FactorTier, Instrument
from monitor.model.streams import Counters
from monitor.rules import RuleBook
from monitor.sim.htx import rows
from monitor.sim.htx.account import Purse, SimHtxAccount, open_account
from monitor.sim.htx.desk import Change, Desk
from monitor.sim.htx.margin import Figures, figures
from monitor.sim.htx.market import build_market
from monitor.sim.htx.settlement import settle
from monitor.sim.htx.text import encode, gzip_frame
from monitor.venues.htx.snapshot import coin_snapshots
from monitor.venues.htx.user_wire import UserWire

VENUE, COIN = "htx_coin_futures", "BTC"
START_MS = 1_750_006_800_000


@dataclass
class Frame:
    """One push on its way: of which change, and of which of its two topics."""

    change: int
    topic: str
    bytes: bytes


class PushWorld:
    """One account with BTC. Every change is a state of `states`, and its frames are in `frames` until they are delivered."""

    def __init__(self, account: SimHtxAccount) -> None:
        self.now_ms = START_MS
        self.market = build_market(7, START_MS)
        self.account = open_account(account, self.market, 7)
        self.coin, self.purse = self.market.coins[COIN], self.account.purses[COIN]
        self.desk = Desk(self.market, lambda: self.now_ms, self.changed)
        self.frames: list[Frame] = []
        self.with_legs: set[int] = set()  # changes that were told with legs
        self.states: list[Purse] = [copy.deepcopy(self.purse)]
        self.wire = UserWire("main", Counters(), 1 << 20)
        self.engine = Engine([AccountSetup(VENUE, "main", RuleBook())])
        self.said: list[Transition] = []
        self.start()

    def start(self) -> None:
        contracts = self.coin.contracts
        self.feed(Instruments(VENUE, tuple(Instrument(c.code, COIN, "1", face=float(self.coin.face)) for c in contracts)))
        self.read_tables()
        self.tell_prices()
        self.feed(self.snapshot())
        self.feed(StreamUp(VENUE, "main", "user"))
        self.feed(TimePassed())

    def read_tables(self) -> None:
        """The venue's adjustment factors as they are now."""
        tables = tuple(
            FactorTable(
                COIN,
                float(lever),
                tuple(
                    FactorTier(t.number, t.min_size, float("inf") if t.max_size is None else t.max_size, float(t.factor))
                    for t in tiers
                ),
            )
            for lever, tiers in self.coin.adjust.items()
        )
        self.feed(GuaranteeTables(VENUE, self.now_ms, tables))

    # -------------------------------------------------------------- the venue

    def code(self, period: int = 0) -> str:
        return self.coin.contracts[period].code

    def changed(self, change: Change) -> None:
        """As `monitor.sim.htx.pushes` tells it."""
        self.now_ms += 3
        self.states.append(copy.deepcopy(self.purse))
        self._frame("accounts", change.event, [rows.account_row(self.purse, self.coin)])
        if change.legs is not None:
            self.with_legs.add(len(self.states) - 1)
            self._frame("positions", change.event, [rows.position_row(leg, self.purse, self.coin) for leg in change.legs])

    def picture_pushes(self) -> None:
        """What comes when nothing was pushed for 5 s."""
        self.changed(Change(self.account, self.coin, "snapshot", list(self.purse.legs.values())))

    def settlement(self) -> None:
        prices = {contract.code: contract.last for contract in self.coin.contracts}
        legs = settle(self.purse, self.coin, prices, set(), self.now_ms)
        self.changed(Change(self.account, self.coin, "settlement", legs))

    def trade(self, direction: str, offset: str, volume: int, period: int = 0, price: Decimal | None = None) -> None:
        self.desk.order(self.account, self.code(period), direction, offset, volume, price)

    def moves(self, by: float, period: int | None = None) -> None:
        """Prices, by a fraction; the engine hears of it at once."""
        for i, contract in enumerate(self.coin.contracts):
            if period is None or i == period:
                last = self.coin.on_grid(contract.last * Decimal(str(round(1 + by, 6))))
                self.market.set_price(self.coin, contract, last, last, self.now_ms)
        self.now_ms += 1
        self.tell_prices()

    def snapshot(self) -> CoinSnapshot:
        row: dict[str, Any] = rows.rest_account_row(self.purse, self.coin)
        row["positions"] = rows.rest_position_rows(self.purse, self.coin)
        [event] = coin_snapshots(encode({"data": [row], "ts": self.now_ms}), account="main")
        return event

    def truth(self, purse: Purse) -> Figures:
        return figures(purse, self.coin)

    # -------------------------------------------------------------- the monitor

    def feed(self, event: Event) -> None:
        self.said += self.engine.step(event, self.now_ms)

    def tell_prices(self) -> None:
        prices = [Price(contract.code, float(contract.last), self.now_ms) for contract in self.coin.contracts]
        self.feed(Prices(VENUE, PriceKind.LAST, prices))

    def deliver(self, topic: str = "") -> None:
        """The first frame of the topic, or the first of all."""
        self.deliver_at(next(i for i, frame in enumerate(self.frames) if topic in ("", frame.topic)))

    def deliver_at(self, place: int) -> Frame:
        frame = self.frames.pop(place)
        for _, update in self.wire.receive(frame.bytes).updates:
            self.feed(update)
        return frame

    def lose(self, topic: str) -> None:
        self.frames.remove(next(frame for frame in self.frames if frame.topic == topic))

    def seconds(self, count: float) -> None:
        """With ticks of the monitor's own clock; prices are quiet but fresh."""
        for _ in range(max(1, round(count))):
            self.now_ms += round(1000 * count / max(1, round(count)))
            self.tell_prices()
            self.feed(TimePassed())

    def pool(self) -> PoolFigures:
        found = self.engine.figures(PoolKey(VENUE, "main", COIN))
        assert found is not None
        return found

    def levels(self, rule: str = "health") -> list[str]:
        return [t.level.word for t in self.said if t.key.rule == rule]

    def _frame(self, topic: str, event: str, data: list[Any]) -> None:
        body = {"op": "notify", "topic": f"{topic}.btc", "event": event, "ts": self.now_ms, "uid": "1", "data": data}
        self.frames.append(Frame(len(self.states) - 1, topic, gzip_frame(encode(body))))
