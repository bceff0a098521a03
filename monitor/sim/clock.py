"""The simulated clock: one for all venues of the simulator."""

import time
from collections.abc import Callable


class SimClock:
    """Simulated milliseconds. Runs at `speed` simulated seconds per real second, or stands still while frozen.

    It interpolates between ticks, because a client that signs with the real time must fall into the signing window.
    """

    def __init__(
        self,
        start_ms: int | None = None,
        speed: float = 1.0,
        frozen: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monotonic = monotonic
        self._speed = speed
        self._frozen = frozen
        self._anchor_ms = float(int(time.time() * 1000) if start_ms is None else start_ms)
        self._anchor_s = monotonic()

    @property
    def frozen(self) -> bool:
        return self._frozen

    def now_ms(self) -> int:
        if self._frozen:
            return int(self._anchor_ms)
        return int(self._anchor_ms + (self._monotonic() - self._anchor_s) * self._speed * 1000)

    def set_ms(self, now_ms: int) -> None:
        """Jump to a time, also backwards; a running clock runs on from there."""
        self._anchor_ms = float(now_ms)
        self._anchor_s = self._monotonic()

    def advance(self, ms: int) -> None:
        self.set_ms(self.now_ms() + ms)

    def freeze(self, frozen: bool = True) -> None:
        self.set_ms(self.now_ms())
        self._frozen = frozen
