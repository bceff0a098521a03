"""Bans of our address outlive a restart: a request during one makes it longer."""

from collections.abc import Callable, Sequence
from typing import Protocol

from monitor.venues import Venue


class Notes(Protocol):
    """What the store keeps of them."""

    def note(self, key: str) -> str | None: ...

    def put_note(self, key: str, value: str) -> None: ...

    async def commit(self) -> bool: ...


class Bans:
    """Reads what a run before this one was told, and keeps what this one is told."""

    def __init__(self, venues: Sequence[Venue], notes: Notes, now_ms: Callable[[], int]) -> None:
        self._venues, self._notes = venues, notes
        for venue in venues:
            until_ms = int(notes.note(_key(venue)) or 0)
            if until_ms > now_ms():
                venue.keep_out(until_ms)

    async def look(self) -> None:
        """Once a second. A ban that ends is left to lie: it lies in the past."""
        for venue in self._venues:
            until_ms = venue.shut_out_until_ms()
            if until_ms > int(self._notes.note(_key(venue)) or 0):
                self._notes.put_note(_key(venue), str(until_ms))
                await self._notes.commit()


def _key(venue: Venue) -> str:
    return f"banned_until_ms:{venue.name}"
