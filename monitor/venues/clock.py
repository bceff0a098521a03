"""The venue's time as seen from here."""

from collections.abc import Callable


class VenueClock:
    """The venue's time as seen from here. Compared again and again: one comparison at start goes stale."""

    def __init__(
        self, now_ms: Callable[[], int], compared: Callable[[int, int], None] = lambda _offset_ms, _error_ms: None
    ) -> None:
        """compared: told the offset after each comparison, and by how much it may be wrong."""
        self._now_ms = now_ms
        self._compared = compared
        self.offset_ms = 0  # venue − ours
        self._floor_offset_ms = 0

    def now_ms(self) -> int:
        """Best guess: the answer was written half a round trip ago."""
        return self._now_ms() + self.offset_ms

    def floor_ms(self) -> int:
        """Surely not later than the venue's clock: as if the answer had taken no time to come back."""
        return self._now_ms() + self._floor_offset_ms

    def set(self, server_ms: int, asked_ms: int, answered_ms: int) -> None:
        self.offset_ms = server_ms - (asked_ms + answered_ms) // 2
        self._floor_offset_ms = server_ms - answered_ms
        self._compared(self.offset_ms, self.offset_ms - self._floor_offset_ms)
