"""What the venues sent and we refused, said once for each kind: a venue that changes its words would fill the log otherwise."""

from collections.abc import Callable, Mapping

import structlog

from monitor.model.streams import Counters

log = structlog.get_logger()


class RefusalLog:
    """Logs the first refusal of each venue and reason as `frame_refused`; how many there were the metric says."""

    def __init__(self, counters: Callable[[], Mapping[str, Counters]]) -> None:
        self._counters = counters
        self._said: set[tuple[str, str]] = set()

    def look(self) -> None:
        for venue, counters in self._counters().items():
            for reason in counters.refused.keys() - {said for name, said in self._said if name == venue}:
                self._said.add((venue, reason))
                log.info("frame_refused", venue=venue, reason=reason, hint="said once; margin_frames_refused_total counts")
