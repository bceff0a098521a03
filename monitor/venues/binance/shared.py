"""What the market stream and all account streams of the venue share."""

from collections.abc import Callable
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger as Logger

from monitor.model.events import Event
from monitor.model.streams import Counters
from monitor.venues.binance.rest import RestClient
from monitor.venues.binance.settings import BinanceSettings
from monitor.venues.binance.tables import BracketTables
from monitor.venues.clock import VenueClock
from monitor.venues.dial import Dialler


@dataclass(frozen=True)
class Shared:
    settings: BinanceSettings
    rest: RestClient
    clock: VenueClock
    counters: Counters
    tables: BracketTables
    emit: Callable[[Event], None]
    now_ms: Callable[[], int]
    dial: Dialler
    log: Logger
