"""The worst value of an incident between its messages: it may get worse unnoticed by the levels."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from monitor.alerts.book import FIGURE_RULES, Book, pool_of, with_value
from monitor.alerts.message import IncidentRecord
from monitor.model.alerts import IncidentKey
from monitor.model.figures import PoolFigures, PoolKey

SAMPLES_PER_TICK = 20  # figures cost time
SAVE_EVERY_S = 30.0


class Samples:
    """Looks at a few open incidents per tick, all of them in turn. clock_s: monotonic."""

    def __init__(self, book: Book, figures_of: Callable[[PoolKey], PoolFigures | None], clock_s: Callable[[], float]) -> None:
        self._book = book
        self._figures_of = figures_of
        self._clock_s = clock_s
        self._looked = 0
        self._unsaved: set[IncidentKey] = set()
        self._saved_s = clock_s()

    def follow(self) -> None:
        """Call it while deciding."""
        records = list(self._book)
        for record in islice((records * 2)[self._looked % max(len(records), 1) :], min(SAMPLES_PER_TICK, len(records))):
            self._looked += 1
            key = record.incident.key
            pool = pool_of(key)
            figures = self._figures_of(pool) if key.rule in FIGURE_RULES and pool is not None else None
            if figures is None:
                continue
            seen = with_value(record, figures)
            if seen.incident.worst_value != record.incident.worst_value:
                self._book.update(seen)
                self._unsaved.add(key)

    def to_save(self) -> list[IncidentRecord]:
        """What changed since the last time, every 30 s."""
        if not self._unsaved or self._clock_s() - self._saved_s < SAVE_EVERY_S:
            return []
        self._saved_s = self._clock_s()
        records = [record for key in self._unsaved if (record := self._book.get(key)) is not None]
        self._unsaved.clear()
        return records
