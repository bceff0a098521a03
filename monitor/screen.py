"""The daemon's status for a terminal: pools worst first, open incidents, and what is wrong with streams and channels."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from monitor.model.alerts import Level
from monitor.remote import alert_lines
from monitor.terminal import STYLES, number, printable

Answer = dict[str, Any]

WIDE = 100  # columns from which on there is room for whole names
NOTES_MAX = 4
BANNER = "bold white on red"


def alarming(answer: Answer) -> bool:
    """Whether anything is critical or worse, or unknown: a pool, an incident, or data that are not there yet.

    answer: of `/api/v1/status`, with all pools or with a window of them and the levels of all.
    """
    words = {*answer.get("levels", ()), *(one["level"] for one in (*answer["pools"], *answer["incidents"]))}
    return bool(answer["missing"]) or any(_level(word).gravity >= Level.CRITICAL for word in words)


def show(answer: Answer, console: Console) -> None:
    """All of it at once. answer: of `Daemon.worst`."""
    console.print(_line(_head(answer), ""))
    console.print(pool_table(answer, answer["pools"], width=console.width))
    if line := _more(answer, len(answer["pools"])):
        console.print(line)
    for line in (*note_lines(answer), *alert_lines(answer)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def screen(answer: Answer, *, width: int, height: int, banner: str = "", silent_s: float = 0.0) -> RenderableType:
    """A whole screen of `width` × `height`. answer: of `Daemon.worst`.

    banner: why nothing new comes; silent_s: for how long, which is added to all ages.
    """
    notes = note_lines(answer)
    said = alert_lines(answer) if answer["incidents"] else []
    room = max(height - 4 - len(notes) - (1 if banner else 0), 2)
    shown = answer["pools"][: max(room - min(len(said), room // 2), 1)]
    said = said[: max(room - len(shown), 0)]
    parts: list[RenderableType] = [_line(f" {banner}", BANNER)] if banner else []
    parts += [_line(_head(answer), "bold"), pool_table(answer, shown, width=width, silent_s=silent_s)]
    parts.append(_line(_more(answer, len(shown)), "dim"))
    parts += [_line(line, "yellow") for line in notes]
    parts += [_line(line, _style_of(line)) for line in said]
    parts.append(_line("q ends", "dim"))
    return Group(*parts)


def pool_table(answer: Answer, pools: Iterable[Answer], *, width: int, silent_s: float = 0.0) -> Table:
    """A row for each pool; fits into 80 columns."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, expand=True)
    table.add_column("level", no_wrap=True, width=11)
    table.add_column("pool", no_wrap=True, ratio=1, overflow="ellipsis")
    for heading in ("health ↓", "ratio ↑", "equity", "liq. at", "distance", "age"):
        table.add_column(heading, justify="right", no_wrap=True)
    for pool in pools:
        level = _level(pool["level"])
        table.add_row(
            Text(level.word.upper(), STYLES[level]),
            Text(printable(f"{pool['account']} {pool['pool']}" + (f"  {pool['venue']}" if width >= WIDE else ""))),
            Text(number(pool["health"], ".3f"), STYLES[level] if level > Level.OK else ""),
            number(pool["margin_ratio"], ".1%"),
            Text(f"{_short(pool['equity'])} {pool['unit']}"),
            _short(pool["requirement"]),
            Text(_distance(pool["nearest"], named=width >= WIDE)),
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
    more = len(lines) - NOTES_MAX + answer["missing_total"] - len(answer["missing"])
    return [printable(line) for line in (*lines[:NOTES_MAX], *([f"and {more} more"] if more > 0 else []))]


def _more(answer: Answer, shown: int) -> str:
    more = answer["total"] - shown
    return f"and {more:,} more, none of them worse" if more else ""


def _head(answer: Answer) -> str:
    count = answer["total"]
    waiting = sum(one["pending"] for one in answer["channels"])
    return (
        f"margin-monitor {answer['version']}  {count:,} pool{'' if count == 1 else 's'}  "
        f"streams {answer['streams_up']}/{answer['streams_total']}  incidents {answer['incidents_total']}"
        + (f"  messages waiting {waiting}" if waiting else "")
    )


def _distance(position: Answer | None, *, named: bool) -> str:
    """By how much the price of the nearest position may still move."""
    if position is None:
        return "–"
    return (f"{printable(position['symbol'])} " if named else "") + f"{position['distance']:+.1%}"


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


def _level(word: str) -> Level:
    return Level[word.upper()]


def _style_of(line: str) -> str:
    """Of an incident's first line, which begins with its level."""
    word = line.split(" ", 1)[0].upper()
    return STYLES[Level[word]] if word in Level.__members__ else ""


def _line(text: str, style: str) -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")
