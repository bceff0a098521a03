"""Bracket tables, read once: most accounts get the very same answer, and it is the largest one."""

import hashlib
from collections import OrderedDict

from monitor.model.instruments import BracketTable
from monitor.model.streams import Counters
from monitor.venues.binance.reference import bracket_tables

_KEPT = 8


class BracketTables:
    """Shares the tables of equal answers between accounts."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._known: OrderedDict[bytes, tuple[BracketTable, ...]] = OrderedDict()

    def of(self, answer: bytes) -> tuple[BracketTable, ...]:
        """Raises VenueError(BAD_ANSWER)."""
        digest = hashlib.blake2b(answer, digest_size=16).digest()
        tables = self._known.pop(digest, None)
        if tables is None:
            tables = bracket_tables(answer, self._counters)
        self._known[digest] = tables
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return tables
