"""What the `View` says, as JSON: the one place that fixes the names of the API.

Amounts are in the pool's `unit`, ratios are fractions, times are epoch milliseconds. null: unknown, or none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np
import orjson

from monitor.model.alerts import Acknowledgement, ChannelStatus, Incident, Level
from monitor.model.figures import Array, PoolFigures, PoolKey, PositionFigures
from monitor.model.streams import StreamStatus
from monitor.model.view import View

JSON_UTF8 = "application/json; charset=utf-8"
ROWS_PER_PIECE = 1000  # about 3 ms of work between two turns of the event loop

T = TypeVar("T")

_FIGURES = (
    "equity",
    "requirement",
    "margin_ratio",
    "health",
    "guarantee_asset_ratio",
    "available",
    "withdrawable",
    "reconcile_difference",
)
_LEVEL_WORDS = {int(level): level.word for level in Level}


class PoolSnapshot:
    """All pools at one moment, copied: the view's own arrays change with the next tick."""

    def __init__(self, view: View) -> None:
        table = view.pools()
        self.now_ms = view.now_ms()
        self.keys: list[PoolKey] = list(table.keys)
        self.units: list[str] = list(table.units)
        # A time stands still while nothing comes in, an age does not: fewer changes to send.
        as_of_ms = self.now_ms - table.age_ms
        self.level = table.level.astype(np.int8)  # astype copies
        self.health = table.health.copy()
        columns = [*(getattr(table, name) for name in _FIGURES), as_of_ms, table.level]
        self._values: Array = np.array(columns, np.float64).reshape(len(columns), len(self.keys)).T.copy()

    def changed_since(self, before: PoolSnapshot) -> set[int] | None:
        """Places that differ; None if the pools themselves are others, so that only the whole helps."""
        if self.keys != before.keys or self.units != before.units:
            return None
        now, then = self._values, before._values
        same = (now == then) | (np.isnan(now) & np.isnan(then))
        rows: set[int] = set(np.flatnonzero(~same.all(axis=1)).tolist())
        return rows

    def pieces(self) -> Iterator[bytes]:
        """All pools, as `row_pieces`."""
        return row_pieces(self.rows, range(len(self.keys)))

    def rows(self, places: Sequence[int]) -> list[dict[str, Any]]:
        """Some of the pools, as the API shows them."""
        return [self._row(i, row) for i, row in zip(places, self._values[places].tolist(), strict=True)]

    def _row(self, i: int, values: list[float]) -> dict[str, Any]:
        key = self.keys[i]
        *figures, as_of_ms, level = values
        return {
            "venue": key.venue,
            "account": key.account,
            "pool": key.pool,
            "unit": self.units[i],
            "level": _LEVEL_WORDS[int(level)],
            **dict(zip(_FIGURES, figures, strict=True)),
            "as_of_ms": int(as_of_ms) if as_of_ms == as_of_ms else None,  # noqa: PLR0124  NaN
        }


def json_object(parts: dict[str, bytes]) -> bytes:
    """An object of parts that are JSON already."""
    return b"{" + b",".join(b'"%s":%s' % (name.encode(), text) for name, text in parts.items()) + b"}"


def json_array(elements: bytes) -> bytes:
    return b"[" + elements + b"]"


def row_pieces(rows_of: Callable[[Sequence[T]], list[dict[str, Any]]], things: Sequence[T]) -> Iterator[bytes]:
    """Many rows as the elements of a JSON array in pieces, to be joined by commas."""
    for start in range(0, len(things), ROWS_PER_PIECE):
        yield orjson.dumps(rows_of(things[start : start + ROWS_PER_PIECE]))[1:-1]


def level_word(level: int) -> str:
    return _LEVEL_WORDS[level]


def pool_key(text: str) -> PoolKey | None:
    """`venue/account/pool` as in a query. Venues and pools have no slash."""
    venue, _, rest = text.partition("/")
    account, _, pool = rest.rpartition("/")
    return PoolKey(venue, account, pool) if venue and account and pool else None


def pool_detail(figures: PoolFigures, now_ms: int) -> dict[str, Any]:
    """One pool with its workings, assets and positions."""
    detail: dict[str, Any] = msgspec.structs.asdict(figures)
    del detail["key"]
    return {
        **msgspec.structs.asdict(figures.key),
        "now_ms": now_ms,
        **detail,
        "level": _LEVEL_WORDS[figures.level],
        "guarantee": None if figures.guarantee is None else msgspec.structs.asdict(figures.guarantee),
        "assets": [msgspec.structs.asdict(asset) for asset in figures.assets],
        "positions": [_position(position) for position in figures.positions],
    }


def _position(position: PositionFigures) -> dict[str, Any]:
    price, liquidation = position.price, position.liquidation_price
    distance = None if not price or liquidation is None else (liquidation - price) / price
    return {**msgspec.structs.asdict(position), "liquidation_distance": distance}  # a fraction of the price, signed


def stream_rows(streams: Iterable[StreamStatus]) -> list[dict[str, Any]]:
    return [msgspec.structs.asdict(stream) for stream in streams]


def channel_rows(channels: Iterable[ChannelStatus]) -> list[dict[str, Any]]:
    return [msgspec.structs.asdict(channel) for channel in channels]


def incident_rows(incidents: Iterable[Incident]) -> list[dict[str, Any]]:
    return [_incident(incident) for incident in incidents]


def _incident(incident: Incident) -> dict[str, Any]:
    return {
        "id": incident.id,
        **msgspec.structs.asdict(incident.key),
        "level": incident.level.word,
        "worst": incident.worst.word,
        "known_level": incident.known_level.word,
        "notified_level": incident.notified_level.word,
        "summary": incident.summary,
        "value": incident.value,
        "worst_value": incident.worst_value,
        "worse": incident.worse.value,
        "opened_ms": incident.opened_ms,
        "changed_ms": incident.changed_ms,
        "notified_ms": incident.notified_ms or None,
        "messages": incident.messages,
        "acknowledged": None if incident.acknowledged is None else _acknowledgement(incident.acknowledged),
        "silence_id": incident.silence_id or None,
    }


def _acknowledgement(acknowledged: Acknowledgement) -> dict[str, Any]:
    return {**msgspec.structs.asdict(acknowledged), "level": acknowledged.level.word}
