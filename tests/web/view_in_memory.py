"""A `View` whose contents a test sets: plain lists, no engine behind it.

Imported as `web.view_in_memory`: `tests` is on the path, for it holds a conftest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from monitor.model.alerts import ChannelStatus, Incident, IncidentKey, Level, Lever, Worse
from monitor.model.events import AssetRate
from monitor.model.figures import AssetFigures, PoolFigures, PoolKey, PoolTable, PositionFigures
from monitor.model.streams import Counters, StreamStatus
from monitor.model.view import EventCounts, SelfCheck, TickTimes
from monitor.model.workings import AssetTable, PositionTable

NOW_MS = 1_760_000_000_000
HOSTILE = '<img src=x onerror="alert(1)">'


class MemoryView:
    """Satisfies `monitor.model.view.View`."""

    def __init__(self, pools: Sequence[PoolFigures] = ()) -> None:
        self.figures: dict[PoolKey, PoolFigures] = {f.key: f for f in pools}
        self.lever_rows: dict[PoolKey, Sequence[Lever]] = {}
        self.limits = {"warning": 2.0, "high": 1.5, "critical": 1.2, "emergency": 1.1, "liquidation": 1.0}
        self.rate_rows: dict[str, list[AssetRate]] = {}
        self.stream_rows: list[StreamStatus] = []
        self.counter_rows: dict[str, Counters] = {}
        self.incident_rows: list[Incident] = []
        self.channel_rows: list[ChannelStatus] = []
        self.crossings: dict[tuple[str, str], int] = {}
        self.tick_times = TickTimes(bounds=(0.001, 0.01), counts=[7, 2, 1], total=0.05)
        self.missing_words: list[str] = []
        self.reload = (True, NOW_MS - 60_000)
        self.clock_ms = NOW_MS
        self.events = EventCounts(dropped={}, missed={})
        self.check = SelfCheck(withheld={}, heartbeat_ms=None, heartbeats={}, loop_lag_s=0.0, clock_offsets_ms={})
        self.table: PoolTable | None = None  # instead of `figures`, for many pools

    def put(self, figures: PoolFigures) -> None:
        self.figures[figures.key] = figures

    def change(self, key: PoolKey, **fields: Any) -> None:
        self.figures[key] = msgspec.structs.replace(self.figures[key], **fields)

    def pools(self) -> PoolTable:
        if self.table is not None:
            return self.table
        rows = list(self.figures.values())

        return PoolTable(
            keys=[row.key for row in rows],
            units=[row.unit for row in rows],
            **{
                name: _column(rows, name)
                for name in (
                    "equity",
                    "requirement",
                    "margin_ratio",
                    "health",
                    "guarantee_asset_ratio",
                    "available",
                    "withdrawable",
                    "reconcile_difference",
                    "age_ms",
                )
            },
            level=np.array([row.level for row in rows], np.int8),
        )

    def positions(self) -> PositionTable:
        held = [(pool, position) for pool in self.figures.values() for position in pool.positions]
        legs = [position for _, position in held]
        return PositionTable(
            keys=[(pool.key, position.symbol, position.side) for pool, position in held],
            units=[pool.unit for pool, _ in held],
            requirement=_column(legs, "maintenance_margin"),
            **{name: _column(legs, name) for name in ("price", "liquidation_price", "notional", "unrealized_pnl")},
        )

    def assets(self) -> AssetTable:
        held = [(pool, asset) for pool in self.figures.values() for asset in pool.assets]
        return AssetTable(
            keys=[(pool.key, asset.asset) for pool, asset in held],
            units=[pool.unit for pool, _ in held],
            equity=_column([asset for _, asset in held], "equity"),
        )

    def pool(self, key: PoolKey) -> PoolFigures | None:
        return self.figures.get(key)

    def levers(self, key: PoolKey) -> Sequence[Lever]:
        return self.lever_rows.get(key, ())

    def health_limits(self, key: PoolKey) -> dict[str, float]:
        return self.limits

    def rates(self) -> dict[str, list[AssetRate]]:
        return self.rate_rows

    def streams(self) -> Sequence[StreamStatus]:
        return self.stream_rows

    def counters(self) -> dict[str, Counters]:
        return self.counter_rows

    def incidents(self) -> Sequence[Incident]:
        return self.incident_rows

    def channels(self) -> Sequence[ChannelStatus]:
        return self.channel_rows

    def alerts_total(self) -> dict[tuple[str, str], int]:
        return self.crossings

    def ticks(self) -> TickTimes:
        return self.tick_times

    def missing(self) -> list[str]:
        return self.missing_words

    def config_reloaded(self) -> tuple[bool, int]:
        return self.reload

    def self_check(self) -> SelfCheck:
        return self.check

    def event_counts(self) -> EventCounts:
        return self.events

    def now_ms(self) -> int:
        return self.clock_ms


def _column(rows: Sequence[object], name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([np.nan if (value := getattr(row, name)) is None else value for row in rows], np.float64)


def a_pool(account: str = "main", pool: str = "USD", venue: str = "binance", **fields: Any) -> PoolFigures:
    """A healthy pool; `fields` say what is different."""
    usual: dict[str, Any] = {
        "unit": "USD",
        "equity": 12_000.0,
        "requirement": 4_000.0,
        "initial_margin": 8_000.0,
        "margin_ratio": 1 / 3,
        "health": 3.0,
        "available": 4_000.0,
        "withdrawable": 3_900.0,
        "age_ms": 800,
        "reconcile_difference": 0.0002,
        "venue_equity": 12_001.5,
        "venue_requirement": 4_000.0,
    }
    return PoolFigures(key=PoolKey(venue, account, pool), **(usual | fields))


def an_unknown_pool(account: str, pool: str = "USD", **fields: Any) -> PoolFigures:
    """Nothing can be computed, and the pool says why."""
    nothing: dict[str, Any] = dict.fromkeys(
        ("equity", "requirement", "initial_margin", "margin_ratio", "health", "available", "withdrawable", "reconcile_difference")
    )
    return a_pool(account, pool, **(nothing | {"level": -1, "trusted": False, "unknown": ("no price of ETHUSDT",)} | fields))


def a_position(symbol: str = "BTCUSDT", quantity: float = 0.5, **fields: Any) -> PositionFigures:
    usual: dict[str, Any] = {
        "side": "BOTH",
        "margin_asset": "USDT",
        "entry_price": 61_000.0,
        "price": 60_000.0,
        "price_age_ms": 800,
        "leverage": 10.0,
        "unrealized_pnl": -500.0,
        "notional": 30_000.0,
        "initial_margin": 3_000.0,
        "maintenance_margin": 120.0,
        "bracket": 1,
        "maintenance_rate": 0.004,
        "liquidation_price": 54_000.0,
    }
    return PositionFigures(symbol=symbol, quantity=quantity, **(usual | fields))


def an_asset(asset: str = "USDT", **fields: Any) -> AssetFigures:
    usual: dict[str, Any] = {
        "wallet": 10_000.0,
        "equity": 9_500.0,
        "index": 0.9998,
        "bid": 0.9997,
        "ask": 0.9999,
        "maintenance_margin": 120.0,
    }
    return AssetFigures(asset=asset, **(usual | fields))


def an_incident(account: str = "main", level: Level = Level.CRITICAL, **fields: Any) -> Incident:
    usual: dict[str, Any] = {
        "id": "20251009-K3QF",
        "key": IncidentKey("binance", account, "USD", "health"),
        "level": level,
        "worst": level,
        "opened_ms": NOW_MS - 240_000,
        "changed_ms": NOW_MS - 60_000,
        "summary": "health 1.18 is at or below 1.20",
        "value": 1.18,
        "worst_value": 1.16,
        "worse": Worse.DOWN,
        "messages": 2,
    }
    return Incident(**(usual | fields))
