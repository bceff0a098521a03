"""All pools: who is near, what is not known, whether messages get out, and how the monitor itself is."""

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DynamicConfigValue

from grafana import ladder
from grafana.ladder import LEVEL_WORDS, LEVELS
from grafana.panels import KEPT, OVERVIEW_UID, POOL_UID, ROW_TO_POOL, TO_POOL, Layout, chart, figure, links, rows, timeline
from grafana.variables import CHOSEN, OF_VENUE, variables

WORST = 20  # series in a chart of all pools, accounts or streams
ROWS = 100  # of a table: those with the worst health, and as many unknown ones
HEALTH_SHOWN_MAX = 5  # a pool with next to no position would flatten all others
POOL = "{{venue}} {{account}} {{pool}}"
JOB = 'job="margin-monitor"'
FIRING = 'ALERTS{alertstate="firing",alertname=~"Margin.+"}'
TROUBLE = FIRING.replace("}", ',severity!="info"}')
SHOWN = (
    f"and on (venue, account, pool) (bottomk({ROWS}, margin_pool_health{{{CHOSEN}}}) "
    f"or bottomk({ROWS}, margin_pool_level{{{CHOSEN}}} == -1))"
)
COLOURED = DynamicConfigValue("custom.cellOptions", {"type": "color-background"})


def overview() -> Dashboard:
    """The dashboard that stays on the wall."""
    dashboard = (
        Dashboard("Margin Monitor: all pools")
        .uid(OVERVIEW_UID)
        .description("Health of all watched margin pools, worst first, and whether the monitor itself is well.")
        .tags(["margin-monitor"])
        .readonly()
        .time("now-3h", "now")
        .refresh("10s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .variables(variables(one_pool=False))
        .links(links(f"{POOL_UID}?{KEPT}", "One pool in depth", chosen=False))
    )
    layout = Layout(dashboard)
    _now(layout)
    _pools(layout)
    _collateral(layout)
    _streams(layout)
    _delivery(layout)
    _trust(layout)
    _itself(layout)
    return dashboard


def _now(layout: Layout) -> None:
    layout.section("Now")
    layout.line(
        4,
        (
            figure(
                "Worst health",
                "Equity ÷ the equity at which liquidation starts: lower is worse, 1.0 is liquidation.",
                "none",
                f"min(margin_pool_health{{{CHOSEN}}})",
                colours=ladder.HEALTH,
                decimals=3,
            ),
            4,
        ),
        (
            figure(
                "Nearest liquidation",
                "The smallest move of a price, up or down, that liquidates a pool.",
                "percentunit",
                f"min(pool:margin_position_liquidation_distance_ratio:min{{{CHOSEN}}})",
                decimals=1,
            ),
            4,
        ),
        (
            figure(
                "Unknown pools",
                "Pools whose figures are too old or cannot be computed.",
                "none",
                f"count(margin_pool_level{{{CHOSEN}}} == -1) or vector(0)",
                colours=ladder.NONE_IS_GOOD,
            ),
            3,
        ),
        (
            figure(
                "Pools in danger",
                "Pools at level high or worse.",
                "none",
                f"count(margin_pool_level{{{CHOSEN}}} >= 3) or vector(0)",
                colours=ladder.NONE_IS_GOOD,
            ),
            3,
        ),
        (
            figure(
                "Alerts firing",
                "Of the rules in deploy/prometheus, those of severity info left out.",
                "none",
                f"count({TROUBLE}) or vector(0)",
                colours=ladder.NONE_IS_GOOD,
            ),
            3,
        ),
        (
            figure(
                "Oldest message that waits",
                "0 s: everything has been delivered.",
                "s",
                "max(margin_outbox_oldest_age_seconds)",
                colours=ladder.WAIT,
            ),
            3,
        ),
        (
            figure(
                "Monitor",
                "Whether the last scrape of every daemon succeeded.",
                "none",
                f"min(up{{{JOB}}})",
                colours=ladder.ONE_IS_GOOD,
                mappings=ladder.UP_WORDS,
            ),
            2,
        ),
        (figure("Version", "Of the daemon.", "none", "margin_build_info", legend="{{version}}", named=True), 2),
    )


def _pools(layout: Layout) -> None:
    layout.section("Pools")
    layout.line(
        11,
        (
            chart(
                "Health of the worst pools",
                f"Lower is worse: the bands are the levels of the default ladder. Cut at {HEALTH_SHOWN_MAX}.",
                "none",
                (f"bottomk({WORST}, clamp_max(margin_pool_health{{{CHOSEN}}}, {HEALTH_SHOWN_MAX}))", POOL),
                bands=ladder.HEALTH,
                decimals=3,
                low=0.9,
                high=2.2,
                link=TO_POOL,
            ),
            13,
        ),
        (
            rows(
                "Pools, worst first",
                f"The {ROWS} with the worst health, and the unknown ones. Click a pool for its own dashboard.",
                [
                    ("health ↓", _of_shown("margin_pool_health"), "none", [
                        DynamicConfigValue("decimals", 3),
                        DynamicConfigValue("thresholds", ladder.HEALTH.build()),
                        COLOURED,
                    ]),
                    ("ratio ↑", _of_shown("margin_pool_margin_ratio"), "percentunit", []),
                    ("level", _of_shown("margin_pool_level"), "none", [
                        DynamicConfigValue("mappings", LEVEL_WORDS),
                        COLOURED,
                    ]),
                    ("liquidated by", _of_shown("pool:margin_position_liquidation_distance_ratio:min"), "percentunit", []),
                    ("equity", _of_shown("margin_pool_equity_usd"), "currencyUSD", []),
                    ("maintenance margin", _of_shown("margin_pool_maintenance_margin_usd"), "currencyUSD", []),
                    ("age", _of_shown("margin_pool_data_age_seconds"), "s", []),
                ],
                by=("venue", "account", "pool"),
                sort="health ↓",
                link=ROW_TO_POOL,
            ),
            11,
        ),
    )  # fmt: skip
    layout.line(
        8,
        (
            timeline(
                "Level of the worst pools",
                "The worst level of all rules of a pool; grey is unknown.",
                (
                    f"topk({WORST}, margin_pool_level{{{CHOSEN}}} != -1) "
                    f"or bottomk({WORST}, margin_pool_level{{{CHOSEN}}} == -1)",
                    POOL,
                ),
                mappings=LEVEL_WORDS,
                colours=LEVELS,
            ),
            13,
        ),
        (
            chart(
                "Distance to liquidation",
                "The move of the nearest position's price, up or down, that liquidates the pool.",
                "percentunit",
                (f"bottomk({WORST}, pool:margin_position_liquidation_distance_ratio:min{{{CHOSEN}}})", POOL),
                low=0,
                link=TO_POOL,
            ),
            11,
        ),
    )
    layout.line(
        8,
        (
            chart(
                "Margin ratio of the worst pools",
                "The other sense: higher is worse, 100 % is liquidation.",
                "percentunit",
                (f"topk({WORST}, clamp_max(margin_pool_margin_ratio{{{CHOSEN}}}, 2))", POOL),
                bands=ladder.MARGIN_RATIO,
                low=0,
                high=1,
                link=TO_POOL,
            ),
            8,
        ),
        (
            chart(
                "Pools by level",
                "How many pools are at which level (-1 is unknown).",
                "none",
                ("sum by (level) (level:margin_pool_level:count)", "level {{level}}"),
                stacked=True,
                decimals=0,
            ),
            8,
        ),
        (
            chart(
                "Equity by account",
                f"All pools of an account; the {WORST} largest.",
                "currencyUSD",
                (f"topk({WORST}, sum by (venue, account) (margin_pool_equity_usd{{{CHOSEN}}}))", "{{venue}} {{account}}"),
            ),
            8,
        ),
    )


def _of_shown(metric: str) -> str:
    """A column of the table: every one is of the same pools, or a row would have holes that read as unknown."""
    return f"{metric}{{{CHOSEN}}} {SHOWN}"


def _collateral(layout: Layout) -> None:
    layout.section("Collateral")
    layout.line(
        8,
        (
            chart(
                "Collateral rates against their mean of an hour",
                "Index price in USD before the haircut.",
                "percentunit",
                (
                    f'margin_asset_rate_usd{{{OF_VENUE},side="index"}} '
                    f'/ avg_over_time(margin_asset_rate_usd{{{OF_VENUE},side="index"}}[1h]) - 1',
                    "{{venue}} {{asset}}",
                ),
            ),
            8,
        ),
        (
            chart(
                "What a unit counts for",
                "Owned (bid) and owed (ask) against the index: the haircut. A step is a change of the venue's table.",
                "percentunit",
                (
                    f'margin_asset_rate_usd{{{OF_VENUE},side=~"bid|ask"}} '
                    f'/ ignoring (side) group_left () margin_asset_rate_usd{{{OF_VENUE},side="index"}}',
                    "{{venue}} {{asset}} {{side}}",
                ),
            ),
            8,
        ),
        (
            chart(
                "Stablecoins against the dollar",
                "Off 1 by more than a percent is a depeg.",
                "currencyUSD",
                (f'margin_asset_rate_usd{{{OF_VENUE},side="index",asset=~".*USD.*"}}', "{{venue}} {{asset}}"),
                decimals=4,
                low=0.99,
                high=1.01,
            ),
            8,
        ),
    )


def _streams(layout: Layout) -> None:
    stream = "{{venue}} {{account}} {{stream}}"
    layout.section("Streams")
    layout.line(
        8,
        (
            timeline(
                "Streams up",
                f"Whether data flow. Those without an account serve all; of the others {WORST}, those that are down first.",
                (
                    f'margin_stream_up{{{OF_VENUE},account=""}} or bottomk({WORST}, margin_stream_up{{{OF_VENUE},account!=""}})',
                    stream,
                ),
                mappings=ladder.UP_WORDS,
                colours=ladder.ONE_IS_GOOD,
            ),
            12,
        ),
        (
            chart(
                "Since the last event",
                "By the clocks of Prometheus and of the daemon. Streams of accounts speak when something happens there; "
                f"of them the {WORST} longest silent.",
                "s",
                (
                    f'time() - (margin_stream_last_event_timestamp_seconds{{{OF_VENUE},account=""}} '
                    f'or bottomk({WORST}, margin_stream_last_event_timestamp_seconds{{{OF_VENUE},account!=""}}))',
                    stream,
                ),
                low=0,
            ),
            12,
        ),
    )
    layout.line(
        8,
        (
            chart(
                "Reconnects",
                "By reason; rotation is planned.",
                "none",
                (
                    f"sum by (venue, stream, reason) (increase(margin_stream_reconnects_total{{{OF_VENUE}}}[$__rate_interval]))",
                    "{{venue}} {{stream}} {{reason}}",
                ),
            ),
            6,
        ),
        (
            chart(
                "Frames",
                "Received per second.",
                "cps",
                (f"sum by (venue, stream) (rate(margin_frames_total{{{OF_VENUE}}}[$__rate_interval]))", "{{venue}} {{stream}}"),
            ),
            6,
        ),
        (
            chart(
                "Frames and rows not taken",
                "Not believed, older than what is known, or never sent and found by REST.",
                "none",
                (
                    f"sum by (venue, reason) (increase(margin_frames_refused_total{{{OF_VENUE}}}[$__rate_interval]))",
                    "{{venue}} {{reason}}",
                ),
                (
                    f"sum by (venue, reason) (increase(margin_events_dropped_total{{{OF_VENUE}}}[$__rate_interval]))",
                    "{{venue}} dropped: {{reason}}",
                ),
                (
                    f"sum by (venue) (increase(margin_updates_missed_total{{{OF_VENUE}}}[$__rate_interval]))",
                    "{{venue}} found by REST only",
                ),
            ),
            6,
        ),
        (
            chart(
                "REST requests",
                "By result, per second.",
                "reqps",
                (
                    f"sum by (venue, result) (rate(margin_rest_requests_total{{{OF_VENUE}}}[$__rate_interval]))",
                    "{{venue}} {{result}}",
                ),
            ),
            6,
        ),
    )


def _delivery(layout: Layout) -> None:
    layout.section("Alerts and their delivery")
    layout.line(
        8,
        (
            rows(
                "Firing now",
                f"By the rules of Prometheus, not by the daemon's own; at most {ROWS}.",
                [("state", f"topk({ROWS}, {FIRING})", "none", [])],
                by=("alertname", "severity", "venue", "account", "pool"),
            ),
            8,
        ),
        (
            chart(
                "Crossings",
                "What the daemon's own rules found, by rule and level.",
                "none",
                ("sum by (rule, level) (increase(margin_alerts_total[$__rate_interval]))", "{{rule}} {{level}}"),
            ),
            8,
        ),
        (
            chart(
                "Attempts to send",
                "By channel and result.",
                "none",
                ("sum by (channel, result) (increase(margin_notifications_total[$__rate_interval]))", "{{channel}} {{result}}"),
            ),
            8,
        ),
    )
    layout.line(
        7,
        (chart("Messages that wait", "By channel.", "none", ("sum by (channel) (margin_outbox_pending)", "{{channel}}")), 6),
        (
            chart(
                "Oldest message that waits",
                "The bands are the limits of the rules MarginOutboxStuck and MarginOutboxStuckCritical.",
                "s",
                ("margin_outbox_oldest_age_seconds", "{{instance}}"),
                bands=ladder.WAIT,
                low=0,
            ),
            6,
        ),
        (
            timeline(
                "Channels",
                "Broken: the service refuses what is sent.",
                ("margin_channel_broken", "{{channel}}"),
                mappings=ladder.BROKEN_WORDS,
                colours=ladder.NONE_IS_GOOD,
            ),
            6,
        ),
        (
            timeline(
                "Sign of life",
                "Why the heartbeat is withheld.",
                ("margin_heartbeat_withheld", "{{reason}}"),
                mappings=ladder.WITHHELD_WORDS,
                colours=ladder.NONE_IS_GOOD,
            ),
            6,
        ),
    )
    layout.line(
        6,
        (
            chart(
                "Open incidents",
                "Who looks after them; those that a silence matches are told when it ends, emergencies at once.",
                "none",
                ("sum by (state) (margin_incidents)", "{{state}}"),
                ("margin_silences_active", "silences in force"),
            ),
            24,
        ),
    )
    layout.line(
        6,
        (
            chart(
                "Heartbeats",
                "Calls of the service outside, by result.",
                "none",
                ("sum by (result) (increase(margin_heartbeats_total[$__rate_interval]))", "{{result}}"),
            ),
            12,
        ),
        (
            chart(
                "Since the last heartbeat",
                "That arrived.",
                "s",
                ("time() - margin_heartbeat_last_success_timestamp_seconds", "{{instance}}"),
                low=0,
            ),
            12,
        ),
    )


def _trust(layout: Layout) -> None:
    layout.section("Can the figures be trusted?")
    layout.line(
        8,
        (
            chart(
                "Age of the oldest input",
                "Of the oldest pools; the bands are the limits of the rule stale.",
                "s",
                (f"topk({WORST}, margin_pool_data_age_seconds{{{CHOSEN}}})", POOL),
                bands=ladder.AGE,
                low=0,
                high=6,
            ),
            8,
        ),
        (
            chart(
                "Own figures against the venue's",
                "Relative difference; the bands are the limits of the rule reconcile.",
                "percentunit",
                (f"topk({WORST}, margin_reconcile_relative_difference{{{CHOSEN}}})", POOL),
                bands=ladder.RECONCILE,
                low=0,
                high=0.012,
            ),
            8,
        ),
        (
            chart(
                "Clock of the venue minus ours",
                "Beyond a few seconds signed requests are refused.",
                "s",
                (f"margin_clock_offset_seconds{{{OF_VENUE}}}", "{{venue}}"),
            ),
            8,
        ),
    )


def _itself(layout: Layout) -> None:
    layout.section("The monitor itself")
    layout.line(
        8,
        (
            chart(
                "Time of a tick",
                "From a frame of prices to its decisions.",
                "s",
                (
                    "histogram_quantile(0.5, sum by (le, instance) (rate(margin_tick_seconds_bucket[$__rate_interval])))",
                    "half {{instance}}",
                ),
                ("instance:margin_tick_seconds:p99_5m", "99 of 100 {{instance}}"),
                (
                    "sum by (instance) (rate(margin_tick_seconds_sum[$__rate_interval])) "
                    "/ sum by (instance) (rate(margin_tick_seconds_count[$__rate_interval]))",
                    "mean {{instance}}",
                ),
            ),
            8,
        ),
        (
            chart(
                "Lag of the event loop",
                "The worst of 15 s.",
                "s",
                ("margin_loop_lag_seconds", "{{instance}}"),
                bands=ladder.LAG,
                low=0,
            ),
            8,
        ),
        (
            chart(
                "CPU",
                "Cores in use.",
                "none",
                (f"rate(process_cpu_seconds_total{{{JOB}}}[$__rate_interval])", "{{instance}}"),
                low=0,
            ),
            8,
        ),
    )
    layout.line(
        6,
        (
            chart("Memory", "Resident.", "bytes", (f"process_resident_memory_bytes{{{JOB}}}", "{{instance}}"), low=0),
            6,
        ),
        (
            chart(
                "Open files",
                "Of those that the system permits.",
                "percentunit",
                (f"process_open_fds{{{JOB}}} / process_max_fds{{{JOB}}}", "{{instance}}"),
                low=0,
            ),
            6,
        ),
        (
            figure(
                "Configuration",
                "Whether the last load was good.",
                "none",
                "min(margin_config_last_reload_successful)",
                colours=ladder.ONE_IS_GOOD,
                mappings=ladder.LOAD_WORDS,
            ),
            3,
        ),
        (
            figure(
                "Loaded",
                "When the configuration in force was loaded.",
                "dateTimeFromNow",
                "1000 * max(margin_config_last_reload_success_timestamp_seconds)",
            ),
            3,
        ),
        (
            figure(
                "Running since",
                "Start of the process.",
                "dateTimeFromNow",
                f"1000 * min(process_start_time_seconds{{{JOB}}})",
            ),
            3,
        ),
        (
            figure(
                "Positions without series",
                "Beyond metrics.positions_max of their account.",
                "none",
                "sum(margin_positions_left_out)",
            ),
            3,
        ),
    )
