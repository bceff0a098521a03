"""Events that tell the engine of the oracle's coin accounts, and a small coin account whose market a test moves."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from msgspec import structs
from oracle_htx import CoinAccount, figures

from monitor.engine.engine import Engine
from monitor.engine.scheme import AccountSetup
from monitor.model.alerts import Incident, IncidentKey, Transition
from monitor.model.events import (
    CoinBalance,
    CoinSnapshot,
    CoinUpdate,
    Event,
    GuaranteeTables,
    Instruments,
    Position,
    Price,
    PriceKind,
    Prices,
    Settlement,
    StreamDown,
    StreamUp,
    TimePassed,
)
from monitor.model.figures import PoolFigures, PoolKey
from monitor.model.instruments import CoinTerms, FactorTable, FactorTier, Instrument, LadderTable, LadderTier
from monitor.rules import RuleBook

VENUE = "htx_coin_futures"
START_MS = 1_700_000_000_000
MINUTE_MS = 60_000


def _open(value: str | float | None) -> float:
    return math.inf if value is None else float(value)


def tables_of(account: CoinAccount) -> GuaranteeTables:
    tiers = tuple(FactorTier(i, t.net_min, _open(t.net_max), float(t.factor)) for i, t in enumerate(account.factors))
    ladder = tuple(
        LadderTier(float(t.equity_min), _open(t.equity_max), float(t.usable_min), _open(t.usable_max)) for t in account.ladder
    )
    ratio = float(account.transfer_profit_ratio)
    return GuaranteeTables(
        VENUE,
        START_MS,
        (FactorTable(account.coin, account.leverage, tiers),),
        (LadderTable(account.coin, account.leverage, ladder),) if ladder else (),
        (CoinTerms(account.coin, ratio > 0, ratio),),
    )


def positions_of(account: CoinAccount, version_ms: int = START_MS) -> tuple[Position, ...]:
    return tuple(
        Position(
            leg.contract,
            "LONG" if leg.direction == "buy" else "SHORT",
            float(leg.contracts if leg.direction == "buy" else -leg.contracts),
            float(leg.cost_hold),
            version_ms,
            margin_asset=account.coin,
            open_price=float(leg.cost_open),
        )
        for leg in account.legs
    )


def events_of(account: CoinAccount, alias: str = "main") -> list[Event]:
    """The market, then the account's picture with the venue's own figures, as the oracle computes them."""
    now = figures(account)
    balance = CoinBalance(
        coin=account.coin,
        margin_static=float(account.margin_static),
        profit_real=float(account.profit_real),
        margin_frozen=float(account.margin_frozen),
        leverage=float(account.leverage),
        adjust_factor=float(now.factor),
        version_ms=START_MS,
        venue_equity=float(now.equity),
        venue_position_margin=float(now.position_margin),
        venue_withdrawable=float(now.transferable),
    )
    lasts = {contract: float(price) for contract, price in account.lasts.items()}
    rows = tuple(Instrument(contract, account.coin, "1", face=float(account.face)) for contract in lasts)
    return [
        Instruments(VENUE, rows),
        tables_of(account),
        Prices(VENUE, PriceKind.LAST, [Price(contract, price, START_MS) for contract, price in lasts.items()]),
        CoinSnapshot(
            venue=VENUE, account=alias, as_of_ms=START_MS, balance=balance, positions=positions_of(account), implied_prices=lasts
        ),
    ]


@dataclass
class CoinWorld:
    """1 BTC of equity, 10x, 500 contracts of 100 USD long at 10,000 in two periods, locked by shorts as a test likes."""

    rules: RuleBook = field(default_factory=RuleBook)
    now_ms: int = START_MS
    restored: dict[IncidentKey, Incident] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.engine = Engine([AccountSetup(VENUE, "main", self.rules)], self.rules, self.restored)

    def feed(self, event: Event, after_ms: int = 0) -> list[Transition]:
        self.now_ms += after_ms
        return self.engine.step(event, self.now_ms)

    def start(self, legs: dict[str, float], *, delivery_in_min: float = 10_000.0, factor: float = 0.2) -> list[Transition]:
        """legs: signed contracts by contract code; the first contract is delivered in so many minutes, the others later."""
        due = [self.now_ms + round(delivery_in_min * MINUTE_MS) + i * 7 * 86_400_000 for i in range(len(legs))]
        rows = tuple(Instrument(code, "BTC", "1", delivery_time_ms=at, face=100.0) for code, at in zip(legs, due, strict=True))
        said = self.feed(Instruments(VENUE, rows))
        said += self.feed(GuaranteeTables(VENUE, self.now_ms, (self.factor_table(factor),)))
        said += self.last(dict.fromkeys(legs, 10000.0))
        return said + self.snapshot(legs)

    def factor_table(self, factor: float) -> FactorTable:
        tiers = (FactorTier(0, 0, 9_999, factor), FactorTier(1, 10_000, math.inf, 2 * factor))
        return FactorTable("BTC", 10.0, tiers)

    def balance(self, static: float = 1.0, leverage: float = 10.0, **told: float) -> CoinBalance:
        return CoinBalance(
            coin="BTC",
            margin_static=static,
            profit_real=told.pop("profit_real", 0.0),
            margin_frozen=0.0,
            leverage=leverage,
            adjust_factor=None,
            version_ms=self.now_ms,
            **told,
        )

    def snapshot(self, legs: dict[str, float], static: float = 1.0, **told: float) -> list[Transition]:
        positions = tuple(
            Position(code, "LONG" if n > 0 else "SHORT", n, 10_000.0, self.now_ms, margin_asset="BTC")
            for code, n in legs.items()
            if n
        )
        return self.feed(
            CoinSnapshot(
                venue=VENUE,
                account="main",
                as_of_ms=self.now_ms,
                balance=self.balance(static, told.pop("leverage", 10.0), **told),
                positions=positions,
                implied_prices={},
            )
        )

    def push(self, legs: dict[str, float]) -> list[Transition]:
        positions = tuple(
            Position(code, "LONG" if n >= 0 else "SHORT", n, 10_000.0, self.now_ms, margin_asset="BTC")
            for code, n in legs.items()
        )
        return self.feed(
            CoinUpdate(venue=VENUE, account="main", event_time_ms=self.now_ms, reason="order.match", positions=positions)
        )

    def last(self, prices: dict[str, float], after_ms: int = 1000) -> list[Transition]:
        self.now_ms += after_ms
        return self.feed(Prices(VENUE, PriceKind.LAST, [Price(code, price, self.now_ms) for code, price in prices.items()]))

    def settling(self, running: bool) -> list[Transition]:
        return self.feed(Settlement(VENUE, "BTC", running, self.now_ms))

    def seconds(self, count: int, prices: dict[str, float]) -> list[Transition]:
        said = []
        for _ in range(count):
            said += self.last(prices)
            said += self.feed(TimePassed())
        return said

    def pool(self) -> PoolFigures:
        figures = self.engine.figures(PoolKey(VENUE, "main", "BTC"))
        assert figures is not None
        return figures


class TwoCoins(CoinWorld):
    """BTC is healthy; ETH stands at a health of its static balance × 500, at 1,000 USD in contracts of 10 USD."""

    def market(self) -> None:
        rows = [Instrument("BTC1", "BTC", "1", face=100.0), Instrument("ETH1", "ETH", "1", face=10.0)]
        self.feed(Instruments(VENUE, tuple(rows)))
        eth = FactorTable("ETH", 10.0, (FactorTier(0, 0, math.inf, 0.2),))
        self.feed(GuaranteeTables(VENUE, self.now_ms, (self.factor_table(0.2), eth)))
        self.last({"BTC1": 10_000.0, "ETH1": 1_000.0})

    def eth(self, health: float) -> list[Transition]:
        """10 contracts at 10x: 0.01 ETH of margin in use, liquidated at 0.002 ETH."""
        return self.feed(
            CoinSnapshot(
                venue=VENUE,
                account="main",
                as_of_ms=self.now_ms,
                balance=CoinBalance(
                    coin="ETH",
                    margin_static=health * 0.002,
                    profit_real=0.0,
                    margin_frozen=0.0,
                    leverage=10.0,
                    adjust_factor=None,
                    version_ms=self.now_ms,
                ),
                positions=(Position("ETH1", "LONG", 10.0, 1_000.0, self.now_ms, margin_asset="ETH"),),
                implied_prices={},
            )
        )

    def btc(self) -> list[Transition]:
        return self.snapshot({"BTC1": 100.0})

    def up(self) -> list[Transition]:
        return self.feed(StreamUp(VENUE, "main", "user"))

    def down(self) -> list[Transition]:
        return self.feed(StreamDown(VENUE, "main", "user", "reset"))

    def eth_pushed(self) -> list[Transition]:
        """As the venue does every 5 s: the legs, unchanged."""
        leg = Position("ETH1", "LONG", 10.0, 1_000.0, self.now_ms, margin_asset="ETH")
        return self.feed(CoinUpdate(venue=VENUE, account="main", event_time_ms=self.now_ms, reason="snapshot", positions=(leg,)))

    def tick(self) -> list[Transition]:
        """A second passes; prices tick at their values."""
        return self.last({"BTC1": 10_000.0, "ETH1": 1_000.0}) + self.feed(TimePassed())

    def picture(self, coin: str) -> CoinSnapshot:
        """The event itself."""
        leg = {"BTC": ("BTC1", 100.0, 10_000.0), "ETH": ("ETH1", 10.0, 1_000.0)}[coin]
        return CoinSnapshot(
            venue=VENUE,
            account="main",
            as_of_ms=self.now_ms,
            balance=structs.replace(self.balance(), coin=coin, margin_static=1.0 if coin == "BTC" else 0.06),
            positions=(Position(leg[0], "LONG", leg[1], leg[2], self.now_ms, margin_asset=coin),),
            implied_prices={},
        )

    def live(self) -> None:
        """Both coins have their picture, and the stream carries them on."""
        self.market()
        self.btc()
        self.eth(30.0)
        self.up()
        self.tick()

    def of(self, coin: str) -> PoolFigures:
        figures = self.engine.figures(PoolKey(VENUE, "main", coin))
        assert figures is not None
        return figures
