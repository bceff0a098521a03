"""The venue's own figures in its account pushes against ours.

One change is pushed as two frames: the coin's account, and the legs that it touched. Either may come first or be lost, and
between the two our sums are nobody's: a loss that was realised is in the balance already and still in the PnL of the closed
leg. So the venue's own PnL and position margin lead wherever ours do not explain them, until the other frame or a snapshot does.
Legs that come before their account leave both as they were.
"""

from typing import NamedTuple

import numpy as np

from monitor.engine.guarantee_columns import CoinPools
from monitor.engine.market import NEVER
from monitor.engine.pools import Rows
from monitor.margin import guarantee
from monitor.model.events import CoinBalance

PLACES = 1e-12  # the venue prints 18; equal up to this is equal
EXACT = 1e-9  # of a pool's notional: more than rounding leaves
SKEW = 0.005  # of it: what the venue's last prices and ours may differ by, as they come on two sockets
SIBLING_MS = 1_000  # the other frame of a change comes within this, else it is lost
OWN_MARGIN_MS = 5_000  # legs whose account does not come for so long bear the margin that they need
ASK_AGAIN_MS = 5_000  # between two requests for a snapshot of one coin


class At(NamedTuple):
    """One pool by its legs alone, at given prices; amounts in the coin."""

    pnl: float
    margin: float  # after locking
    gross: float  # Σ |notional|
    net: float  # contracts


def tells(balance: CoinBalance | None) -> bool:
    """Whether the venue gave its own figures with it."""
    return balance is not None and balance.venue_equity is not None and balance.venue_position_margin is not None


class Pushes:
    """Which pools are led by the venue's own figures, and since when."""

    def __init__(self, pools: CoinPools) -> None:
        self._pools = pools

    def open(self, row: int) -> bool:
        """Our figures of the pool do not explain the venue's."""
        return bool(self._pools.gap_ms[row] != NEVER)

    def any_open(self) -> bool:
        return bool((self._pools.gap_ms != NEVER).any())

    def lead(self) -> None:
        """Writes the part of PnL and position margin that the venue's figures add to those of the legs."""
        p = self._pools
        p.lead[:] = guarantee.led(p.pnl, p.venue_pnl, p.pnl_gap) - p.pnl
        p.position_margin[:] = guarantee.led(p.position_margin, p.venue_margin, p.margin_gap)

    def heard(self, row: int, balance: CoinBalance, *, late: bool = False) -> None:
        """An account row with the venue's own figures. late: it came long after its own time."""
        p = self._pools
        if balance.venue_equity is not None and balance.venue_position_margin is not None:
            p.venue_pnl[row] = balance.venue_equity - balance.margin_static - p.pnl_off[row]
            p.venue_margin[row] = balance.venue_position_margin - p.margin_off[row]
            p.push_late[row] = late

    def stay(self, row: int, pnl: float, margin: float) -> None:
        """Legs came alone: until their account comes, the figures are what they were."""
        p = self._pools
        p.venue_pnl[row], p.venue_margin[row], p.push_late[row] = pnl, margin, False

    def weigh(self, row: int, own: At, now_ms: int, *, exact: bool, news: bool) -> None:
        """Do our legs explain the venue's figures? exact: nothing but rounding may be between them.

        news: a balance or legs are other than they were. Without any the venue's figures lead only to the worse: what is better
        may as well be older than our prices.
        """
        p = self._pools
        pnl_gap, margin_gap = p.venue_pnl[row] - own.pnl, p.venue_margin[row] - own.margin
        if np.isnan(pnl_gap) or np.isnan(margin_gap) or self._within(row, own, pnl_gap, margin_gap, EXACT if exact else SKEW):
            self.clear(row)
            return
        leads = news or self.open(row)
        p.pnl_gap[row], p.margin_gap[row] = (pnl_gap, margin_gap) if leads else (min(pnl_gap, 0.0), max(margin_gap, 0.0))
        if p.gap_ms[row] == NEVER:
            p.gap_ms[row] = now_ms

    def young(self, row: int, now_ms: int) -> bool:
        """The other frame may still come."""
        return self.open(row) and bool(now_ms - self._pools.gap_ms[row] < SIBLING_MS)

    def clear(self, row: int) -> None:
        p = self._pools
        p.pnl_gap[row] = p.margin_gap[row] = 0.0
        p.gap_ms[row] = NEVER

    def misread(self, row: int, balance: CoinBalance, own: At) -> None:
        """What a snapshot shows of us at the venue's own prices is no matter of frames: pushes are measured beside it."""
        p = self._pools
        p.pnl_off[row] = p.margin_off[row] = 0.0
        self.heard(row, balance)
        pnl_off, margin_off = p.venue_pnl[row] - own.pnl, p.venue_margin[row] - own.margin
        if not (np.isnan(pnl_off) or np.isnan(margin_off) or self._within(row, own, pnl_off, margin_off, EXACT)):
            p.pnl_off[row], p.margin_off[row] = pnl_off, margin_off

    def overdue(self, now_ms: int) -> Rows:
        """Pools of which the other frame did not come in time."""
        p = self._pools
        rows: Rows = np.flatnonzero((p.gap_ms != NEVER) & (now_ms - p.gap_ms >= SIBLING_MS))
        return rows

    def by_prices(self, row: int, own: At) -> bool:
        """Whether prices explain the gap: it was small when it came, ours have caught up, or the push was late itself."""
        p = self._pools
        if p.push_late[row]:
            return True
        now = (p.venue_pnl[row] - own.pnl, p.venue_margin[row] - own.margin)
        return any(self._within(row, own, *gap, SKEW) for gap in ((p.pnl_gap[row], p.margin_gap[row]), now))

    def ask(self, row: int, now_ms: int, *, at_once: bool) -> bool:
        """Whether it is time to ask for a snapshot, which is noted. at_once: if it was not asked since the gap began."""
        p = self._pools
        asked_ms = p.asked_ms[row]
        due = bool(asked_ms == NEVER or now_ms - asked_ms >= ASK_AGAIN_MS or (at_once and asked_ms < p.gap_ms[row]))
        if due:
            p.asked_ms[row] = now_ms
        return due

    def _within(self, row: int, own: At, pnl_gap: float, margin_gap: float, part: float) -> bool:
        p = self._pools
        notional = np.fmax(own.gross, p.venue_margin[row] * p.leverage[row])
        return bool(abs(pnl_gap) <= part * notional + PLACES and abs(margin_gap) <= part * notional / p.leverage[row] + PLACES)
