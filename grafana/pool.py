"""One pool in depth: how near, why, and what it is made of."""

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync

from grafana import ladder
from grafana.panels import OVERVIEW_UID, POOL_UID, Layout, chart, figure, links, rows, timeline
from grafana.variables import CHOSEN, OF_VENUE, variables

LEG = "{{symbol}} {{side}}"
OWN = f'ALERTS{{alertstate="firing",{CHOSEN}}}'


def pool() -> Dashboard:
    """The dashboard that one opens when something is wrong."""
    dashboard = (
        Dashboard("Margin Monitor: one pool")
        .uid(POOL_UID)
        .description("One margin pool: its health, its positions and its collateral.")
        .tags(["margin-monitor"])
        .readonly()
        .time("now-1h", "now")
        .refresh("10s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .variables(variables(one_pool=True))
        .links(links(OVERVIEW_UID, "All pools", chosen=True))
    )
    layout = Layout(dashboard)
    _now(layout)
    _nearness(layout)
    _positions(layout)
    _collateral(layout)
    _trust(layout)
    return dashboard


def _now(layout: Layout) -> None:
    layout.section("Now")
    layout.line(
        4,
        (
            figure(
                "Health",
                "Equity ÷ the equity at which liquidation starts: lower is worse, 1.0 is liquidation.",
                "none",
                f"margin_pool_health{{{CHOSEN}}}",
                colours=ladder.HEALTH,
                decimals=3,
            ),
            4,
        ),
        (
            figure(
                "Margin ratio",
                "The other sense: higher is worse, 100 % is liquidation.",
                "percentunit",
                f"margin_pool_margin_ratio{{{CHOSEN}}}",
                colours=ladder.MARGIN_RATIO,
                decimals=1,
            ),
            4,
        ),
        (
            figure(
                "Level",
                "The worst of all rules of the pool.",
                "none",
                f"margin_pool_level{{{CHOSEN}}}",
                colours=ladder.LEVELS,
                mappings=ladder.LEVEL_WORDS,
            ),
            3,
        ),
        (
            figure(
                "Nearest liquidation",
                "The smallest move of a price, up or down, that liquidates the pool.",
                "percentunit",
                f"pool:margin_position_liquidation_distance_ratio:min{{{CHOSEN}}}",
                decimals=1,
            ),
            4,
        ),
        (
            figure(
                "To liquidation",
                "Equity that may be lost before liquidation starts.",
                "currencyUSD",
                f"margin_pool_equity_usd{{{CHOSEN}}} - margin_pool_maintenance_margin_usd{{{CHOSEN}}}",
            ),
            3,
        ),
        (figure("Available", "For new positions.", "currencyUSD", f"margin_pool_available_usd{{{CHOSEN}}}"), 3),
        (figure("Withdrawable", "What may leave the pool.", "currencyUSD", f"margin_pool_withdrawable_usd{{{CHOSEN}}}"), 3),
    )


def _nearness(layout: Layout) -> None:
    layout.section("How near")
    layout.line(
        10,
        (
            chart(
                "Health",
                "Lower is worse: the bands are the levels of the default ladder.",
                "none",
                (f"clamp_max(margin_pool_health{{{CHOSEN}}}, 5)", "health"),
                bands=ladder.HEALTH,
                decimals=3,
                low=0.9,
                high=2.2,
            ),
            14,
        ),
        (
            chart(
                "Equity, and where liquidation starts",
                "The pool is liquidated where the lines meet.",
                "currencyUSD",
                (f"margin_pool_equity_usd{{{CHOSEN}}}", "equity"),
                (f"margin_pool_maintenance_margin_usd{{{CHOSEN}}}", "maintenance margin"),
            ),
            10,
        ),
    )
    layout.line(
        8,
        (
            chart(
                "Distance to liquidation",
                "Move of each position's price that liquidates the pool: below 0 a fall, above 0 a rise.",
                "percentunit",
                (f"margin_position_liquidation_distance_ratio{{{CHOSEN}}}", LEG),
            ),
            10,
        ),
        (
            chart(
                "Margin ratio",
                "Higher is worse, 100 % is liquidation.",
                "percentunit",
                (f"clamp_max(margin_pool_margin_ratio{{{CHOSEN}}}, 2)", "margin ratio"),
                bands=ladder.MARGIN_RATIO,
                low=0,
                high=1,
            ),
            7,
        ),
        (
            chart(
                "Guarantee-asset ratio",
                "HTX alone: lower is worse, 0 is liquidation.",
                "percentunit",
                (f"margin_pool_guarantee_asset_ratio{{{CHOSEN}}}", "guarantee-asset ratio"),
                bands=ladder.GUARANTEE,
                low=-0.05,
            ),
            7,
        ),
    )


def _positions(layout: Layout) -> None:
    layout.section("Positions")
    layout.line(
        9,
        (
            rows(
                "Positions",
                "Margin is the part of the equity at which liquidation starts.",
                [
                    ("value", f"margin_position_notional_usd{{{CHOSEN}}}", "currencyUSD", []),
                    ("PnL", f"margin_position_unrealized_pnl_usd{{{CHOSEN}}}", "currencyUSD", []),
                    ("margin", f"margin_position_maintenance_margin_usd{{{CHOSEN}}}", "currencyUSD", []),
                    ("liquidated by", f"margin_position_liquidation_distance_ratio{{{CHOSEN}}}", "percentunit", []),
                ],
                by=("symbol", "side"),
            ),
            12,
        ),
        (
            chart(
                "Margin by position",
                "What the positions need; together, where liquidation starts.",
                "currencyUSD",
                (f"margin_position_maintenance_margin_usd{{{CHOSEN}}}", LEG),
                stacked=True,
                low=0,
            ),
            12,
        ),
    )
    layout.line(
        8,
        (
            chart(
                "PnL by position",
                "What each adds to the equity.",
                "currencyUSD",
                (f"margin_position_unrealized_pnl_usd{{{CHOSEN}}}", LEG),
            ),
            12,
        ),
        (
            chart(
                "Value by position",
                "Short is below 0; the sum is the net exposure.",
                "currencyUSD",
                (f"margin_position_notional_usd{{{CHOSEN}}}", LEG),
                (f"sum(margin_position_notional_usd{{{CHOSEN}}})", "net"),
            ),
            12,
        ),
    )


def _collateral(layout: Layout) -> None:
    mine = f"group by (venue, asset) (margin_asset_equity_usd{{{CHOSEN}}})"
    layout.section("Collateral")
    layout.line(
        8,
        (
            chart(
                "Equity by asset",
                "What each asset counts for, PnL included; below 0 it is owed.",
                "currencyUSD",
                (f"margin_asset_equity_usd{{{CHOSEN}}}", "{{asset}}"),
                stacked=True,
            ),
            9,
        ),
        (
            chart(
                "Share of equity",
                "By asset.",
                "percentunit",
                (
                    f"margin_asset_equity_usd{{{CHOSEN}}} "
                    f"/ on (venue, account, pool) group_left () (margin_pool_equity_usd{{{CHOSEN}}} != 0)",
                    "{{asset}}",
                ),
            ),
            7,
        ),
        (
            chart(
                "Rates of its assets",
                "Index price in USD, against its mean of an hour.",
                "percentunit",
                (
                    f'(margin_asset_rate_usd{{{OF_VENUE},side="index"}} '
                    f'/ avg_over_time(margin_asset_rate_usd{{{OF_VENUE},side="index"}}[1h]) - 1) '
                    f"and on (venue, asset) {mine}",
                    "{{asset}}",
                ),
            ),
            8,
        ),
    )


def _trust(layout: Layout) -> None:
    layout.section("Can the figures be trusted?")
    layout.line(
        7,
        (
            chart(
                "Age of the oldest input",
                "The bands are the limits of the rule stale.",
                "s",
                (f"margin_pool_data_age_seconds{{{CHOSEN}}}", "age"),
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
                (f"margin_reconcile_relative_difference{{{CHOSEN}}}", "difference"),
                bands=ladder.RECONCILE,
                low=0,
                high=0.012,
            ),
            8,
        ),
        (
            timeline(
                "Streams that it lives on",
                "Those of its account, and those of the whole venue.",
                (f'margin_stream_up{{{OF_VENUE},account=~"$account|"}}', "{{account}} {{stream}}"),
                mappings=ladder.UP_WORDS,
                colours=ladder.ONE_IS_GOOD,
            ),
            8,
        ),
    )
    layout.line(
        7,
        (
            rows(
                "Firing now",
                "Of this pool, by the rules of Prometheus.",
                [("state", OWN, "none", [])],
                by=("alertname", "severity"),
            ),
            12,
        ),
        (
            chart(
                "Level",
                "The worst of all rules: -1 unknown, 0 ok, 1 info, 2 warning, 3 high, 4 critical, 5 emergency, 6 liquidation.",
                "none",
                (f"margin_pool_level{{{CHOSEN}}}", "level"),
                bands=ladder.LEVELS,
                decimals=0,
                low=-1,
                high=6,
            ),
            12,
        ),
    )
