"""One account: its private socket, and with it the coins' snapshots (see `coins`)."""

import asyncio
from typing import NoReturn

import orjson

from monitor.model.events import StreamDown, StreamUp, VenueCall
from monitor.model.streams import StreamStatus, count
from monitor.venues.base import AccountAccess, Fault, VenueError
from monitor.venues.dial import StreamEnded
from monitor.venues.htx.coins import AccountCoins
from monitor.venues.htx.contracts import Contracts
from monitor.venues.htx.frames import HostileFrames
from monitor.venues.htx.rows import VENUE
from monitor.venues.htx.settlements import Refreshed, Settlements
from monitor.venues.htx.shared import Shared
from monitor.venues.htx.signing import signed_host, socket_auth
from monitor.venues.htx.talk import Outgoing, converse
from monitor.venues.htx.user_wire import UserFrame, UserWire
from monitor.venues.stream import Session, Supervisor, Watch

_TOPICS = ("accounts.*", "positions.*")


class AccountStream:
    """Everything that is asked for one account, for ever."""

    def __init__(
        self, shared: Shared, access: AccountAccess, status: StreamStatus, contracts: Contracts, settlements: Settlements
    ) -> None:
        settings = self._settings = shared.settings
        self._shared = shared
        self._access = access
        self._status = status
        self._log = shared.log.bind(account=access.alias, stream="user")
        self._wire = UserWire(access.alias, shared.counters, settings.inflated_bytes_max)
        self._hostile = HostileFrames(settings.hostile_frames, settings.hostile_window_s, settings.hostile_pause_s)
        self._coins = AccountCoins(shared, access, contracts, settlements, looked=self._check_up, failed=self._tell)
        self._auth_failures = 0  # in a row
        self._unconfirmed = set(_TOPICS)  # of the open connection
        self._newest_ms = {"accounts": 0, "positions": 0}  # of pushes
        self._positions_at = 0.0  # loop time of the last new push of positions
        self._told_reason = ""
        self._key_refused = False  # told since the last login

    @property
    def alias(self) -> str:
        return self._access.alias

    async def run(self) -> NoReturn:
        supervisor = Supervisor(
            lambda: _UserSession(self),
            self._went_down,
            lambda: None,
            self._settings.stream_limits(),
            self._log,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(supervisor.run())
            group.create_task(self._coins.run())
        raise AssertionError("both tasks run for ever")

    def request_snapshot(self, coin: str = "") -> None:
        """Of the coin, or of all, as soon as the pace allows."""
        self._coins.request(coin)

    async def refresh(self, coin: str) -> Refreshed:
        """The coin's snapshot now, after its settlement."""
        return await self._coins.refresh(coin)

    # -------------------------------------------------------------- one connection

    async def carry(self, session: Session) -> NoReturn:
        """One connection, from the dial to its end: raises StreamEnded."""
        settings = self._settings
        if self._auth_failures:
            await self._sync_clock()
        async with self._shared.dial.open(f"{settings.streams}{settings.notification_path}") as connection:
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
            self._coins.update(coin, update)
        for coin in said.settled:
            self._coins.settled(coin)
        for coin in said.lost:
            self._coins.request(coin)
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
            self._key_refused = False
            if said.uid:
                self._shared.rest.identify(self._access, said.uid)
            for topic in _TOPICS:
                outgoing.request(orjson.dumps({"op": "sub", "cid": topic, "topic": topic}).decode())
        elif said.auth_error:
            self._auth_failures += 1
            again_s = self._settings.auth_retry_s if self._auth_failures > 1 else 0.0
            self._log.error("account_not_watched", reason=Fault.AUTH, detail=said.auth_error)
            if self._auth_failures > 1:
                self._tell_key_refused(said.auth_error)
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
                self._coins.opened()

    def _alive(self, said: UserFrame, now: float) -> bool:
        """An account that holds something is pushed every 5 s, and so are its legs; an empty one has heartbeats only.

        Repeated event time is no data.
        """
        fresh = said.ts > self._newest_ms.get(said.topic, said.ts)
        if fresh:
            self._newest_ms[said.topic] = said.ts
            if said.topic == "positions":
                self._positions_at = now
        if not self._coins.holds():
            return fresh or said.pong is not None
        legs_alive = not self._coins.has_legs() or now - self._positions_at < self._settings.silence_s
        return fresh and said.topic == "accounts" and legs_alive

    def _went_down(self, ended: StreamEnded) -> None:
        count(self._status.reconnects, ended.reason)
        was_up = self._coins.closed() or self._status.up  # a coin may have been carried before all were
        self._status.set_down(ended.detail)
        if was_up or ended.reason != self._told_reason:
            self._told_reason = ended.reason
            self._shared.emit(StreamDown(VENUE, self._access.alias, "user", ended.detail))

    def _check_up(self) -> None:
        """Up: the stream is open, and nothing of the account is missing."""
        if self._status.up or not self._coins.complete():
            return
        self._status.set_up(self._shared.now_ms())
        self._told_reason = ""
        self._log.info("stream_up", coins=len(self._coins))
        self._shared.emit(StreamUp(VENUE, self._access.alias, "user"))

    def _tell(self, exc: VenueError) -> None:
        """Why the account is not watched, once per reason."""
        if exc.reason is Fault.AUTH:
            self._tell_key_refused(exc.detail)
        if self._status.up:
            self._log.warning("account_call_failed", reason=exc.reason, code=exc.code, detail=exc.detail)
            return
        if self._status.down_reason != exc.detail:
            self._status.down_reason = exc.detail
            tell = self._log.error if exc.reason is Fault.AUTH else self._log.warning
            tell("account_not_watched", reason=exc.reason, code=exc.code, detail=exc.detail)

    def _tell_key_refused(self, detail: str) -> None:
        """It stays so until a person acts: told at once, and once."""
        if not self._key_refused:
            self._key_refused = True
            text = f"the venue rejects the key, the account is not watched: {detail}"
            self._shared.emit(VenueCall(VENUE, self._access.alias, "key_refused", (), text, self._shared.now_ms()))


class _UserSession(Session):
    def __init__(self, owner: AccountStream) -> None:
        super().__init__()
        self._owner = owner

    async def run(self) -> None:
        await self._owner.carry(self)
