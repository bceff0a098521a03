"""Every family of the design, parsed as Prometheus parses it."""

from __future__ import annotations

import math
import platform
import re

import pytest
from msgspec import structs
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from web.view_in_memory import NOW_MS, MemoryView, a_pool, a_position, an_asset, an_unknown_pool

from monitor.metrics import ASSETS_MAX, Metrics
from monitor.model.alerts import Acknowledgement, ChannelStatus, Incident, IncidentKey, Level
from monitor.model.events import AssetRate
from monitor.model.streams import Counters, StreamStatus
from monitor.model.view import EventCounts, SelfCheck

POOL_MONEY = {
    "margin_pool_equity_usd",
    "margin_pool_maintenance_margin_usd",
    "margin_pool_available_usd",
    "margin_pool_withdrawable_usd",
}
MONEY = POOL_MONEY | {
    "margin_position_notional_usd",
    "margin_position_unrealized_pnl_usd",
    "margin_position_maintenance_margin_usd",
    "margin_asset_equity_usd",
}
ALL = MONEY | {
    "margin_position_liquidation_distance_ratio",
    "margin_positions_left_out",
    "margin_pool_health",
    "margin_pool_margin_ratio",
    "margin_pool_guarantee_asset_ratio",
    "margin_pool_level",
    "margin_pool_data_age_seconds",
    "margin_reconcile_relative_difference",
    "margin_stream_up",
    "margin_stream_last_event_timestamp_seconds",
    "margin_asset_rate_usd",
    "margin_stream_reconnects",
    "margin_frames",
    "margin_frames_refused",
    "margin_rest_requests",
    "margin_events_dropped",
    "margin_updates_missed",
    "margin_alerts",
    "margin_notifications",
    "margin_outbox_pending",
    "margin_outbox_oldest_age_seconds",
    "margin_channel_broken",
    "margin_heartbeat_withheld",
    "margin_heartbeats",
    "margin_heartbeat_last_success_timestamp_seconds",
    "margin_incidents",
    "margin_silences_active",
    "margin_store_durable",
    "margin_clock_offset_seconds",
    "margin_loop_lag_seconds",
    "margin_tick_seconds",
    "margin_config_last_reload_successful",
    "margin_config_last_reload_success_timestamp_seconds",
    "margin_build_info",
    "process_resident_memory_bytes",
    "process_open_fds",
    "python_gc_collections",
}


def rate(asset: str, index: float) -> AssetRate:
    return AssetRate(asset=asset, index=index, bid=index * 0.95, ask=index * 1.05, event_time_ms=NOW_MS)


@pytest.fixture
def view() -> MemoryView:
    view = MemoryView([a_pool(), an_unknown_pool("blind", age_ms=None)])
    view.rate_rows = {"binance": [rate("BTC", 60_000.0), rate("USDT", 0.9998)]}
    view.stream_rows = [
        StreamStatus(venue="binance", account="", stream="mark_price", up=True, last_event_ms=NOW_MS - 300),
        StreamStatus(venue="binance", account="main", stream="user", reconnects={"closed": 2, "stale": 1}),
        StreamStatus(venue="binance", account="blind", stream="user", reconnects={"closed": 3}),
    ]
    view.counter_rows = {"binance": Counters(frames={"mark_price": 90}, refused={"not_json": 1}, rest={"ok": 12, "-1021": 2})}
    view.crossings = {("health", "critical"): 3, ("stale", "unknown"): 1}
    view.channel_rows = [
        ChannelStatus(name="desk-slack", kind="slack", results={"sent": 12, "retry": 1}),
        ChannelStatus(name="phone", kind="telegram", pending=2, oldest_ms=NOW_MS - 4_500, broken="403", results={"failed": 1}),
    ]
    view.events = EventCounts(dropped={("binance", "older_price"): 3, ("binance", "older_account_row"): 1}, missed={"binance": 2})
    view.check = SelfCheck(
        withheld={"stream_down": True, "loop_slow": False},
        heartbeat_ms=NOW_MS - 90_000,
        heartbeats={"sent": 40, "timeout": 2},
        loop_lag_s=0.012,
        clock_offsets_ms={"binance": -1_250},
        silences=2,
        store_durable=False,
    )
    return view


def families(view: MemoryView, *, amounts: bool = True) -> dict[str, Metric]:
    text = Metrics(view, version="0.1.0", amounts=amounts).text().decode()
    return {family.name: family for family in parse_text(text)}


def values(family: Metric, *labels: str) -> dict[tuple[str, ...], float]:
    return {tuple(sample.labels[label] for label in labels): sample.value for sample in family.samples}


def test_all_families_of_the_design(view: MemoryView) -> None:
    found = families(view)
    assert found.keys() >= ALL
    assert all(family.documentation for family in found.values())
    of_ours = {name: family.type for name, family in found.items() if name.startswith("margin_")}
    counters = {
        "margin_stream_reconnects",
        "margin_frames",
        "margin_frames_refused",
        "margin_rest_requests",
        "margin_events_dropped",
        "margin_updates_missed",
        "margin_alerts",
        "margin_notifications",
        "margin_heartbeats",
    }
    assert {name for name, kind in of_ours.items() if kind == "counter"} == counters
    assert {name for name, kind in of_ours.items() if kind == "histogram"} == {"margin_tick_seconds"}
    assert of_ours.keys() == {name for name in ALL if name.startswith("margin_")}, "no family that the design does not name"


def test_openmetrics_says_the_same(view: MemoryView) -> None:
    text = Metrics(view, version="0.1.0").text(openmetrics=True).decode()
    assert text.endswith("\n# EOF\n")
    found = {family.name: family for family in parse_openmetrics(text)}
    plain = families(view)
    for name in ALL - {"margin_build_info"}:
        if name.startswith("margin_"):
            assert [s[:3] for s in found[name].samples] == [s[:3] for s in plain[name].samples], name


def test_who_looks_after_what_is_open(view: MemoryView) -> None:
    def incident(number: int, acknowledged: bool = False, silence_id: str = "") -> Incident:
        key = IncidentKey("binance", "main", "USD", "health", str(number))
        by = Acknowledgement(author="ann", note="", at_ms=0, until_ms=1, level=Level.HIGH) if acknowledged else None
        about = {"id": str(number), "key": key, "level": Level.HIGH, "worst": Level.HIGH, "summary": ""}
        return Incident(**about, opened_ms=0, changed_ms=0, acknowledged=by, silence_id=silence_id)  # type: ignore[arg-type]

    view.incident_rows = [incident(1), incident(2, True), incident(3, True, "S1"), incident(4, silence_id="S1")]
    found = families(view)
    assert values(found["margin_incidents"], "state") == {("unattended",): 1, ("acknowledged",): 2, ("silenced",): 1}
    assert values(found["margin_silences_active"]) == {(): 2}
    assert values(found["margin_store_durable"]) == {(): 0}
    view.check = structs.replace(view.check, store_durable=None)
    assert "margin_store_durable" not in families(view), "in memory by the owner's will: neither safe nor a fault"


def test_how_the_monitor_itself_is(view: MemoryView) -> None:
    found = families(view)
    assert values(found["margin_heartbeat_withheld"], "reason") == {("stream_down",): 1, ("loop_slow",): 0}
    assert values(found["margin_heartbeats"], "result") == {("sent",): 40, ("timeout",): 2}
    assert values(found["margin_heartbeat_last_success_timestamp_seconds"]) == {(): NOW_MS / 1000 - 90}
    assert values(found["margin_clock_offset_seconds"], "venue") == {("binance",): -1.25}
    assert values(found["margin_loop_lag_seconds"]) == {(): 0.012}


def test_a_heartbeat_that_never_arrived_has_no_time() -> None:
    assert "margin_heartbeat_last_success_timestamp_seconds" not in families(MemoryView([a_pool()]))


def test_pool_figures(view: MemoryView) -> None:
    found = families(view)
    for name, expected in {
        "margin_pool_health": 3.0,
        "margin_pool_margin_ratio": 1 / 3,
        "margin_pool_equity_usd": 12_000.0,
        "margin_pool_maintenance_margin_usd": 4_000.0,
        "margin_pool_available_usd": 4_000.0,
        "margin_pool_withdrawable_usd": 3_900.0,
        "margin_pool_data_age_seconds": 0.8,
        "margin_reconcile_relative_difference": 0.0002,
    }.items():
        assert values(found[name], "venue", "account", "pool") == {("binance", "main", "USD"): expected}, name


def test_an_unknown_figure_has_no_series_but_its_pool_has_a_level(view: MemoryView) -> None:
    text = Metrics(view, version="0.1.0").text().decode()
    assert "NaN" not in text
    of_blind = [line for line in text.splitlines() if line.startswith("margin_pool") and 'account="blind"' in line]
    assert of_blind == ['margin_pool_level{account="blind",pool="USD",venue="binance"} -1.0']


@pytest.mark.parametrize(
    ("fields", "name", "expected", "why"),
    [
        (
            {"margin_ratio": math.inf, "health": -0.2},
            "margin_pool_margin_ratio",
            math.inf,
            "no equity left: infinitely bad is known",
        ),
        ({"margin_ratio": math.inf, "health": -0.2}, "margin_pool_health", -0.2, "negative health is a figure"),
        ({"health": math.inf}, "margin_pool_health", None, "an infinite health would be a sentinel"),
        ({"health": None, "margin_ratio": 0.0}, "margin_pool_health", None, "nothing at risk: no health"),
        ({"health": None, "margin_ratio": 0.0}, "margin_pool_margin_ratio", 0.0, "nothing at risk: ratio 0"),
        ({"guarantee_asset_ratio": 0.0}, "margin_pool_guarantee_asset_ratio", 0.0, "0 is liquidation, not 'none'"),
        ({"level": 6}, "margin_pool_level", 6.0, "liquidation"),
        ({"unit": "USDT"}, "margin_pool_equity_usd", 12_000 * 0.9998, "a stable coin is converted too"),
        ({"unit": "BTC", "equity": 0.5}, "margin_pool_equity_usd", 30_000.0, "by the index, not by the haircut rate"),
        ({"unit": "FDUSD"}, "margin_pool_equity_usd", None, "no index known: not dollars"),
        ({"unit": "DEAD"}, "margin_pool_equity_usd", None, "an index of 0 is none"),
        ({"unit": "FDUSD"}, "margin_pool_health", 3.0, "a ratio needs no rate"),
    ],
)
def test_one_pool(view: MemoryView, fields: dict[str, object], name: str, expected: float | None, why: str) -> None:
    view.rate_rows["binance"].append(rate("DEAD", 0.0))
    view.rate_rows["other"] = [rate("FDUSD", 1.0)]
    view.figures = {}
    view.put(a_pool(**fields))
    series = values(families(view)[name], "account")
    assert series == ({} if expected is None else {("main",): pytest.approx(expected)}), why


def thousands(text: bytes) -> set[int]:
    """The leading digits of what is said of accounts; what is said of the process may be any number."""
    return {int(line.split()[-1][:4]) for line in text.decode().splitlines() if re.match(r"margin_.* \d{5}", line)}


def test_without_amounts_no_money_of_the_account_is_shown(view: MemoryView) -> None:
    money = dict.fromkeys(("equity", "requirement", "available", "withdrawable"), 77_123.25)
    leg = a_position(notional=77_124.25, unrealized_pnl=77_125.25, maintenance_margin=77_126.25)
    view.change(next(iter(view.figures)), **money, positions=(leg,), assets=(an_asset(equity=77_127.25),))
    assert 7712 in thousands(Metrics(view, version="0.1.0").text())
    assert 7712 not in thousands(Metrics(view, version="0.1.0", amounts=False).text())
    assert families(view, amounts=False).keys() >= ALL - MONEY
    assert not MONEY & families(view, amounts=False).keys()


LEG = ("account", "pool", "side", "symbol", "venue")


def test_positions_and_assets(view: MemoryView) -> None:
    positions = (a_position("BTCUSDT"), a_position("ETHUSDT", -2.0, side="SHORT", notional=-6_000.0, liquidation_price=None))
    view.put(a_pool("desk", "USDT", unit="USDT", positions=positions, assets=(an_asset("USDT"), an_asset("BNB", equity=None))))
    found = families(view)
    btc, eth = ("desk", "USDT", "BOTH", "BTCUSDT", "binance"), ("desk", "USDT", "SHORT", "ETHUSDT", "binance")
    assert values(found["margin_position_liquidation_distance_ratio"], *LEG) == {btc: pytest.approx(-0.1)}, "none has no series"
    assert values(found["margin_position_notional_usd"], *LEG) == {btc: 30_000 * 0.9998, eth: -6_000 * 0.9998}
    assert values(found["margin_position_unrealized_pnl_usd"], *LEG) == {btc: -500 * 0.9998, eth: -500 * 0.9998}
    assert values(found["margin_position_maintenance_margin_usd"], *LEG) == {btc: 120 * 0.9998, eth: 120 * 0.9998}
    assert values(found["margin_asset_equity_usd"], "account", "asset", "pool", "venue") == {
        ("desk", "USDT", "USDT", "binance"): 9_500 * 0.9998
    }
    assert values(found["margin_positions_left_out"]) == {(): 0.0}


def test_an_account_has_series_for_its_largest_positions_and_says_how_many_are_left_out(view: MemoryView) -> None:
    margins = [10.0, 500.0, None, 30.0, 400.0]
    positions = tuple(a_position(f"C{i}USDT", maintenance_margin=margin) for i, margin in enumerate(margins))
    view.put(a_pool("large", positions=positions))
    view.put(a_pool("large", "BTCUSDT", positions=(a_position("C5USDT", maintenance_margin=450.0),)))
    view.put(a_pool("small", positions=(a_position("C0USDT", maintenance_margin=1.0),)))
    text = Metrics(view, version="0.1.0", positions_max=3).text().decode()
    found = {family.name: family for family in parse_text(text)}
    shown = values(found["margin_position_notional_usd"], "account", "symbol")
    assert shown.keys() == {("large", "C1USDT"), ("large", "C2USDT"), ("large", "C5USDT"), ("small", "C0USDT")}
    assert values(found["margin_positions_left_out"]) == {(): 3.0}
    assert values(found["margin_position_liquidation_distance_ratio"], "account", "symbol").keys() == shown.keys()


def test_positions_may_be_left_out_altogether(view: MemoryView) -> None:
    view.put(a_pool("desk", positions=(a_position(),), assets=(an_asset(),)))
    text = Metrics(view, version="0.1.0", positions_max=0).text().decode()
    assert "margin_position" not in text
    assert "margin_asset_equity" not in text


def test_rates_by_side_and_none_that_is_not_a_rate(view: MemoryView) -> None:
    view.rate_rows["binance"] += [rate("ZERO", 0.0), rate("NAN", math.nan), rate("INF", math.inf)]
    assert values(families(view)["margin_asset_rate_usd"], "venue", "asset", "side") == {
        ("binance", "BTC", "bid"): 57_000.0,
        ("binance", "BTC", "ask"): 63_000.0,
        ("binance", "BTC", "index"): 60_000.0,
        ("binance", "USDT", "bid"): pytest.approx(0.9998 * 0.95),
        ("binance", "USDT", "ask"): pytest.approx(0.9998 * 1.05),
        ("binance", "USDT", "index"): 0.9998,
    }


def test_a_venue_cannot_flood_us_with_assets(view: MemoryView) -> None:
    view.rate_rows["binance"] = [rate(f"COIN{i}", 1.0) for i in range(5_000)]
    assert len(families(view)["margin_asset_rate_usd"].samples) == 3 * ASSETS_MAX


def test_streams(view: MemoryView) -> None:
    found = families(view)
    assert values(found["margin_stream_up"], "account", "stream") == {
        ("", "mark_price"): 1.0,
        ("main", "user"): 0.0,
        ("blind", "user"): 0.0,
    }
    assert values(found["margin_stream_last_event_timestamp_seconds"], "stream") == {("mark_price",): (NOW_MS - 300) / 1000}
    assert values(found["margin_stream_reconnects"], "venue", "stream", "reason") == {
        ("binance", "user", "closed"): 5.0,
        ("binance", "user", "stale"): 1.0,
    }


def test_counters(view: MemoryView) -> None:
    found = families(view)
    assert values(found["margin_frames"], "venue", "stream") == {("binance", "mark_price"): 90.0}
    assert values(found["margin_frames_refused"], "venue", "reason") == {("binance", "not_json"): 1.0}
    dropped = {("binance", "older_price"): 3.0, ("binance", "older_account_row"): 1.0}
    assert values(found["margin_events_dropped"], "venue", "reason") == dropped
    assert values(found["margin_updates_missed"], "venue") == {("binance",): 2.0}
    assert values(found["margin_rest_requests"], "venue", "result") == {("binance", "ok"): 12.0, ("binance", "-1021"): 2.0}
    assert values(found["margin_alerts"], "rule", "level") == {("health", "critical"): 3.0, ("stale", "unknown"): 1.0}
    assert found["margin_frames"].samples[0].name == "margin_frames_total"


def test_channels_and_outbox(view: MemoryView) -> None:
    found = families(view)
    assert values(found["margin_notifications"], "channel", "result") == {
        ("desk-slack", "sent"): 12.0,
        ("desk-slack", "retry"): 1.0,
        ("phone", "failed"): 1.0,
    }
    assert values(found["margin_outbox_pending"], "channel") == {("desk-slack",): 0.0, ("phone",): 2.0}
    assert values(found["margin_channel_broken"], "channel") == {("desk-slack",): 0.0, ("phone",): 1.0}
    assert values(found["margin_outbox_oldest_age_seconds"]) == {(): 4.5}


@pytest.mark.parametrize(
    ("oldest_ms", "age_s", "why"),
    [(None, 0.0, "nothing waits"), (NOW_MS - 1_000, 1.0, "one second"), (NOW_MS + 5_000, 0.0, "a clock that was set back")],
)
def test_age_of_the_outbox(view: MemoryView, oldest_ms: int | None, age_s: float, why: str) -> None:
    view.channel_rows = [ChannelStatus(name="phone", kind="telegram", oldest_ms=oldest_ms)]
    assert values(families(view)["margin_outbox_oldest_age_seconds"]) == {(): age_s}, why


def test_histogram_of_ticks(view: MemoryView) -> None:
    samples = families(view)["margin_tick_seconds"].samples
    assert {(s.name, s.labels.get("le")): s.value for s in samples} == {
        ("margin_tick_seconds_bucket", "0.001"): 7.0,
        ("margin_tick_seconds_bucket", "0.01"): 9.0,
        ("margin_tick_seconds_bucket", "+Inf"): 10.0,
        ("margin_tick_seconds_count", None): 10.0,
        ("margin_tick_seconds_sum", None): 0.05,
    }


@pytest.mark.parametrize("good", [True, False])
def test_configuration_and_build(view: MemoryView, good: bool) -> None:
    view.reload = (good, NOW_MS)
    found = families(view)
    assert values(found["margin_config_last_reload_successful"]) == {(): float(good)}
    assert values(found["margin_config_last_reload_success_timestamp_seconds"]) == {(): NOW_MS / 1000}
    assert values(found["margin_build_info"], "version", "python") == {("0.1.0", platform.python_version()): 1.0}


def test_a_hostile_symbol_writes_no_series_of_its_own(view: MemoryView) -> None:
    hostile = 'BTC"} 1\nmargin_pool_health{account="main",pool="USD",venue="binance'
    view.rate_rows["binance"] = [rate(hostile, 2.0)]
    view.put(a_pool("main", hostile, health=9.0))
    view.counter_rows["binance"].refused = {hostile: 4}
    found = families(view)
    assert sorted(sample.value for sample in found["margin_pool_health"].samples) == [3.0, 9.0]
    assert sum(s.labels["pool"] == "USD" for s in found["margin_pool_health"].samples) == 1
    assert [s.value for s in found["margin_frames_refused"].samples] == [4.0]


def test_no_pools_yet() -> None:
    found = families(MemoryView())
    assert found["margin_pool_health"].samples == []
    assert found["margin_stream_up"].samples == []
