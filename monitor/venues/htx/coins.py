"""The coins of one account: which there are, and a full snapshot of each.

The order that keeps a coin's rows whole: hold the stream's pushes back, ask for the snapshot, emit the snapshot, emit what was
held back. Each gap begins the same again.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import NoReturn

from msgspec import Struct, field, structs

from monitor.model.events import CoinsHeld, CoinSnapshot, CoinUpdate
from monitor.model.streams import count
from monitor.venues.base import AccountAccess, Fault, VenueError
from monitor.venues.due import Schedule
from monitor.venues.htx.contracts import Contracts
from monitor.venues.htx.rest import UNKNOWN_CODES, in_settlement
from monitor.venues.htx.rows import VENUE, is_empty
from monitor.venues.htx.settlements import Refreshed, Settlements
from monitor.venues.htx.shared import Shared
from monitor.venues.htx.signing import ACCOUNT_INFO, ACCOUNT_POSITION_INFO
from monitor.venues.htx.snapshot import coin_snapshots, coins_held
from monitor.venues.stream import Backoff

_DISCOVERY = ""  # the name in the schedule of the look for new coins; no coin has it
_NOT_OPENED = 1220  # futures are not opened for this user
_OF_ONE_COIN = frozenset({Fault.REFUSED, Fault.BAD_ANSWER})
_OF_ONE_ACCOUNT = _OF_ONE_COIN | {Fault.AUTH}


class _Coin(Struct):
    """One coin of the account."""

    held: deque[CoinUpdate]  # pushes that wait for the snapshot
    live: bool = False  # a snapshot was taken since the stream opened
    tentative: bool = False  # taken in without knowing whether anything is held
    holds: bool = True  # anything at all
    legs: set[tuple[str, str]] = field(default_factory=set)  # contract and side
    taking: asyncio.Lock = field(default_factory=asyncio.Lock)  # one snapshot at a time: two answers must not overtake each other

    def take(self, update: CoinUpdate) -> None:
        """What a push says of what is held: without legs, or without anything, the venue may push nothing more."""
        for leg in update.positions:
            (self.legs.add if leg.quantity else self.legs.discard)((leg.symbol, leg.side))
        for balance in update.balances:
            if balance.venue_position_margin == 0:
                self.legs.clear()  # however much is locked, the larger side bears margin
            self.holds = not is_empty(balance)
        self.holds = self.holds or bool(self.legs)


class AccountCoins:
    """`looked`: something of the account was read; `failed`: it could not be, and why."""

    def __init__(
        self,
        shared: Shared,
        access: AccountAccess,
        contracts: Contracts,
        settlements: Settlements,
        *,
        looked: Callable[[], None],
        failed: Callable[[VenueError], None],
    ) -> None:
        self._settings = shared.settings
        self._shared = shared
        self._access = access
        self._contracts = contracts
        self._settlements = settlements
        self._looked = looked
        self._failed = failed
        self._log = shared.log.bind(account=access.alias)
        self._coins: dict[str, _Coin] = {}
        self._due = Schedule()
        self._backoffs: dict[str, Backoff] = {}  # by thing of the schedule: a coin that is refused delays no other
        self._busy: set[str] = set()  # what is being asked for now
        self._again: set[str] = set()  # and was due once more meanwhile
        self._open = False  # the stream delivers, and what it brings is held back where that is needed
        self._gap = 0  # number of the gap that began last: a snapshot ends only the gap that it was asked in
        self._discovered = False  # since the last gap

    # -------------------------------------------------------------- readers

    def holds(self) -> bool:
        """Anything in any coin."""
        return any(coin.holds for coin in self._coins.values())

    def has_legs(self) -> bool:
        return any(coin.legs for coin in self._coins.values())

    def complete(self) -> bool:
        """Every coin had its snapshot in this connection's life, or settles and cannot have one."""
        return (
            self._open
            and self._discovered
            and all(state.live or self._settlements.runs(coin, self._access.alias) for coin, state in self._coins.items())
        )

    def __len__(self) -> int:
        return len(self._coins)

    # -------------------------------------------------------------- what the stream tells

    def opened(self) -> None:
        """The stream delivers from now on."""
        self._open = True
        self.request()

    def closed(self) -> bool:
        """A gap: nothing is whole until it was read again. REST in the stream's place meanwhile. True: something was whole."""
        was_live = any(state.live for state in self._coins.values())
        self._gap += 1
        self._open = self._discovered = False
        for state in self._coins.values():
            state.live = False
            state.held.clear()  # the next snapshot holds it
        for thing in (_DISCOVERY, *self._coins):
            self._due.within(thing, self._settings.fallback_s)
        return was_live

    def request(self, coin: str = "") -> None:
        """A snapshot of the coin as soon as the pace allows; of all, and a look for new ones, where it is not known."""
        for thing in [coin] if coin in self._coins else [_DISCOVERY, *self._coins]:
            self._due.within(thing, 0)

    def update(self, coin: str, update: CoinUpdate) -> None:
        """A push. One of a coin that is new and not empty takes the coin in."""
        state = self._coins.get(coin)
        if state is None:
            if self._settings.coins or _says_nothing(update):
                return
            state = self._add(coin)
        state.take(update)
        if not self._contracts.knows(leg.symbol for leg in update.positions):
            self._contracts.request()
        if state.live:
            self._shared.emit(update)
            return
        if len(state.held) == state.held.maxlen:
            count(self._shared.counters.refused, "held_too_long")
            self.request(coin)  # the oldest falls out: only a snapshot that is asked for from now on is sure to hold it
        state.held.append(update)

    def settled(self, coin: str) -> None:
        """A push tells of a settlement."""
        if coin in self._coins:
            self._settlements.pushed(coin)
            self._due.within(coin, 0)

    # -------------------------------------------------------------- snapshots

    async def run(self) -> NoReturn:
        """Each coin is asked for on its own: one that is refused, missing or never answered delays no other."""
        self._due.within(_DISCOVERY, self._settings.fallback_s)
        async with asyncio.TaskGroup() as group:
            while True:
                thing = await self._due.next()
                if thing in self._busy:
                    self._again.add(thing)
                else:
                    self._busy.add(thing)
                    group.create_task(self._ask(thing))
        raise AssertionError("the loop has no end")

    async def _ask(self, thing: str) -> None:
        backoff = self._backoffs.setdefault(thing, Backoff(self._settings.retry_min_s, self._settings.backoff_max_s))
        try:
            await (self._discover() if thing == _DISCOVERY else self._reconcile(thing))
        except VenueError as exc:
            self._failed(exc)
            self._due.within(thing, exc.wait_s(self._shared.now_ms()) + backoff.next_s())
        else:
            backoff.reset()
            self._looked()
            if thing in self._again:
                self._due.within(thing, 0)
        finally:
            self._busy.discard(thing)
            self._again.discard(thing)

    async def _discover(self) -> None:
        """In which coins the account holds anything."""
        gap, coins = self._gap, list(self._settings.coins)
        tentative = False
        if not coins:
            try:
                coins = coins_held(await self._shared.rest.call(ACCOUNT_INFO, access=self._access))
            except VenueError as exc:
                if not in_settlement(exc):
                    raise
                coins, tentative = (
                    self._contracts.coins_listed(),
                    True,
                )  # one coin's settlement fails the whole call: ask per coin
                if not coins:
                    raise
        for coin in coins:
            if coin not in self._coins:
                self._add(coin, tentative=tentative)
        self._discovered = self._discovered or gap == self._gap
        if not tentative:
            self._list()
        self._due.within(_DISCOVERY, self._settings.discover_s if self._open else self._settings.fallback_s)

    def _list(self) -> None:
        """Says of which coins a snapshot is to come."""
        coins = tuple(coin for coin, state in self._coins.items() if not state.tentative)
        self._shared.emit(CoinsHeld(VENUE, self._access.alias, coins, self._shared.clock.floor_ms()))

    def _add(self, coin: str, *, tentative: bool = False) -> _Coin:
        state = self._coins[coin] = _Coin(deque(maxlen=self._settings.buffer_events_max), tentative=tentative)
        if not tentative:
            self._contracts.use(coin)
        self._due.within(coin, 0)
        return state

    def _drop(self, coin: str) -> None:
        self._coins.pop(coin, None)
        self._backoffs.pop(coin, None)
        self._due.forget(coin)

    async def _reconcile(self, coin: str) -> None:
        settings = self._settings
        state = self._coins.get(coin)
        if state is None:
            return
        if self._settlements.runs(coin, self._access.alias):
            self._due.within(coin, settings.settle_poll_s)  # its end reads the coin again
            return
        try:
            await self._take(coin, state)
        except VenueError as exc:
            if in_settlement(exc):
                self._contracts.use(coin)
                self._settlements.begin(coin)
            elif exc.code in UNKNOWN_CODES or exc.code == _NOT_OPENED:
                self._log.warning("coin_dropped", coin=coin, code=exc.code, detail=exc.detail)
                self._drop(coin)
                self._list()
                self._contracts.request()
                return
            else:
                raise
        if coin in self._coins:
            self._due.within(coin, settings.reconcile_s * random.uniform(0.9, 1.1) if state.live else settings.fallback_s)

    async def refresh(self, coin: str) -> Refreshed:
        """The coin's snapshot now, after its settlement."""
        state = self._coins.get(coin)
        if state is None:
            return Refreshed.DONE
        try:
            await self._take(coin, state)
        except VenueError as exc:
            self._due.within(coin, self._settings.fallback_s)
            if in_settlement(exc) or exc.reason not in _OF_ONE_ACCOUNT:
                return Refreshed.NOT_YET
            self._failed(exc)
            return Refreshed.FAILED
        self._looked()
        return Refreshed.DONE

    async def _take(self, coin: str, state: _Coin) -> None:
        async with state.taking:
            gap, was_open = self._gap, self._open
            snapshot = await self._fetch(coin)
            empty = is_empty(snapshot.balance) and not snapshot.positions
            if state.tentative and empty:
                self._drop(coin)
                return
            state.tentative = False
            self._contracts.use(coin)
            if not self._contracts.knows(leg.symbol for leg in snapshot.positions):
                self._contracts.request()
            live = was_open and gap == self._gap
            self._shared.emit(structs.replace(snapshot, live=live))
            state.holds, state.legs = not empty, {(leg.symbol, leg.side) for leg in snapshot.positions}
            if live and not state.live:
                state.live = True
                while state.held:
                    self._shared.emit(state.held.popleft())

    async def _fetch(self, coin: str) -> CoinSnapshot:
        as_of_ms = self._shared.clock.floor_ms()
        answer = await self._shared.rest.call(ACCOUNT_POSITION_INFO, [("symbol", coin)], access=self._access)
        for snapshot in coin_snapshots(answer, account=self._access.alias, as_of_ms=as_of_ms):
            if snapshot.balance.coin == coin:
                return snapshot
        raise VenueError(Fault.BAD_ANSWER, f"contract_account_position_info: {coin} is not in the answer", retryable=True)


def _says_nothing(update: CoinUpdate) -> bool:
    """Neither equity nor legs: one of the many coins that the account does not use."""
    return all(is_empty(row) for row in update.balances) and not any(leg.quantity for leg in update.positions)
