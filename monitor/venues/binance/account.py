"""One account: its user stream, its listen key, its snapshots and its brackets.

The order that keeps an account's rows whole: open the stream and hold its events back, ask for the snapshot, emit the snapshot,
emit what was held back. Each gap begins the same again.
"""

import asyncio
import random
from collections import deque
from typing import NoReturn

from monitor.model.events import (
    AccountSnapshot,
    AccountUpdate,
    Brackets,
    Degraded,
    Event,
    ModeChanged,
    StreamDown,
    StreamUp,
    VenueCall,
)
from monitor.model.streams import StreamStatus, count
from monitor.venues.base import AccountAccess, Fault, VenueError
from monitor.venues.binance import reference
from monitor.venues.binance.budget import Priority
from monitor.venues.binance.expiries import WINDOW_S, Expiries
from monitor.venues.binance.hearing import Hearing
from monitor.venues.binance.shared import Shared
from monitor.venues.binance.signing import (
    ACCOUNT,
    ACCOUNT_CONFIG,
    LEVERAGE_BRACKET,
    LISTEN_KEY_EXTEND,
    LISTEN_KEY_OPEN,
    POSITION_RISK,
    SYMBOL_CONFIG,
)
from monitor.venues.binance.snapshot import account_snapshot, read_answers
from monitor.venues.binance.user_wire import Refetch, UserWire
from monitor.venues.binance.wire import VENUE
from monitor.venues.dial import StreamEnded
from monitor.venues.due import Due
from monitor.venues.stream import Backoff, Session, Supervisor, pump, until_ended
from monitor.venues.together import together

SNAPSHOT_CALLS = (ACCOUNT, POSITION_RISK, SYMBOL_CONFIG, ACCOUNT_CONFIG)
_NO_SUCH_KEY = -1125
_TORN_TRIES = 3  # a fill between the answers is rare; an account that fills in every one gets its snapshot without figures


class AccountStream:
    """Everything that is asked for one account, for ever."""

    def __init__(self, shared: Shared, access: AccountAccess, status: StreamStatus, reconcile_s: float) -> None:
        settings = self._settings = shared.settings
        self._shared = shared
        self._rest = shared.rest
        self._emit = shared.emit
        self._now_ms = shared.now_ms
        self._log = shared.log.bind(account=access.alias, stream="user")
        self._access = access
        self._status = status
        self._reconcile_s = reconcile_s
        self._wire = UserWire(access.alias, shared.counters)
        self._snapshot_due = Due()
        self._brackets_due = Due()
        self._snapshot_at = float("-inf")  # loop time of the last one
        self._open_sessions = 0
        self._gap = 0  # number of the gap that began last: a snapshot ends only the gap that it was asked in
        self._modes = 0  # changes of mode that were told
        self._hearing = Hearing(settings.hearing_grace_s)
        self._deaf = asyncio.Event()
        self._expiries = Expiries()
        self._settled = False  # the stream is open and a snapshot was taken since
        self._held: deque[Event] = deque()
        self._told_reason = ""
        self._key_refused = False  # told since the last snapshot

    async def run(self) -> NoReturn:
        supervisor = Supervisor(
            lambda: _UserSession(self),
            self._went_down,
            self._rotated,
            self._settings.stream_limits(),
            self._log,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(supervisor.run())
            group.create_task(self._snapshots())
            group.create_task(self._brackets())
        raise AssertionError("all tasks run for ever")

    def request_snapshot(self) -> None:
        """As soon as the pace allows."""
        self._snapshot_due.within(0)

    def request_brackets(self, within_s: float) -> None:
        self._brackets_due.within(within_s)

    # -------------------------------------------------------------- one connection

    async def carry(self, session: Session) -> NoReturn:
        """One connection, from the listen key to its end: raises StreamEnded."""
        settings = self._settings
        key = await self._open_key()
        async with self._shared.dial.open(settings.user_url(key)) as connection:
            opened_at = self._opened()
            session.set_ready()
            try:
                await until_ended(
                    pump(connection, lambda frame: self._receive(frame, key, opened_at)),
                    self._keep_alive(key, session, opened_at),
                    self._listen(),
                )
            finally:
                self._open_sessions -= 1

    async def _open_key(self) -> str:
        """The venue answers with the live key, if there is one, and extends it."""
        try:
            return reference.listen_key(await self._rest.call(LISTEN_KEY_OPEN, access=self._access))
        except VenueError as exc:
            self._tell(exc)
            wait_s = exc.wait_s(self._now_ms())
            raise StreamEnded(f"listen_key_{exc.reason}", f"no listen key: {exc.detail}", retry_after_s=wait_s) from None

    async def _keep_alive(self, key: str, session: Session, opened_at: float) -> NoReturn:
        settings = self._settings
        failures = 0
        while True:
            await asyncio.sleep(settings.keep_alive_s if failures == 0 else settings.keep_alive_retry_s)
            try:
                answer = await self._rest.call(LISTEN_KEY_EXTEND, access=self._access)
                if reference.listen_key(answer) != key:
                    session.want_replacement()  # ours is not the account's key any more: move over before it ends
                failures = 0
            except VenueError as exc:
                failures += 1
                self._log.warning("listen_key_extension_failed", reason=exc.reason, code=exc.code, tries=failures)
                if exc.code == _NO_SUCH_KEY:
                    self._key_ended(key, opened_at)
                if exc.code == _NO_SUCH_KEY or failures >= settings.keep_alive_tries:
                    raise StreamEnded("listen_key_lost", f"the listen key could not be extended: {exc.detail}") from None
                await asyncio.sleep(exc.wait_s(self._now_ms()))

    async def _listen(self) -> NoReturn:
        self._deaf.clear()
        await self._deaf.wait()
        route = self._settings.private_route or "/"
        raise StreamEnded("deaf", f"the account changed, and the user stream on {route} did not tell")

    def _key_ended(self, key: str, opened_at: float) -> None:
        """The venue says so, before the time that it promised."""
        if times := self._expiries.note(key, opened_at, asyncio.get_running_loop().time()):
            text = (
                f"the listen key ended {times} times within {WINDOW_S / 60:.0f} min, each time with a gap in the user stream: "
                "another program of the account may close it"
            )
            self._log.warning("listen_keys_end", times=times)
            self._emit(Degraded(VENUE, self._access.alias, "listen_key", text, self._shared.clock.floor_ms()))

    def _opened(self) -> float:
        """Returns the loop's time."""
        self._open_sessions += 1
        if not self._settled:
            self._snapshot_due.within(0)
        return asyncio.get_running_loop().time()

    def _receive(self, frame: bytes, key: str, opened_at: float) -> bool:
        result = self._wire.receive(frame)
        if result.expired_key is not None and result.expired_key in ("", key):
            self._key_ended(key, opened_at)
            raise StreamEnded("listen_key_expired", "the venue says that the listen key expired")
        self._status.last_event_ms = self._now_ms()
        self._status.first_data = True
        for event in result.events:
            if isinstance(event, AccountUpdate):
                self._hearing.heard()
            elif isinstance(event, ModeChanged):
                self._modes += 1
            # Alarms and the loss of trust do not wait for a snapshot.
            if self._settled or isinstance(event, VenueCall | ModeChanged):
                self._emit(event)
            else:
                self._hold_back(event)
        if result.refetch is Refetch.NOW:
            self._snapshot_due.within(0)
        elif result.refetch is Refetch.SOON:
            settings = self._settings
            now = asyncio.get_running_loop().time()
            self._snapshot_due.within(max(settings.order_debounce_s, self._snapshot_at + settings.order_refetch_s - now))
        return True

    def _hold_back(self, event: Event) -> None:
        """Until the snapshot. Too many: what is dropped is a gap, which only a snapshot that is asked from now on can end."""
        if len(self._held) >= self._settings.buffer_events_max:
            count(self._shared.counters.refused, "held_too_long", len(self._held))
            self._log.warning("account_events_dropped", events=len(self._held))
            self._gap += 1
            self._held.clear()
            self._snapshot_due.within(0)
        self._held.append(event)

    def _went_down(self, ended: StreamEnded) -> None:
        count(self._status.reconnects, ended.reason)
        was_up = self._status.up
        self._gap += 1
        self._settled = False
        self._held.clear()  # the next snapshot holds it
        self._hearing.forget()
        self._status.set_down(ended.detail)
        if was_up or ended.reason != self._told_reason:
            self._told_reason = ended.reason
            self._emit(StreamDown(VENUE, self._access.alias, "user", ended.detail))
        self._snapshot_due.within(self._settings.fallback_s)  # REST in its place

    def _rotated(self) -> None:
        count(self._status.reconnects, "rotation")
        self._snapshot_due.within(0)  # no gap, but cheap to be sure

    # -------------------------------------------------------------- snapshots

    async def _snapshots(self) -> NoReturn:
        settings = self._settings
        backoff = Backoff(settings.retry_min_s, settings.backoff_max_s)
        while True:
            await self._snapshot_due.wait()
            try:
                await self._take_snapshot()
            except VenueError as exc:
                self._tell(exc)
                wait_s = exc.wait_s(self._now_ms()) + backoff.next_s()  # jittered: all accounts wait for the same end of a ban
                await asyncio.sleep(wait_s)
                self._snapshot_due.within(0)
                continue
            backoff.reset()
            self._snapshot_due.within(settings.fallback_s if not self._settled else self._reconcile_s * random.uniform(0.9, 1.1))
            await asyncio.sleep(settings.snapshot_pause_s)

    async def _take_snapshot(self) -> None:
        gap, was_open = self._gap, self._open_sessions > 0
        modes = self._modes
        self._hearing.asking()
        snapshot = await self._fetch()
        if modes != self._modes:  # it may still show the old pooling, and the next one is asked already
            return
        self._snapshot_at = asyncio.get_running_loop().time()
        self._key_refused = False
        self._emit(snapshot)
        if not was_open or gap != self._gap:
            return
        self._hearing.answered(snapshot, self._snapshot_at)
        if self._hearing.deaf(self._snapshot_at):
            self._deaf.set()
        elif self._hearing.doubtful():
            self._snapshot_due.within(self._settings.hearing_grace_s)
        if self._settled:
            return
        self._settled = True
        while self._held:
            self._emit(self._held.popleft())
        self._status.set_up(self._now_ms())
        self._told_reason = ""
        self._log.info("stream_up")
        self._emit(StreamUp(VENUE, self._access.alias, "user"))

    async def _fetch(self) -> AccountSnapshot:
        for attempt in range(1, _TORN_TRIES + 1):
            as_of_ms = self._shared.clock.floor_ms()
            bodies = await together(*(self._rest.call(endpoint, access=self._access) for endpoint in SNAPSHOT_CALLS))
            account, risk, symbols, config = bodies
            answers = read_answers(account, risk, symbols, (config,))
            if answers.config.multi_assets_margin is None:  # never guessed where the venue can be asked
                raise VenueError(Fault.BAD_ANSWER, "accountConfig names no asset mode", retryable=True)
            if not answers.torn() or attempt == _TORN_TRIES:
                break
            self._log.debug("snapshot_torn", attempt=attempt)
        return account_snapshot(answers, account=self._access.alias, as_of_ms=as_of_ms)

    def _tell(self, exc: VenueError) -> None:
        """Why the account is not watched, once per reason. A key that is refused stays so until a person acts: told at once."""
        if exc.reason is Fault.AUTH and not self._key_refused:
            self._key_refused = True
            text = f"the venue rejects the key, the account is not watched: {exc.detail}"
            self._emit(VenueCall(VENUE, self._access.alias, "key_refused", (), text, self._shared.clock.floor_ms()))
        if self._status.up:
            self._log.warning("account_call_failed", reason=exc.reason, code=exc.code, detail=exc.detail)
            return
        if self._status.down_reason != exc.detail:
            self._status.down_reason = exc.detail
            tell = self._log.error if exc.reason is Fault.AUTH else self._log.warning
            tell("account_not_watched", reason=exc.reason, code=exc.code, detail=exc.detail)

    # -------------------------------------------------------------- brackets

    async def _brackets(self) -> NoReturn:
        settings = self._settings
        backoff = Backoff(settings.retry_min_s, settings.backoff_max_s)
        self._brackets_due.within(0)
        while True:
            await self._brackets_due.wait()
            wait_s = settings.reload_s * random.uniform(0.9, 1.1)
            try:
                body = await self._rest.call(LEVERAGE_BRACKET, access=self._access, priority=Priority.RELOAD)
                tables = self._shared.tables.of(body)
                self._emit(Brackets(VENUE, self._access.alias, tables, self._shared.clock.floor_ms()))
                backoff.reset()
            except VenueError as exc:
                self._log.warning("brackets_not_loaded", reason=exc.reason, code=exc.code, detail=exc.detail)
                wait_s = exc.wait_s(self._now_ms()) + backoff.next_s()  # without brackets no figure is known
            self._brackets_due.within(wait_s)


class _UserSession(Session):
    def __init__(self, owner: AccountStream) -> None:
        super().__init__()
        self._owner = owner

    async def run(self) -> None:
        await self._owner.carry(self)
