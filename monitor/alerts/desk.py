"""The alert desk: transitions in, messages on their way out. What it says is on disk before it is on the network."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from types import MappingProxyType

import structlog
from msgspec import structs

from monitor.alerts.batch import Waiting
from monitor.alerts.book import Book, by_gravity, heard, known_to_heirs
from monitor.alerts.channels import CHANNELS
from monitor.alerts.channels.http import Http
from monitor.alerts.handover import Handover
from monitor.alerts.ids import IncidentIds
from monitor.alerts.outbox import Outbox, OutboxStore
from monitor.alerts.own import StoreWatch, channel_key, of_channel, one_given_up
from monitor.alerts.pace import Paces
from monitor.alerts.quiet import Quiet
from monitor.alerts.receivers import Receivers
from monitor.alerts.routes import CHANNEL_RULE, Routes
from monitor.alerts.samples import Samples
from monitor.alerts.sender import Sender
from monitor.alerts.settings import AlertSettings
from monitor.alerts.silences import Silences
from monitor.alerts.teller import Teller
from monitor.model.alerts import ChannelStatus, Incident, IncidentKey, Level, Lever, Silence, Transition
from monitor.model.figures import PoolFigures, PoolKey

TRANSITIONS_PER_COMMIT = 500  # a crash crosses thousands at once: the first are sent while the rest are written
REPEATS_PER_TICK = 200  # what crossed in one crash is due in one second: spread over several, worst first

NOTHING: Mapping[str, Collection[str]] = MappingProxyType({})

log = structlog.get_logger()


def _no_levers(key: IncidentKey) -> Sequence[Lever]:
    return ()


class AlertDesk:
    """Opens, tells, repeats and ends incidents.

    `handle` and `tick` return when their outcome is in the store; `run` sends, until it is cancelled.
    store: loaded. figures_of, levers_of: the present ones, for what is told again.
    now_ms: wall clock at the start, carried on steadily. true_ms: the time that receivers go by, None while nobody knows whether
    our clock is right; without it: now_ms. clock_s: monotonic. exists: names that a silence may name, by "venue", "account" and
    "rule"; without it: any.
    """

    def __init__(
        self,
        settings: AlertSettings,
        store: OutboxStore,
        *,
        figures_of: Callable[[PoolKey], PoolFigures | None],
        now_ms: Callable[[], int],
        true_ms: Callable[[], int | None] | None = None,
        levers_of: Callable[[IncidentKey], Sequence[Lever]] = _no_levers,
        clock_s: Callable[[], float] = time.monotonic,
        new_id: Callable[[int], str] | None = None,
        rng: random.Random | None = None,
        exists: Mapping[str, Collection[str]] = NOTHING,
    ) -> None:
        self._settings = settings
        self._store = store
        self._now_ms = now_ms
        self._clock_s = clock_s
        self._routes = Routes(settings)
        self._outbox = Outbox(store, self._routes.channels, now_ms=now_ms, clock_s=clock_s)
        self._book = Book(store, self._outbox)
        self._silences = Silences(store.silences)
        new_id = new_id or IncidentIds().new
        self._quiet = Quiet(
            self._book,
            self._silences,
            store,
            passed_on_to={channel.name for channel in settings.channels if channel.wants_acknowledgements},
            now_ms=now_ms,
            new_id=new_id,
            exists={**exists, "channel": self._routes.channels} if exists else exists,
        )
        self._teller = Teller(
            self._book,
            self._silences,
            self._routes,
            settings.repeat_policy(),
            figures_of=figures_of,
            levers_of=levers_of,
            new_id=new_id,
            now_ms=now_ms,
        )
        self._samples = Samples(self._book, figures_of, clock_s)
        self._store_watch = StoreWatch(self._book, store, clock_s)
        self._https: list[Http] = []
        self._senders: dict[str, Sender] = {}
        paces = Paces(clock_s)
        for channel in settings.channels:
            http = Http(
                allow_insecure=channel.allow_insecure,
                connect_s=settings.delivery.connect_s,
                total_s=settings.delivery.total_s,
                now_ms=now_ms,
                true_ms=true_ms,
            )
            self._https.append(http)
            broken = self._book.get(channel_key(channel.name))
            self._senders[channel.name] = Sender(
                ChannelStatus(name=channel.name, kind=channel.kind, broken=broken.incident.summary if broken else ""),
                CHANNELS[channel.kind](channel, http, settings.page_url or "", store),
                paces,
                self._outbox,
                settings.delivery,
                store,
                now_ms=now_ms,
                clock_s=clock_s,
                rng=rng or random.Random(),
                on_broken=self._channel_broken,
                on_mended=self._channel_mended,
                on_given_up=self._given_up,
                standing=self._teller.standing,
            )
        self._receivers = Receivers(settings.channels, store)
        self._handover = Handover(self._book, self._outbox, self._routes, self._senders, settings.delivery, clock_s)

    # -------------------------------------------------------------- for readers

    def open_levels(self) -> dict[IncidentKey, Level]:
        """The levels that the engine starts from after a restart. UNKNOWN stays UNKNOWN: the first data move it."""
        return {record.incident.key: record.incident.level for record in self._book}

    def incidents(self) -> list[Incident]:
        """Open ones, worst first, then oldest first."""
        incidents = [record.incident for record in sorted(self._book, key=by_gravity)]
        if not self.silences():
            return incidents
        now_ms = self._now_ms()
        silenced = [self._silences.of(incident.key, now_ms) for incident in incidents]
        return [
            incident if silence is None else structs.replace(incident, silence_id=silence.id)
            for incident, silence in zip(incidents, silenced, strict=True)
        ]

    def channels(self) -> list[ChannelStatus]:
        """State of the channels, in the order of the configuration."""
        statuses = []
        for name, sender in self._senders.items():
            waiting = self._outbox.waiting(name)
            oldest_ms = min((one.row.created_ms for one in waiting), default=None)
            statuses.append(
                structs.replace(sender.status, pending=len(waiting), oldest_ms=oldest_ms, results=dict(sender.status.results))
            )
        return statuses

    def waits_s(self) -> float:
        """How long the oldest message waits, in seconds. Channels do not count that are broken or were asked for patience."""
        now_s = self._clock_s()
        waits_s = [0.0]
        for name, sender in self._senders.items():
            waiting = self._outbox.waiting(name)
            if not sender.status.broken and not any(self._outbox.patience_s(one.row) for one in waiting):
                waits_s += [now_s - one.since_s for one in waiting]
        return max(waits_s)

    def stalled_s(self) -> float:
        """How long a message is due, in seconds, that its sender does not even try to send."""
        return max((sender.stalled_s for sender in self._senders.values()), default=0.0)

    def durable(self) -> bool | None:
        """Whether open incidents and waiting messages would survive our death; None: they are not meant to."""
        return None if self._store.path is None else not self._store.problem

    def alerts_total(self) -> dict[tuple[str, str], int]:
        """Crossings towards worse, and occurrences, since start, by (rule, level word)."""
        return dict(self._teller.crossings)

    # -------------------------------------------------------------- what happens

    async def handle(self, transitions: Sequence[Transition]) -> None:
        """Takes what the engine found. On return it is in the store, as far as the disk lets it; sending goes on by itself."""
        for start in range(0, len(transitions), TRANSITIONS_PER_COMMIT):
            async with self._book.deciding() as work:
                for transition in transitions[start : start + TRANSITIONS_PER_COMMIT]:
                    self._teller.take(transition, work)

    async def tick(self, now_ms: int) -> None:
        """About once a second: what silences held back, repeats, falling over, and the watch on our own store."""
        async with self._book.deciding() as work:
            self._samples.follow()
            await self._quiet.end_what_is_over(now_ms, work)
            self._teller.release(now_ms, work, REPEATS_PER_TICK)
            self._teller.repeat(now_ms, work, REPEATS_PER_TICK)
            self._teller.introduce(now_ms, work, REPEATS_PER_TICK)
        async with self._book.deciding():
            if records := self._samples.to_save():
                await self._store.commit(records)
            await self._handover.fall_over()
        await self.handle(await self._store_watch.look(now_ms))

    async def run(self) -> None:
        """Sends until cancelled. What waited when the process ended goes out first."""
        for channel in self._settings.channels:
            log.info("alert_channel", channel=channel.name, kind=channel.kind, where=channel.where)
        async with AsyncExitStack() as stack:
            for http in self._https:
                await stack.enter_async_context(http)
            await self._settle_in()
            async with asyncio.TaskGroup() as group:
                for name, sender in self._senders.items():
                    group.create_task(sender.run(), name=f"alerts-{name}")
                await asyncio.Event().wait()

    async def flush(self, deadline_s: float) -> int:
        """Before the end: one more try for all that waits, at most deadline_s. Returns how many are left for the next start."""
        self._outbox.hurry()
        for sender in self._senders.values():
            sender.hurry()
        try:
            async with asyncio.timeout(deadline_s):
                await self._outbox.emptied()
        except TimeoutError:
            log.warning("alerts_left_in_outbox", pending=len(self._outbox))
        return len(self._outbox)

    # -------------------------------------------------------------- what people say: model.view.Desk

    async def acknowledge(self, incident_id: str, *, author: str, note: str, minutes: float) -> Incident | None:
        return await self._quiet.acknowledge(incident_id, author=author, note=note, minutes=minutes)

    async def unacknowledge(self, incident_id: str) -> Incident | None:
        return await self._quiet.unacknowledge(incident_id)

    def silences(self) -> Sequence[Silence]:
        return self._quiet.silences()

    async def silence(self, match: IncidentKey, *, author: str, note: str, minutes: float) -> Silence:
        return await self._quiet.silence(match, author=author, note=note, minutes=minutes)

    async def unsilence(self, silence_id: str) -> bool:
        return await self._quiet.unsilence(silence_id)

    # -------------------------------------------------------------- our own channels

    async def _settle_in(self) -> None:
        """After a restart with another configuration: what was heard belongs to receivers, not to names; what waits goes where
        the routes lead now; nothing is open about a channel that is gone."""
        receivers, names = self._receivers, self._routes.channels
        async with self._book.deciding() as work:
            if moved := await self._outbox.settle(lambda row: self._handover.home_of(row, receivers)):
                log.warning("alerts_adopted", messages=moved)
            for record in self._book:
                known = known_to_heirs(record, receivers.heir)
                for name in names:
                    for one in self._outbox.of_incident(name, record.id):
                        known = heard(known, (name,), one.row.message.incident.level)
                if known != record:
                    self._book.keep(known, work)
            receivers.remember()
            self._teller.meet_channels({name for name, sender in self._senders.items() if sender.refreshes}, work)
        keys = [record.incident.key for record in self._book]
        gone = [key.subject for key in keys if key.rule == CHANNEL_RULE and key.subject not in names]
        await self.handle([of_channel(name, Level.OK, self._now_ms(), "the channel is no longer configured") for name in gone])

    async def _given_up(self, name: str, one: Waiting, reason: str) -> None:
        async with self._book.deciding():
            elsewhere = await self._handover.give_up(one, reason)
        if not elsewhere:
            await self.handle([one_given_up(name, self._now_ms(), reason)])

    async def _channel_broken(self, name: str, reason: str) -> None:
        await self.handle([of_channel(name, Level.HIGH, self._now_ms(), f"channel {name} does not take messages: {reason}")])

    async def _channel_mended(self, name: str, reason: str) -> None:
        await self.handle([of_channel(name, Level.OK, self._now_ms(), f"channel {name} takes messages again")])
