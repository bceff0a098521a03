"""Everything that Prometheus may scrape, read from the `View` at scrape time and never per tick.

Two kinds of families. Those with a series per pool, position or stream grow with the accounts (10,000 pools × 11 figures): they
are written by a renderer of our own (series.py). All others are few and go through `prometheus_client`.

A figure that is unknown has no series: an alert rule must meet `absent()` or level −1, never a number that nobody computed.
"""

import platform
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TypeVar

import numpy as np
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from monitor.metrics.series import Series, label_value, number_text
from monitor.metrics.workings import Rates, Workings, usd_per_unit
from monitor.model.alerts import Incident
from monitor.model.figures import Array, PoolTable
from monitor.model.view import View

ASSETS_MAX = 64  # per venue; Binance takes some thirty assets as collateral

POOL_HELP = {
    "margin_pool_health": "Equity over the equity at which liquidation starts: 1.0 is liquidation, lower is worse.",
    "margin_pool_margin_ratio": "The equity at which liquidation starts over equity: 1.0 is liquidation, higher is worse.",
    "margin_pool_guarantee_asset_ratio": "Guarantee-asset ratio as a fraction: 0 is liquidation, lower is worse.",
    "margin_pool_equity_usd": "Equity: what liquidation is judged by.",
    "margin_pool_maintenance_margin_usd": "The equity at which liquidation starts.",
    "margin_pool_available_usd": "What is free for new positions.",
    "margin_pool_withdrawable_usd": "What may be withdrawn.",
    "margin_pool_level": "Worst level of the rules of the pool: -1 unknown, 0 ok, 1 info, 2 warning, 3 high, 4 critical, "
    "5 emergency, 6 liquidation.",
    "margin_pool_data_age_seconds": "Age of the oldest input of the figures.",
    "margin_reconcile_relative_difference": "Own equity against the figure of the venue, relative.",
}
POOL_LABELS = ("account", "pool", "venue")  # sorted, as prometheus_client writes them
STREAM_HELP = {
    "margin_stream_up": "1 while data flow.",
    "margin_stream_last_event_timestamp_seconds": "Wall clock of the last good frame.",
}
STREAM_LABELS = ("account", "stream", "venue")


class Metrics:
    """The text of `/metrics`.

    view: read at each scrape, between two ticks. amounts: False leaves out all money amounts. version: of the program.
    positions_max: of an account, that have series of their own; 0: none, and no series by asset either.
    """

    def __init__(self, view: View, *, version: str, amounts: bool = True, positions_max: int = 100) -> None:
        self._view = view
        self._amounts = amounts
        self._workings = Workings(view, amounts=amounts, positions_max=positions_max)
        self._pool_series = Series(())
        self._stream_series = Series(())
        self._registry = CollectorRegistry()
        self._registry.register(_Small(view, version))
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def blocks(self, *, openmetrics: bool = False) -> Iterator[bytes]:
        """The exposition family by family, so that a caller may let the event loop run in between.

        openmetrics: OpenMetrics 1.0.0, else text format 0.0.4. Both read the view once, before the first block.
        """
        table = self._view.pools()
        pools = self._pool_series = self._pool_series.of([(k.account, k.pool, k.venue) for k in table.keys], POOL_LABELS)
        streams = self._view.streams()
        stream_keys = [(s.account, s.stream, s.venue) for s in streams]
        connections = self._stream_series = self._stream_series.of(stream_keys, STREAM_LABELS)
        up = np.array([s.up for s in streams], np.float64)
        last_event_s = np.array([np.nan if s.last_event_ms is None else s.last_event_ms / 1000 for s in streams], np.float64)
        usd = {(venue, row.asset): row.index for venue, rows in self._view.rates().items() for row in rows if row.index > 0}
        columns = self._pool_columns(table, usd)
        workings = self._workings.read(usd)
        small = (generate_openmetrics if openmetrics else generate_latest)(self._registry)

        for name, values in columns.items():
            yield pools.gauge(name, POOL_HELP[name], values, infinite=name == "margin_pool_margin_ratio")
        for name, values in zip(STREAM_HELP, (up, last_event_s), strict=True):
            yield connections.gauge(name, STREAM_HELP[name], values)
        yield from workings
        yield small  # last: OpenMetrics ends with its own mark

    def text(self, *, openmetrics: bool = False) -> bytes:
        """The whole exposition at once."""
        return b"".join(self.blocks(openmetrics=openmetrics))

    def _pool_columns(self, table: PoolTable, rates: Rates) -> dict[str, Array]:
        """Copies, in the order of exposition: the table's own arrays change with the next tick."""
        columns = {
            "margin_pool_health": table.health.copy(),
            "margin_pool_margin_ratio": table.margin_ratio.copy(),
            "margin_pool_guarantee_asset_ratio": table.guarantee_asset_ratio.copy(),
        }
        if self._amounts:
            usd = usd_per_unit(table.keys, table.units, rates)
            columns |= {
                "margin_pool_equity_usd": table.equity * usd,
                "margin_pool_maintenance_margin_usd": table.requirement * usd,
                "margin_pool_available_usd": table.available * usd,
                "margin_pool_withdrawable_usd": table.withdrawable * usd,
            }
        columns |= {
            "margin_pool_level": table.level.astype(np.float64),
            "margin_pool_data_age_seconds": table.age_ms / 1000,
            "margin_reconcile_relative_difference": table.reconcile_difference.copy(),
        }
        return columns


# ------------------------------------------------------------------ few series


_Key = TypeVar("_Key", bound=tuple[str, ...])


class _Small(Collector):
    """What does not grow with the accounts."""

    def __init__(self, view: View, version: str) -> None:
        self._view = view
        self._version = version

    def collect(self) -> Iterator[Metric]:
        yield from self._venues()
        yield from self._alerts()
        yield from self._self_check()
        yield from self._program()

    def _venues(self) -> Iterator[Metric]:
        rates = GaugeMetricFamily(
            "margin_asset_rate_usd",
            "What one unit of a collateral asset counts for: bid if owned, ask if owed, index before the haircut.",
            labels=("venue", "asset", "side"),
        )
        for venue, rows in self._view.rates().items():
            for row in rows[:ASSETS_MAX]:
                for side, rate in (("bid", row.bid), ("ask", row.ask), ("index", row.index)):
                    if 0 < rate < np.inf:
                        rates.add_metric((label_value(venue), label_value(row.asset), side), rate)
        yield rates

        reconnects: dict[tuple[str, str, str], int] = {}  # over all accounts: which of them flaps is seen in margin_stream_up
        for stream in self._view.streams():
            for reason, times in stream.reconnects.items():
                key = (stream.venue, stream.stream, reason)
                reconnects[key] = reconnects.get(key, 0) + times
        yield _counter(
            "margin_stream_reconnects", "Connections made again, by reason.", ("venue", "stream", "reason"), reconnects
        )

        counters = self._view.counters()
        frames = {(venue, stream): n for venue, c in counters.items() for stream, n in c.frames.items()}
        refused = {(venue, reason): n for venue, c in counters.items() for reason, n in c.refused.items()}
        requests = {(venue, result): n for venue, c in counters.items() for result, n in c.rest.items()}
        yield _counter("margin_frames", "Frames received.", ("venue", "stream"), frames)
        yield _counter("margin_frames_refused", "Frames or rows that were not believed.", ("venue", "reason"), refused)
        yield _counter("margin_rest_requests", "Requests by their result.", ("venue", "result"), requests)

        events = self._view.event_counts()
        yield _counter(
            "margin_events_dropped", "Rows of events that were not taken, by reason.", ("venue", "reason"), events.dropped
        )
        missed = {(venue,): n for venue, n in events.missed.items()}
        yield _counter(
            "margin_updates_missed", "Changes of accounts that the stream did not tell, only REST.", ("venue",), missed
        )

    def _alerts(self) -> Iterator[Metric]:
        yield _counter("margin_alerts", "Crossings since start.", ("rule", "level"), self._view.alerts_total())
        channels = self._view.channels()
        incidents = GaugeMetricFamily(
            "margin_incidents", "Open incidents: unattended, acknowledged, or matched by a silence.", labels=("state",)
        )
        states = [_state(incident) for incident in self._view.incidents()]
        for state in ("unattended", "acknowledged", "silenced"):
            incidents.add_metric((state,), states.count(state))
        yield incidents
        results = {(c.name, result): n for c in channels for result, n in c.results.items()}
        yield _counter("margin_notifications", "Attempts to send, by their result.", ("channel", "result"), results)
        pending = GaugeMetricFamily("margin_outbox_pending", "Messages that wait.", labels=("channel",))
        broken = GaugeMetricFamily("margin_channel_broken", "1 while a channel is given up.", labels=("channel",))
        for channel in channels:
            pending.add_metric((label_value(channel.name),), channel.pending)
            broken.add_metric((label_value(channel.name),), 1 if channel.broken else 0)
        yield pending
        yield broken
        waiting_since = [c.oldest_ms for c in channels if c.oldest_ms is not None]
        age_ms = max(0, self._view.now_ms() - min(waiting_since)) if waiting_since else 0
        yield GaugeMetricFamily(
            "margin_outbox_oldest_age_seconds", "Age of the oldest message that waits, 0 if none does.", value=age_ms / 1000
        )

    def _self_check(self) -> Iterator[Metric]:
        check = self._view.self_check()
        withheld = GaugeMetricFamily(
            "margin_heartbeat_withheld", "1 while this is a reason to leave the heartbeat out.", labels=("reason",)
        )
        for reason, holds in check.withheld.items():
            withheld.add_metric((reason,), int(holds))
        yield withheld
        yield _counter(
            "margin_heartbeats",
            "Calls of the heartbeat, by their result.",
            ("result",),
            {(result,): n for result, n in check.heartbeats.items()},
        )
        if check.heartbeat_ms is not None:
            yield GaugeMetricFamily(
                "margin_heartbeat_last_success_timestamp_seconds",
                "When a heartbeat last arrived.",
                value=check.heartbeat_ms / 1000,
            )
        yield GaugeMetricFamily("margin_silences_active", "Silences in force.", value=check.silences)
        if check.store_durable is not None:
            yield GaugeMetricFamily(
                "margin_store_durable",
                "1 while open incidents and waiting messages are safe on disk; no series where the state is kept in memory.",
                value=int(check.store_durable),
            )
        offsets = GaugeMetricFamily(
            "margin_clock_offset_seconds", "Clock of the venue minus ours, when last compared.", labels=("venue",)
        )
        for venue, offset_ms in check.clock_offsets_ms.items():
            offsets.add_metric((label_value(venue),), offset_ms / 1000)
        yield offsets
        yield GaugeMetricFamily(
            "margin_loop_lag_seconds",
            "How late the event loop woke a sleeper, the worst of the last 15 s.",
            value=check.loop_lag_s,
        )

    def _program(self) -> Iterator[Metric]:
        ticks = self._view.ticks()
        bounds = [*map(number_text, ticks.bounds), "+Inf"]
        buckets = zip(bounds, accumulate(ticks.counts), strict=True)  # Prometheus counts from the lowest bucket on
        yield HistogramMetricFamily(
            "margin_tick_seconds", "Time from a frame of prices to its decisions.", buckets=list(buckets), sum_value=ticks.total
        )
        good, at_ms = self._view.config_reloaded()
        yield GaugeMetricFamily(
            "margin_config_last_reload_successful", "1 if the last load of the configuration was good.", value=int(good)
        )
        yield GaugeMetricFamily(
            "margin_config_last_reload_success_timestamp_seconds", "When the configuration was last loaded.", value=at_ms / 1000
        )
        yield InfoMetricFamily("margin_build", "Version.", {"version": self._version, "python": platform.python_version()})


def _state(incident: Incident) -> str:
    if incident.acknowledged is not None:
        return "acknowledged"
    return "silenced" if incident.silence_id else "unattended"


def _counter(name: str, explanation: str, labels: Sequence[str], counts: Mapping[_Key, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, explanation, labels=labels)
    for key, count in counts.items():
        family.add_metric([label_value(part) for part in key], count)
    return family
