"""Listen keys that end before their time. One is survived in silence; two within minutes mean that somebody closes them."""

from collections import deque

WINDOW_S = 600.0


class Expiries:
    """The ends of one account's listen keys. Times are of the event loop, in seconds."""

    def __init__(self) -> None:
        self._ended: deque[tuple[str, float]] = deque()  # key, when
        self._told_at = float("-inf")

    def note(self, key: str, opened_at: float, now: float) -> int:
        """A connection that was opened at `opened_at` learns that its key ended. Returns how many ends to tell of, mostly 0.

        One end may be told twice, and on each of two connections: those that were open with the same key already.
        """
        if any(known == key and opened_at <= at for known, at in self._ended):
            return 0
        self._ended.append((key, now))
        while self._ended[0][1] <= now - WINDOW_S:
            self._ended.popleft()
        if len(self._ended) < 2 or now - self._told_at < WINDOW_S:
            return 0
        self._told_at = now
        return len(self._ended)
