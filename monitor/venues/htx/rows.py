"""One coin's account and one leg, as REST and the pushes both write them."""

from msgspec import Raw, Struct

from monitor.model.events import CoinBalance, Position
from monitor.venues.htx.numbers import ABSENT, Amount, Leverage, Name, NotNegative, amount_or_none, price_or_none

VENUE = "htx_coin_futures"

DELIVERED = "delivered"  # the contract_type of a leg that is no more
_SIGNS = {"buy": ("LONG", 1.0), "sell": ("SHORT", -1.0)}


class AccountRow(Struct):
    """The first five are our inputs: without them the row is refused. The rest are the venue's own figures, told or not."""

    symbol: Name
    margin_static: Amount
    profit_real: Amount
    margin_frozen: Amount
    lever_rate: Leverage
    margin_balance: Raw = ABSENT
    margin_position: Raw = ABSENT
    margin_available: Raw = ABSENT
    withdraw_available: Raw = ABSENT
    risk_rate: Raw = ABSENT
    liquidation_price: Raw = ABSENT
    adjust_factor: Raw = ABSENT


class PositionRow(Struct):
    symbol: Name
    contract_code: Name
    direction: str
    volume: NotNegative
    contract_type: str = ""
    cost_open: NotNegative = 0.0
    cost_hold: NotNegative = 0.0
    last_price: Raw = ABSENT


def coin_balance(row: AccountRow, version_ms: int) -> CoinBalance:
    return CoinBalance(
        coin=row.symbol.upper(),
        margin_static=row.margin_static,
        profit_real=row.profit_real,
        margin_frozen=row.margin_frozen,
        leverage=row.lever_rate,
        adjust_factor=price_or_none(row.adjust_factor),
        version_ms=version_ms,
        venue_equity=amount_or_none(row.margin_balance),
        venue_position_margin=amount_or_none(row.margin_position),
        venue_guarantee_asset_ratio=amount_or_none(row.risk_rate),
        venue_available=amount_or_none(row.margin_available),
        venue_withdrawable=amount_or_none(row.withdraw_available),
        venue_liquidation_price=price_or_none(row.liquidation_price),
    )


def position(row: PositionRow, version_ms: int) -> Position:
    """A volume of 0 is a flat leg, and so is one that was delivered.

    Raises ValueError where a leg has no side or no price to count from.
    """
    if row.direction not in _SIGNS:
        raise ValueError("direction is neither buy nor sell")
    side, sign = _SIGNS[row.direction]
    code, coin = row.contract_code.upper(), row.symbol.upper()
    if row.volume == 0 or row.contract_type == DELIVERED:
        return Position(code, side, 0.0, 0.0, version_ms, margin_asset=coin)
    if row.cost_hold <= 0:
        raise ValueError("cost_hold is no price")
    return Position(
        code, side, sign * row.volume, row.cost_hold, version_ms, margin_asset=coin, open_price=row.cost_open or row.cost_hold
    )


def is_empty(balance: CoinBalance) -> bool:
    """Nothing is held in the coin, and nothing owed."""
    return not (balance.margin_static or balance.margin_frozen or balance.venue_equity or balance.venue_position_margin)
