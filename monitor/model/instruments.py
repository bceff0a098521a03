"""What a venue says of its contracts, assets and brackets."""

from msgspec import Struct


class Instrument(Struct, frozen=True):
    """One contract. Linear: quantity is coin and PnL is in the quote; inverse: quantity is contracts of `face` USD."""

    symbol: str
    margin_asset: str
    status: str = "TRADING"  # the venue's own word
    delivery_time_ms: int | None = None  # None: perpetual
    face: float = 1.0  # contract size; 1 coin for linear contracts
    contract_type: str = ""  # the venue's own word


class AssetInfo(Struct, frozen=True):
    """One margin asset of the venue."""

    asset: str
    margin_available: bool = True  # counts as collateral in joint margin
    auto_exchange_threshold: float | None = None  # wallet at which the venue converts, in the asset, ≤ 0; None: not said


class Bracket(Struct, frozen=True):
    """One tier: holds where notional_floor < notional ≤ notional_cap."""

    number: int
    notional_floor: float
    notional_cap: float
    rate: float  # maintenance margin rate, a fraction
    deduction: float  # `cum`: maintenance margin = notional × rate − deduction
    leverage_max: float


class BracketTable(Struct, frozen=True):
    """All tiers of one symbol, floors ascending. Per user: the venue may scale them for one account."""

    symbol: str
    brackets: tuple[Bracket, ...]


class FactorTier(Struct, frozen=True):
    """One tier of an adjustment factor (HTX): holds where net_min ≤ net contracts ≤ net_max."""

    number: int  # `ladder`: from 0
    net_min: float
    net_max: float  # +inf: open (null at the venue)
    factor: float  # `adjust_factor`, a fraction: 0.4 = 40 %


class FactorTable(Struct, frozen=True):
    """All tiers of one coin at one leverage, ascending."""

    coin: str
    leverage: float
    tiers: tuple[FactorTier, ...]


class LadderTier(Struct, frozen=True):
    """One tier of tiered margin, in the coin: between its ends the usable margin grows in proportion to the equity."""

    equity_min: float  # `min_margin_balance`, inclusive
    equity_max: float  # `max_margin_balance`, exclusive; +inf: open (null at the venue)
    usable_min: float  # `min_margin_available`: of the equity equity_min
    usable_max: float  # `max_margin_available`; +inf: open


class LadderTable(Struct, frozen=True):
    """All tiers of one coin at one leverage, ascending."""

    coin: str
    leverage: float
    tiers: tuple[LadderTier, ...]


class CoinTerms(Struct, frozen=True):
    """What the venue says of a coin as a whole (HTX `contract_query_elements`)."""

    coin: str
    real_time_settlement: bool
    transfer_profit_ratio: float  # share of realised profit beyond used margin that may leave before settlement; 0: none
