"""The markup of the services: what an alias or a symbol says must be shown, never obeyed."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

from monitor.alerts.text import Text

TELEGRAM_UNITS_MAX = 4096  # UTF-16 units after the markup is parsed
SLACK_UNITS_MAX = 16_000  # UTF-16 units as sent, escapes included; Slack cuts at 40,000. A summary of nothing but escapes fits
TAIL_LINES = 3
GAP = "\u200b"  # invisible, parts the mark from its word
_MENTION = re.compile(r"@(?=\S)")


def units(text: str) -> int:
    """Length in UTF-16 units, as Telegram counts."""
    return len(text) + sum(char > "\uffff" for char in text)


def slack_units(text: str) -> int:
    """Length as it is sent."""
    return units(_slack_escaped(text))


def slack(text: Text) -> str:
    """For a payload with mrkdwn off, where only <…> and & still mean something, and names after @ to some receivers."""
    return _slack_escaped(fit(text, SLACK_UNITS_MAX, slack_units).plain)


def telegram(text: Text) -> str:
    """For parse_mode HTML: the title is bold."""
    fitted = fit(text, TELEGRAM_UNITS_MAX)
    return "\n".join((f"<b>{_html_escaped(fitted.title)}</b>", *(_html_escaped(line) for line in fitted.lines)))


def without_mentions(text: str) -> str:
    return _MENTION.sub("@" + GAP, text)


def fit(text: Text, units_max: int, length: Callable[[str], int] = units) -> Text:
    """Leaves out lines from the end, but never the last three: the incident's id and the links. length: as the service counts."""
    neutral = Text(without_mentions(text.title), tuple(without_mentions(line) for line in text.lines))
    title = cut(neutral.title, units_max // 5, length)
    room = units_max - length(title)
    tail = [cut(line, units_max // 5, length) for line in neutral.lines[-TAIL_LINES:]]
    room -= sum(length(line) + 1 for line in tail)
    head: list[str] = []
    for line in neutral.lines[:-TAIL_LINES]:
        room -= length(line) + 1
        if room < 2:
            head.append("…")
            break
        head.append(line)
    return Text(title, (*head, *tail))


def cut(text: str, units_max: int, length: Callable[[str], int] = units) -> str:
    if length(text) <= units_max:
        return text
    kept = text[: units_max - 1]
    while length(kept) > units_max - 1:
        kept = kept[:-1]
    return kept + "…"


def _slack_escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _html_escaped(text: str) -> str:
    return html.escape(text, quote=False)
