"""Adjustment factors, tiered margin and coin terms: public, changed without notice, read hourly and after each settlement."""

import random
from collections.abc import Callable
from typing import NoReturn

from monitor.model.events import GuaranteeTables
from monitor.model.streams import Counters
from monitor.venues.base import VenueError
from monitor.venues.due import Due
from monitor.venues.htx import reference
from monitor.venues.htx.numbers import Answer
from monitor.venues.htx.shared import Shared
from monitor.venues.htx.signing import ADJUST_FACTOR, LADDER_MARGIN, QUERY_ELEMENTS, Endpoint

_TABLES: tuple[tuple[Endpoint, Callable[[Answer, Counters], GuaranteeTables]], ...] = (
    (ADJUST_FACTOR, reference.adjust_factors),
    (LADDER_MARGIN, reference.ladder_margins),
    (QUERY_ELEMENTS, reference.coin_terms),
)


class Tables:
    """All coins in one answer each."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._due = Due()

    async def run(self) -> NoReturn:
        while True:
            await self.reload()
            await self._due.wait()

    def request(self) -> None:
        """As soon as the pace allows."""
        self._due.within(0)

    async def reload(self) -> None:
        """What cannot be had is asked for again soon; what was known of it stays."""
        shared = self._shared
        good = True
        for endpoint, tables in _TABLES:
            try:
                shared.emit(tables(await shared.rest.call(endpoint), shared.counters))
            except VenueError as exc:
                shared.log.warning("table_not_loaded", path=endpoint.path, reason=exc.reason, code=exc.code, detail=exc.detail)
                good = False
        settings = shared.settings
        self._due.within(settings.reload_s * random.uniform(0.9, 1.1) if good else settings.unavailable_pause_s)
