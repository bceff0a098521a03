"""What the venue says an account holds: balances and legs, each with the venue's time of its last change.

A stream row that is newer is never rolled back by an answer that is older; a full picture replaces everything else.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

from msgspec import structs

from monitor.model.events import (
    AccountSnapshot,
    AccountUpdate,
    Balance,
    CoinBalance,
    CoinSnapshot,
    CoinUpdate,
    LeverageChanged,
    Mode,
    Position,
)

Leg = tuple[str, str]  # symbol, side
RowKey = str | Leg  # an asset or coin, or a leg
Key = TypeVar("Key", str, Leg)
Row = TypeVar("Row", Balance, CoinBalance, Position)


class Told(NamedTuple):
    """What a row says that every change of it is told for: a wallet, or a quantity."""

    value: float
    version_ms: int


# A row may claim to be newer than the answer for ever only if the venue's two clocks disagree: then the answer wins at last.
# A row that is so far ahead of an answer has a wrong time: the answer wins at once.
HEAL_MS = 60_000


class Ledger:
    """One account."""

    def __init__(self) -> None:
        self.mode: Mode | None = None
        self.hedge = False
        self.balances: dict[str, Balance] = {}
        self.positions: dict[Leg, Position] = {}
        self.leverages: dict[str, float] = {}
        self.open_order_margins: dict[str, float] = {}
        self.rows_older = 0  # dropped: what we have is newer

    def take_snapshot(self, event: AccountSnapshot) -> dict[RowKey, Told]:
        """Returns the rows that it changed."""
        before = self._told()
        self.mode, self.hedge = event.mode, event.hedge
        self.leverages.update(event.leverages)
        self.open_order_margins = dict(event.open_order_margins)
        balances = {row.asset: row for row in event.balances}
        legs = {(row.symbol, row.side): row for row in event.positions}
        self.rows_older += merge(self.balances, balances, event.as_of_ms)
        self.rows_older += merge(self.positions, legs, event.as_of_ms)
        for asset in self.balances.keys() - balances.keys():
            version_ms = self.balances[asset].version_ms
            if not _after(version_ms, event.as_of_ms):
                self.balances[asset] = Balance(asset, 0.0, 0.0, version_ms)
        for leg in self.positions.keys() - legs.keys():
            if not _after(self.positions[leg].version_ms, event.as_of_ms):
                self.positions[leg] = flat(self.positions[leg])
        return _changed(before, self._told())

    def _told(self) -> dict[RowKey, Told]:
        rows = _told_legs(self.positions.values())
        rows.update((asset, Told(row.wallet, row.version_ms)) for asset, row in self.balances.items())
        return rows

    def take_update(self, event: AccountUpdate) -> tuple[list[str], list[Leg]]:
        """Returns the assets and legs that it touched."""
        assets, legs = [], []
        for balance in event.balances:
            known = self.balances.get(balance.asset)
            if known is None or balance.version_ms >= known.version_ms:
                self.balances[balance.asset] = balance
                assets.append(balance.asset)
            else:
                self.rows_older += 1
        for position in event.positions:
            leg = (position.symbol, position.side)
            held = self.positions.get(leg)
            if held is None or position.version_ms >= held.version_ms:
                asset = position.margin_asset or (held.margin_asset if held else "")
                self.positions[leg] = _with_asset(position, asset)
                legs.append(leg)
            else:
                self.rows_older += 1
        return assets, legs

    def take_leverage(self, event: LeverageChanged) -> list[Leg]:
        self.leverages[event.symbol] = event.leverage
        return [leg for leg in self.positions if leg[0] == event.symbol]

    def held(self) -> Iterable[Position]:
        return (position for position in self.positions.values() if position.quantity)


class CoinLedger:
    """One account of coin-margined futures: a balance per coin, legs by contract and direction."""

    def __init__(self) -> None:
        self.balances: dict[str, CoinBalance] = {}
        self.positions: dict[Leg, Position] = {}
        self.rows_older = 0  # dropped: what we have is newer

    def take_snapshot(self, event: CoinSnapshot) -> tuple[list[Leg], dict[RowKey, Told]]:
        """Returns the legs of the coin, those that it closed included, and the rows that it changed."""
        coin = event.balance.coin
        before = self._told(coin)
        legs = {(row.symbol, row.side): row for row in event.positions}
        self.rows_older += merge(self.balances, {coin: event.balance}, event.as_of_ms)
        self.rows_older += merge(self.positions, legs, event.as_of_ms)
        of_coin = [leg for leg, position in self.positions.items() if position.margin_asset == coin]
        for leg in of_coin:
            if leg not in legs and not _after(self.positions[leg].version_ms, event.as_of_ms):
                self.positions[leg] = flat(self.positions[leg])
        return of_coin, _changed(before, self._told(coin))

    def _told(self, coin: str) -> dict[RowKey, Told]:
        rows = _told_legs(position for position in self.positions.values() if position.margin_asset == coin)
        if (balance := self.balances.get(coin)) is not None:
            rows[coin] = Told(balance.margin_static, balance.version_ms)
        return rows

    def take_update(self, event: CoinUpdate) -> tuple[list[str], list[Leg]]:
        """Returns the coins whose balance it took, and the legs."""
        coins, legs = [], []
        for balance in event.balances:
            known = self.balances.get(balance.coin)
            if known is None or balance.version_ms >= known.version_ms:
                self.balances[balance.coin] = balance
                coins.append(balance.coin)
            else:
                self.rows_older += 1
        for position in event.positions:
            leg = (position.symbol, position.side)
            held = self.positions.get(leg)
            if held is None or position.version_ms >= held.version_ms:
                self.positions[leg] = position
                legs.append(leg)
            else:
                self.rows_older += 1
        return coins, legs


def told_by(event: AccountUpdate | CoinUpdate) -> dict[RowKey, Told]:
    """The rows of an event of the stream."""
    rows = _told_legs(event.positions)
    for balance in event.balances:
        if isinstance(balance, Balance):
            rows[balance.asset] = Told(balance.wallet, balance.version_ms)
        else:
            rows[balance.coin] = Told(balance.margin_static, balance.version_ms)
    return rows


def _told_legs(positions: Iterable[Position]) -> dict[RowKey, Told]:
    return {(row.symbol, row.side): Told(row.quantity, row.version_ms) for row in positions}


def _changed(before: Mapping[RowKey, Told], after: Mapping[RowKey, Told]) -> dict[RowKey, Told]:
    nothing = Told(0.0, 0)
    return {key: told for key, told in after.items() if told.value != before.get(key, nothing).value}


def merge(ours: dict[Key, Row], theirs: dict[Key, Row], as_of_ms: int) -> int:
    """Takes over what supersedes ours; returns how many rows said something else and were older."""
    older = 0
    for key, row in theirs.items():
        known = ours.get(key)
        if known is None or _supersedes(row.version_ms, known.version_ms, as_of_ms):
            ours[key] = row
        elif structs.replace(row, version_ms=known.version_ms) != known:
            older += 1
    return older


def _after(version_ms: int, at_ms: int) -> bool:
    """Whether ours was changed after that time of the venue's, as far as its version can be true."""
    return at_ms < version_ms <= at_ms + HEAL_MS


def _supersedes(version_ms: int, known_ms: int, as_of_ms: int) -> bool:
    """Whether a row of an answer asked for at as_of_ms replaces ours. An equal version does if it was asked for later."""
    if known_ms > as_of_ms + HEAL_MS:
        return True
    if version_ms != known_ms:
        return version_ms > known_ms or as_of_ms - known_ms > HEAL_MS
    return as_of_ms > known_ms


def flat(position: Position) -> Position:
    """The leg when it is closed; its version stays, so that an older answer cannot reopen it."""
    return structs.replace(position, quantity=0.0, entry_price=0.0, isolated_wallet=0.0)


def _with_asset(position: Position, asset: str) -> Position:
    return position if position.margin_asset == asset else structs.replace(position, margin_asset=asset)
