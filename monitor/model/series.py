"""A pool's figures over time, for charts."""

from collections.abc import Awaitable
from typing import Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from monitor.model.figures import PoolKey

Samples = NDArray[np.float32]


class Series(Struct, frozen=True, kw_only=True):
    """Evenly spaced samples, oldest first; NaN: unknown then, or nobody watched.

    Sample i stands for the `step_s` seconds from `start_ms` + i × `step_s` on: for the moment of the worst health in them.
    """

    start_ms: int
    step_s: int
    equity: Samples  # in the pool's unit
    requirement: Samples

    @property
    def health(self) -> Samples:
        """equity ÷ requirement; NaN also where nothing was at risk."""
        out = np.full(len(self.equity), np.nan, np.float32)
        return np.divide(self.equity, self.requirement, out=out, where=self.requirement > 0)


class History(Protocol):
    """Who remembers."""

    def read(self, key: PoolKey, span_s: int, *, points_max: int = 1500) -> Awaitable[Series | None]:
        """The last `span_s` seconds, in at most `points_max` samples. None: nothing is remembered of such a pool."""
