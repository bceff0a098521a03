"""The levels of one rule over rows that only grow, and what came of judging them."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from monitor.engine.columns import BoolColumn, LevelColumn
from monitor.engine.pools import Rows
from monitor.model.alerts import Incident, IncidentKey, Level, Worse
from monitor.rules.base import LadderRule


class Verdict(NamedTuple):
    """A rule changed its mind. `pool` is a row of the book, −1 where the rule speaks of an account or a venue."""

    key: IncidentKey
    pool: int
    level: Level
    was: Level
    value: float
    limit: float | None
    summary: str
    worse: Worse


class Gauge:
    """`level` is what was last said (it may be UNKNOWN); `known` is the last level that was judged from data."""

    def __init__(self, key_of: Callable[[int], IncidentKey], restored: Mapping[IncidentKey, Incident]) -> None:
        self.key_of = key_of
        self._restored = restored
        self.level: LevelColumn = np.zeros(0, np.int8)
        self.known: LevelColumn = np.zeros(0, np.int8)

    def grow(self, size: int) -> None:
        """New rows begin where the incident stood that was open when the program last ended, so that nothing is paged twice."""
        have = len(self.level)
        if size > have:
            open_ones = [self._restored.get(self.key_of(row)) for row in range(have, size)]
            level = [Level.OK if incident is None else incident.level for incident in open_ones]
            known = [Level.OK if incident is None else max(Level.OK, incident.known_level) for incident in open_ones]
            self.level = np.concatenate((self.level, np.array(level, np.int8)))
            self.known = np.concatenate((self.known, np.array(known, np.int8)))

    def take(self, rows: Rows, judged: LevelColumn, *, keep: BoolColumn, may_improve: BoolColumn, blind: BoolColumn) -> Rows:
        """Stores judged levels; returns the positions in `rows` where the level changed, and leaves the old ones in `was`.

        keep: the data say nothing, so the last known level stands, and an UNKNOWN does not end. may_improve false: nothing
        gets better on such data. blind: what was said stands, UNKNOWN included.
        """
        known = self.known[rows]
        judged = np.where(keep | blind | (~may_improve & (judged < known)), known, judged)
        self.was = self.level[rows]
        after = np.where(blind | (keep & (self.was == Level.UNKNOWN)), self.was, judged)
        self.known[rows] = judged
        self.level[rows] = after
        return np.flatnonzero(after != self.was)


def verdict(rule: LadderRule, key: IncidentKey, *, pool: int, level: int, was: int, value: float, subject: str = "") -> Verdict:
    """Puts a changed level into words."""
    now = Level(int(level))
    limit = rule.limit_of(now)
    text = rule.summary(subject or key.subject, now, value, limit)
    return Verdict(key, pool, now, Level(int(was)), value, limit, text, rule.worse)
