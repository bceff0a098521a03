"""The messages that wait, in memory and in the store: what is next for a channel, and what a newer message replaces."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Protocol

from msgspec import Struct, structs

from monitor.alerts.dialects import units, without_mentions
from monitor.alerts.message import IncidentRecord, Message, Notice, OutboxRow, Reason, row_of
from monitor.alerts.text import summary_line
from monitor.model.alerts import Silence

SUMMARY_MESSAGES_MAX = 20
SUMMARY_UNITS_MAX = 3_000  # of a Telegram message's 4,096; the rest is for the title and the links


class OutboxStore(Protocol):
    """What this part asks of the store."""

    @property
    def incidents(self) -> Sequence[IncidentRecord]: ...
    @property
    def messages(self) -> Sequence[OutboxRow]: ...
    @property
    def silences(self) -> Sequence[Silence]: ...
    @property
    def problem(self) -> str: ...
    @property
    def path(self) -> Path | None: ...
    async def commit(
        self,
        incidents: Iterable[IncidentRecord] = (),
        messages: Iterable[OutboxRow] = (),
        drop: Collection[str] = (),
        *,
        silences: Iterable[Silence] = (),
        drop_silences: Collection[str] = (),
    ) -> bool: ...
    def take_notices(self) -> list[str]: ...
    def note(self, key: str) -> str | None: ...
    def put_note(self, key: str, value: str) -> None: ...


class Waiting(Struct):
    """A row with its times on the monotonic clock, in seconds: a wall clock that is set does not move them."""

    row: OutboxRow
    since_s: float  # waits since
    due_s: float  # not to be tried before
    rank: tuple[int, int, int, str]  # least first
    in_flight: bool = False


class Change(Struct, frozen=True):
    """Rows to put and rows to delete: first on disk, then in memory."""

    put: tuple[OutboxRow, ...] = ()
    drop: tuple[str, ...] = ()


class Outbox:
    """All rows of all channels. One event loop; whoever changes it commits the change first."""

    def __init__(
        self, store: OutboxStore, channels: Iterable[str], *, now_ms: Callable[[], int], clock_s: Callable[[], float]
    ) -> None:
        self._store = store
        self._now_ms = now_ms
        self._clock_s = clock_s
        self._waiting: dict[str, dict[str, Waiting]] = {name: {} for name in channels}  # by channel, by row id
        self._arrived: dict[str, asyncio.Event] = {name: asyncio.Event() for name in self._waiting}
        self._empty = asyncio.Event()
        self._orphans = [row for row in store.messages if row.channel not in self._waiting]
        for row in store.messages:
            if row.channel in self._waiting:
                self._add(row)
        if not len(self):
            self._empty.set()

    # -------------------------------------------------------------- what waits

    def waiting(self, channel: str) -> Sequence[Waiting]:
        return tuple(self._waiting[channel].values())

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    async def arrival(self, channel: str, timeout_s: float | None) -> None:
        """Until something new waits for the channel, at most timeout_s."""
        event = self._arrived[channel]
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            return
        event.clear()

    # -------------------------------------------------------------- new messages

    def plan(self, messages: Iterable[tuple[Message, Sequence[str]]]) -> Change:
        """Rows for messages and their channels. Where an older message of the same incident waits, the new one replaces it."""
        drafts: dict[str, _Draft] = {}
        now_ms = self._now_ms()
        for message, channels in messages:
            for channel in channels:
                if channel not in drafts:
                    drafts[channel] = _Draft(one.row for one in self._waiting[channel].values() if not one.in_flight)
                drafts[channel].place(message, channel, now_ms, tuple(channels))
        return Change(
            tuple(row for draft in drafts.values() for row in draft.put.values()),
            tuple(row_id for draft in drafts.values() for row_id in draft.drop),
        )

    # -------------------------------------------------------------- for the senders

    def next(self, channel: str) -> tuple[Waiting | None, float | None]:
        """The row to send now, or None and the seconds until one is due (None: nothing waits)."""
        now_s = self._clock_s()
        rows = self._waiting[channel].values()
        due = [one for one in rows if one.due_s <= now_s]
        if not due:
            return None, min((one.due_s - now_s for one in rows), default=None)
        return min(due, key=_by_rank), 0.0

    async def summarized(self, channel: str, first: Waiting, *, late_ms: int, summary_above: int) -> Waiting:
        """`first`, or a summary in its place when too many wait or when it is too late to act on it."""
        if first.row.notice.summary or first.row.refused:
            return first  # as it was tried before: same id, same content; and what was refused must not spoil others
        now_s, now_ms = self._clock_s(), self._now_ms()
        due = [
            one
            for one in self._waiting[channel].values()
            if one.due_s <= now_s and not one.row.notice.summary and not one.row.refused
        ]
        if len(due) <= summary_above:
            due = [one for one in due if now_ms - one.row.notice.messages[0].at_ms > late_ms]
            if first not in due:
                return first
        due = _that_fit(heapq.nsmallest(SUMMARY_MESSAGES_MAX, due, key=_by_rank))
        messages = tuple(message for one in due for message in one.row.notice.messages)
        # The channel is part of the id: another channel's summary may begin with the same message and hold others.
        notice = Notice(id=f"{channel}.{messages[0].id}+{len(messages) - 1}", messages=messages, summary=True)
        routed = tuple(dict.fromkeys(name for one in due for name in one.row.routed))
        row = row_of(notice, channel, min(one.row.created_ms for one in due), routed)
        await self.apply(Change((row,), tuple(one.row.id for one in due)))
        return self._waiting[channel][row.id]

    async def apply(self, change: Change, incidents: Iterable[IncidentRecord] = ()) -> None:
        """On disk in one transaction, then the senders see it."""
        for row_id in change.drop:
            self._waiting.get(_channel(row_id), {}).pop(row_id, None)
        await self._store.commit(incidents, change.put, change.drop)
        for row in change.put:
            self._add(row)
        if not len(self):
            self._empty.set()

    async def pass_on(self, further: Iterable[tuple[Waiting, str]], incidents: Iterable[IncidentRecord]) -> None:
        """Gives each row's notice to a further channel as well, in one transaction. incidents: as they are told now.

        No await between the choice of the rows and this call: what a sender delivered meanwhile would come back.
        """
        put, new = [], []
        for one, channel in further:
            one.row = structs.replace(one.row, routed=(*one.row.routed, channel))
            put.append(one.row)
            new.append(row_of(one.row.notice, channel, self._now_ms(), one.row.routed))
        await self._store.commit(incidents, (*put, *new))
        for row in new:
            self._add(row)

    async def adopt_orphans(self, channel: str) -> int:
        """Hands what waited for channels that are no longer configured to one that is. Returns how many."""
        orphans, self._orphans = self._orphans, []
        if not orphans:
            return 0
        rows = tuple(row_of(row.notice, channel, row.created_ms, (*row.routed, channel)) for row in orphans)
        new = tuple(row for row in rows if row.id not in self._waiting[channel])
        await self.apply(Change(new, tuple(row.id for row in orphans)))
        return len(orphans)

    def hurry(self) -> None:
        """Makes all rows due, unless their receiver asked us to wait: the last attempts before the process ends."""
        now_s, now_ms = self._clock_s(), self._now_ms()
        for one in self:
            if one.row.not_before_ms <= now_ms:
                one.due_s = min(one.due_s, now_s)
                self._arrived[one.row.channel].set()

    async def emptied(self) -> None:
        """Until nothing waits."""
        await self._empty.wait()

    async def postpone(self, one: Waiting, row: OutboxRow, wait_s: float) -> None:
        """After a failed attempt. A row that was replaced meanwhile stays replaced."""
        one.in_flight = False
        one.due_s = self._clock_s() + wait_s
        rows = self._waiting[row.channel]
        if rows.get(row.id) is one:
            one.row, one.rank = row, _rank(row)
            change = self._merge(one)
            kept = (row,) if rows.get(row.id) is one and row not in change.put else ()
            await self._store.commit((), (*kept, *change.put), change.drop)

    async def merged(self, one: Waiting) -> bool:
        """Whether the row may be sent as it is; else it went, in part at least, into a newer one of its incident."""
        change = self._merge(one)
        if change.put:
            await self._store.commit((), change.put, change.drop)
        return self._waiting[one.row.channel].get(one.row.id) is one

    def _merge(self, one: Waiting) -> Change:
        """Of each incident of the row only the newest message is left: an older one, in flight while the newer one came, would
        be told after it. Done in memory at once, so that no decision sees half of it; whoever calls commits the change."""
        rows = self._waiting[one.row.channel]
        found: dict[str, list[tuple[Waiting, Message]]] = {said.incident.id: [] for said in one.row.notice.messages}
        for other in rows.values():
            if not other.in_flight:
                for said in other.row.notice.messages:
                    if said.incident.id in found:
                        found[said.incident.id].append((other, said))
        put: dict[str, OutboxRow] = {}
        drop: list[str] = []
        for places in found.values():
            places.sort(key=lambda place: -place[1].incident.messages)
            # An acknowledgement says nothing of the danger: it takes nobody's place.
            newest = next((place for place in places if place[1].reason is not Reason.ACKNOWLEDGED), None)
            if newest is None:
                continue
            target, message = newest
            for other, said in places:
                if other is not target and said.incident.messages < newest[1].incident.messages:
                    message = message.swallowing(said)
                    before = target.row
                    target.row = structs.replace(
                        before,
                        created_ms=min(before.created_ms, other.row.created_ms),
                        not_before_ms=max(before.not_before_ms, other.row.not_before_ms),
                    )
                    target.since_s = min(target.since_s, other.since_s)
                    rows.pop(other.row.id)
                    put.pop(other.row.id, None)
                    drop.append(other.row.id)
                    if rest := tuple(kept for kept in other.row.notice.messages if kept is not said):
                        other.row = _without(other.row, rest)
                        other.rank = _rank(other.row)
                        rows[other.row.id] = other
                        put[other.row.id] = other.row
            if message is not newest[1]:
                messages = tuple(message if said is newest[1] else said for said in target.row.notice.messages)
                target.row = structs.replace(target.row, notice=structs.replace(target.row.notice, messages=messages))
                target.rank = _rank(target.row)
                put[target.row.id] = target.row
        return Change(tuple(put.values()), tuple(drop))

    def _add(self, row: OutboxRow) -> None:
        now_s, now_ms = self._clock_s(), self._now_ms()
        since_s = now_s - max(now_ms - row.created_ms, 0) / 1000
        due_s = now_s + max(row.not_before_ms - now_ms, 0) / 1000
        self._waiting[row.channel][row.id] = Waiting(row, since_s, due_s, _rank(row))
        self._arrived[row.channel].set()
        self._empty.clear()

    def __iter__(self) -> Iterator[Waiting]:
        for rows in self._waiting.values():
            yield from rows.values()


class _Draft:
    """One channel's rows while new messages are placed among them."""

    def __init__(self, rows: Iterable[OutboxRow]) -> None:
        self.put: dict[str, OutboxRow] = {}
        self.drop: list[str] = []
        self._rows: dict[str, OutboxRow] = {}
        self._of_incident: dict[str, set[str]] = {}
        for row in rows:
            self._index(row)

    def place(self, message: Message, channel: str, now_ms: int, routed: tuple[str, ...]) -> None:
        incident_id = message.incident.id
        since_ms = now_ms
        if message.reason is Reason.ACKNOWLEDGED:  # says nothing of the danger: what waits must still be told, and first
            self._add(row_of(Notice(id=message.id, messages=(message,)), channel, since_ms, routed))
            return
        for older_id in sorted(self._of_incident.pop(incident_id, ())):
            older = self._rows.pop(older_id)
            self.put.pop(older_id, None)
            self.drop.append(older_id)
            since_ms = min(since_ms, older.created_ms)
            rest = []
            for said in older.notice.messages:
                if said.incident.id == incident_id:
                    message = message.swallowing(said)
                else:
                    rest.append(said)
                    self._of_incident[said.incident.id].discard(older_id)
            if rest:
                without = _without(older, tuple(rest))
                self._add(row_of(without.notice, channel, older.created_ms, older.routed))
        self._add(row_of(Notice(id=message.id, messages=(message,)), channel, since_ms, routed))

    def _add(self, row: OutboxRow) -> None:
        self.put[row.id] = row
        self._index(row)

    def _index(self, row: OutboxRow) -> None:
        self._rows[row.id] = row
        for message in row.notice.messages:
            self._of_incident.setdefault(message.incident.id, set()).add(row.id)


_by_rank = attrgetter("rank")


def _that_fit(due: list[Waiting]) -> list[Waiting]:
    """As many of the first as a message has room for: what a receiver would cut off counts as told, and never was."""
    room = SUMMARY_UNITS_MAX
    for number, one in enumerate(due):
        room -= sum(units(without_mentions(summary_line(message))) + 1 for message in one.row.notice.messages)
        if room < 0:
            return due[: max(number, 1)]
    return due


def _rank(row: OutboxRow) -> tuple[int, int, int, str]:
    """Urgent ones overtake; what was refused before goes last, so that one bad message cannot stand in the way of all."""
    return row.refused, -row.notice.urgency, row.created_ms, row.id


def attempted(row: OutboxRow, error: str, *, not_before_ms: int = 0, refused: bool = False) -> OutboxRow:
    """The row after an attempt that failed."""
    return structs.replace(
        row, attempts=row.attempts + 1, refused=row.refused + refused, error=error, not_before_ms=not_before_ms
    )


def _without(row: OutboxRow, rest: tuple[Message, ...]) -> OutboxRow:
    """A summary that goes on without an incident: its content changed, so its id does."""
    notice = Notice(id=f"{row.notice.id}-{len(rest)}", messages=rest, summary=True)
    return structs.replace(row, id=row_of(notice, row.channel, row.created_ms, row.routed).id, notice=notice)


def _channel(row_id: str) -> str:
    return row_id.rpartition("@")[2]
