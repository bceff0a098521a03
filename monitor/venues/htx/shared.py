"""What all streams of the venue share."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger as Logger

from monitor.model.events import Event
from monitor.model.streams import Counters, StreamStatus
from monitor.venues.htx.rest import RestClient, VenueClock
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


def set_up(status: StreamStatus, now_ms: int) -> None:
    status.up = status.first_data = True
    status.down_reason = ""
    status.last_event_ms = now_ms


def set_down(status: StreamStatus, reason: str) -> None:
    status.up = False
    status.down_reason = reason
