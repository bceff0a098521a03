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
