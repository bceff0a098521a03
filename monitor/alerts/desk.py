"""The alert desk: transitions in, messages on their way out. What it says is on disk before it is on the network."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import islice

import structlog
from msgspec import Struct, structs

from monitor.alerts.channels import CHANNELS
from monitor.alerts.channels.base import Http
from monitor.alerts.decide import can_wait, changed, in_force, opened, owed, told, why_notify, worst_value
from monitor.alerts.ids import IncidentIds
from monitor.alerts.message import IncidentRecord, Message, Notice, Reason, digest, gravity
from monitor.alerts.outbox import Outbox, OutboxStore, Waiting
from monitor.alerts.routes import CHANNEL_RULE, STORE_RULE, Routes
from monitor.alerts.sender import Sender
from monitor.alerts.settings import MINUTE_MS, AlertSettings
from monitor.alerts.silences import Silences
from monitor.alerts.text import one_line
from monitor.model.alerts import Acknowledgement, ChannelStatus, Incident, IncidentKey, Level, Lever, Silence, Transition
from monitor.model.figures import PoolFigures, PoolKey

FIGURE_RULES = ("health", "margin_ratio", "guarantee_asset_ratio")  # rules that judge the figure of this name
TRANSITIONS_PER_COMMIT = 500  # a crash crosses thousands at once: the first are sent while the rest are written
REPEATS_PER_TICK = 200  # what crossed in one crash is due in one second: spread over several, worst first
SAMPLES_PER_TICK = 20  # open incidents whose worst value is followed in one tick
SAVE_SAMPLES_EVERY_S = 30.0
STORE_RETRY_EVERY_S = 10.0
STANDING_PER_NOTICE = 50  # their present figures cost time
AUTHOR_CHARS_MAX = 64

log = structlog.get_logger()


def _no_levers(key: IncidentKey) -> Sequence[Lever]:
    return ()


class _Work(Struct):
    """What one call changes: committed as a whole."""

    records: dict[str, IncidentRecord]
    messages: list[tuple[Message, tuple[str, ...]]]


class AlertDesk:
    """Opens, tells, repeats and ends incidents.

    `handle` and `tick` return when their outcome is in the store; `run` sends, until it is cancelled.
    store: loaded. figures_of, levers_of: the present ones, for repeats (levers of an old crossing would be wrong amounts).
    now_ms: wall clock. clock_s: monotonic.
    """

    def __init__(
        self,
        settings: AlertSettings,
        store: OutboxStore,
        *,
        figures_of: Callable[[PoolKey], PoolFigures | None],
        now_ms: Callable[[], int],
        levers_of: Callable[[IncidentKey], Sequence[Lever]] = _no_levers,
        clock_s: Callable[[], float] = time.monotonic,
        new_id: Callable[[int], str] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._figures_of = figures_of
        self._levers_of = levers_of
        self._now_ms = now_ms
        self._clock_s = clock_s
        self._new_id = new_id or IncidentIds().new
        self._policy = settings.repeat_policy()
        self._routes = Routes(settings)
        self._outbox = Outbox(store, self._routes.channels, now_ms=now_ms, clock_s=clock_s)
        self._open = {record.incident.key: record for record in store.incidents if record.incident.closed_ms is None}
        self._held_occurrences = {record.id: record for record in store.incidents if record.incident.closed_ms is not None}
        self._silences = Silences(store.silences)
        self._crossings: dict[tuple[str, str], int] = {}
        self._lock = asyncio.Lock()  # one decision after the other, each with its commit
        self._sampled = 0
        self._unsaved: set[IncidentKey] = set()
        self._saved_s = clock_s()
        self._store_tried_s = clock_s()
        self._https: list[Http] = []
        self._senders: dict[str, Sender] = {}
        for channel in settings.channels:
            http = Http(
                allow_insecure=channel.allow_insecure,
                connect_s=settings.delivery.connect_s,
                total_s=settings.delivery.total_s,
                now_ms=now_ms,
            )
            self._https.append(http)
            broken = self._open.get(_channel_key(channel.name))
            self._senders[channel.name] = Sender(
                ChannelStatus(name=channel.name, kind=channel.kind, broken=broken.incident.summary if broken else ""),
                CHANNELS[channel.kind](channel, http, settings.page_url),
                self._outbox,
                settings.delivery,
                now_ms=now_ms,
                clock_s=clock_s,
                rng=rng or random.Random(),
                on_broken=self._channel_broken,
                on_mended=self._channel_mended,
                standing=self._standing,
            )

    # -------------------------------------------------------------- for readers

    def open_levels(self) -> dict[IncidentKey, Level]:
        """The levels that the engine starts from after a restart. UNKNOWN stays UNKNOWN: the first data move it."""
        return {key: record.incident.level for key, record in self._open.items()}

    def incidents(self) -> list[Incident]:
        """Open ones, worst first, then oldest first."""
        incidents = [record.incident for record in sorted(self._open.values(), key=_by_gravity)]
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
        now_s, now_ms = self._clock_s(), self._now_ms()
        waits_s = [0.0]
        for name, sender in self._senders.items():
            waiting = self._outbox.waiting(name)
            if not sender.status.broken and all(one.row.not_before_ms <= now_ms for one in waiting):
                waits_s += [now_s - one.since_s for one in waiting]
        return max(waits_s)

    def stalled_s(self) -> float:
        """How long a message is due, in seconds, that its sender does not even try to send."""
        return max((sender.stalled_s for sender in self._senders.values()), default=0.0)

    def alerts_total(self) -> dict[tuple[str, str], int]:
        """Crossings towards worse, and occurrences, since start, by (rule, level word)."""
        return dict(self._crossings)

    # -------------------------------------------------------------- what happens

    async def handle(self, transitions: Sequence[Transition]) -> None:
        """Takes what the engine found. On return it is in the store, as far as the disk lets it; sending goes on by itself."""
        for start in range(0, len(transitions), TRANSITIONS_PER_COMMIT):
            async with self._lock:
                work = _Work({}, [])
                for transition in transitions[start : start + TRANSITIONS_PER_COMMIT]:
                    self._take(transition, work)
                await self._commit(work)

    async def tick(self, now_ms: int) -> None:
        """About once a second: what silences held back, repeats, falling over, and the watch on our own store."""
        async with self._lock:
            work = _Work({}, [])
            self._follow_worst_values()
            await self._end_of_quiet(now_ms, work)
            due = [
                record
                for record in self._open.values()
                if record.held is None and self._policy.due(record.incident, now_ms, silenced=self._silenced(record, now_ms))
            ]
            for record in sorted(due, key=_by_gravity)[:REPEATS_PER_TICK]:
                self._still(record, Reason.REPEAT_DUE, now_ms, work)
            await self._commit(work)
            await self._save_samples()
            for one in tuple(self._outbox):
                await self._fall_over(one)
        await self._watch_store(now_ms)

    async def run(self) -> None:
        """Sends until cancelled. What waited when the process ended goes out first."""
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
        try:
            async with asyncio.timeout(deadline_s):
                await self._outbox.emptied()
        except TimeoutError:
            log.warning("alerts_left_in_outbox", pending=len(self._outbox))
        return len(self._outbox)

    # -------------------------------------------------------------- what people say: model.view.Desk

    async def acknowledge(self, incident_id: str, *, author: str, note: str, minutes: float) -> Incident | None:
        """Stops the repeats of an open incident for so many minutes, unless it gets worse."""
        author, note = _by(author), one_line(note)
        async with self._lock:
            record = self._by_id(incident_id)
            if record is None:
                return None
            now_ms, incident = self._now_ms(), record.incident
            acknowledged = Acknowledgement(
                author=author,
                note=note,
                at_ms=now_ms,
                until_ms=now_ms + round(minutes * MINUTE_MS),
                level=incident.known_level,
            )
            log.info("alert_acknowledged", incident=incident.id, author=author, minutes=minutes)
            return await self._acknowledged(record, acknowledged)

    async def unacknowledge(self, incident_id: str) -> Incident | None:
        """Takes an acknowledgement back: repeats go on."""
        async with self._lock:
            record = self._by_id(incident_id)
            if record is None or record.incident.acknowledged is None:
                return None
            log.info("acknowledgement_taken_back", incident=incident_id)
            return await self._acknowledged(record, None)

    def silences(self) -> Sequence[Silence]:
        """Those in force, the next to end first."""
        return self._silences.in_force(self._now_ms())

    async def silence(self, match: IncidentKey, *, author: str, note: str, minutes: float) -> Silence:
        """Messages about what matches wait for so many minutes; emergencies, liquidations and ends do not wait."""
        if match == IncidentKey("", "", "", ""):
            raise ValueError("a silence must name a venue, account, pool, rule or subject")
        author, note = _by(author), one_line(note)
        async with self._lock:
            now_ms = self._now_ms()
            silence = Silence(
                id=f"S{self._new_id(now_ms)}",
                author=author,
                note=note,
                created_ms=now_ms,
                until_ms=now_ms + round(minutes * MINUTE_MS),
                **structs.asdict(match),
            )
            self._silences.add(silence)
            log.warning("silence_begins", silence=silence.id, author=author, minutes=minutes, match=structs.asdict(match))
            await self._store.commit(silences=[silence])
        return silence

    async def unsilence(self, silence_id: str) -> bool:
        """Ends a silence; what it held back is told at the next tick."""
        async with self._lock:
            if not self._silences.remove(silence_id):
                return False
            log.info("silence_ends", silence=silence_id, reason="taken back")
            await self._store.commit(drop_silences=[silence_id])
        return True

    def _by_id(self, incident_id: str) -> IncidentRecord | None:
        return next((record for record in self._open.values() if record.id == incident_id), None)

    async def _acknowledged(self, record: IncidentRecord, acknowledged: Acknowledgement | None) -> Incident:
        record = structs.replace(record, incident=structs.replace(record.incident, acknowledged=acknowledged))
        work = _Work({}, [])
        self._keep(record, work)
        await self._commit(work)
        return record.incident

    def _silenced(self, record: IncidentRecord, now_ms: int) -> bool:
        return self._silences.of(record.incident.key, now_ms) is not None

    async def _end_of_quiet(self, now_ms: int, work: _Work) -> None:
        """Acknowledgements and silences that ended, and what the silences held back."""
        ended = self._silences.clear_ended(now_ms)
        for silence in ended:
            log.info("silence_ends", silence=silence.id, reason="its time is over")
        if ended:
            await self._store.commit(drop_silences=[silence.id for silence in ended])
        for record in tuple(self._open.values()):
            if record.incident.acknowledged is not None and not in_force(record.incident.acknowledged, now_ms):
                log.info("acknowledgement_ended", incident=record.id, reason="its time is over")
                self._keep(structs.replace(record, incident=structs.replace(record.incident, acknowledged=None)), work)
        held = [record for record in (*self._open.values(), *self._held_occurrences.values()) if record.held is not None]
        free = [record for record in held if not self._silenced(record, now_ms)]
        for record in sorted(free, key=_by_gravity)[:REPEATS_PER_TICK]:
            self._release(record, now_ms, work)

    # -------------------------------------------------------------- decisions

    def _take(self, transition: Transition, work: _Work) -> None:
        key, level = transition.key, transition.level
        if level is not Level.OK and (transition.momentary or level is Level.UNKNOWN or level > transition.was):
            self._count(key, level)
        record = None if transition.momentary else self._open.get(key)
        before = None if record is None else record.incident
        reason = why_notify(before, level, self._policy)
        if before is None and reason is None:
            return
        if before is None or record is None:
            record = IncidentRecord(incident=opened(transition, self._new_id(transition.at_ms)), limit=transition.limit)
        else:
            record = structs.replace(record, incident=changed(before, transition), limit=transition.limit)
            if before.acknowledged and not record.incident.acknowledged and level is not Level.OK:
                log.info("acknowledgement_ended", incident=record.id, reason="it got worse", level=level.word)
        silence = self._silences.of(key, self._now_ms())
        if reason is not None and silence is not None and can_wait(reason, level):
            log.info("alert_held", incident=record.id, level=level.word, silence=silence.id, summary=transition.summary)
            record = structs.replace(record, held=structs.replace(transition, figures=digest(transition.figures)))
        elif reason is not None:
            record = self._tell(record, reason, transition, work)
        elif level is Level.OK:
            record = structs.replace(record, held=None)  # over before the silence was: nobody has to know
        self._keep(record, work)

    def _release(self, record: IncidentRecord, now_ms: int, work: _Work) -> None:
        """Tells what a silence held back: an occurrence as it was, an incident as it is now, if it is news still."""
        held, reason = record.held, owed(record.incident)
        if held is not None and held.momentary:
            self._keep(self._tell(record, Reason.FIRST, held, work), work)
        elif reason is not None:
            self._still(record, reason, now_ms, work)
        else:
            self._keep(structs.replace(record, held=None), work)

    def _still(self, record: IncidentRecord, reason: Reason, now_ms: int, work: _Work) -> None:
        """Tells an open incident as it is now."""
        key = record.incident.key
        figures = self._figures_of(PoolKey(key.venue, key.account, key.pool)) if key.pool else None
        if figures is not None:
            record = _with_value(record, figures)
        incident = record.incident
        still = Transition(
            key=key,
            level=incident.level,
            was=incident.level,
            at_ms=now_ms,
            summary=incident.summary,
            worse=incident.worse,
            value=incident.value,
            limit=record.limit,
            figures=figures,
            causes=record.held.causes if record.held is not None else (),
            levers=tuple(self._levers_of(key)),
        )
        self._keep(self._tell(record, reason, still, work), work)

    def _tell(self, record: IncidentRecord, reason: Reason, now: Transition, work: _Work) -> IncidentRecord:
        """Adds the message to the work. Returns the record with what receivers know from now on."""
        before = record.incident
        incident = told(before, now.at_ms)
        if reason is Reason.RESOLVED:  # who heard of it hears of its end, whatever the routes say today
            channels = tuple(name for name in self._routes.channels if name in record.told)
        else:
            channels = self._routes.of(incident.key, incident.level)
        message = Message(
            id=f"{incident.id}.{incident.messages}",
            reason=reason,
            incident=incident,
            told_level=before.notified_level,
            at_ms=now.at_ms,
            momentary=now.momentary,
            limit=now.limit,
            figures=digest(now.figures),
            causes=now.causes,
            levers=now.levers,
        )
        work.messages.append((message, channels))
        log.warning(
            "alert",
            reason=reason.value,
            level=incident.level.word,
            incident=incident.id,
            venue=incident.key.venue,
            account=incident.key.account,
            pool=incident.key.pool,
            rule=incident.key.rule,
            subject=incident.key.subject,
            summary=incident.summary,
            channels=channels,
        )
        return structs.replace(_heard(record, channels, incident.level), incident=incident, held=None)

    def _keep(self, record: IncidentRecord, work: _Work) -> None:
        work.records[record.id] = record
        self._held_occurrences.pop(record.id, None)
        if record.incident.closed_ms is None:
            self._open[record.incident.key] = record
        elif record.held is not None:
            self._held_occurrences[record.id] = record
        elif record.incident.key in self._open and self._open[record.incident.key].id == record.id:
            del self._open[record.incident.key]

    def _count(self, key: IncidentKey, level: Level) -> None:
        crossing = (key.rule, level.word)
        self._crossings[crossing] = self._crossings.get(crossing, 0) + 1

    async def _commit(self, work: _Work) -> None:
        if work.records or work.messages:
            await self._outbox.apply(self._outbox.plan(work.messages), work.records.values())

    # -------------------------------------------------------------- each tick

    async def _fall_over(self, one: Waiting) -> None:
        """A critical message that its channel does not deliver goes to the next channel too.

        If the next one has it already, it is that one's turn to pass it on.
        """
        row = one.row
        sender = self._senders[row.channel]
        late = self._clock_s() - one.since_s >= self._settings.delivery.fail_over_s
        if row.notice.urgency < Level.CRITICAL or not (late or (sender.status.broken and row.attempts)):
            return
        for name in self._routes.after(row.channel):
            if name in row.routed:
                return
            about_it = any(message.incident.key == _channel_key(name) for message in row.notice.messages)
            if about_it or self._senders[name].status.broken:
                continue
            log.warning("alert_falls_over", channel=row.channel, to=name, notice=row.notice.id)
            told_too = []
            for message in row.notice.messages:
                record = self._open.get(message.incident.key)
                if record is not None and record.id == message.incident.id:
                    record = self._open[message.incident.key] = _heard(record, (name,), message.incident.level)
                    told_too.append(record)
            await self._outbox.pass_on(one, name, told_too)
            return

    def _standing(self, channel: str) -> Iterator[Notice]:
        """What is open now of all that the channel was told, for receivers that forget what is not repeated.

        Read when it is asked for: an incident that ended meanwhile is left out. What a silence holds back, or what the routes do
        not send there, stays as the channel last heard it.
        """
        keys = [key for key, record in self._open.items() if channel in record.told]
        for start in range(0, len(keys), STANDING_PER_NOTICE):
            records = [record for key in keys[start : start + STANDING_PER_NOTICE] if (record := self._open.get(key))]
            messages = tuple(self._standing_of(record, channel) for record in records if channel in record.told)
            if messages:
                yield Notice(id=f"{channel}.standing.{messages[0].id}", messages=messages)

    def _standing_of(self, record: IncidentRecord, channel: str) -> Message:
        key, incident = record.incident.key, record.incident
        if record.held is not None or channel not in self._routes.of(key, incident.level):
            level = record.heard.get(channel, incident.notified_level)
            known = incident.notified_level if level is Level.UNKNOWN else level
            incident = structs.replace(incident, level=level, known_level=known)
        figures = self._figures_of(PoolKey(key.venue, key.account, key.pool)) if key.pool else None
        return Message(
            id=f"{incident.id}.{incident.messages}",
            reason=Reason.REPEAT_DUE,
            incident=incident,
            told_level=incident.notified_level,
            at_ms=self._now_ms(),
            limit=record.limit,
            figures=digest(figures),
        )

    def _follow_worst_values(self) -> None:
        """Between two crossings a value may get worse unnoticed by the levels. A few incidents per tick: figures cost time."""
        keys = list(self._open)
        for key in islice((keys * 2)[self._sampled % max(len(keys), 1) :], min(SAMPLES_PER_TICK, len(keys))):
            self._sampled += 1
            if key.rule not in FIGURE_RULES:
                continue
            figures = self._figures_of(PoolKey(key.venue, key.account, key.pool))
            if figures is None:
                continue
            record = _with_value(self._open[key], figures)
            if record.incident.worst_value != self._open[key].incident.worst_value:
                self._open[key] = record
                self._unsaved.add(key)

    async def _save_samples(self) -> None:
        if self._unsaved and self._clock_s() - self._saved_s >= SAVE_SAMPLES_EVERY_S:
            self._saved_s = self._clock_s()
            records = [self._open[key] for key in self._unsaved if key in self._open]
            self._unsaved.clear()
            await self._store.commit(records)

    async def _watch_store(self, now_ms: int) -> None:
        """Tells when the disk no longer keeps our state, and when it does again; watching goes on from memory."""
        if self._store.problem and self._clock_s() - self._store_tried_s >= STORE_RETRY_EVERY_S:
            self._store_tried_s = self._clock_s()
            await self._store.commit()
        key = IncidentKey("", "", "", STORE_RULE)
        is_open, problem = key in self._open, self._store.problem
        found = [
            Transition(key=key, level=Level.HIGH, was=Level.OK, at_ms=now_ms, summary=notice, momentary=True)
            for notice in self._store.take_notices()
        ]
        if problem and not is_open:
            summary = f"the state on disk is at risk: {problem}; a restart may forget what happens now"
            found.append(Transition(key=key, level=Level.HIGH, was=Level.OK, at_ms=now_ms, summary=summary))
        elif is_open and not problem:
            found.append(
                Transition(key=key, level=Level.OK, was=Level.HIGH, at_ms=now_ms, summary="the state is safe on disk again")
            )
        await self.handle(found)

    # -------------------------------------------------------------- our own channels

    async def _settle_in(self) -> None:
        """After a restart with another configuration: nothing waits for a channel that is gone, nothing is open about one."""
        names = self._routes.channels
        if names and (adopted := await self._outbox.adopt_orphans(names[0])):
            log.warning("alerts_adopted", channel=names[0], messages=adopted)
        gone = [key for key in self._open if key.rule == CHANNEL_RULE and key.subject not in names]
        await self.handle([self._of_channel(key.subject, Level.OK, "the channel is no longer configured") for key in gone])

    async def _channel_broken(self, name: str, reason: str) -> None:
        await self.handle([self._of_channel(name, Level.HIGH, f"channel {name} does not take messages: {reason}")])

    async def _channel_mended(self, name: str, reason: str) -> None:
        await self.handle([self._of_channel(name, Level.OK, f"channel {name} takes messages again")])

    def _of_channel(self, name: str, level: Level, summary: str) -> Transition:
        was = Level.HIGH if level is Level.OK else Level.OK
        return Transition(key=_channel_key(name), level=level, was=was, at_ms=self._now_ms(), summary=summary)


def _by_gravity(record: IncidentRecord) -> tuple[int, int, str]:
    return -gravity(record.incident.level), record.incident.opened_ms, record.id


def _channel_key(name: str) -> IncidentKey:
    return IncidentKey("", "", "", CHANNEL_RULE, name)


def _heard(record: IncidentRecord, channels: tuple[str, ...], level: Level) -> IncidentRecord:
    """The record after these channels were told that it is at this level."""
    return structs.replace(
        record,
        told=tuple(dict.fromkeys((*record.told, *channels))),
        heard={**record.heard, **dict.fromkeys(channels, level)},
    )


def _by(author: str) -> str:
    author = one_line(author, AUTHOR_CHARS_MAX)
    if not author:
        raise ValueError("an author must be named")
    return author


def _with_value(record: IncidentRecord, figures: PoolFigures) -> IncidentRecord:
    """The record with the present value of the figure that its rule judges, where that is known."""
    incident = record.incident
    if incident.key.rule not in FIGURE_RULES or incident.level is Level.UNKNOWN:
        return record
    value: float | None = getattr(figures, incident.key.rule)
    if value is None:
        return record
    worst = worst_value(incident.worse, incident.worst_value, value)
    return structs.replace(record, incident=structs.replace(incident, value=value, worst_value=worst))
