"""What all streams of the venue share."""

from collections.abc import Callable
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger as Logger

from monitor.model.events import Event
from monitor.model.streams import Counters, count
from monitor.venues.clock import VenueClock
from monitor.venues.dial import Dialler
from monitor.venues.htx.rest import RestClient
from monitor.venues.htx.settings import HtxSettings


@dataclass(frozen=True)
class Shared:
    settings: HtxSettings
    rest: RestClient
    clock: VenueClock
    counters: Counters
    emit: Callable[[Event], None]
    now_ms: Callable[[], int]
    dial: Dialler
    log: Logger

    def from_the_future(self, event_time_ms: int) -> bool:
        """A time that would make everything after it look late: refused and counted."""
        ahead = event_time_ms > self.clock.now_ms() + round(1000 * self.settings.future_s)
        if ahead:
            count(self.counters.refused, "from_the_future")
        return ahead
