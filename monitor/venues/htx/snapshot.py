"""An account's full pictures, one per coin, out of the raw REST answer. Pure: also for answers that were saved to files.

An answer with one unreadable row is refused whole: what is missing in a picture counts as flat.
"""

from msgspec import Raw, Struct, field

from monitor.model.events import CoinSnapshot
from monitor.venues.base import Fault, VenueError
from monitor.venues.htx.numbers import ABSENT, Answer, Name, TimeMs, amount_or_none, price_or_none, read
from monitor.venues.htx.rows import DELIVERED, VENUE, AccountRow, PositionRow, coin_balance, position


class _Picture(AccountRow):
    positions: list[PositionRow] | None = None


class _Answer(Struct):
    data: list[_Picture]
    ts: TimeMs


class _Holding(Struct):
    """As much of an account row as tells whether anything is held."""

    symbol: Name
    margin_balance: Raw = ABSENT
    margin_static: Raw = ABSENT
    margin_frozen: Raw = ABSENT
    margin_position: Raw = ABSENT


class _Holdings(Struct):
    data: list[_Holding] = field(default_factory=list)


def coin_snapshots(answer: Answer, *, account: str, as_of_ms: int | None = None) -> list[CoinSnapshot]:
    """`contract_account_position_info`. Raises VenueError(BAD_ANSWER) naming the first field that is not as documented.

    as_of_ms: the venue's clock when we asked, which is also the version of the rows: the answer's own `ts` may be stamped after
    its rows were read, and would then outrank a push that is newer than they. None: the answer's `ts` (saved answers).
    """
    whole = read(answer, _Answer, "contract_account_position_info")
    at_ms = whole.ts if as_of_ms is None else min(as_of_ms, whole.ts)
    return [_snapshot(row, account, at_ms) for row in whole.data]


def _snapshot(row: _Picture, account: str, at_ms: int) -> CoinSnapshot:
    legs = [leg for leg in row.positions or [] if leg.volume and leg.contract_type != DELIVERED]
    try:
        positions = tuple(position(leg, at_ms) for leg in legs)
    except ValueError as exc:
        raise VenueError(Fault.BAD_ANSWER, f"contract_account_position_info: {row.symbol}: {exc}", retryable=True) from None
    prices = {leg.contract_code.upper(): price_or_none(leg.last_price) for leg in legs}
    return CoinSnapshot(
        venue=VENUE,
        account=account,
        as_of_ms=at_ms,
        balance=coin_balance(row, at_ms),
        positions=positions,
        implied_prices={code: price for code, price in prices.items() if price is not None},
    )


def coins_held(answer: Answer) -> list[str]:
    """Coins of `contract_account_info` in which anything is held or owed. What cannot be read counts as held."""
    held = []
    for row in read(answer, _Holdings, "contract_account_info").data:
        figures = (row.margin_balance, row.margin_static, row.margin_frozen, row.margin_position)
        if any(_not_nothing(figure) for figure in figures):
            held.append(row.symbol.upper())
    return held


def _not_nothing(figure: Raw) -> bool:
    return bytes(figure) not in (b"", b"null") and amount_or_none(figure) != 0
