"""What a full picture shows to have changed while the account's stream was live: did the stream tell of it?

A change that is on its way comes within a moment, and carries the very values of the picture. One that does not come was lost.
"""

from collections.abc import Mapping
from typing import NamedTuple

from msgspec import Struct

from monitor.engine.ledger import RowKey, Told, told_by
from monitor.model.events import AccountUpdate, CoinUpdate


class Standing(NamedTuple):
    """A pool's figures, in its unit."""

    equity: float
    requirement: float


class Moved(NamedTuple):
    """A pool at equal prices, before and after a picture."""

    before: Standing
    after: Standing

    @property
    def relative(self) -> float:
        """The greater of the two moves, of the largest amount at hand; 0 where one is unknown."""
        size = max(map(abs, (*self.before, *self.after)))
        change = max(abs(after - before) for before, after in zip(self.before, self.after, strict=True))
        return change / size if 0 < size < float("inf") else 0.0  # NaN fails both comparisons


class Shown(Struct):
    """What one picture showed and the stream has not told yet."""

    at_ms: int
    rows: dict[RowKey, Told]
    moved: dict[int, Moved]  # by pool row


class Unheard:
    """One account."""

    def __init__(self) -> None:
        self.waiting: list[Shown] = []
        self.missed = 0  # rows, since the start

    def shown(self, rows: Mapping[RowKey, Told], moved: Mapping[int, Moved], now_ms: int) -> None:
        if rows:
            self.waiting.append(Shown(now_ms, dict(rows), dict(moved)))

    def heard(self, event: AccountUpdate | CoinUpdate) -> None:
        """The stream tells. It is the change that was shown if it is of the same time, or says the same."""
        for shown in self.waiting:
            for key, told in told_by(event).items():
                known = shown.rows.get(key)
                if known is not None and (told.version_ms == known.version_ms or told.value == known.value):
                    del shown.rows[key]

    def overdue(self, now_ms: int, patience_ms: float) -> list[Shown]:
        """What did not come in time. Told once, counted by row."""
        if not self.waiting:
            return []
        late = [shown for shown in self.waiting if shown.rows and now_ms - shown.at_ms >= patience_ms]
        self.waiting = [shown for shown in self.waiting if shown.rows and now_ms - shown.at_ms < patience_ms]
        self.missed += sum(len(shown.rows) for shown in late)
        return late

    def forget(self) -> None:
        """The stream broke: what it owed is part of the gap."""
        self.waiting.clear()
