"""One market socket for all accounts: subscribed by contract code to what they hold, unsubscribed from what was delivered."""

import asyncio
from collections.abc import Callable, Mapping
from typing import NoReturn

import orjson

from monitor.model.events import Price, PriceKind, Prices, StreamDown, StreamUp
from monitor.model.streams import StreamStatus, count
from monitor.venues.dial import StreamEnded
from monitor.venues.htx.frames import HostileFrames
from monitor.venues.htx.rows import VENUE
from monitor.venues.htx.shared import Shared
from monitor.venues.htx.talk import Outgoing, converse
from monitor.venues.htx.wire import MarketWire, Topic, topic_name
from monitor.venues.stream import Lateness, Session, Supervisor, Watch


class Feed:
    """A socket's topics, whatever connection carries them.

    `quiet_is_normal`: trades may be rare, and a heartbeat is life enough; whether such a stream is deaf only REST can tell (see
    `prices`). Index and mark prices move all the time: their silence is an outage.
    """

    def __init__(
        self,
        shared: Shared,
        path: str,
        stream: str,
        status: StreamStatus,
        *,
        quiet_is_normal: bool,
        heard: Callable[[PriceKind, Price], None],
        contracts_unknown: Callable[[], None],
    ) -> None:
        settings = self._settings = shared.settings
        self._shared = shared
        self._url = f"{settings.streams}{path}"
        self._stream = stream
        self._status = status
        self._quiet_is_normal = quiet_is_normal
        self._heard = heard
        self._contracts_unknown = contracts_unknown
        self._log = shared.log.bind(stream=status.stream)
        self._topics: dict[str, Topic] = {}  # by topic in lower case
        self._wire = MarketWire(self._topics, shared.counters, settings.inflated_bytes_max)
        self._hostile = HostileFrames(settings.hostile_frames, settings.hostile_window_s, settings.hostile_pause_s)
        self._newest_ms: dict[Topic, int] = {}  # of pushes: what a new connection repeats is no data
        self._confirmed_ms: dict[str, int] = {}  # topics of this connection, with the venue's time of the confirmation
        self._lateness = Lateness()  # of this connection
        self._outgoing: Outgoing | None = None
        self._ending: asyncio.Future[StreamEnded] | None = None
        self._told_reason = ""

    # -------------------------------------------------------------- what is wanted

    def want(self, topics: Mapping[str, Topic]) -> None:
        """`topics` by name, all that is wanted from now on."""
        wanted = {name.lower(): topic for name, topic in topics.items()}
        for gone in self._topics.keys() - wanted.keys():
            self._confirmed_ms.pop(gone, None)
            self._newest_ms.pop(self._topics[gone], None)
            self._ask("unsub", self._topics[gone])
        for name in wanted.keys() - self._topics.keys():
            self._ask("sub", wanted[name])
        self._topics.clear()  # in place: the wire reads it
        self._topics.update(wanted)

    def _ask(self, verb: str, topic: Topic) -> None:
        if self._outgoing is not None:
            name = topic_name(*topic)
            self._outgoing.request(orjson.dumps({verb: name, "id": name}).decode())

    def listening_since_ms(self, topic: Topic) -> int | None:
        """The venue's time since which this connection would have told us; None: it would not."""
        return self._confirmed_ms.get(topic_name(*topic).lower())

    # -------------------------------------------------------------- one connection

    async def run(self) -> NoReturn:
        supervisor = Supervisor(
            lambda: _FeedSession(self),
            self._went_down,
            lambda: None,
            self._settings.stream_limits(),
            self._log,
        )
        await supervisor.run()

    async def carry(self, session: Session) -> NoReturn:
        """One connection, from the dial to its end: raises StreamEnded."""
        settings = self._settings
        async with self._shared.dial.open(self._url, for_all=True) as connection:
            outgoing = self._outgoing = Outgoing(settings.requests_per_s, settings.send_timeout_s)
            ending = self._ending = asyncio.get_running_loop().create_future()
            self._confirmed_ms.clear()
            self._lateness = Lateness()
            for topic in self._topics.values():
                self._ask("sub", topic)
            try:
                await converse(
                    connection, outgoing, lambda frame: self._receive(frame, outgoing, session), self._watch(), _ended(ending)
                )
            finally:
                self._outgoing = self._ending = None
                self._confirmed_ms.clear()

    def _watch(self) -> Watch:
        settings = self._settings
        if self._quiet_is_normal:
            first_s = fault_s = end_s = settings.silence_s
        else:
            first_s, fault_s, end_s = settings.index_silence_s, settings.index_fault_s, settings.index_silence_s
        return Watch(self._status.stream, first_s=first_s, fault_s=fault_s, end_s=end_s, on_fault=self._on_fault)

    def _receive(self, frame: bytes, outgoing: Outgoing, session: Session) -> bool:
        """True: there is life. Hostile frames never count as such."""
        said = self._wire.receive(frame)
        if said.pong is not None:
            outgoing.pong(said.pong)
        if said.hostile or (said.prices is not None and self._shared.from_the_future(said.prices.rows[0].event_time_ms)):
            if self._hostile.note(asyncio.get_running_loop().time()):
                raise StreamEnded("hostile_frames", "the connection brought frames that cannot be read")
            return False
        if said.refused:
            self._log.warning("subscription_refused", topic=said.refused[:80])
            self._contracts_unknown()
        if said.acknowledged in self._topics:
            self._confirmed_ms.setdefault(said.acknowledged, self._shared.clock.now_ms())
        session.set_ready()
        if said.prices is not None:
            return self._take(said.prices, said.ts)
        if not self._topics:
            self.proven()  # nothing to hear: the heartbeat is all there can be
            return True
        return self._quiet_is_normal and said.pong is not None

    def _take(self, prices: Prices, sent_ms: int) -> bool:
        """True: the event time of some row advanced. A feed that repeats itself for ever is dead."""
        fresh = False
        late_ms = self._lateness.of_ms(sent_ms, asyncio.get_running_loop().time())
        if late_ms >= 1000 * self._settings.last_quiet_s:  # what piled up is judged, but never as if it were of now
            self._shared.emit(Prices(prices.venue, prices.kind, prices.rows, late_ms))
            return False
        for row in prices.rows:
            topic = (prices.kind, row.symbol)
            if row.event_time_ms > self._newest_ms.get(topic, 0):
                self._newest_ms[topic] = row.event_time_ms
                self._heard(prices.kind, row)
                fresh = True
        self._shared.emit(prices)
        if fresh:
            self.proven()
        return fresh

    # -------------------------------------------------------------- up and down

    def proven(self) -> None:
        """The stream tells what there is to tell."""
        was_up = self._status.up
        self._status.set_up(self._shared.now_ms())
        if not was_up:
            self._told_reason = ""
            self._log.info("stream_up")
            self._shared.emit(StreamUp(VENUE, "", self._stream))

    def deaf(self, detail: str) -> None:
        """REST shows what this connection should have told."""
        if self._ending is not None and not self._ending.done():
            self._ending.set_result(StreamEnded("deaf", detail))

    def _on_fault(self, silent_s: float) -> None:
        self._down("silent", f"nothing new on {self._status.stream} for {silent_s:.1f} s")

    def _went_down(self, ended: StreamEnded) -> None:
        count(self._status.reconnects, ended.reason)
        self._down(ended.reason, ended.detail)

    def _down(self, reason: str, detail: str) -> None:
        was_up = self._status.up
        self._status.set_down(detail)
        if was_up or reason != self._told_reason:
            self._told_reason = reason
            self._log.warning("stream_lost", reason=reason, detail=detail)
            self._shared.emit(StreamDown(VENUE, "", self._stream, detail))


async def _ended(ending: "asyncio.Future[StreamEnded]") -> None:
    raise await ending


class _FeedSession(Session):
    def __init__(self, owner: Feed) -> None:
        super().__init__()
        self._owner = owner

    async def run(self) -> None:
        await self._owner.carry(self)
