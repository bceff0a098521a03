"""What stands around the pools on a page: what is missing, streams, incidents, channels. Read once for all pages.

With 10,000 accounts there are as many streams, and asking for what is missing takes milliseconds: neither may cost that for
each page and each tick. So a page gets the first of each list, and what takes long is read seldom.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter
from typing import Any, Generic, TypeVar

import orjson
from msgspec import Struct

from monitor.model.streams import StreamStatus
from monitor.model.view import View
from monitor.web.status import channel_rows, incident_rows, json_array, stream_rows

MISSING_MAX = 20  # the others are counted; /-/ready has all
STREAMS_MAX = 100  # those that are down first; /api/v1/status has all
INCIDENTS_MAX = 200  # the worst; /api/v1/alerts has all
SLOW_S = 1.0  # between two looks at what moves all the time, or takes long
SHARE_MAX = 0.02  # of the event loop, for one of the lists

Parts = dict[str, Any]
T = TypeVar("T")


class Around(Struct, frozen=True, eq=False):
    """One moment of it. parts: told whole whenever they are others. Rows by name, in order, each as JSON."""

    parts: dict[str, bytes]
    streams: dict[str, bytes]
    incidents: dict[str, bytes]

    def news(self, told: Around | None) -> dict[str, bytes]:
        """What differs from what a page was told last: parts, rows that are new or others, and the order if it is another."""
        if told is self:
            return {}
        before = told or Around({}, {}, {})
        return {
            **{name: text for name, text in self.parts.items() if before.parts.get(name) != text},
            **_changed("stream", self.streams, None if told is None else before.streams),
            **_changed("incident", self.incidents, None if told is None else before.incidents),
        }


class AroundReader:
    """clock_s: of the event loop."""

    def __init__(self, view: View, clock_s: Callable[[], float]) -> None:
        self._view = view
        self._missing = _Seldom(lambda: missing_parts(view.missing()), clock_s, SLOW_S)
        self._streams = _Seldom(lambda: _streams(view.streams()), clock_s, SLOW_S)
        self._incidents = _Seldom(self._read_incidents, clock_s, 0.0)
        self._seen: tuple[Any, ...] = ()
        self._around = Around({}, {}, {})

    def read(self) -> Around:
        """The same object as long as nothing was read anew."""
        seen = self._missing(), self._streams(), self._incidents()
        if any(now is not before for now, before in zip(seen, self._seen or (None,) * 3, strict=True)):
            missing, (totals, streams), (others, incidents) = seen
            parts = {name: orjson.dumps(part) for name, part in {**missing, **totals, **others}.items()}
            self._seen, self._around = seen, Around(parts, streams, incidents)
        return self._around

    def _read_incidents(self) -> tuple[Parts, dict[str, bytes]]:
        parts = incident_parts(self._view)
        rows = parts.pop("incidents")
        for row in rows:
            del row["value"], row["worst_value"]  # they move with every tick
        return {**parts, "channels": channel_rows(self._view.channels())}, {row["id"]: orjson.dumps(row) for row in rows}


def missing_parts(missing: Sequence[str]) -> Parts:
    return {"missing": missing[:MISSING_MAX], "missing_total": len(missing)}


def stream_parts(streams: Sequence[StreamStatus]) -> Parts:
    first = sorted(streams, key=lambda stream: (stream.up, stream.venue, stream.account, stream.stream))[:STREAMS_MAX]
    return {"streams": stream_rows(first), "streams_total": len(streams), "streams_up": sum(stream.up for stream in streams)}


def incident_parts(view: View) -> Parts:
    incidents = view.incidents()
    return {"incidents": incident_rows(incidents[:INCIDENTS_MAX]), "incidents_total": len(incidents)}


def _streams(streams: Sequence[StreamStatus]) -> tuple[Parts, dict[str, bytes]]:
    """The times move all the time and the rest hardly ever: they are told apart, in the order of the rows."""
    parts = stream_parts(streams)
    rows = parts.pop("streams")
    parts["stream_times_ms"] = [row.pop("last_event_ms") for row in rows]
    return parts, {f"{row['venue']}/{row['account']}/{row['stream']}": orjson.dumps(row) for row in rows}


def _changed(name: str, now: dict[str, bytes], before: dict[str, bytes] | None) -> dict[str, bytes]:
    news = {}
    then = before or {}
    if changed := [text for key, text in now.items() if then.get(key) != text]:
        news[f"{name}s"] = _array(changed)
    if before is None or list(now) != list(before):
        news[f"{name}_order"] = orjson.dumps(list(now))
    return news


def _array(texts: Iterable[bytes]) -> bytes:
    return json_array(b",".join(texts))


class _Seldom(Generic[T]):
    """Reads again only after `least_s`, or later if reading takes more than its share of the event loop."""

    def __init__(self, read: Callable[[], T], clock_s: Callable[[], float], least_s: float) -> None:
        self._read, self._clock_s, self._least_s = read, clock_s, least_s
        self._due_s = -math.inf
        self._value: T | None = None

    def __call__(self) -> T:
        now_s = self._clock_s()
        if self._value is None or now_s >= self._due_s:
            began_s = perf_counter()
            self._value = self._read()
            self._due_s = now_s + max(self._least_s, (perf_counter() - began_s) / SHARE_MAX)
        return self._value
