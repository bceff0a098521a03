"""One simulated account: a separate purse per coin. Changed by `desk` and `settlement`, valued by `margin`."""

import random
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from monitor.sim.htx.market import Market
from monitor.sim.htx.text import ZERO
from monitor.sim.numbers import Number, number

LEVER_DEFAULT = 5
BUY, SELL = "buy", "sell"


@dataclass(frozen=True)
class SimHtxPosition:
    """A position to start with. `contract` by alias ("BTC_CQ") or code; price None: the last trade at the start;
    cost_hold None: the same as cost_open."""

    contract: str
    direction: str
    volume: int
    cost_open: Number | None = None
    cost_hold: Number | None = None


@dataclass(frozen=True)
class SimHtxAccount:
    """An account to start with. Empty key and secret are drawn from the seed.

    coins: what was brought in, per coin; realised: profit of this settlement period on top of it.
    permission: as the spot host tells it ("readOnly", "readOnly,trade", …).
    may_ask_key: False for a sub-account, which is not told what its key may do.
    """

    name: str
    coins: Mapping[str, Number] = field(default_factory=dict)
    positions: Iterable[SimHtxPosition] = ()
    leverages: Mapping[str, int] = field(default_factory=dict)
    realised: Mapping[str, Number] = field(default_factory=dict)
    permission: str = "readOnly"
    may_ask_key: bool = True
    api_key: str = ""
    api_secret: str = field(default="", repr=False)


@dataclass
class Leg:
    """Long (`buy`) or short (`sell`) in one contract; volume in contracts."""

    contract: str
    direction: str
    volume: int
    cost_open: Decimal
    cost_hold: Decimal


@dataclass
class RestingOrder:
    """An open limit order; it fills whole when a trade reaches its price."""

    order_id: int
    contract: str
    direction: str
    offset: str  # "open" or "close"
    volume: int
    price: Decimal
    created_ms: int

    @property
    def leg_direction(self) -> str:
        """The side of the position that it opens or closes."""
        if self.offset == "open":
            return self.direction
        return SELL if self.direction == BUY else BUY


@dataclass
class Purse:
    """The account of one coin. `balance` is what the period began with plus what was transferred since."""

    coin: str
    lever: int
    balance: Decimal = ZERO
    offset_profit: Decimal = ZERO  # realised by closing in this period
    fees: Decimal = ZERO  # paid in this period, negative
    legs: dict[tuple[str, str], Leg] = field(default_factory=dict)
    orders: dict[int, RestingOrder] = field(default_factory=dict)
    settlements: list[dict[str, Any]] = field(default_factory=list)  # newest first

    @property
    def profit_real(self) -> Decimal:
        return self.offset_profit + self.fees

    @property
    def margin_static(self) -> Decimal:
        return self.balance + self.profit_real


@dataclass
class Account:
    name: str
    uid: str
    api_key: str
    api_secret: str = field(repr=False)
    permission: str
    may_ask_key: bool
    purses: dict[str, Purse] = field(default_factory=dict)


def open_account(start: SimHtxAccount, market: Market, seed: int) -> Account:
    """Raises RefusedError for an unknown coin or contract, ValueError for a wrong position or leverage."""
    generator = random.Random(f"htx:{seed}:{start.name}")
    account = Account(
        name=start.name,
        uid=str(generator.randint(100_000_000, 999_999_999)),
        api_key=start.api_key or _key(generator),
        api_secret=start.api_secret or _key(generator),
        permission=start.permission,
        may_ask_key=start.may_ask_key,
        purses={symbol: Purse(symbol, LEVER_DEFAULT) for symbol in market.coins},
    )
    for symbol, amount in start.coins.items():
        account.purses[market.coin(symbol).symbol].balance = number(amount)
    for symbol, amount in start.realised.items():
        account.purses[market.coin(symbol).symbol].offset_profit = number(amount)
    for symbol, lever in start.leverages.items():
        coin = market.coin(symbol)
        if lever not in coin.levers:
            raise ValueError(f"{start.name}: {symbol} has no leverage of {lever}; known: {coin.levers}")
        account.purses[coin.symbol].lever = lever
    for position in start.positions:
        coin, contract = market.find(position.contract)
        if position.direction not in {BUY, SELL} or position.volume <= 0:
            raise ValueError(f"{start.name}: not a position: {position}")
        cost_open = contract.last if position.cost_open is None else number(position.cost_open)
        cost_hold = cost_open if position.cost_hold is None else number(position.cost_hold)
        key = (contract.code, position.direction)
        account.purses[coin.symbol].legs[key] = Leg(*key, position.volume, cost_open, cost_hold)
    return account


def _key(generator: random.Random) -> str:
    """The form of a real key: 8-8-8-5 letters and digits."""
    letters = string.ascii_lowercase + string.digits
    return "-".join("".join(generator.choices(letters, k=size)) for size in (8, 8, 8, 5))


def default_account(market: Market) -> SimHtxAccount:
    """Net long BTC at 20x and ETH at 10x, much of it locked against other periods; at about 5 times the equity at which
    liquidation begins. Some ADA lies idle."""

    def entered(alias: str, against_last: str) -> Decimal:
        coin, contract = market.find(alias)
        return coin.on_grid(contract.last * Decimal(against_last))

    def position(alias: str, direction: str, volume: int, against_last: str) -> SimHtxPosition:
        return SimHtxPosition(alias, direction, volume, entered(alias, against_last))

    return SimHtxAccount(
        name="main",
        coins={"BTC": "0.4033", "ETH": "2.137", "ADA": "5120.5"},
        realised={"BTC": "0.0104", "ETH": "-0.0125"},
        leverages={"BTC": 20, "ETH": 10, "ADA": 10},
        positions=(
            position("BTC_CW", BUY, 4000, "0.997"),
            position("BTC_CW", SELL, 1000, "1.002"),
            position("BTC_NW", SELL, 2000, "1.001"),
            position("BTC_CQ", BUY, 3500, "1.001"),
            position("BTC_CQ", SELL, 1500, "0.998"),
            position("ETH_CW", BUY, 9000, "0.996"),
            position("ETH_CW", SELL, 3000, "1.004"),
            position("ETH_NW", SELL, 4000, "0.999"),
            position("ETH_CQ", BUY, 5000, "1.003"),
            position("ETH_CQ", SELL, 1000, "1.002"),
            position("ETH_NQ", SELL, 2000, "0.999"),
        ),
    )
