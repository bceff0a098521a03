"""What the monitor says of itself: the disk does not keep its state, a channel takes no messages."""

from __future__ import annotations

from collections.abc import Callable

from monitor.alerts.book import Book
from monitor.alerts.outbox import OutboxStore
from monitor.alerts.routes import CHANNEL_RULE, DEGRADED_RULE, STORE_RULE
from monitor.model.alerts import IncidentKey, Level, Transition

STORE_RETRY_EVERY_S = 10.0
STORE_KEY = IncidentKey("", "", "", STORE_RULE)


class StoreWatch:
    """Notices when the disk no longer keeps our state, and when it does again. clock_s: monotonic."""

    def __init__(self, book: Book, store: OutboxStore, clock_s: Callable[[], float]) -> None:
        self._book = book
        self._store = store
        self._clock_s = clock_s
        self._tried_s = clock_s()

    async def look(self, now_ms: int) -> list[Transition]:
        """What is to be told; tries the disk again while it refuses."""
        if self._store.problem and self._clock_s() - self._tried_s >= STORE_RETRY_EVERY_S:
            self._tried_s = self._clock_s()
            await self._store.commit()
        is_open, problem = self._book.get(STORE_KEY) is not None, self._store.problem
        found = [
            Transition(key=STORE_KEY, level=Level.HIGH, was=Level.OK, at_ms=now_ms, summary=notice, momentary=True)
            for notice in self._store.take_notices()
        ]
        if problem and not is_open:
            summary = f"the state on disk is at risk: {problem}; a restart may forget what happens now"
            found.append(Transition(key=STORE_KEY, level=Level.HIGH, was=Level.OK, at_ms=now_ms, summary=summary))
        elif is_open and not problem:
            summary = "the state is safe on disk again"
            found.append(Transition(key=STORE_KEY, level=Level.OK, was=Level.HIGH, at_ms=now_ms, summary=summary))
        return found


def of_monitor(subject: str, at_ms: int, summary: str) -> Transition:
    """What happened once to the monitor itself, and is no matter of a venue, a channel or the store."""
    key = IncidentKey("", "", "", DEGRADED_RULE, subject)
    return Transition(key=key, level=Level.HIGH, was=Level.OK, at_ms=at_ms, summary=summary, momentary=True)


def channel_key(name: str) -> IncidentKey:
    return IncidentKey("", "", "", CHANNEL_RULE, name)


def of_channel(name: str, level: Level, at_ms: int, summary: str) -> Transition:
    """A channel broke (HIGH) or is well again (OK)."""
    was = Level.HIGH if level is Level.OK else Level.OK
    return Transition(key=channel_key(name), level=level, was=was, at_ms=at_ms, summary=summary)


def one_given_up(name: str, at_ms: int, reason: str) -> Transition:
    """A message was refused by its channel, and no other one may hear of its account: so nothing of it is in this text."""
    summary = f"channel {name} takes messages but refused one, which was given up: {reason}"
    return Transition(key=channel_key(name), level=Level.HIGH, was=Level.OK, at_ms=at_ms, summary=summary, momentary=True)
