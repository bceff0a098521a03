"""How sure the venue's rows are: one truth for ages, rules, figures and readers, by what one full picture covers.

Where a picture is of a whole account (Binance), its pools share a row of `Trust`; where it is of a coin (HTX), each pool has its
own, and the account's row stands for the list of its coins. Three things may be wrong with a row:

* *not sure*: its stream is broken, or no picture of it came since. It was sure until then, or at its last picture.
* *unverified*: no picture of it came for longer than `reconcile_due_s`, though the stream goes on: nothing gets better on it.
* *lapsed*: it is unverified, and for `unverified_s` the stream brought nothing of it either: nothing is known of it.

Times are ours, in ms.
"""

from collections.abc import Mapping
from enum import IntEnum

import numpy as np

from monitor.engine.columns import BoolColumn, Columns, FloatColumn, IndexColumn, IntColumn, LevelColumn
from monitor.engine.market import NEVER
from monitor.engine.pools import Rows
from monitor.rules.trust import StaleRule

START_GRACE_MS = 15_000  # what is not there yet begins to age only after this
NO_POOL = -1


class Due(IntEnum):
    """Why a row waits for its next full picture."""

    NOTHING = 0
    FIRST = 1
    AFTER_GAP = 2
    AFTER_MODE = 3
    NEVER = 4  # the account does not hold it


_WHY = {
    Due.FIRST: "no picture of {} yet",
    Due.AFTER_GAP: "no full picture of {} since the stream broke",
    Due.AFTER_MODE: "the account's mode changed",
    Due.NEVER: "the account holds no {}",
}


class TrustRows(Columns):
    """One row for each thing that a full picture covers."""

    new_row = {  # noqa: RUF012
        "account": (np.intp, 0),
        "pool": (np.intp, NO_POOL),  # row of the pool, where a picture is of one
        "carried": (np.bool_, False),  # its stream is known to carry it on
        "broken": (np.bool_, False),  # its stream is known to be down
        "regular": (np.bool_, True),  # full pictures of it come again and again
        "due": (np.int8, Due.FIRST),
        "picture_ms": (np.int64, NEVER),
        "sure_ms": (np.int64, NEVER),  # when it was last known to be sure
        "heard_ms": (np.int64, NEVER),  # the last event of its stream
    }
    account: IndexColumn
    pool: IndexColumn
    carried: BoolColumn
    broken: BoolColumn
    regular: BoolColumn
    due: LevelColumn
    picture_ms: IntColumn
    sure_ms: IntColumn
    heard_ms: IntColumn


class Trust:
    """Of one venue. The first rows are the accounts', in their order."""

    def __init__(self, stale: Mapping[str, StaleRule], *, by_pool: bool) -> None:
        """stale: the rule of each account, by alias. by_pool: pictures are of one pool each, see `cover`."""
        self.rows = TrustRows()
        self.names: list[tuple[str, str]] = []  # (alias, pool; "" of an account)
        self._down = [""] * len(stale)  # why each account's stream is down
        self._of: list[list[int]] = []  # rows of each account, its own first
        self._started_ms = NEVER
        rules = list(stale.values())
        self.improve_ms = np.array([rule.improve_ms for rule in rules])
        self.unknown_ms = np.array([rule.unknown_ms if rule.enabled else np.inf for rule in rules])
        self._due_ms = np.array([1000 * rule.reconcile_due_s for rule in rules])
        self._lapse_ms = np.array([1000 * rule.unverified_s if rule.enabled else np.inf for rule in rules])
        for place, alias in enumerate(stale):
            self.rows.add(account=place, regular=not by_pool)
            self.names.append((alias, ""))
            self._of.append([place])

    def __len__(self) -> int:
        return len(self.rows)

    def started(self, now_ms: int) -> None:
        """At each second; the first one counts: the clock may have been compared long before, and nothing ages until then."""
        if self._started_ms == NEVER:
            self._started_ms = now_ms

    def never_ms(self, now_ms: int) -> int:
        """How long what was never seen has been missing: from the start on, after a grace."""
        return max(0, now_ms - self._started_ms - START_GRACE_MS)

    # -------------------------------------------------------------- what happens

    def cover(self, place: int, pool: int, name: str, now_ms: int) -> int:
        """A new row, of a pool whose pictures are its own. What was not there yet ages only after a grace."""
        rows = self.rows
        row = rows.add(
            account=place,
            pool=pool,
            carried=rows.carried[place],
            broken=rows.broken[place],
            sure_ms=now_ms + START_GRACE_MS,
        )
        self.names.append((self.names[place][0], name))
        self._of[place].append(row)
        return row

    def expect(self, row: int, *, expected: bool) -> None:
        """Of a pool that has no picture yet: whether one is to come."""
        due = self.rows.due
        if due[row] in (Due.FIRST, Due.NEVER):
            due[row] = Due.FIRST if expected else Due.NEVER

    def pictured(self, row: int, now_ms: int, *, carried: bool = False) -> None:
        """A full picture came. carried: and the stream carries it on from there."""
        rows = self.rows
        rows.due[row] = Due.NOTHING
        rows.picture_ms[row] = rows.sure_ms[row] = now_ms
        if carried:
            rows.carried[row], rows.broken[row] = True, False

    def stream_up(self, place: int) -> None:
        """The stream carries all of the account; what has no picture yet still waits for it."""
        mine = self._of[place]
        self._down[place] = ""
        self.rows.carried[mine], self.rows.broken[mine] = True, False

    def stream_down(self, place: int, reason: str, now_ms: int) -> None:
        mine = self._of[place]
        self.wait(place, Due.AFTER_GAP, now_ms)
        self._down[place] = reason
        self.rows.carried[mine], self.rows.broken[mine] = False, True

    def wait(self, place: int, due: Due, now_ms: int) -> None:
        """All of the account waits for its next picture; what was sure was so until now."""
        rows, mine = self.rows, np.array(self._of[place], np.intp)
        was_sure = mine[self.sure(mine)]
        rows.sure_ms[was_sure] = self.seen_ms(was_sure, now_ms)
        pictured = mine[rows.picture_ms[mine] != NEVER]
        rows.due[pictured] = due

    def heard(self, rows: Rows | int, now_ms: int) -> None:
        """The stream brought an event of these."""
        self.rows.heard_ms[rows] = now_ms

    # -------------------------------------------------------------- how sure it is

    def of_account(self, place: int) -> list[int]:
        return self._of[place]

    def sure(self, rows: Rows | slice = slice(None)) -> BoolColumn:
        sure: BoolColumn = ~self.rows.broken[rows] & (self.rows.due[rows] == Due.NOTHING)
        return sure

    def owes(self, row: int) -> bool:
        """Whether the stream owes every change since the last picture."""
        return bool(self.rows.carried[row] and self.rows.due[row] == Due.NOTHING)

    def overdue_ms(self, rows: Rows | slice, now_ms: int) -> FloatColumn:
        """How far the last picture is beyond the time when the next was due; above 0 it is unverified."""
        r = self.rows
        over = now_ms - r.picture_ms[rows] - self._due_ms[r.account[rows]]
        return np.where(r.regular[rows] & (r.picture_ms[rows] != NEVER), np.maximum(0.0, over), 0.0)

    def lapsed(self, rows: Rows | slice, now_ms: int) -> BoolColumn:
        r = self.rows
        account = r.account[rows]
        vouched_ms = np.maximum(r.picture_ms[rows] + self._due_ms[account], r.heard_ms[rows])
        long_ago: BoolColumn = now_ms - vouched_ms >= self._lapse_ms[account]
        lapsed: BoolColumn = r.regular[rows] & (r.picture_ms[rows] != NEVER) & long_ago
        return lapsed

    def seen_ms(self, rows: Rows | slice, now_ms: int) -> IntColumn:
        """When each was last sure: now, unless its stream or its picture is missing, or it lapsed."""
        r = self.rows
        sure, lapsed = self.sure(rows), self.lapsed(rows, now_ms)
        seen: IntColumn = np.where(
            sure, np.where(lapsed, np.maximum(r.picture_ms[rows], r.heard_ms[rows]), now_ms), r.sure_ms[rows]
        )
        return seen

    def unsure_for_ms(self, now_ms: int) -> IntColumn:
        """Of all rows: since when they are not sure; 0: they are. What was never seen ages from the start, after a grace."""
        known_ms = self.rows.sure_ms
        age_ms = np.where(known_ms == NEVER, self.never_ms(now_ms), np.maximum(0, now_ms - known_ms))
        return np.where(self.sure(), 0, age_ms)

    def why_not(self, row: int, now_ms: int) -> str:
        """ "" while it is sure and verified."""
        rows, account = self.rows, int(self.rows.account[row])
        if rows.broken[row]:
            return self._down[account] or "the stream is down"
        what = self.names[row][1] or "the account"
        if rows.due[row]:
            return _WHY[Due(int(rows.due[row]))].format(what)
        if self.overdue_ms(np.array([row]), now_ms)[0] > 0:
            return f"unverified: the last full picture of {what} is more than {self._due_ms[account] / 1000:g} s old"
        return ""
