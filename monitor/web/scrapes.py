"""The text of `/metrics`, rendered once for all that ask within one tick."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from math import inf
from typing import Protocol

from monitor.web.answers import gathered


class Exposition(Protocol):
    """Who writes the metrics, family by family."""

    def blocks(self, *, openmetrics: bool = False) -> Iterator[bytes]: ...


class Scrapes:
    """interval_s: a text serves so long. Prometheus asks every 15 s, and who asks 30,000 times at once costs one rendering."""

    def __init__(self, metrics: Exposition, interval_s: float, clock_s: Callable[[], float]) -> None:
        self._metrics = metrics
        self._interval_s = interval_s
        self._clock_s = clock_s
        self._kept: dict[bool, tuple[float, bytes]] = {}  # openmetrics or not: when it was read, the text
        self._rendering = asyncio.Lock()

    async def text(self, *, openmetrics: bool) -> bytes:
        async with self._rendering:
            now_s = self._clock_s()
            read_s, text = self._kept.get(openmetrics, (-inf, b""))
            if now_s - read_s >= self._interval_s:
                text = await gathered(self._metrics.blocks(openmetrics=openmetrics))
                self._kept[openmetrics] = now_s, text
            return text
