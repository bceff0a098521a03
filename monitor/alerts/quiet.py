"""What people say about alerts: acknowledgements and silences, from their beginning to their end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import structlog
from msgspec import structs

from monitor.alerts.book import Book, Work
from monitor.alerts.decide import in_force, unacknowledged
from monitor.alerts.message import IncidentRecord, Message, Reason
from monitor.alerts.outbox import OutboxStore
from monitor.alerts.routes import CHANNEL_RULE
from monitor.alerts.settings import MINUTE_MS
from monitor.alerts.silences import Silences
from monitor.alerts.text import one_line
from monitor.model.alerts import Acknowledgement, Incident, IncidentKey, Silence

AUTHOR_CHARS_MAX = 64

log = structlog.get_logger()


class Quiet:
    """Implements `model.view.Desk`. What a silence held back is told by others, once it is over.

    passed_on_to: the channels that want to know of acknowledgements.
    exists: what a silence may name, by its part, such as "account"; a part that is not there may be anything.
    """

    def __init__(
        self,
        book: Book,
        silences: Silences,
        store: OutboxStore,
        *,
        passed_on_to: Collection[str],
        now_ms: Callable[[], int],
        new_id: Callable[[int], str],
        exists: Mapping[str, Collection[str]],
    ) -> None:
        self._book = book
        self._silences = silences
        self._store = store
        self._passed_on_to = passed_on_to
        self._now_ms = now_ms
        self._new_id = new_id
        self._exists = exists

    async def acknowledge(self, incident_id: str, *, author: str, note: str, minutes: float) -> Incident | None:
        """Stops the repeats of an open incident for so many minutes, unless it gets worse."""
        author, note = _by(author), one_line(note)
        async with self._book.deciding() as work:
            record = self._book.by_id(incident_id)
            if record is None:
                return None
            now_ms = self._now_ms()
            acknowledged = Acknowledgement(
                author=author,
                note=note,
                at_ms=now_ms,
                until_ms=now_ms + round(minutes * MINUTE_MS),
                level=record.incident.known_level,
            )
            log.info("alert_acknowledged", incident=record.id, author=author, minutes=minutes)
            incident = structs.replace(record.incident, acknowledged=acknowledged)
            self._book.keep(structs.replace(record, incident=incident), work)
            if channels := tuple(name for name in record.told if name in self._passed_on_to):
                work.messages.append((_message(incident, acknowledged), channels))
            return incident

    async def unacknowledge(self, incident_id: str) -> Incident | None:
        """Takes an acknowledgement back: repeats go on."""
        async with self._book.deciding() as work:
            record = self._book.by_id(incident_id)
            if record is None or record.incident.acknowledged is None:
                return None
            log.info("acknowledgement_taken_back", incident=incident_id)
            return self._unacknowledged(record, work)

    def silences(self) -> Sequence[Silence]:
        """Those in force, the next to end first."""
        return self._silences.in_force(self._now_ms())

    async def silence(self, match: IncidentKey, *, author: str, note: str, minutes: float) -> Silence:
        """Messages about what matches wait for so many minutes; emergencies, liquidations and ends do not wait."""
        if match == IncidentKey("", "", "", ""):
            raise ValueError("a silence must name a venue, account, pool, rule or subject")
        self._check(match)
        author, note = _by(author), one_line(note)
        async with self._book.deciding():
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

    def _check(self, match: IncidentKey) -> None:
        """A silence of something that is not there holds nothing back, and its author believes that it does."""
        parts = {"venue": match.venue, "account": match.account, "rule": match.rule}
        if match.rule == CHANNEL_RULE:
            parts["channel"] = match.subject
        for part, name in parts.items():
            there = self._exists.get(part)
            is_open = any(getattr(record.incident.key, part, "") == name for record in self._book)
            if name and there is not None and name not in there and not is_open:
                called = one_line(name, AUTHOR_CHARS_MAX)
                raise ValueError(f"no {part} is called {called}; there are: {', '.join(there) or 'none'}")

    async def unsilence(self, silence_id: str) -> bool:
        """Ends a silence; what it held back is told at the next tick."""
        async with self._book.deciding():
            if not self._silences.remove(silence_id):
                return False
            log.info("silence_ends", silence=silence_id, reason="taken back")
            await self._store.commit(drop_silences=[silence_id])
        return True

    async def end_what_is_over(self, now_ms: int, work: Work) -> None:
        """Takes out acknowledgements and silences whose time is over."""
        ended = self._silences.clear_ended(now_ms)
        for silence in ended:
            log.info("silence_ends", silence=silence.id, reason="its time is over")
        if ended:
            await self._store.commit(drop_silences=[silence.id for silence in ended])
        for record in self._book:
            if record.incident.acknowledged is not None and not in_force(record.incident.acknowledged, now_ms):
                log.info("acknowledgement_ended", incident=record.id, reason="its time is over")
                self._unacknowledged(record, work)

    def _unacknowledged(self, record: IncidentRecord, work: Work) -> Incident:
        incident = unacknowledged(record.incident)
        self._book.keep(structs.replace(record, incident=incident), work)
        return incident


def _message(incident: Incident, acknowledged: Acknowledgement) -> Message:
    return Message(
        id=f"{incident.id}.{incident.messages}.ack{acknowledged.at_ms}",
        reason=Reason.ACKNOWLEDGED,
        incident=incident,
        told_level=incident.notified_level,
        at_ms=acknowledged.at_ms,
    )


def _by(author: str) -> str:
    author = one_line(author, AUTHOR_CHARS_MAX)
    if not author:
        raise ValueError("an author must be named")
    return author
