"""One simulated account: what it owns and how it is set up. Changed by `desk`, valued by `margin`, read by everybody."""

import random
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from monitor.sim.binance.market import Market
from monitor.sim.numbers import Number, number

LEVERAGE_DEFAULT = 20

RIGHTS_READ_ONLY: Mapping[str, bool] = {
    "ipRestrict": True,
    "enableReading": True,
    "enableWithdrawals": False,
    "enableInternalTransfer": False,
    "enableMargin": False,
    "enableFutures": False,
    "permitsUniversalTransfer": False,
    "enableVanillaOptions": False,
    "enableSpotAndMarginTrading": False,
    "enableFixApiTrade": False,
    "enableFixReadOnly": False,
    "enablePortfolioMarginTrading": False,
}


@dataclass(frozen=True)
class SimPosition:
    """A position to start with. `quantity` is signed (short < 0); entry None: the mark at the start;
    `isolated_wallet` given makes the symbol isolated."""

    symbol: str
    quantity: Number
    entry_price: Number | None = None
    side: str = "BOTH"
    leverage: int | None = None
    isolated_wallet: Number | None = None


@dataclass(frozen=True)
class SimAccount:
    """An account to start with. Empty key and secret are drawn from the seed; `rights` overrides single read-only flags."""

    name: str
    multi_assets: bool = True
    hedge: bool = False
    wallets: Mapping[str, Number] = field(default_factory=dict)
    positions: Iterable[SimPosition] = ()
    leverages: Mapping[str, int] = field(default_factory=dict)
    rights: Mapping[str, bool] = field(default_factory=dict)
    portfolio_margin: bool = False  # what the spot host says of the account; the futures answers stay as they are
    api_key: str = ""
    api_secret: str = field(default="", repr=False)


@dataclass
class Leg:
    """One position: BOTH in one-way mode, LONG and SHORT in hedge mode. `quantity` is signed."""

    symbol: str
    side: str
    quantity: Decimal = Decimal(0)
    entry_price: Decimal = Decimal(0)
    isolated_wallet: Decimal = Decimal(0)
    realised: Decimal = Decimal(0)  # accumulated, before fees
    update_ms: int = 0


@dataclass
class RestingOrder:
    """An open limit order; it fills whole when the mark price reaches it."""

    order_id: int
    client_id: str
    symbol: str
    position_side: str
    side: str
    quantity: Decimal
    price: Decimal


@dataclass
class Account:
    """The state of one account. `wallets` hold isolated wallets too, as on the exchange."""

    name: str
    api_key: str
    api_secret: str = field(repr=False)
    multi_assets: bool
    hedge: bool
    rights: dict[str, bool]
    portfolio_margin: bool
    wallets: dict[str, Decimal] = field(default_factory=dict)
    wallet_times_ms: dict[str, int] = field(default_factory=dict)
    legs: dict[tuple[str, str], Leg] = field(default_factory=dict)
    leverages: dict[str, int] = field(default_factory=dict)
    isolated: set[str] = field(default_factory=set)
    orders: dict[int, RestingOrder] = field(default_factory=dict)
    forced_orders: list[dict[str, Any]] = field(default_factory=list)
    income: list[dict[str, Any]] = field(default_factory=list)
    called: set[str] = field(default_factory=set)  # pools whose margin call is out

    def leg(self, symbol: str, side: str) -> Leg:
        return self.legs.setdefault((symbol, side), Leg(symbol, side))

    def open_legs(self) -> list[Leg]:
        return [leg for leg in self.legs.values() if leg.quantity]

    def leverage(self, symbol: str) -> int:
        return self.leverages.get(symbol, LEVERAGE_DEFAULT)

    def is_isolated(self, symbol: str) -> bool:
        return symbol in self.isolated

    def cross_wallet(self, asset: str, market: Market) -> Decimal:
        """The wallet without what is set aside for isolated positions."""
        aside = sum(
            (leg.isolated_wallet for leg in self.legs.values() if market.contracts[leg.symbol].margin_asset == asset), Decimal(0)
        )
        return self.wallets.get(asset, Decimal(0)) - aside


def seeded_key(seed: int, *names: str) -> str:
    """64 letters and digits, the same for the same seed: the form of a real key, secret or listen key."""
    generator = random.Random(":".join((str(seed), *names)))
    return "".join(generator.choices(string.ascii_letters + string.digits, k=64))


def open_account(start: SimAccount, market: Market, seed: int, now_ms: int) -> Account:
    """Raises KeyError for an unknown symbol, ValueError for an unknown asset or a mode that forbids the positions."""
    account = Account(
        name=start.name,
        api_key=start.api_key or seeded_key(seed, start.name, "key"),
        api_secret=start.api_secret or seeded_key(seed, start.name, "secret"),
        multi_assets=start.multi_assets,
        hedge=start.hedge,
        rights={**RIGHTS_READ_ONLY, **start.rights},
        portfolio_margin=start.portfolio_margin,
        leverages=dict(start.leverages),
    )
    for asset, amount in start.wallets.items():
        if asset not in market.assets:
            raise ValueError(f"{start.name}: {asset} is not an asset of the simulated exchange")
        account.wallets[asset] = number(amount)
        account.wallet_times_ms[asset] = now_ms
    for position in start.positions:
        contract = market.contracts[position.symbol]
        if (position.side == "BOTH") == start.hedge:
            raise ValueError(f"{start.name}: position side {position.side} does not match the position mode")
        if position.leverage is not None:
            account.leverages[position.symbol] = position.leverage
        leg = account.leg(position.symbol, position.side)
        leg.quantity = number(position.quantity)
        leg.entry_price = contract.mark if position.entry_price is None else number(position.entry_price)
        leg.update_ms = now_ms
        if position.isolated_wallet is not None:
            if start.multi_assets:
                raise ValueError(f"{start.name}: Multi-Assets mode has no isolated positions")
            account.isolated.add(position.symbol)
            leg.isolated_wallet = number(position.isolated_wallet)
    return account


def default_account(market: Market) -> SimAccount:
    """Multi-Assets, long the market against shorts in USDC pairs and DOGE; about 2.7 times its maintenance margin."""

    def entered(symbol: str, against_mark: str) -> Decimal:
        return (market.contracts[symbol].mark * Decimal(against_mark)).quantize(Decimal("0.0001"))

    return SimAccount(
        name="main",
        wallets={"USDT": "84350.41283316", "USDC": "38240.0772915", "BTC": "0.51215", "ETH": "10.3071"},
        positions=(
            SimPosition("BTCUSDT", "5.2", entered("BTCUSDT", "0.996"), leverage=75),
            SimPosition("ETHUSDT", "120", entered("ETHUSDT", "1.004"), leverage=75),
            SimPosition("SOLUSDT", "8000", entered("SOLUSDT", "0.998"), leverage=20),
            SimPosition("SUIUSDT", "160000", entered("SUIUSDT", "1.003"), leverage=10),
            SimPosition("BTCUSDC", "-14", entered("BTCUSDC", "1.003"), leverage=75),
            SimPosition("ETHUSDC", "-180", entered("ETHUSDC", "0.998"), leverage=75),
            SimPosition("DOGEUSDT", "-900000", entered("DOGEUSDT", "1.002"), leverage=20),
        ),
    )
