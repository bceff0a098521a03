"""The daemon's status for a terminal: pools worst first, open incidents, and what is wrong with streams and channels."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from monitor.alerts.message import gravity
from monitor.model.alerts import Level
from monitor.remote import Daemon, RefusedError, alert_lines
from monitor.terminal import STYLES, number, printable

Answer = dict[str, Any]
PoolPath = tuple[str, str, str]  # venue, account, pool

WIDE = 100  # columns from which on there is room for whole names
NOTES_MAX = 4
BANNER = "bold white on red"


def path_of(pool: Answer) -> PoolPath:
    return pool["venue"], pool["account"], pool["pool"]


def worst_first(answer: Answer) -> list[Answer]:
    """The pools of `/api/v1/status`: by level, where unknown weighs as critical, then by health."""
    return sorted(answer["pools"], key=_rank)


def alarming(answer: Answer) -> bool:
    """Whether anything is critical or worse, or unknown: a pool, an incident, or data that are not there yet."""
    levels = [_level(one) for one in (*answer["pools"], *answer["incidents"])]
    return bool(answer["missing"]) or any(gravity(level) >= Level.CRITICAL for level in levels)


def details_of(daemon: Daemon, answer: Answer, pools_max: int = 40) -> dict[PoolPath, Answer]:
    """The worst pools with their positions. Raises RemoteError only where the daemon is gone altogether."""
    found: dict[PoolPath, Answer] = {}
    for path in map(path_of, worst_first(answer)[:pools_max]):
        with contextlib.suppress(RefusedError):  # it was closed a moment ago
            found[path] = daemon.pool(*path)
    return found


def show(answer: Answer, details: Mapping[PoolPath, Answer], console: Console) -> None:
    """All of it at once."""
    console.print(_line(_head(answer), ""))
    console.print(pool_table(answer, worst_first(answer), details, width=console.width))
    for line in (*note_lines(answer), *alert_lines(answer)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def screen(
    answer: Answer,
    details: Mapping[PoolPath, Answer],
    *,
    width: int,
    height: int,
    banner: str = "",
    silent_s: float = 0.0,
) -> RenderableType:
    """A whole screen of `width` × `height`. details: pools with their positions, as far as they were asked for.

    banner: why nothing new comes; silent_s: for how long, which is added to all ages.
    """
    notes = note_lines(answer)
    said = alert_lines(answer) if answer["incidents"] else []
    room = max(height - 4 - len(notes) - (1 if banner else 0), 2)
    pools = worst_first(answer)
    shown = pools[: max(room - min(len(said), room // 2), 1)]
    said = said[: max(room - len(shown), 0)]
    parts: list[RenderableType] = [_line(f" {banner}", BANNER)] if banner else []
    parts += [_line(_head(answer), "bold"), pool_table(answer, shown, details, width=width, silent_s=silent_s)]
    more = len(pools) - len(shown)
    parts.append(_line(f"and {more:,} more, none of them worse" if more else "", "dim"))
    parts += [_line(line, "yellow") for line in notes]
    parts += [_line(line, _style_of(line)) for line in said]
    parts.append(_line("q ends", "dim"))
    return Group(*parts)


def pool_table(
    answer: Answer, pools: Iterable[Answer], details: Mapping[PoolPath, Answer], *, width: int, silent_s: float = 0.0
) -> Table:
    """A row for each pool; fits into 80 columns."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, expand=True)
    table.add_column("level", no_wrap=True, width=11)
    table.add_column("pool", no_wrap=True, ratio=1, overflow="ellipsis")
    for heading in ("health ↓", "ratio ↑", "equity", "liq. at", "distance", "age"):
        table.add_column(heading, justify="right", no_wrap=True)
    for pool in pools:
        level = _level(pool)
        table.add_row(
            Text(level.word.upper(), STYLES[level]),
            Text(printable(f"{pool['account']} {pool['pool']}" + (f"  {pool['venue']}" if width >= WIDE else ""))),
            Text(number(pool["health"], ".3f"), STYLES[level] if level > Level.OK else ""),
            number(pool["margin_ratio"], ".1%"),
            Text(f"{_short(pool['equity'])} {pool['unit']}"),
            _short(pool["requirement"]),
            Text(_distance(details.get(path_of(pool)), named=width >= WIDE)),
            _age(answer["now_ms"], pool["as_of_ms"], silent_s),
        )
    return table


def note_lines(answer: Answer) -> list[str]:
    """What is wrong besides the pools: data that are missing, streams, channels, the last reload."""
    lines = [f"not ready: {what}" for what in answer["missing"]]
    lines += [
        f"stream {one['venue']} {one['account'] or 'all accounts'} {one['stream']} is down: {one['down_reason']}"
        for one in answer["streams"]
        if not one["up"] and one["first_data"]  # before its first data it is missing, and said already
    ]
    lines += [f"channel {one['name']} takes no messages: {one['broken']}" for one in answer["channels"] if one["broken"]]
    if not answer["config"]["good"]:
        lines.append("the last reload was refused: the configuration before it is in force")
    more = len(lines) - NOTES_MAX
    return [printable(line) for line in (*lines[:NOTES_MAX], *([f"and {more} more"] if more > 0 else []))]


def nearest(detail: Answer) -> Answer | None:
    """The position whose price is nearest to its liquidation price, None if none has one."""
    found: Sequence[Answer] = [one for one in detail["positions"] if one["liquidation_distance"] is not None]
    return min(found, key=lambda one: abs(one["liquidation_distance"]), default=None)


def _head(answer: Answer) -> str:
    count = len(answer["pools"])
    streams, channels = answer["streams"], answer["channels"]
    waiting = sum(one["pending"] for one in channels)
    return (
        f"margin-monitor {answer['version']}  {count:,} pool{'' if count == 1 else 's'}  "
        f"streams {sum(one['up'] for one in streams)}/{len(streams)}  incidents {len(answer['incidents'])}"
        + (f"  messages waiting {waiting}" if waiting else "")
    )


def _distance(detail: Answer | None, *, named: bool) -> str:
    """By how much the price of the nearest position may still move."""
    position = None if detail is None else nearest(detail)
    if position is None:
        return "–"
    return (f"{printable(position['symbol'])} " if named else "") + f"{position['liquidation_distance']:+.1%}"


def _age(now_ms: int, as_of_ms: int | None, silent_s: float) -> str:
    if as_of_ms is None:
        return "–"
    age_s = max(now_ms - as_of_ms, 0) / 1000 + silent_s
    return f"{age_s:.1f}s" if age_s < 10 else f"{age_s:.0f}s" if age_s < 600 else f"{age_s / 60:.0f}m"


def _short(value: float | None) -> str:
    """Without cents where there are ten thousands."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.2f}" if abs(value) >= 100 else f"{value:.4g}"


def _rank(pool: Answer) -> tuple[int, bool, float, PoolPath]:
    health = pool["health"]
    return -gravity(_level(pool)), health is None, health or 0.0, path_of(pool)


def _level(one: Answer) -> Level:
    return Level[one["level"].upper()]


def _style_of(line: str) -> str:
    """Of an incident's first line, which begins with its level."""
    word = line.split(" ", 1)[0].upper()
    return STYLES[Level[word]] if word in Level.__members__ else ""


def _line(text: str, style: str) -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")
