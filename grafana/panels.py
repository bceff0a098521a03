"""Panels as short calls: what both dashboards say in the same way is said here once."""

from collections.abc import Sequence

from grafana_foundation_sdk.builders import common, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders.dashboard import Dashboard, DashboardLink, Row, ThresholdsConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import DashboardLink as Link
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    GridPos,
    Panel,
    ValueMapping,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH = 24
Query = tuple[str, str]  # (PromQL, legend)
Tile = tuple["Builder[Panel]", int]  # (panel, width)

POOL_UID = "margin-monitor-pool"
OVERVIEW_UID = "margin-monitor-overview"
KEPT = "var-datasource=${datasource}&var-page=${page:percentencode}"  # what both dashboards have, whichever pools are chosen
TO_POOL = (
    f"/d/{POOL_UID}?${{__url_time_range}}&{KEPT}&var-venue=${{__field.labels.venue}}"
    "&var-account=${__field.labels.account}&var-pool=${__field.labels.pool}"
)
ROW_TO_POOL = (
    f"/d/{POOL_UID}?${{__url_time_range}}&{KEPT}&var-venue=${{__data.fields.venue}}"
    "&var-account=${__data.fields.account}&var-pool=${__data.fields.pool}"
)


def queries(asked: Sequence[Query], *, instant: bool = False) -> list[Dataquery]:
    """With letters as their names, in order."""
    built = []
    for i, (expr, legend) in enumerate(asked):
        query = Dataquery().expr(expr).legend_format(legend).ref_id(chr(ord("A") + i)).datasource(SOURCE)
        built.append(query.instant() if instant else query.range())
    return built


def chart(
    title: str,
    description: str,
    unit: str,
    *asked: Query,
    bands: ThresholdsConfig | None = None,
    decimals: int | None = None,
    stacked: bool = False,
    low: float | None = None,
    high: float | None = None,
    link: str = "",
) -> timeseries.Panel:
    """Lines over time; bands: thresholds as coloured areas. A gap in the data stays a gap. low, high: at least so far."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .targets(list(queries(asked)))
        .span_nulls(False)
        .show_points(VisibilityMode.NEVER)
        .line_width(1)
        .fill_opacity(40 if stacked else 0)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "min", "max"])
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if bands is not None:
        panel.thresholds(bands).thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.AREA))
    if decimals is not None:
        panel.decimals(decimals)
    if low is not None:
        panel.axis_soft_min(low)
    if high is not None:
        panel.axis_soft_max(high)
    if link:
        panel.data_links([DashboardLink("This pool").url(link)])
    return panel


def figure(
    title: str,
    description: str,
    unit: str,
    expr: str,
    *,
    colours: ThresholdsConfig | None = None,
    mappings: list[ValueMapping] | None = None,
    decimals: int | None = None,
    legend: str = "",
    named: bool = False,
) -> stat.Panel:
    """One number of now; named: its legend instead."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .targets(list(queries([(expr, legend)], instant=True)))
        .graph_mode(BigValueGraphMode.NONE)
        .color_mode(BigValueColorMode.NONE if colours is None else BigValueColorMode.BACKGROUND)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value("unknown")
    )
    if named:
        panel.text_mode(BigValueTextMode.NAME)
    if colours is not None:
        panel.thresholds(colours)
    if mappings is not None:
        panel.mappings(mappings)
    if decimals is not None:
        panel.decimals(decimals)
    return panel


def timeline(
    title: str, description: str, *asked: Query, mappings: list[ValueMapping], colours: ThresholdsConfig
) -> statetimeline.Panel:
    """States as coloured bars, each with its word."""
    return (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit("none")
        .targets(list(queries(asked)))
        .mappings(mappings)
        .thresholds(colours)
        .merge_values(True)
        .fill_opacity(80)
        .line_width(0)
        .show_value(VisibilityMode.AUTO)
        .legend(common.VizLegendOptions().show_legend(False).placement(LegendPlacement.BOTTOM).calcs([]))
    )


def rows(
    title: str,
    description: str,
    columns: Sequence[tuple[str, str, str, Sequence[DynamicConfigValue]]],
    *,
    by: Sequence[str],
    sort: str = "",
    link: str = "",
    unit: str = "none",
) -> table.Panel:
    """A table of now. columns: (heading, PromQL, unit, more properties); by: labels that make a row."""
    asked = [query.format(PromQueryFormat.TABLE) for query in queries([(expr, "") for _, expr, _, _ in columns], instant=True)]
    values = [f"Value #{chr(ord('A') + i)}" for i in range(len(columns))] if len(columns) > 1 else ["Value"]
    shown = [*by, *values]
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .targets(list(asked))
        .show_header(True)
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            DataTransformerConfig(id_val="filterFieldsByName", options={"include": {"names": shown}}),
        )
        .with_transformation(
            DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {},
                    "indexByName": {name: i for i, name in enumerate(shown)},
                    "renameByName": {value: heading for value, (heading, *_) in zip(values, columns, strict=True)},
                },
            )
        )
    )
    if sort:
        panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(False)])
    for heading, _, of, more in columns:
        panel.override_by_name(heading, [DynamicConfigValue("unit", of), *more])
    if link:
        links = [{"title": "This pool", "url": link}]
        panel.override_by_name(by[-1], [DynamicConfigValue("links", links)])
    return panel


class Layout:
    """Places panels from left to right and top to bottom, and numbers them."""

    def __init__(self, dashboard: Dashboard) -> None:
        self._dashboard = dashboard
        self._y = 0
        self._id = 0

    def section(self, title: str) -> None:
        self._dashboard.with_row(Row(title).id(self._next()).grid_pos(GridPos(h=1, w=WIDTH, x=0, y=self._y)))
        self._y += 1

    def line(self, height: int, *tiles: Tile) -> None:
        """Panels side by side; their widths fill the line."""
        if sum(width for _, width in tiles) != WIDTH:
            raise ValueError(f"a line of width {sum(width for _, width in tiles)}, not {WIDTH}")
        x = 0
        for panel, width in tiles:
            placed = panel.build()
            placed.id_val, placed.grid_pos = self._next(), GridPos(h=height, w=width, x=x, y=self._y)
            self._dashboard.with_panel(panel)
            x += width
        self._y += height

    def _next(self) -> int:
        self._id += 1
        return self._id


def links(to: str, title: str, *, chosen: bool) -> "list[Builder[Link]]":
    """To the other dashboard and to the status page. chosen: with all variables; not to one that cannot show `All`."""
    return [
        DashboardLink(title).type(DashboardLinkType.LINK).url(f"/d/{to}").icon("dashboard").include_vars(chosen).keep_time(True),
        DashboardLink("Status page").type(DashboardLinkType.LINK).url("${page}").icon("external link").target_blank(True),
    ]
