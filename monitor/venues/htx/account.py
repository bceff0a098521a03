"""One account: its private socket, and a full snapshot of each coin in which it holds anything.

The order that keeps a coin's rows whole: open the stream and hold its pushes back, ask for the snapshot, emit the snapshot, emit
what was held back. Each gap begins the same again.
"""

import asyncio
import random
from collections import deque
from typing import NoReturn

import orjson
from msgspec import Struct

from monitor.model.events import CoinSnapshot, CoinUpdate, StreamDown, StreamUp
from monitor.model.streams import StreamStatus, count
from monitor.venues.base import AccountAccess, Fault, VenueError
from monitor.venues.htx.contracts import Contracts
from monitor.venues.htx.due import Schedule
from monitor.venues.htx.frames import HostileFrames
from monitor.venues.htx.rest import UNKNOWN_CODES, in_settlement
from monitor.venues.htx.rows import VENUE, is_empty
from monitor.venues.htx.settlements import Refreshed, Settlements
from monitor.venues.htx.shared import Shared, set_down, set_up
from monitor.venues.htx.signing import ACCOUNT_INFO, ACCOUNT_POSITION_INFO, signed_host, socket_auth
from monitor.venues.htx.snapshot import coin_snapshots, coins_held
from monitor.venues.htx.talk import Outgoing, converse
from monitor.venues.htx.user_wire import UserFrame, UserWire
from monitor.venues.stream import Backoff, Session, StreamEnded, Supervisor, Watch, dial

_TOPICS = ("accounts.*", "positions.*")
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
    has_legs: bool = False


class AccountStream:
    """Everything that is asked for one account, for ever."""

    def __init__(
        self, shared: Shared, access: AccountAccess, status: StreamStatus, contracts: Contracts, settlements: Settlements
    ) -> None:
        settings = self._settings = shared.settings
        self._shared = shared
        self._access = access
        self._status = status
        self._contracts = contracts
        self._settlements = settlements
        self._log = shared.log.bind(account=access.alias, stream="user")
        self._wire = UserWire(access.alias, shared.counters, settings.inflated_bytes_max)
        self._hostile = HostileFrames(settings.hostile_frames, settings.hostile_window_s, settings.hostile_pause_s)
        self._coins: dict[str, _Coin] = {}
        self._due = Schedule()
        self._taking = asyncio.Lock()  # one snapshot at a time: two answers must not overtake each other
        self._gap = 0  # number of the gap that began last: a snapshot ends only the gap that it was asked in
        self._auth_failures = 0  # in a row
        self._unconfirmed = set(_TOPICS)  # of the open connection
        self._discovered = False  # since the last gap
        self._newest_ms = {"accounts": 0, "positions": 0}  # of pushes
        self._positions_at = 0.0  # loop time of the last new push of positions
        self._told_reason = ""

    async def run(self) -> NoReturn:
        supervisor = Supervisor(
            lambda: _UserSession(self),
            self._went_down,
            lambda: None,
            self._settings.stream_limits(),
            self._shared.attempts,
            self._log,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(supervisor.run())
            group.create_task(self._snapshots())
        raise AssertionError("both tasks run for ever")

    def request_snapshot(self) -> None:
        """Of all coins, as soon as the pace allows."""
        for thing in (_DISCOVERY, *self._coins):
            self._due.within(thing, 0)

    # -------------------------------------------------------------- one connection

    async def carry(self, session: Session) -> NoReturn:
        """One connection, from the dial to its end: raises StreamEnded."""
        settings = self._settings
        if self._auth_failures:
            await self._sync_clock()
        url = f"{settings.streams}{settings.notification_path}"
        async with dial(url, settings.stream_limits(), self._shared.tls) as connection:
            outgoing = Outgoing(settings.requests_per_s, settings.send_timeout_s)
            outgoing.request(orjson.dumps(self._auth()).decode())
            self._unconfirmed = set(_TOPICS)
            self._positions_at = asyncio.get_running_loop().time()
            silence_s = settings.silence_s
            watch = Watch(
                settings.notification_path, first_s=silence_s, fault_s=silence_s, end_s=silence_s, on_fault=lambda _: None
            )
            try:
                await converse(
                    connection, outgoing, lambda frame: self._receive(frame, outgoing, session), watch, self._confirmed_in_time()
                )
            finally:
                self._unconfirmed = set(_TOPICS)

    def _auth(self) -> dict[str, str]:
        settings, access = self._settings, self._access
        return socket_auth(
            host=signed_host(settings.streams),
            path=settings.notification_path,
            api_key=access.api_key,
            api_secret=access.api_secret,
            at_ms=self._shared.clock.now_ms(),
        )

    async def _sync_clock(self) -> None:
        """A rejected signature may be a wrong time."""
        try:
            await self._shared.rest.sync_clock()
        except VenueError as exc:
            self._log.warning("clock_not_synced", reason=exc.reason, detail=exc.detail)

    async def _confirmed_in_time(self) -> None:
        await asyncio.sleep(self._settings.subscribe_s)
        if self._unconfirmed:
            raise StreamEnded("not_subscribed", f"the venue did not confirm {', '.join(sorted(self._unconfirmed))}")

    def _receive(self, frame: bytes, outgoing: Outgoing, session: Session) -> bool:
        """True: the account's data are alive."""
        said = self._wire.receive(frame)
        if said.pong is not None:
            outgoing.pong(said.pong)
        now = asyncio.get_running_loop().time()
        if said.hostile or self._shared.from_the_future(said.ts):
            if self._hostile.note(now):
                raise StreamEnded("hostile_frames", "the connection brought frames that cannot be read")
            return False
        self._control(said, outgoing)
        for call in said.calls:  # an alarm does not wait for a snapshot
            self._shared.emit(call)
        for coin, update in said.updates:
            self._update(coin, update)
        for coin in said.settled & self._coins.keys():
            self._settlements.pushed(coin)
            self._due.within(coin, 0)
        for coin in said.lost:
            for thing in [coin] if coin in self._coins else self._coins:
                self._due.within(thing, 0)
        if said.topic in self._newest_ms:
            self._confirm(f"{said.topic}.*")  # the first data may come before the answer to our request
            self._status.last_event_ms = self._shared.now_ms()
        if not self._unconfirmed:
            session.set_ready()
        return self._alive(said, now)

    def _control(self, said: UserFrame, outgoing: Outgoing) -> None:
        """Raises StreamEnded where the venue ends the connection, or refuses what it is for."""
        if said.authenticated:
            self._auth_failures = 0
            for topic in _TOPICS:
                outgoing.request(orjson.dumps({"op": "sub", "cid": topic, "topic": topic}).decode())
        elif said.auth_error:
            self._auth_failures += 1
            again_s = self._settings.auth_retry_s if self._auth_failures > 1 else 0.0
            self._log.error("account_not_watched", reason=Fault.AUTH, detail=said.auth_error)
            raise StreamEnded("auth", f"the venue rejects the key: {said.auth_error}", retry_after_s=again_s)
        if said.refused:
            raise StreamEnded(
                "subscription_refused", f"the venue refused {said.refused}", retry_after_s=self._settings.auth_retry_s
            )
        if said.closing:
            raise StreamEnded("server_close", "the venue hangs up")
        self._confirm(said.acknowledged)

    def _confirm(self, topic: str) -> None:
        if topic in self._unconfirmed:
            self._unconfirmed.discard(topic)
            if not self._unconfirmed:
                self.request_snapshot()

    def _alive(self, said: UserFrame, now: float) -> bool:
        """An account that holds something is pushed every 5 s, and so are its legs; an empty one has heartbeats only.

        Repeated event time is no data.
        """
        fresh = said.ts > self._newest_ms.get(said.topic, said.ts)
        if fresh:
            self._newest_ms[said.topic] = said.ts
            if said.topic == "positions":
                self._positions_at = now
        if not any(coin.holds for coin in self._coins.values()):
            return fresh or said.pong is not None
        has_legs = any(coin.has_legs for coin in self._coins.values())
        legs_alive = not has_legs or now - self._positions_at < self._settings.silence_s
        return fresh and said.topic == "accounts" and legs_alive

    def _update(self, coin: str, update: CoinUpdate) -> None:
        state = self._coins.get(coin)
        if state is None:
            if self._settings.coins or _says_nothing(update):
                return
            state = self._add(coin)
        state.holds = state.holds or not _says_nothing(update)
        state.has_legs = state.has_legs or any(leg.quantity for leg in update.positions)
        if not self._contracts.knows(leg.symbol for leg in update.positions):
            self._contracts.request()
        if state.live:
            self._shared.emit(update)
            return
        if len(state.held) == state.held.maxlen:
            count(self._shared.counters.refused, "held_too_long")  # the oldest falls out; the snapshot to come is newer
        state.held.append(update)

    def _went_down(self, ended: StreamEnded) -> None:
        count(self._status.reconnects, ended.reason)
        was_up = self._status.up
        self._gap += 1
        self._discovered = False
        for coin in self._coins.values():
            coin.live = False
            coin.held.clear()  # the next snapshot holds it
        set_down(self._status, ended.detail)
        if was_up or ended.reason != self._told_reason:
            self._told_reason = ended.reason
            self._shared.emit(StreamDown(VENUE, self._access.alias, "user", ended.detail))
        for thing in (_DISCOVERY, *self._coins):
            self._due.within(thing, self._settings.fallback_s)  # REST in its place

    # -------------------------------------------------------------- snapshots

    async def _snapshots(self) -> NoReturn:
        settings = self._settings
        backoff = Backoff(settings.retry_min_s, settings.backoff_max_s)
        self._due.within(_DISCOVERY, settings.fallback_s)
        while True:
            thing = await self._due.next()
            try:
                await (self._discover() if thing == _DISCOVERY else self._reconcile(thing))
            except VenueError as exc:
                self._tell(exc)
                wait_s = exc.wait_s(self._shared.now_ms()) + backoff.next_s()
                if exc.reason not in _OF_ONE_COIN:
                    await asyncio.sleep(wait_s)  # the other coins would meet the same
                    wait_s = 0.0
                self._due.within(thing, wait_s)
                continue
            backoff.reset()
            self._check_up()

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
        self._due.within(_DISCOVERY, self._settings.settle_poll_s if tentative else self._settings.discover_s)

    def _add(self, coin: str, *, tentative: bool = False) -> _Coin:
        state = self._coins[coin] = _Coin(deque(maxlen=self._settings.buffer_events_max), tentative=tentative)
        if not tentative:
            self._contracts.use(coin)
        self._due.within(coin, 0)
        return state

    async def _reconcile(self, coin: str) -> None:
        settings = self._settings
        state = self._coins.get(coin)
        if state is None:
            return
        if coin in self._settlements.running:
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
                self._contracts.request()
            else:
                raise
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
            self._tell(exc)
            return Refreshed.FAILED
        self._check_up()
        return Refreshed.DONE

    async def _take(self, coin: str, state: _Coin) -> None:
        async with self._taking:
            gap, was_open = self._gap, not self._unconfirmed
            snapshot = await self._fetch(coin)
            empty = is_empty(snapshot.balance) and not snapshot.positions
            if state.tentative and empty:
                self._drop(coin)
                return
            state.tentative = False
            self._contracts.use(coin)
            if not self._contracts.knows(leg.symbol for leg in snapshot.positions):
                self._contracts.request()
            self._shared.emit(snapshot)
            state.holds, state.has_legs = not empty, bool(snapshot.positions)
            if was_open and gap == self._gap and not state.live:
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

    def _drop(self, coin: str) -> None:
        self._coins.pop(coin, None)
        self._due.forget(coin)

    def _check_up(self) -> None:
        """Up: the stream is open, and every coin has its snapshot, or settles and cannot have one."""
        if self._status.up or self._unconfirmed or not self._discovered:
            return
        if all(state.live or coin in self._settlements.running for coin, state in self._coins.items()):
            set_up(self._status, self._shared.now_ms())
            self._told_reason = ""
            self._log.info("stream_up", coins=len(self._coins))
            self._shared.emit(StreamUp(VENUE, self._access.alias, "user"))

    def _tell(self, exc: VenueError) -> None:
        """Why the account is not watched, once per reason."""
        if self._status.up:
            self._log.warning("account_call_failed", reason=exc.reason, code=exc.code, detail=exc.detail)
            return
        if self._status.down_reason != exc.detail:
            self._status.down_reason = exc.detail
            tell = self._log.error if exc.reason is Fault.AUTH else self._log.warning
            tell("account_not_watched", reason=exc.reason, code=exc.code, detail=exc.detail)


def _says_nothing(update: CoinUpdate) -> bool:
    """Neither equity nor legs: one of the many coins that the account does not use."""
    return all(is_empty(row) for row in update.balances) and not any(leg.quantity for leg in update.positions)


class _UserSession(Session):
    def __init__(self, owner: AccountStream) -> None:
        super().__init__()
        self._owner = owner

    async def run(self) -> None:
        await self._owner.carry(self)
