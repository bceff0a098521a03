"""What all streams of the venue share."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger as Logger

from monitor.model.events import Event
from monitor.model.streams import Counters, StreamStatus, count
from monitor.venues.clock import VenueClock
from monitor.venues.htx.rest import RestClient
from monitor.venues.htx.settings import HtxSettings
from monitor.venues.stream import AttemptBudget


@dataclass(frozen=True)
class Shared:
    settings: HtxSettings
    rest: RestClient
    clock: VenueClock
    counters: Counters
    emit: Callable[[Event], None]
    now_ms: Callable[[], int]
    attempts: AttemptBudget
    tls: ssl.SSLContext | None
    log: Logger

    def from_the_future(self, event_time_ms: int) -> bool:
        """A time that would make everything after it look late: refused and counted."""
        ahead = event_time_ms > self.clock.now_ms() + round(1000 * self.settings.future_s)
        if ahead:
            count(self.counters.refused, "from_the_future")
        return ahead


def set_up(status: StreamStatus, now_ms: int) -> None:
    status.up = status.first_data = True
    status.down_reason = ""
    status.last_event_ms = now_ms


def set_down(status: StreamStatus, reason: str) -> None:
    status.up = False
    status.down_reason = reason
