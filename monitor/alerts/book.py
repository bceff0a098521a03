"""The incidents that are not over, in memory and in the store: one decision after the other, each committed as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from msgspec import Struct, field, structs

from monitor.alerts.decide import worst_value
from monitor.alerts.message import IncidentRecord, Message
from monitor.alerts.outbox import Outbox, OutboxStore
from monitor.model.alerts import IncidentKey, Level
from monitor.model.figures import PoolFigures, PoolKey

FIGURE_RULES = ("health", "margin_ratio", "guarantee_asset_ratio")  # rules that judge the figure of this name


class Work(Struct):
    """What one decision changes."""

    records: dict[str, IncidentRecord] = field(default_factory=dict)
    messages: list[tuple[Message, tuple[str, ...]]] = field(default_factory=list)  # with the channels that get them


class Book:
    """Open incidents by their key, and occurrences that a silence holds back."""

    def __init__(self, store: OutboxStore, outbox: Outbox) -> None:
        self._outbox = outbox
        self._open = {record.incident.key: record for record in store.incidents if record.incident.closed_ms is None}
        self._held_occurrences = {record.id: record for record in store.incidents if record.incident.closed_ms is not None}
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def deciding(self) -> AsyncIterator[Work]:
        """Nobody else decides meanwhile. On leaving, the work is in the store, as far as the disk lets it, and on its way."""
        async with self._lock:
            work = Work()
            yield work
            if work.records or work.messages:
                await self._outbox.apply(self._outbox.plan(work.messages), work.records.values())

    # -------------------------------------------------------------- reading

    def __iter__(self) -> Iterator[IncidentRecord]:
        """The open ones, as they are at this moment."""
        return iter(tuple(self._open.values()))

    def get(self, key: IncidentKey) -> IncidentRecord | None:
        return self._open.get(key)

    def by_id(self, incident_id: str) -> IncidentRecord | None:
        return next((record for record in self._open.values() if record.id == incident_id), None)

    def held(self) -> list[IncidentRecord]:
        """Those with news that a silence holds back, occurrences included."""
        return [record for record in (*self._open.values(), *self._held_occurrences.values()) if record.held is not None]

    # -------------------------------------------------------------- changing

    def keep(self, record: IncidentRecord, work: Work) -> None:
        """The record as it is now: open, held back, or over."""
        work.records[record.id] = record
        self._held_occurrences.pop(record.id, None)
        if record.incident.closed_ms is None:
            self._open[record.incident.key] = record
        elif record.held is not None:
            self._held_occurrences[record.id] = record
        elif record.incident.key in self._open and self._open[record.incident.key].id == record.id:
            del self._open[record.incident.key]

    def update(self, record: IncidentRecord) -> None:
        """An open record whose change is committed elsewhere, or later."""
        self._open[record.incident.key] = record


def by_gravity(record: IncidentRecord) -> tuple[int, int, str]:
    """Worst first, then oldest first."""
    return -record.incident.level.gravity, record.incident.opened_ms, record.id


def heard(record: IncidentRecord, channels: tuple[str, ...], level: Level) -> IncidentRecord:
    """The record after these channels were told that it is at this level."""
    return structs.replace(
        record,
        told=tuple(dict.fromkeys((*record.told, *channels))),
        heard={**record.heard, **dict.fromkeys(channels, level)},
    )


def known_to_heirs(record: IncidentRecord, heir: Callable[[str], str | None]) -> IncidentRecord:
    """The record with those who heard of it under their present names; who is gone, or is another receiver now, is left out."""
    heirs = {name: new for name in record.told if (new := heir(name)) is not None}
    heard_of = {heirs[name]: level for name, level in record.heard.items() if name in heirs}
    return structs.replace(record, told=tuple(dict.fromkeys(heirs.values())), heard=heard_of)


def pool_of(key: IncidentKey) -> PoolKey | None:
    """None where the rule speaks of no single pool."""
    return PoolKey(key.venue, key.account, key.pool) if key.pool else None


def with_value(record: IncidentRecord, figures: PoolFigures) -> IncidentRecord:
    """The record with the present value of the figure that its rule judges, where that is known."""
    incident = record.incident
    if incident.key.rule not in FIGURE_RULES or incident.level is Level.UNKNOWN:
        return record
    value: float | None = getattr(figures, incident.key.rule)
    if value is None:
        return record
    worst = worst_value(incident.worse, incident.worst_value, value)
    return structs.replace(record, incident=structs.replace(incident, value=value, worst_value=worst))
