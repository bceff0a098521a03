"""The one clock: it reads like the wall clock and never steps back, whatever is done to the wall clock meanwhile."""

import time


class Clock:
    """Epoch milliseconds at the start, carried on by the monotonic clock."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ms(self) -> int:
        return (time.monotonic_ns() + self._offset_ns) // 1_000_000
