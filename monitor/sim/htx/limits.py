"""How often one may ask: three allowances, counted in windows of the simulated clock."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Allowance:
    limit: int
    interval_ms: int


@dataclass
class _Window:
    ends_ms: int
    used: int = 0


class Limiter:
    """`private` is per user (the read half of 72), `public` and `market` are for the one IP there is."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self.private = Allowance(36, 3000)
        self.public = Allowance(120, 3000)
        self.market = Allowance(800, 1000)
        self._windows: dict[tuple[int, str], _Window] = {}

    def spend(self, allowance: Allowance, who: str = "") -> tuple[bool, dict[str, str]]:
        """Count one call: whether it is within the limit, and the headers that go with its answer."""
        now = self._now_ms()
        key = (id(allowance), who)
        window = self._windows.get(key)
        if window is None or not window.ends_ms - allowance.interval_ms <= now < window.ends_ms:
            window = self._windows[key] = _Window((now // allowance.interval_ms + 1) * allowance.interval_ms)
        window.used += 1
        return window.used <= allowance.limit, {
            "ratelimit-limit": str(allowance.limit),
            "ratelimit-interval": str(allowance.interval_ms),
            "ratelimit-remaining": str(max(0, allowance.limit - window.used)),
            "ratelimit-reset": str(window.ends_ms),  # an absolute time, as recorded
        }
