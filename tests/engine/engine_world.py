"""A small account for the engine's tests: one BTCUSDT leg, two collateral assets, one venue; each test moves what it is about."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from monitor.engine.engine import Engine
from monitor.engine.scheme import AccountSetup
from monitor.model.alerts import Incident, IncidentKey, Level, Transition
from monitor.model.events import (
    AccountSnapshot,
    AccountUpdate,
    AssetRate,
    AssetRates,
    Balance,
    Brackets,
    Event,
    Instruments,
    Mode,
    Position,
    Price,
    PriceKind,
    Prices,
    TimePassed,
    VenueFigures,
)
from monitor.model.figures import PoolFigures, PoolKey
from monitor.model.instruments import AssetInfo, Bracket, BracketTable, Instrument
from monitor.rules import RuleBook

VENUE = "binance_usdm"
START_MS = 1_700_000_000_000
TIERS = (Bracket(1, 0, 50_000, 0.004, 0, 125), Bracket(2, 50_000, 1e9, 0.005, 50, 100))


@dataclass
class World:
    """Feeds an engine and keeps its clock. Health of the default account at mark P is (1000 + P − 20000) / (P × 0.004)."""

    rules: RuleBook = field(default_factory=RuleBook)
    restored: dict[IncidentKey, Incident] = field(default_factory=dict)
    now_ms: int = START_MS
    mode: Mode = Mode.MULTI_ASSETS
    wallets: dict[str, float] = field(default_factory=lambda: {"USDT": 1000.0})
    position: Position = field(default_factory=lambda: Position("BTCUSDT", "BOTH", 1.0, 20_000.0, START_MS, margin_asset="USDT"))

    def __post_init__(self) -> None:
        self.engine = Engine([AccountSetup(VENUE, "main", self.rules)], self.rules, self.restored)

    def feed(self, event: Event, after_ms: int = 0) -> list[Transition]:
        self.now_ms += after_ms
        return self.engine.step(event, self.now_ms)

    def start(self, mark: float = 20_000.0) -> list[Transition]:
        """Everything that is known before the first decision."""
        assets = tuple(AssetInfo(asset) for asset in ("USDT", "USDC", "BTC"))
        said = self.feed(Instruments(VENUE, (Instrument("BTCUSDT", "USDT"), Instrument("ETHUSDC", "USDC")), assets))
        said += self.feed(Brackets(VENUE, "main", (BracketTable("BTCUSDT", TIERS),), self.now_ms))
        said += self.rate("USDT", 1.0, haircut=0.0)
        said += self.rate("USDC", 1.0, haircut=0.0)
        said += self.mark(mark)
        return said + self.snapshot()

    def mark(self, price: float, symbol: str = "BTCUSDT", after_ms: int = 1000) -> list[Transition]:
        self.now_ms += after_ms
        return self.feed(Prices(VENUE, PriceKind.MARK, [Price(symbol, price, self.now_ms)]))

    def rate(self, asset: str, index: float, haircut: float = 0.0, after_ms: int = 0) -> list[Transition]:
        self.now_ms += after_ms
        row = AssetRate(asset, index, index * (1 - haircut), index * (1 + haircut), self.now_ms)
        return self.feed(AssetRates(VENUE, [row]))

    def snapshot(self, **changes: object) -> list[Transition]:
        event = AccountSnapshot(
            venue=VENUE,
            account="main",
            as_of_ms=self.now_ms,
            mode=self.mode,
            hedge=False,
            balances=tuple(Balance(asset, wallet, wallet, START_MS) for asset, wallet in self.wallets.items()),
            positions=(self.position,),
            leverages={"BTCUSDT": 20.0},
            open_order_margins={},
            figures=(),
            implied_prices={},
        )
        return self.feed(structs_replace(event, changes))

    def update(self, *, balances: tuple[Balance, ...] = (), positions: tuple[Position, ...] = ()) -> list[Transition]:
        event = AccountUpdate(
            venue=VENUE, account="main", event_time_ms=self.now_ms, reason="ORDER", balances=balances, positions=positions
        )
        return self.feed(event)

    def seconds(self, count: int, *, keep_fresh: bool = False) -> list[Transition]:
        """Time passes second by second; keep_fresh: prices and rates keep ticking at their values."""
        said = []
        for _ in range(count):
            self.now_ms += 1000
            if keep_fresh:
                market = self.engine._schemes[VENUE].market
                price = float(market.symbols.price[market.symbol_rows["BTCUSDT"]])
                said += self.feed(Prices(VENUE, PriceKind.MARK, [Price("BTCUSDT", price, self.now_ms)]))
                rows = [AssetRate(r.asset, r.index, r.bid, r.ask, self.now_ms) for r in self.engine.rates()[VENUE]]
                said += self.feed(AssetRates(VENUE, rows))
            said += self.feed(TimePassed())
        return said

    def pool(self, name: str = "USD") -> PoolFigures:
        figures = self.engine.figures(PoolKey(VENUE, "main", name))
        assert figures is not None
        return figures


def structs_replace(event: AccountSnapshot, changes: dict[str, object]) -> AccountSnapshot:
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    return AccountSnapshot(**{**fields, **changes})  # type: ignore[arg-type]


def levels(said: list[Transition], rule: str = "health") -> list[tuple[str, str]]:
    """(was, now) of each transition of a rule."""
    return [(t.was.word, t.level.word) for t in said if t.key.rule == rule]


def open_incident(
    level: Level, *, known: Level | None = None, pool: str = "USD", account: str = "main"
) -> dict[IncidentKey, Incident]:
    """What the store would hold of a health incident."""
    key = IncidentKey(VENUE, account, pool, "health")
    incident = Incident(
        id="1",
        key=key,
        level=level,
        worst=level,
        opened_ms=0,
        changed_ms=0,
        summary="",
        known_level=level if known is None else known,
    )
    return {key: incident}


def figures_of(equity: float, maintenance: float, pool: str = "USD") -> tuple[VenueFigures, ...]:
    return (VenueFigures(pool, equity, maintenance, withdrawable=equity),)


__all__ = ["START_MS", "TIERS", "VENUE", "World", "figures_of", "levels", "open_incident", "replace"]
