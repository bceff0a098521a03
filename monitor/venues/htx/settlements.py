"""Settlement and delivery, per coin: from the first sign to the moment when everything of the coin has been read again.

The signs are a contract's status, the codes of refused calls, and `settlement` pushes.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from monitor.model.events import Settlement
from monitor.venues.base import VenueError
from monitor.venues.htx.contracts import Contracts
from monitor.venues.htx.rows import VENUE
from monitor.venues.htx.shared import Shared
from monitor.venues.htx.tables import Tables

_REFRESHED_AT_ONCE = 16
_PUSHED_AGAIN_S = 60.0  # a `settlement` push this soon after the end tells of what is over


class Refreshed(Enum):
    """What a coin's snapshot after its settlement brought."""

    DONE = auto()
    NOT_YET = auto()  # the venue still refuses, or cannot be reached
    FAILED = auto()  # the account's own trouble, which it goes on to try; the others do not wait for it


class Refreshable(Protocol):
    @property
    def alias(self) -> str: ...

    async def refresh(self, coin: str) -> Refreshed: ...


@dataclass
class _Reading:
    """What is read again after one settlement of a coin."""

    unread: set[str]  # accounts
    gate: asyncio.Semaphore
    tables: asyncio.Lock
    tables_read: bool = False


class Settlements:
    """Each ends by account: one that cannot be read holds up no other. `attach` what is to be read again before `begin`."""

    def __init__(self, shared: Shared, group: asyncio.TaskGroup) -> None:
        self._shared = shared
        self._group = group
        self._ended_at: dict[str, float] = {}  # loop time
        self._paused: set[str] = set()  # coins that the venue does not trade
        self._unread: dict[str, set[str]] = {}  # by coin that trades again: accounts that were not read since
        self._contracts: Contracts
        self._tables: Tables
        self._accounts: Callable[[], list[Refreshable]]

    def attach(self, contracts: Contracts, tables: Tables, accounts: Callable[[], list[Refreshable]]) -> None:
        self._contracts, self._tables, self._accounts = contracts, tables, accounts

    def runs(self, coin: str, alias: str) -> bool:
        """The coin settles, as far as this account can know."""
        return coin in self._paused or alias in self._unread.get(coin, ())

    def pushed(self, coin: str) -> None:
        """An account was told of a settlement: by then it is over, or nearly."""
        now = asyncio.get_running_loop().time()
        if coin not in self._unread and now - self._ended_at.get(coin, float("-inf")) > _PUSHED_AGAIN_S:
            self.begin(coin)

    def begin(self, coin: str) -> None:
        if coin in self._paused:
            return
        self._unread.pop(coin, None)  # the next one, while an account still waits for the end of the last
        self._paused.add(coin)
        self._shared.log.info("settlement_begins", coin=coin)
        self._shared.emit(Settlement(VENUE, coin, True, self._shared.clock.floor_ms()))
        self._group.create_task(self._follow(coin))

    async def _follow(self, coin: str) -> None:
        while True:
            if await self._trades_again(coin):
                break
            await asyncio.sleep(self._shared.settings.settle_poll_s)
        accounts = self._accounts()
        unread = self._unread[coin] = {account.alias for account in accounts}
        self._paused.discard(coin)
        reading = _Reading(unread, asyncio.Semaphore(_REFRESHED_AT_ONCE), asyncio.Lock())
        async with asyncio.TaskGroup() as group:
            for account in accounts:
                group.create_task(self._read(coin, account, reading))
        if self._unread.get(coin) is unread:
            del self._unread[coin]
            self._shared.log.info("settlement_over", coin=coin)

    async def _read(self, coin: str, account: Refreshable, reading: _Reading) -> None:
        """The account's end of it: its snapshot and the tables have been read."""
        while True:
            async with reading.gate:
                refreshed = await account.refresh(coin)
            if self._unread.get(coin) is not reading.unread:
                return  # the next settlement began
            if refreshed is not Refreshed.NOT_YET:
                break
            await asyncio.sleep(self._shared.settings.settle_poll_s)
        async with reading.tables:
            if not reading.tables_read:
                await self._tables.reload()
                reading.tables_read = True
        if self._unread.get(coin) is reading.unread:
            reading.unread.discard(account.alias)
            self._ended_at[coin] = asyncio.get_running_loop().time()
            self._shared.emit(Settlement(VENUE, coin, False, self._shared.clock.floor_ms(), account=account.alias))

    async def _trades_again(self, coin: str) -> bool:
        try:
            await self._contracts.reload()
        except VenueError as exc:
            self._shared.log.info("settlement_goes_on", coin=coin, reason=exc.reason, code=exc.code)
            return False
        return not self._contracts.settles(coin)
