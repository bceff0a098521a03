"""Settlement and delivery, per coin: from the first sign to the moment when everything of the coin has been read again.

The signs are a contract's status, the codes of refused calls, and `settlement` pushes.
"""

import asyncio
from collections.abc import Callable
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
    async def refresh(self, coin: str) -> Refreshed: ...


class Settlements:
    """`running`: the coins that settle now. `attach` what is to be read again before `begin` can be called."""

    def __init__(self, shared: Shared, group: asyncio.TaskGroup) -> None:
        self._shared = shared
        self._group = group
        self._ended_at: dict[str, float] = {}  # loop time
        self.running: set[str] = set()
        self._contracts: Contracts
        self._tables: Tables
        self._accounts: Callable[[], list[Refreshable]]

    def attach(self, contracts: Contracts, tables: Tables, accounts: Callable[[], list[Refreshable]]) -> None:
        self._contracts, self._tables, self._accounts = contracts, tables, accounts

    def pushed(self, coin: str) -> None:
        """An account was told of a settlement: by then it is over, or nearly."""
        now = asyncio.get_running_loop().time()
        if now - self._ended_at.get(coin, float("-inf")) > _PUSHED_AGAIN_S:
            self.begin(coin)

    def begin(self, coin: str) -> None:
        if coin in self.running:
            return
        self.running.add(coin)
        self._shared.log.info("settlement_begins", coin=coin)
        self._shared.emit(Settlement(VENUE, coin, True, self._shared.clock.floor_ms()))
        self._group.create_task(self._follow(coin))

    async def _follow(self, coin: str) -> None:
        while True:
            if await self._over(coin):
                break
            await asyncio.sleep(self._shared.settings.settle_poll_s)
        await self._tables.reload()
        self.running.discard(coin)
        self._ended_at[coin] = asyncio.get_running_loop().time()
        self._shared.log.info("settlement_over", coin=coin)
        self._shared.emit(Settlement(VENUE, coin, False, self._shared.clock.floor_ms()))

    async def _over(self, coin: str) -> bool:
        """Contracts trade again, and no account is refused any more."""
        try:
            await self._contracts.reload()
        except VenueError as exc:
            self._shared.log.info("settlement_goes_on", coin=coin, reason=exc.reason, code=exc.code)
            return False
        if self._contracts.settles(coin):
            return False
        gate = asyncio.Semaphore(_REFRESHED_AT_ONCE)

        async def refresh(account: Refreshable) -> Refreshed:
            async with gate:
                return await account.refresh(coin)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(refresh(account)) for account in self._accounts()]
        return all(task.result() is not Refreshed.NOT_YET for task in tasks)
