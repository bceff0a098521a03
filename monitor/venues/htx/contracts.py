"""The contracts of the venue: which there are, which of them we need prices of, and which coins settle just now.

Everything is keyed by contract code. An alias such as BTC_CQ speaks of another contract after a delivery, and nobody tells.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import NoReturn

import orjson

from monitor.model.events import Instruments
from monitor.model.instruments import Instrument
from monitor.model.streams import StreamStatus, count
from monitor.venues.base import VenueError
from monitor.venues.dial import StreamEnded
from monitor.venues.due import Due
from monitor.venues.htx import reference
from monitor.venues.htx.frames import HostileFrames
from monitor.venues.htx.rows import VENUE
from monitor.venues.htx.shared import Shared
from monitor.venues.htx.signing import CONTRACT_INFO
from monitor.venues.htx.talk import Outgoing, converse
from monitor.venues.htx.user_wire import UserWire
from monitor.venues.stream import Session, Supervisor, Watch

_TOPIC = "public.*.contract_info"
_ENDED = frozenset({reference.DELISTED, reference.DELIVERED})


class Contracts:
    """Kept by REST once an hour and by the public notices. `changed`: what we need prices of is another set now."""

    def __init__(
        self, shared: Shared, status: StreamStatus, *, changed: Callable[[], None], settling: Callable[[str], None]
    ) -> None:
        settings = self._settings = shared.settings
        self._shared = shared
        self._status = status
        self._changed = changed
        self._settling = settling
        self._log = shared.log.bind(stream=status.stream)
        self._known: dict[str, Instrument] = {}
        self._coins: set[str] = set()
        self._due = Due()
        self._wire = UserWire("", shared.counters, settings.inflated_bytes_max)
        self._hostile = HostileFrames(settings.hostile_frames, settings.hostile_window_s, settings.hostile_pause_s)

    # -------------------------------------------------------------- readers

    def coins_listed(self) -> list[str]:
        return sorted({row.margin_asset for row in self._known.values()})

    def coins_in_use(self) -> list[str]:
        return sorted(self._coins)

    def in_use(self) -> list[Instrument]:
        """Contracts with prices, of the coins in which any account holds something."""
        return [
            row for row in self._known.values() if row.margin_asset in self._coins and row.status not in reference.WITHOUT_TRADES
        ]

    def settles(self, coin: str) -> bool:
        return reference.is_settling(row for row in self._known.values() if row.margin_asset == coin)

    def knows(self, codes: Iterable[str]) -> bool:
        return all(code in self._known for code in codes)

    # -------------------------------------------------------------- askers

    def use(self, coin: str) -> None:
        """An account holds something in the coin."""
        if coin not in self._coins:
            self._coins.add(coin)
            self._changed()
            self._look_for_settlement([coin])

    def request(self, within_s: float | None = None) -> None:
        """A reload soon: some contract was not known, or is gone."""
        self._due.within(self._settings.reload_debounce_s if within_s is None else within_s)

    async def reload(self) -> None:
        """All contracts by REST. Raises VenueError."""
        self._take(reference.instruments(await self._shared.rest.call(CONTRACT_INFO), self._shared.counters))
        self._status.first_data = True  # what the stream would have told is known

    # -------------------------------------------------------------- life

    async def run(self) -> NoReturn:
        supervisor = Supervisor(
            lambda: _NoticeSession(self),
            self._went_down,
            lambda: None,
            self._settings.stream_limits(),
            self._log,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(supervisor.run())
            group.create_task(self._reloads())
        raise AssertionError("both tasks run for ever")

    async def _reloads(self) -> NoReturn:
        settings = self._settings
        self._due.within(0)
        while True:
            await self._due.wait()
            wait_s = settings.reload_s * random.uniform(0.9, 1.1)
            try:
                await self.reload()
            except VenueError as exc:
                self._log.warning("contracts_not_loaded", reason=exc.reason, code=exc.code, detail=exc.detail)
                wait_s = max(exc.wait_s(self._shared.now_ms()), settings.unavailable_pause_s)
            self._due.within(wait_s)

    def _take(self, told: Instruments) -> None:
        before = self._needed()
        news = [row for row in told.rows if self._known.get(row.symbol) != row]
        self._known = ({} if told.complete else self._known) | {row.symbol: row for row in told.rows}
        if told.complete:
            self._shared.emit(told)
        elif news:
            self._shared.emit(Instruments(VENUE, tuple(news)))
        if self._needed() != before:
            self._changed()
        self._look_for_settlement(dict.fromkeys(row.margin_asset for row in told.rows))

    def _needed(self) -> set[str]:
        return {row.symbol for row in self.in_use()}

    def _look_for_settlement(self, coins: Iterable[str]) -> None:
        for coin in coins:
            if coin in self._coins and self.settles(coin):
                self._settling(coin)

    # -------------------------------------------------------------- public notices

    async def carry(self) -> NoReturn:
        """One connection, from the dial to its end: raises StreamEnded."""
        settings = self._settings
        outgoing = Outgoing(settings.requests_per_s, settings.send_timeout_s)
        outgoing.request(orjson.dumps({"op": "sub", "cid": _TOPIC, "topic": _TOPIC}).decode())
        async with self._shared.dial.open(f"{settings.streams}{settings.notification_path}", for_all=True) as connection:
            silence_s = settings.silence_s
            watch = Watch(_TOPIC, first_s=silence_s, fault_s=silence_s, end_s=silence_s, on_fault=lambda _: None)
            await converse(connection, outgoing, lambda frame: self._receive(frame, outgoing), watch)

    def _receive(self, frame: bytes, outgoing: Outgoing) -> bool:
        said = self._wire.receive(frame)
        if said.pong is not None:
            outgoing.pong(said.pong)
        if said.hostile:
            if self._hostile.note(asyncio.get_running_loop().time()):
                raise StreamEnded("hostile_frames", "the connection brought frames that cannot be read")
            return False
        if said.refused:
            raise StreamEnded("subscription_refused", f"the venue refused {said.refused}", retry_after_s=self._settings.reload_s)
        if said.closing:
            raise StreamEnded("server_close", "the venue hangs up")
        if said.contracts or said.acknowledged:
            self._status.set_up(self._shared.now_ms())
        if said.contracts:
            ended = any(row.status in _ENDED and self._known.get(row.symbol) != row for row in said.contracts)
            self._take(Instruments(VENUE, tuple(said.contracts)))
            if ended:
                self.request()  # the periods move up, and a new one is listed
        return True

    def _went_down(self, ended: StreamEnded) -> None:
        count(self._status.reconnects, ended.reason)
        self._status.set_down(ended.detail)


class _NoticeSession(Session):
    def __init__(self, owner: Contracts) -> None:
        super().__init__()
        self._owner = owner

    async def run(self) -> None:
        self.set_ready()
        await self._owner.carry()
