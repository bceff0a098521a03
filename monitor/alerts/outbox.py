"""The messages that wait, in memory and in the store: what is next for a channel, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct, structs

from monitor.alerts.batch import Batch, Waiting, by_rank, chosen, halves, notice_of, rank
from monitor.alerts.channels.http import RETRY_AFTER_S_MAX
from monitor.alerts.message import IncidentRecord, Message, OutboxRow, row_of, rows_of
from monitor.alerts.replace import replace_older
from monitor.model.alerts import Silence


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


class Change(Struct, frozen=True):
    """Rows to put and rows to delete: first on disk, then in memory."""

    put: tuple[OutboxRow, ...] = ()
    drop: tuple[str, ...] = ()


class Outbox:
    """All rows of all channels, one for each message and channel. One event loop; whoever changes it commits the change first."""

    def __init__(
        self, store: OutboxStore, channels: Iterable[str], *, now_ms: Callable[[], int], clock_s: Callable[[], float]
    ) -> None:
        self._store = store
        self._now_ms = now_ms
        self._clock_s = clock_s
        self._waiting: dict[str, dict[str, Waiting]] = {name: {} for name in channels}  # by channel, by row id
        self._of_incident: dict[tuple[str, str], dict[str, Waiting]] = {}  # by channel and incident, by row id
        self._arrived: dict[str, asyncio.Event] = {name: asyncio.Event() for name in self._waiting}
        self._empty = asyncio.Event()
        self._orphans: list[OutboxRow] = []
        self._unsaved = Change()  # what was made of the rows of an earlier version
        self._load()
        if not len(self):
            self._empty.set()

    def _load(self) -> None:
        put: list[OutboxRow] = []
        drop: list[str] = []
        for stored in self._store.messages:
            rows = rows_of(stored)
            if rows != (stored,):
                put += rows
                drop.append(stored.id)
            for row in rows:
                if row.channel in self._waiting:
                    self._put(row)
                else:
                    self._orphans.append(row)
        merged = [self._merge(one) for one in list(self)]
        gone = {row_id for change in merged for row_id in change.drop}
        newest = {row.id: row for row in (*put, *(row for change in merged for row in change.put)) if row.id not in gone}
        self._unsaved = Change(tuple(newest.values()), (*drop, *gone))

    # -------------------------------------------------------------- what waits

    def waiting(self, channel: str) -> Sequence[Waiting]:
        return tuple(self._waiting[channel].values())

    def of_incident(self, channel: str, incident_id: str) -> Sequence[Waiting]:
        """What waits for the channel about one incident."""
        return tuple(self._of_incident.get((channel, incident_id), {}).values())

    def is_waiting(self, one: Waiting) -> bool:
        return self._waiting[one.row.channel].get(one.row.id) is one

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def __iter__(self) -> Iterator[Waiting]:
        for rows in self._waiting.values():
            yield from rows.values()

    def patience_s(self, row: OutboxRow) -> float:
        """How long its receiver wants to be left in peace. A note of a clock that ran wrong holds nothing back for days."""
        left_s = (row.not_before_ms - self._now_ms()) / 1000
        return left_s if 0 < left_s <= RETRY_AFTER_S_MAX else 0.0

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
        now_ms = self._now_ms()
        return self._placed(
            row_of(message, channel, now_ms, tuple(channels)) for message, channels in messages for channel in channels
        )

    def _placed(self, new: Iterable[OutboxRow]) -> Change:
        drafts: dict[tuple[str, str], dict[str, OutboxRow]] = {}
        put: dict[str, OutboxRow] = {}
        drop: dict[str, None] = {}
        for row in new:
            place = _place(row)
            if place not in drafts:
                drafts[place] = {one.row.id: one.row for one in self.of_incident(*place) if not one.in_flight}
            rows = drafts[place]
            rows[row.id] = put[row.id] = row
            if replaced := replace_older(list(rows.values())):
                for older in replaced.older:
                    rows.pop(older.id)
                    put.pop(older.id, None)
                    drop[older.id] = None
                rows[replaced.row.id] = put[replaced.row.id] = replaced.row
        return Change(tuple(put.values()), tuple(drop))

    async def apply(self, change: Change, incidents: Iterable[IncidentRecord] = ()) -> None:
        """On disk in one transaction, then the senders see it. A row that waits already is changed at once: what a sender
        delivers meanwhile does not come back."""
        since_s: dict[tuple[str, str], float] = {}
        for row_id in change.drop:
            if (gone := self._forget(row_id)) is not None:
                place = _place(gone.row)
                since_s[place] = min(gone.since_s, since_s.get(place, gone.since_s))
        new = [row for row in change.put if row.id not in self._waiting[row.channel]]
        for row in change.put:
            if row.id in self._waiting[row.channel]:
                self._put(row)
        await self._store.commit(incidents, change.put, change.drop)
        for row in new:
            one = self._put(row)
            one.since_s = min(one.since_s, since_s.get(_place(row), one.since_s))
        if not len(self):
            self._empty.set()

    async def pass_on(
        self, further: Iterable[tuple[Waiting, str]], incidents: Iterable[IncidentRecord], *, drop: Collection[str] = ()
    ) -> None:
        """Gives each message to a further channel as well, in one transaction. incidents: as they are notified now.
        drop: rows that their channel is rid of with that.

        No await between the choice of the rows and this call: what a sender delivered meanwhile would come back.
        """
        new = []
        for one, channel in further:
            one.row = structs.replace(one.row, routed=(*one.row.routed, channel))
            new.append(row_of(one.row.message, channel, self._now_ms(), one.row.routed))
        passed = tuple(one.row for one, _ in further if one.row.id not in drop)
        change = self._placed(row for row in new if row.id not in self._waiting[row.channel])
        await self.apply(Change((*passed, *change.put), (*drop, *change.drop)), incidents)

    # -------------------------------------------------------------- after a start

    async def settle(self, home_of: Callable[[OutboxRow], Sequence[str] | None]) -> int:
        """Before anything is sent: what waited for other channels, or by other routes, goes where the present ones lead.

        home_of: the channels that are to have a row's message now; None: nobody may, it stays on disk for a later configuration.
        Returns how many rows went to another channel.
        """
        put, drop = {row.id: row for row in self._unsaved.put}, list(self._unsaved.drop)
        orphans, self._orphans, self._unsaved = self._orphans, [], Change()
        new: list[OutboxRow] = []
        moved = 0
        for row in [*(one.row for one in self), *orphans]:
            homes = home_of(row)
            if homes is not None and row.channel in homes:
                continue
            self._forget(row.id)
            if homes is not None:
                moved += 1
                drop.append(row.id)
                put.pop(row.id, None)
                new += [row_of(row.message, name, row.created_ms, tuple(homes)) for name in homes]
        change = self._placed(row for row in new if row.id not in self._waiting[row.channel])
        drop += change.drop
        for row_id in change.drop:
            self._forget(row_id)
            put.pop(row_id, None)
        if put or drop or change.put:
            await self._store.commit((), (*put.values(), *change.put), drop)
        for row in change.put:
            self._put(row)
        if not len(self):
            self._empty.set()
        return moved

    # -------------------------------------------------------------- for the senders

    def next(self, channel: str) -> tuple[Waiting | None, float | None]:
        """The row to send now, or None and the seconds until one is due (None: nothing waits)."""
        now_s = self._clock_s()
        rows = self._waiting[channel].values()
        due = [one for one in rows if one.due_s <= now_s]
        if not due:
            return None, min((one.due_s - now_s for one in rows), default=None)
        return min(due, key=by_rank), 0.0

    async def batch(self, channel: str, first: Waiting, *, late_ms: int, summary_above: int) -> Batch:
        """`first`, alone or with others. Who goes together is on disk first: after `kill -9` it goes out under the same id."""
        ones, in_short = chosen(
            first,
            self.waiting(channel),
            now_s=self._clock_s(),
            now_ms=self._now_ms(),
            late_ms=late_ms,
            summary_above=summary_above,
        )
        notice = notice_of(channel, [one.row.message for one in ones], in_short=in_short)
        for one in ones:
            one.in_flight = True  # from now on its content is fixed
        if in_short:
            await self._go_together([(one, notice.id) for one in ones])
        return Batch(tuple(ones), notice)

    async def split(self, batch: Batch) -> None:
        """A request that was refused goes out again in two, until it is known which message is at fault."""
        await self._go_together(halves(batch.ones[0].row.channel, batch.ones))
        await self.postpone(batch.ones, lambda row: row, 0.0)

    async def _go_together(self, ones: Iterable[tuple[Waiting, str]]) -> None:
        changed = []
        for one, together in ones:
            if one.row.together != together:
                one.row = structs.replace(one.row, together=together)
                changed.append(one.row)
        if changed:
            await self._store.commit((), changed)

    async def postpone(self, ones: Iterable[Waiting], update: Callable[[OutboxRow], OutboxRow], wait_s: float) -> None:
        """After a failed attempt. A row that was replaced meanwhile stays replaced."""
        ones = list(ones)
        put: dict[str, OutboxRow] = {}
        drop: list[str] = []
        for one in ones:
            one.in_flight = False
            one.due_s = self._clock_s() + wait_s
            if self.is_waiting(one):
                one.row = update(one.row)
                one.rank = rank(one.row)
                put[one.row.id] = one.row
        for one in ones:
            if self.is_waiting(one):
                change = self._merge(one)
                put |= {row.id: row for row in change.put}
                drop += change.drop
        await self._store.commit((), [row for row_id, row in put.items() if row_id not in drop], drop)

    async def merged(self, one: Waiting) -> bool:
        """Whether the row may be sent as it is; else a newer one of its incident says it too."""
        change = self._merge(one)
        if change.put:
            await self._store.commit((), change.put, change.drop)
        return self.is_waiting(one)

    def _merge(self, one: Waiting) -> Change:
        """Of the row's incident only the newest message is left: an older one, in flight while the newer one came, would be told
        after it. Done in memory at once, so that no decision sees half of it; whoever calls commits the change."""
        place = _place(one.row)
        there = {other.row.id: other for other in self.of_incident(*place) if not other.in_flight}
        replaced = replace_older([other.row for other in there.values()])
        if replaced is None:
            return Change()
        newest = there[replaced.row.id]
        newest.row, newest.rank = replaced.row, rank(replaced.row)
        for older in replaced.older:
            newest.since_s = min(newest.since_s, there[older.id].since_s)
            self._forget(older.id)
        return Change((replaced.row,), tuple(older.id for older in replaced.older))

    def hurry(self) -> None:
        """Makes all rows due, unless their receiver asked us to wait: the last attempts before the process ends."""
        now_s = self._clock_s()
        for one in self:
            if not self.patience_s(one.row):
                one.due_s = min(one.due_s, now_s)
                self._arrived[one.row.channel].set()

    async def emptied(self) -> None:
        """Until nothing waits."""
        await self._empty.wait()

    # -------------------------------------------------------------- in memory

    def _put(self, row: OutboxRow) -> Waiting:
        one = self._waiting[row.channel].get(row.id)
        if one is None:
            now_s = self._clock_s()
            since_s = now_s - max(self._now_ms() - row.created_ms, 0) / 1000
            one = Waiting(row, since_s, now_s + self.patience_s(row), rank(row))
        else:
            one.row, one.rank = row, rank(row)
        self._waiting[row.channel][row.id] = one
        self._of_incident.setdefault(_place(row), {})[row.id] = one
        self._arrived[row.channel].set()
        self._empty.clear()
        return one

    def _forget(self, row_id: str) -> Waiting | None:
        one = self._waiting.get(row_id.rpartition("@")[2], {}).pop(row_id, None)
        if one is not None:
            place = _place(one.row)
            self._of_incident[place].pop(row_id)
            if not self._of_incident[place]:
                del self._of_incident[place]
        return one


def _place(row: OutboxRow) -> tuple[str, str]:
    return row.channel, row.message.incident.id


def attempted(row: OutboxRow, error: str, *, not_before_ms: int = 0, refused: bool = False) -> OutboxRow:
    """The row after an attempt that failed."""
    return structs.replace(
        row, attempts=row.attempts + 1, refused=row.refused + refused, error=error, not_before_ms=not_before_ms
    )
