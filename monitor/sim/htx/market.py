"""The simulated contracts of HTX: coins, their listed periods, and prices that follow the world."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from enum import IntEnum

from monitor.sim.htx import dates
from monitor.sim.htx.history import Candles, HourlyMean
from monitor.sim.htx.tables import AdjustTable, LadderTable, adjust_table, ladder_table
from monitor.sim.htx.text import exact
from monitor.sim.refused import RefusedError
from monitor.sim.world import COINS_USD

_INDEX_PLACES = Decimal("0.00000001")
_SETTLEMENT_PLACES = Decimal("1E-18")


class Status(IntEnum):
    """contract_status; only a listed contract trades."""

    LISTED = 1
    IN_SETTLEMENT = 5
    DELIVERING = 6
    SETTLED = 7
    DELIVERED = 8


@dataclass
class Contract:
    """One delivery of one coin. Prices are USD per coin, on the grid of the price tick."""

    code: str
    coin: str
    period: str
    delivery_ms: int
    create_date: str
    basis: Decimal  # last trade over index, a fraction
    mark_basis: Decimal
    last: Decimal
    mark: Decimal
    open: Decimal
    high: Decimal
    low: Decimal
    status: Status = Status.LISTED
    volume: int = 0  # contracts traded, both sides counted
    trades: int = 0
    last_volume: int = 0  # of the last trade
    last_direction: str = "buy"
    traded_ms: int = 0
    mark_candles: Candles = field(default_factory=Candles, repr=False)
    # Σ contracts and Σ contracts / price: the settlement price is a harmonic mean.
    inverse_mean: HourlyMean = field(default_factory=HourlyMean, repr=False)

    @property
    def alias(self) -> str:
        return f"{self.coin}_{dates.ALIASES[self.period]}"

    @property
    def trades_now(self) -> bool:
        return self.status is Status.LISTED

    @exact
    def settlement_price(self, now_ms: int) -> Decimal:
        """Σ volume / Σ (volume / price) of the last hour; the last trade if there was none."""
        mean = self.inverse_mean.mean(now_ms)
        return self.last if mean is None else (1 / mean).quantize(_SETTLEMENT_PLACES)


@dataclass
class Coin:
    """One account per coin: its contracts, its index and its rules."""

    symbol: str
    face: Decimal  # USD per contract
    price_tick: Decimal
    index: Decimal
    periods: tuple[str, ...]
    adjust: AdjustTable
    ladders: LadderTable
    transfer_profit_ratio: Decimal  # share of realised profit that may be taken out before settlement
    delivery_fee_rate: Decimal
    settlement_s: int  # how long a settlement takes
    contracts: list[Contract] = field(default_factory=list)
    next_settlement_ms: int = 0
    is_settling: bool = False
    is_delivering: bool = False
    index_candles: Candles = field(default_factory=Candles, repr=False)
    index_mean: HourlyMean = field(default_factory=HourlyMean, repr=False)

    @property
    def levers(self) -> list[int]:
        return list(self.adjust)

    def on_grid(self, price: Decimal) -> Decimal:
        steps = (price / self.price_tick).quantize(Decimal(1), rounding=ROUND_HALF_UP)
        return max(self.price_tick, steps * self.price_tick)

    def contract(self, code: str) -> Contract:
        """By code or alias. Raises RefusedError 1014."""
        for contract in self.contracts:
            if code.upper() in {contract.code, contract.alias}:
                return contract
        raise RefusedError(1014, "This contract doesn't exist.")

    @exact
    def delivery_price(self, now_ms: int) -> Decimal:
        """The arithmetic mean of the index over the last hour; the index itself if there is no hour yet."""
        mean = self.index_mean.mean(now_ms)
        return self.index if mean is None else mean.quantize(_SETTLEMENT_PLACES)


@dataclass
class Market:
    """All coins. `generator` is the venue's own, so that its draws disturb nobody else's."""

    coins: dict[str, Coin]
    generator: random.Random = field(repr=False)

    def coin(self, symbol: str) -> Coin:
        """Raises RefusedError 1013."""
        coin = self.coins.get(symbol.upper())
        if coin is None:
            raise RefusedError(1013, "This contract symbol doesn't exist.")
        return coin

    def find(self, code: str) -> tuple[Coin, Contract]:
        """By code or alias, in any case. Raises RefusedError 1014."""
        for coin in self.coins.values():
            for contract in coin.contracts:
                if code.upper() in {contract.code, contract.alias}:
                    return coin, contract
        raise RefusedError(1014, "This contract doesn't exist.")

    def follow(self, factors: Mapping[str, float], noise: float, now_ms: int) -> None:
        """One second: the index moves with the world, and each contract trades once at its basis to it."""
        for coin in self.coins.values():
            factor = Decimal(repr(factors.get(coin.symbol, 1.0)))
            self.set_index(coin, coin.index * factor, now_ms)
            for contract in coin.contracts:
                jitter = Decimal(f"{self.generator.gauss(0.0, 0.000_03) * noise:.9f}")
                volume = 2 * self.generator.randint(1, 300)
                direction = self.generator.choice(("buy", "sell"))
                if contract.trades_now:
                    price = coin.on_grid(coin.index * (1 + contract.basis + jitter))
                    trade(contract, price, volume, direction, now_ms)
                contract.mark = coin.on_grid(coin.index * (1 + contract.mark_basis))

    def set_index(self, coin: Coin, price: Decimal, now_ms: int) -> None:
        coin.index = max(_INDEX_PLACES, price.quantize(_INDEX_PLACES))
        coin.index_mean.record(now_ms, coin.index, Decimal(1))

    def set_price(self, coin: Coin, contract: Contract, last: Decimal, mark: Decimal, now_ms: int) -> None:
        """By hand: the contract trades there now (unless its coin settles), and its basis stays what it has become."""
        contract.basis = last / coin.index - 1
        contract.mark_basis = mark / coin.index - 1
        contract.mark = coin.on_grid(mark)
        if contract.trades_now:
            trade(contract, coin.on_grid(last), 2, contract.last_direction, now_ms)

    def roll(self, coin: Coin, as_of_ms: int) -> None:
        """Drop what is delivered, move the others up, list what is missing."""
        known = {contract.code: contract for contract in coin.contracts}
        coin.contracts = []
        for period, delivery_ms in dates.listing(as_of_ms, coin.periods).items():
            contract = known.get(dates.contract_code(coin.symbol, delivery_ms))
            if contract is None:
                contract = self._listed(coin, period, delivery_ms, as_of_ms)
            contract.period = period
            contract.status = Status.LISTED
            coin.contracts.append(contract)

    def _listed(self, coin: Coin, period: str, delivery_ms: int, now_ms: int) -> Contract:
        # The further the delivery, the dearer: a little over 5 % a year.
        years = max(0, delivery_ms - now_ms) / (365 * dates.DAY_MS)
        basis = Decimal(f"{0.05 * years + self.generator.uniform(-0.0003, 0.0003):.8f}")
        mark_basis = basis + Decimal(f"{self.generator.uniform(-0.0001, 0.0001):.8f}")
        price = coin.on_grid(coin.index * (1 + basis))
        contract = Contract(
            code=dates.contract_code(coin.symbol, delivery_ms),
            coin=coin.symbol,
            period=period,
            delivery_ms=delivery_ms,
            create_date=dates.yyyymmdd(dates.created_ms(delivery_ms, coin.periods)),
            basis=basis,
            mark_basis=mark_basis,
            last=price,
            mark=coin.on_grid(coin.index * (1 + mark_basis)),
            open=price,
            high=price,
            low=price,
            traded_ms=now_ms,
        )
        contract.mark_candles.record(now_ms, contract.mark)
        return contract

    def record_candles(self, now_ms: int) -> set[str]:
        """Write the present index and mark prices down; returns the coins and contract codes of which there is news."""
        news = {coin.symbol for coin in self.coins.values() if coin.index_candles.record(now_ms, coin.index)}
        contracts = [contract for coin in self.coins.values() for contract in coin.contracts]
        return news | {contract.code for contract in contracts if contract.mark_candles.record(now_ms, contract.mark)}


def trade(contract: Contract, price: Decimal, volume: int, direction: str, now_ms: int) -> None:
    """Somebody's trade: `volume` contracts, both sides counted, as the venue counts."""
    contract.last = price
    contract.high, contract.low = max(contract.high, price), min(contract.low, price)
    contract.volume += volume
    contract.trades += 1
    contract.last_volume, contract.last_direction, contract.traded_ms = volume, direction, now_ms
    contract.inverse_mean.record(now_ms, 1 / price, Decimal(volume))


# symbol, face, price tick, transfer ratio of realised profit, delivery fee, seconds of settlement, units against BTC
_COINS = (
    ("BTC", "100", "0.01", "0.8", "0.00015", 8, "1"),
    ("ETH", "10", "0.001", "0.8", "0.0005", 12, "15"),
    ("LTC", "10", "0.001", "0.5", "0.0005", 5, "500"),
    ("LINK", "10", "0.0001", "0.5", "0.0005", 15, "2500"),
    ("ADA", "10", "0.000001", "0", "0.0005", 10, "50000"),
)
_WITH_NEXT_QUARTER = {"BTC", "ETH"}


def build_market(seed: int, now_ms: int) -> Market:
    market = Market({}, random.Random(f"htx:{seed}"))
    for symbol, face, price_tick, ratio, delivery_fee, settlement_s, unit in _COINS:
        coin = Coin(
            symbol=symbol,
            face=Decimal(face),
            price_tick=Decimal(price_tick),
            index=Decimal(str(COINS_USD[symbol][0])).quantize(_INDEX_PLACES),
            periods=dates.PERIODS_WITH_NEXT_QUARTER if symbol in _WITH_NEXT_QUARTER else dates.PERIODS,
            adjust=adjust_table(symbol),
            ladders=ladder_table(symbol, Decimal(unit)),
            transfer_profit_ratio=Decimal(ratio),
            delivery_fee_rate=Decimal(delivery_fee),
            settlement_s=settlement_s,
            next_settlement_ms=dates.settlement_after(now_ms),
        )
        coin.index_candles.record(now_ms, coin.index)
        market.coins[symbol] = coin
        market.roll(coin, now_ms)
    return market
