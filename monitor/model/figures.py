"""What the engine knows of a pool: figures with their workings. A figure that cannot be computed is None, with its reason."""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Array = NDArray[np.float64]


class PoolKey(Struct, frozen=True, order=True):
    """What is liquidated together: the unit of every figure, rule, alert and metric."""

    venue: str
    account: str  # the alias of the configuration
    pool: str  # "USD", "USDT", "BTCUSDT", "BTCUSDT:LONG", "BTC"


class AssetFigures(Struct, frozen=True, kw_only=True):
    """One collateral asset of a pool, in the asset itself; the rates are pool unit per asset."""

    asset: str
    wallet: float
    equity: float | None  # wallet + unrealised PnL of the positions margined in it
    index: float | None  # rate before the haircut
    bid: float | None  # what an owned unit counts for
    ask: float | None  # what an owed unit counts for
    maintenance_margin: float | None


class PositionFigures(Struct, frozen=True, kw_only=True):
    """One leg of a pool, amounts in its margin asset."""

    symbol: str
    side: str  # "BOTH", "LONG", "SHORT"
    margin_asset: str
    quantity: float  # signed: coin (linear) or contracts (inverse)
    entry_price: float
    price: float | None  # the price that margin is computed with: mark (Binance), last (HTX)
    price_age_ms: int | None
    leverage: float | None
    unrealized_pnl: float | None
    notional: float | None  # signed like the quantity
    initial_margin: float | None
    maintenance_margin: float | None
    bracket: int | None  # as numbered by the venue
    maintenance_rate: float | None
    liquidation_price: float | None  # None: none, or unknown (then `PoolFigures.unknown` says so)


class GuaranteeFigures(Struct, frozen=True, kw_only=True):
    """What a pool of coin-margined futures has beside the common figures. Amounts in the coin, ratios fractions."""

    unrealized_pnl: float | None
    used_margin: float | None  # position margin after locking, without frozen margin
    margin_frozen: float  # of open orders
    locked_same: float | None  # margin locked between long and short of one contract
    locked_cross: float | None  # and between different contracts
    net_position: float | None  # contracts, what the tier of the adjustment factor goes by
    adjustment_factor: float | None
    price_factor_to_liquidation: float | None  # all last prices × this liquidate the pool
    guarantee_asset_ratio_at_mark: float | None  # the venue liquidates only where this is ≤ 0 too
    venue: dict[str, float]  # the venue's own figures by their names in the venue's answers


class PoolFigures(Struct, frozen=True, kw_only=True):
    """One pool at one moment. Amounts in `unit`; ratios are fractions.

    health = equity / the equity at which liquidation starts: 1.0 is liquidation on every venue and lower is worse.
    margin_ratio rises towards trouble (1.0 is liquidation); guarantee_asset_ratio falls (0 is liquidation).
    With nothing at risk health is None and margin_ratio 0.
    """

    key: PoolKey
    unit: str
    equity: float | None
    requirement: float | None  # the equity at which liquidation starts: maintenance margin on Binance
    initial_margin: float | None
    margin_ratio: float | None
    health: float | None
    guarantee_asset_ratio: float | None = None
    available: float | None
    withdrawable: float | None
    level: int = 0  # the worst level of the pool's rules, -1 unknown (see model.alerts.Level)
    trusted: bool = True  # False between a gap and the next reconciled snapshot
    age_ms: int | None  # of the oldest input
    reconcile_difference: float | None = None  # own against the venue's figure, relative
    venue_age_ms: int | None = None  # of the venue's own figures below: its last answer
    venue_equity: float | None = None
    venue_requirement: float | None = None
    venue_withdrawable: float | None = None
    guarantee: GuaranteeFigures | None = None  # coin-margined futures only
    assets: tuple[AssetFigures, ...] = ()
    positions: tuple[PositionFigures, ...] = ()
    unknown: tuple[str, ...] = ()  # why a figure is None


class PoolTable(Struct, frozen=True, kw_only=True):
    """The figures of all pools as columns, for readers that want all of them at once; NaN is unknown.

    A view for the moment: the arrays change with the next step, so a reader copies what it keeps.
    """

    keys: list[PoolKey]
    units: list[str]
    equity: Array
    requirement: Array
    margin_ratio: Array
    health: Array
    guarantee_asset_ratio: Array
    available: Array
    withdrawable: Array
    reconcile_difference: Array
    age_ms: Array
    level: NDArray[np.int8]
