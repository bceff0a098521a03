"""Bans of our address outlive a restart: a request during one makes it longer."""

from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from monitor.venues import Venue

LONGEST_MS = 3 * 86_400_000  # no venue bans for longer: a note beyond it was made by a wrong clock

log = structlog.get_logger()


class Notes(Protocol):
    """What the store keeps of them."""

    def note(self, key: str) -> str | None: ...

    def put_note(self, key: str, value: str) -> None: ...

    async def commit(self) -> bool: ...


class Bans:
    """Reads what a run before this one was told, and keeps what this one is told."""

    def __init__(self, venues: Sequence[Venue], notes: Notes, now_ms: Callable[[], int]) -> None:
        self._venues, self._notes = venues, notes
        self._noted_ms: dict[str, int] = {}  # by venue; what is not here, or smaller, is noted anew
        for venue in venues:
            until_ms = _read(notes.note(_key(venue)), venue.name)
            latest_ms = now_ms() + LONGEST_MS
            if until_ms > latest_ms:
                log.warning("ban_note_capped", venue=venue.name, until_ms=until_ms, capped_ms=latest_ms)
                venue.keep_out(latest_ms)
                continue
            self._noted_ms[venue.name] = until_ms
            if until_ms > now_ms():
                venue.keep_out(until_ms)

    async def look(self) -> None:
        """Once a second. A ban that ends is left to lie: it lies in the past."""
        for venue in self._venues:
            until_ms = venue.shut_out_until_ms()
            if until_ms > self._noted_ms.get(venue.name, 0):
                self._noted_ms[venue.name] = until_ms
                self._notes.put_note(_key(venue), str(until_ms))
                await self._notes.commit()


def _read(note: str | None, venue: str) -> int:
    """Epoch ms; 0: nothing noted, or nothing that can be read. A bad note must not end the start."""
    try:
        return int(note or 0)
    except ValueError:
        log.warning("ban_note_unreadable", venue=venue)
        return 0


def _key(venue: Venue) -> str:
    return f"banned_until_ms:{venue.name}"
