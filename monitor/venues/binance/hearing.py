"""Does the user stream tell what the snapshots show?

A wrong route accepts the connection and stays silent, and so does a dead stream behind a live socket: both look like an account
on which nothing happens. But every change of a wallet or a position is pushed, so one that only a snapshot shows gives them away.
"""

from monitor.model.events import AccountSnapshot

_Rows = frozenset[tuple[str, str, float]]  # asset or symbol, side, amount


class Hearing:
    """Compares each snapshot with the one before. Times are in seconds of any one clock."""

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s  # a push may come a little later than an answer that holds its change
        self._rows: _Rows | None = None
        self._heard_before = False  # between the requests of the last two snapshots
        self._heard_now = False  # since the request of the last one
        self._unheard_at: float | None = None

    def heard(self) -> None:
        """An account update came by the stream."""
        self._heard_now = True
        self._unheard_at = None

    def asking(self) -> None:
        """A snapshot is asked for now."""
        self._heard_before, self._heard_now = self._heard_now, False

    def answered(self, snapshot: AccountSnapshot, now: float) -> None:
        rows: _Rows = frozenset(
            [(row.asset, "", row.wallet) for row in snapshot.balances]
            + [(row.symbol, row.side, row.quantity) for row in snapshot.positions]
        )
        changed = self._rows is not None and rows != self._rows
        self._rows = rows
        if changed and not (self._heard_before or self._heard_now) and self._unheard_at is None:
            self._unheard_at = now

    def doubtful(self) -> bool:
        """A change was seen and not heard of: look again after the grace."""
        return self._unheard_at is not None

    def deaf(self, now: float) -> bool:
        return self._unheard_at is not None and now - self._unheard_at >= self._grace_s

    def forget(self) -> None:
        """A new connection: what went unheard on the old one says nothing of it."""
        self._rows = None
        self._unheard_at = None
