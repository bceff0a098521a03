"""The clocks of the daemon: one for ages, intervals and the order of events, and what time it truly is."""

import time
from collections.abc import Callable

# Goes on while the machine is suspended, so that after a resume the data are as old as they are. Not every system has it.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock:
    """Epoch milliseconds at the start, carried on by a clock that nobody sets: it never steps, neither back nor ahead."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.clock_gettime_ns(_STEADY)

    def now_ms(self) -> int:
        return (time.clock_gettime_ns(_STEADY) + self._offset_ns) // 1_000_000


class TrueTime:
    """The time by the venues' clocks. Ours may have been wrong at the start, and may have been set right since."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._ahead_ms: dict[str, tuple[int, int]] = {}  # by venue: give or take, how far its clock is ahead of ours

    def compared(self, venue: str, offset_ms: int, error_ms: int) -> None:
        """A venue's clock was `offset_ms` ahead of ours, give or take `error_ms`."""
        self._ahead_ms[venue] = (error_ms, offset_ms)

    def now_ms(self) -> int | None:
        """By the clock that was compared best; None while none was: nobody knows then whether ours is right."""
        if not self._ahead_ms:
            return None
        _, ahead_ms = min(self._ahead_ms.values())
        return self._now_ms() + ahead_ms
