"""The simulated contracts and collateral assets of Binance USDⓈ-M: names, prices, tiers, buffers."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal

from monitor.sim.binance.text import PLACES_8
from monitor.sim.scenarios import Scenario
from monitor.sim.world import COINS_USD, STABLE

PERPETUAL_DELIVERY_MS = 4_133_404_800_000


@dataclass(frozen=True)
class Bracket:
    """One maintenance tier: floor < notional ≤ cap."""

    number: int
    floor: Decimal
    cap: Decimal
    rate: Decimal
    cum: Decimal
    leverage_max: int


def bracket_table(rows: Iterable[tuple[float | str | Decimal, float | str | Decimal, int]]) -> tuple[Bracket, ...]:
    """Tiers from (cap, maintenance rate, max leverage); `cum` follows from continuity at each seam."""
    table: list[Bracket] = []
    floor, cum, rate_before = Decimal(0), Decimal(0), None
    for number, (cap, rate, leverage_max) in enumerate(rows, start=1):
        rate = Decimal(str(rate))
        if rate_before is not None:
            cum += floor * (rate - rate_before)
        table.append(Bracket(number, floor, Decimal(str(cap)), rate, cum, leverage_max))
        floor, rate_before = Decimal(str(cap)), rate
    return tuple(table)


def bracket_of(table: Sequence[Bracket], notional: Decimal) -> Bracket:
    """The tier of one position's notional; the last tier has no upper end here."""
    for bracket in table:
        if abs(notional) <= bracket.cap:
            return bracket
    return table[-1]


_MAJOR = (
    (50_000, "0.004", 125),
    (500_000, "0.005", 100),
    (3_000_000, "0.0065", 75),
    (10_000_000, "0.01", 50),
    (60_000_000, "0.02", 25),
    (100_000_000, "0.025", 20),
    (200_000_000, "0.05", 10),
    (400_000_000, "0.1", 5),
    (800_000_000, "0.15", 3),
    (1_500_000_000, "0.25", 2),
    (2_000_000_000, "0.5", 1),
)
_LIQUID = (
    (10_000, "0.005", 75),
    (50_000, "0.0065", 50),
    (200_000, "0.01", 40),
    (800_000, "0.02", 25),
    (1_600_000, "0.025", 20),
    (8_000_000, "0.05", 10),
    (16_000_000, "0.1", 5),
    (20_000_000, "0.125", 4),
    (40_000_000, "0.25", 2),
    (80_000_000, "0.5", 1),
)
_THIN = (
    (5_000, "0.01", 75),
    (40_000, "0.015", 50),
    (150_000, "0.02", 25),
    (300_000, "0.025", 20),
    (1_500_000, "0.05", 10),
    (3_000_000, "0.1", 5),
    (5_000_000, "0.125", 4),
    (10_000_000, "0.25", 2),
    (20_000_000, "0.5", 1),
)
_IN_BTC = ((5, "0.01", 75), (20, "0.02", 25), (100, "0.05", 10), (400, "0.1", 5), (1_000, "0.25", 2), (2_000, "0.5", 1))

_TIERS = {"BTC": _MAJOR, "ETH": _MAJOR} | dict.fromkeys(("BNB", "SOL", "XRP", "DOGE", "ADA", "LINK", "LTC", "BCH"), _LIQUID)

_USDC_BASES = ("BTC", "ETH", "SOL", "XRP", "DOGE", "BNB", "LINK", "SUI")


@dataclass
class Contract:
    """One contract. `mark` is the published price: what is computed is computed from the 8 places that others see."""

    symbol: str
    base: str
    quote: str
    margin_asset: str
    contract_type: str
    delivery_ms: int
    price_places: int
    quantity_places: int
    brackets: tuple[Bracket, ...]
    mark: Decimal
    premium: Decimal  # mark over index, a fraction
    funding_rate: Decimal | None  # None: a dated contract has none
    liquidation_fee: Decimal = Decimal("0.0125")
    status: str = "TRADING"

    @property
    def pair(self) -> str:
        return self.base + self.quote

    @property
    def index(self) -> Decimal:
        return (self.mark / (1 + self.premium)).quantize(PLACES_8)


@dataclass
class Collateral:
    """One asset of the futures wallet and what a unit of it counts for, in USD."""

    asset: str
    buffer: Decimal
    auto_exchange_buffer: Decimal
    auto_exchange_at: Decimal  # wallet balance at which debts are exchanged automatically, in the asset
    index: Decimal
    margin_available: bool = True
    ask_buffer: Decimal | None = None  # None: as the bid buffer

    def _rate(self, change: Decimal) -> Decimal:
        return (self.index * (1 + change)).quantize(PLACES_8, rounding=ROUND_HALF_UP)

    @property
    def bid(self) -> Decimal:
        return self._rate(-self.buffer)

    @property
    def ask(self) -> Decimal:
        return self._rate(self.buffer if self.ask_buffer is None else self.ask_buffer)

    @property
    def auto_exchange_bid(self) -> Decimal:
        return self._rate(-self.auto_exchange_buffer)

    @property
    def auto_exchange_ask(self) -> Decimal:
        return self._rate(self.auto_exchange_buffer)


@dataclass
class Market:
    """All contracts and collateral assets, and how they follow the world."""

    contracts: dict[str, Contract]
    assets: dict[str, Collateral]
    funding_interval_ms: int
    generator: random.Random = field(repr=False)

    def follow(self, factors: Mapping[str, float], noise: float = 1.0) -> None:
        """Move every price by what the world moved: a contract by its base against its quote."""
        for collateral in self.assets.values():
            collateral.index = _places_8(float(collateral.index) * factors.get(collateral.asset, 1.0))
        for contract in self.contracts.values():
            jitter = 1.0 + self.generator.gauss(0.0, 0.000_005) * noise
            move = factors.get(contract.base, 1.0) / factors.get(contract.quote, 1.0) * jitter
            contract.mark = max(PLACES_8, _places_8(float(contract.mark) * move))

    def next_funding_ms(self, now_ms: int) -> int:
        return (now_ms // self.funding_interval_ms + 1) * self.funding_interval_ms


def _places_8(value: float) -> Decimal:
    return Decimal(f"{value:.8f}")


def _price_places(price: float) -> int:
    for limit, places in ((1_000, 2), (10, 3), (0.5, 4), (0.05, 5)):
        if price >= limit:
            return places
    return 7


def _contract(base: str, quote: str, seed: random.Random, scenario: Scenario, base_usd: float) -> Contract:
    price = base_usd / COINS_USD[quote][0]
    premium = _places_8(seed.uniform(-0.0004, 0.0004))
    return Contract(
        symbol=base + quote,
        base=base,
        quote=quote,
        margin_asset=quote,
        contract_type="PERPETUAL",
        delivery_ms=PERPETUAL_DELIVERY_MS,
        price_places=_price_places(price),
        quantity_places=3 if price > 300 else 2 if price > 50 else 0,
        brackets=bracket_table(_IN_BTC if quote == "BTC" else _TIERS.get(base, _THIN)),
        mark=_places_8(price * float(1 + premium)),
        premium=premium,
        funding_rate=_places_8(scenario.funding_rate * seed.uniform(0.8, 1.2)),
    )


def build_market(seed: int, scenario: Scenario, symbols: int, now_ms: int) -> Market:
    """The standard universe; padded with invented coins (PAD0001USDT …) to `symbols` contracts for load."""
    generator = random.Random(f"binance:{seed}")
    bases = [coin for coin in COINS_USD if coin not in STABLE]
    pairs = [(base, "USDT") for base in bases] + [(base, "USDC") for base in _USDC_BASES] + [("ETH", "BTC")]
    contracts = [_contract(base, quote, generator, scenario, COINS_USD[base][0]) for base, quote in pairs]
    contracts.append(_dated("BTC", "USDT", generator, scenario, now_ms))
    contracts += [
        _contract(f"PAD{number:04d}", "USDT", generator, scenario, 10 ** generator.uniform(-2, 2))
        for number in range(1, symbols - len(contracts) + 1)
    ]
    assets = [
        _collateral(asset, *terms)
        for asset, *terms in (
            ("USDT", "0.0001", "0.0001", "-10000"),
            ("USDC", "0.0001", "0.0001", "-10000"),
            ("BTC", "0.05", "0.025", "-0.1"),
            ("ETH", "0.05", "0.025", "-5"),
            ("BNB", "0.10", "0.05", "-10"),
            ("SOL", "0.10", "0.05", "-50"),
            ("XRP", "0.10", "0.05", "-5000"),
            ("ADA", "0.10", "0.05", "-10000"),
            ("FDUSD", "0.011", "0.0055", "-10000"),
            ("BFUSD", "0.001", "0.0005", "-10000"),
        )
    ]
    return Market(
        contracts={contract.symbol: contract for contract in contracts},
        assets={collateral.asset: collateral for collateral in assets},
        funding_interval_ms=scenario.funding_interval_s * 1000,
        generator=generator,
    )


def _collateral(asset: str, buffer: str, auto_exchange_buffer: str, auto_exchange_at: str) -> Collateral:
    return Collateral(
        asset, Decimal(buffer), Decimal(auto_exchange_buffer), Decimal(auto_exchange_at), _places_8(COINS_USD[asset][0])
    )


def _dated(base: str, quote: str, generator: random.Random, scenario: Scenario, now_ms: int) -> Contract:
    """A quarterly contract: no funding, a little dearer than its perpetual, delivered in about three months."""
    day_ms = 86_400_000
    delivery_ms = (now_ms // day_ms + 90) * day_ms + 8 * 3_600_000
    date = _yymmdd(delivery_ms)
    contract = _contract(base, quote, generator, scenario, COINS_USD[base][0] * 1.012)
    contract.symbol = f"{base}{quote}_{date}"
    contract.contract_type = "CURRENT_QUARTER"
    contract.delivery_ms = delivery_ms
    contract.price_places = 1
    contract.funding_rate = None
    return contract


def _yymmdd(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%y%m%d")
