"""What a message says, as plain lines. Whoever reads it was asleep: is it real, how near, why, and what to do."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, ROUND_UP, Decimal
from urllib.parse import quote

from msgspec import Struct

from monitor.alerts.message import Message, Notice, Reason
from monitor.model.alerts import Cause, Incident, Level, Lever
from monitor.model.figures import PoolFigures

VALUE_CHARS_MAX = 300  # of one text that comes from outside
CAUSES_MAX = 3
TEST_RULE = "test"  # of a message that only proves that messages arrive


class Text(Struct, frozen=True):
    """A title and lines below it, plain, each of one line."""

    title: str
    lines: tuple[str, ...]

    @property
    def plain(self) -> str:
        return "\n".join((self.title, *self.lines))


def compose(notice: Notice, page_url: str) -> Text:
    """The text of a notice. page_url: where the status page is reached, "" if nowhere."""
    if notice.summary or len(notice.messages) > 1:
        return _summary(notice, page_url)
    return _message(notice.messages[0], page_url)


def _message(message: Message, page_url: str) -> Text:
    incident = message.incident
    lines = [_event(message)]
    if message.reason is Reason.RESOLVED:
        lines.append(f"lasted {duration(_lasted_ms(message))}, worst level {word(incident.worst)}{_worst_value(incident)}")
    elif incident.level is Level.UNKNOWN:
        lines.append(f"last known level: {word(incident.known_level)}; missing data resolve nothing")
    if message.swallowed:
        lines.append(
            f"replaces {_count(message.swallowed, 'earlier message')} that could not be delivered,"
            f" the worst of them {word(message.swallowed_worst)}"
        )
    lines += figure_lines(message.figures)
    if message.reason not in (Reason.RESOLVED, Reason.ACKNOWLEDGED):
        lines += [f"because: {_causes(message.causes)}"] if message.causes else []
        lines += [f"to do: {lever}" for lever in lever_lines(message.levers)]
    lines.append(f"incident {incident.id}, since {utc(incident.opened_ms)}")
    if page_url:
        lines += [page_link(page_url, incident), f"runbook: {runbook_link(page_url, incident.key.rule)}"]
    return Text(f"{marker(message)} {direction(message)}: {where(incident)}", tuple(lines))


def _summary(notice: Notice, page_url: str) -> Text:
    """Each incident in one line, worst first."""
    ranked = sorted(notice.messages, key=lambda message: (-message.urgency, message.at_ms))
    lines = [summary_line(message) for message in ranked]
    if page_url:
        lines += [page_url, f"runbook: {runbook_link(page_url)}"]
    return Text(f"[{word(notice.urgency).upper()}] {_count(len(ranked), 'alert')} that waited, in short", tuple(lines))


def summary_line(message: Message) -> str:
    """All that a summary says of one message."""
    incident = message.incident
    return f"{utc(message.at_ms)} {marker(message)} {direction(message)}: {where(incident)}: {one_line(incident.summary)}"


# ------------------------------------------------------------------ parts


def marker(message: Message) -> str:
    if message.incident.key.rule == TEST_RULE:
        return "[TEST]"
    level = "resolved" if message.reason is Reason.RESOLVED else word(message.incident.level)
    return f"[{level.upper()}]"


def direction(message: Message) -> str:
    """Which way it went, against what the receiver was told before."""
    incident, before = message.incident, message.told_level
    match message.reason:
        case Reason.RESOLVED:
            return f"over, was {word(before)}" if before > Level.OK else "over"
        case Reason.ACKNOWLEDGED if incident.acknowledged is not None:
            return f"acknowledged by {one_line(incident.acknowledged.author)}"
        case _:
            return _moved(message)


def _moved(message: Message) -> str:
    incident, before = message.incident, message.told_level
    if incident.level is Level.UNKNOWN:
        return "still unknown" if message.reason is Reason.REPEAT_DUE else "data missing"
    if message.momentary or before <= Level.OK:
        return "happened" if message.momentary else "new"
    if incident.level == before and message.reason is Reason.WORSE:
        return "worse again"  # it was better when somebody acknowledged it
    if incident.level != before:
        return f"{'worse' if incident.level > before else 'better'}, was {word(before)}"
    return f"still open after {duration(message.at_ms - incident.opened_ms)}"


def where(incident: Incident) -> str:
    key = incident.key
    if not key.venue and not key.account:
        return f"margin-monitor itself · {one_line(key.subject or key.rule)}"
    parts = (key.account, key.pool, key.venue, key.rule, key.subject)
    return " · ".join(one_line(part) for part in parts if part)


def _event(message: Message) -> str:
    summary = one_line(message.incident.summary)
    if message.reason is Reason.ACKNOWLEDGED and message.incident.acknowledged is not None:
        until = f"no repeats until {utc(message.incident.acknowledged.until_ms)} unless it gets worse"
        note = one_line(message.incident.acknowledged.note)
        return f"{until}; {note}" if note else until
    if message.reason is Reason.REPEAT_DUE:
        return f"at {utc(message.incident.changed_ms)}: {summary}"
    return summary


def figure_lines(figures: PoolFigures | None) -> list[str]:
    """How the pool stands, both ratio senses with their words, the data's age, and what the venue itself says."""
    if figures is None:
        return []
    lines = [_ratios(figures)]
    if figures.equity is not None and figures.requirement is not None:
        lines.append(
            f"equity {amount(figures.equity)} {figures.unit}, maintenance margin {amount(figures.requirement)} {figures.unit}"
        )
    if figures.venue_equity is not None and figures.venue_requirement is not None:
        aged = "" if figures.venue_age_ms is None else f", {figures.venue_age_ms / 1000:.0f} s ago"
        equity, limit = amount(figures.venue_equity), amount(figures.venue_requirement)
        own = f"venue's own figures{aged}: equity {equity}, maintenance margin {limit}"
        if figures.venue_requirement > 0:
            own += f" (health {ratio(figures.venue_equity / figures.venue_requirement)})"
        lines.append(own)
    age = "age of the data unknown" if figures.age_ms is None else f"data {figures.age_ms / 1000:.1f} s old"
    lines.append(age if figures.trusted else f"{age}; not yet confirmed since the last gap in the account's stream")
    if figures.unknown and figures.health is None:  # else what is unknown does not bear on the alert
        lines.append("not known: " + "; ".join(one_line(reason) for reason in figures.unknown[:CAUSES_MAX]))
    return [one_line(line, 2 * VALUE_CHARS_MAX) for line in lines]


def _ratios(figures: PoolFigures) -> str:
    equity, requirement = figures.equity, figures.requirement
    if figures.health is None:
        nothing_at_risk = requirement is not None and requirement <= 0
        return "health: nothing at risk" if nothing_at_risk else "health unknown, margin ratio unknown"
    text = f"health {ratio(figures.health)} (lower is worse, 1.00 liquidates)"
    if equity is not None and equity <= 0:
        text += ", no equity left"
    elif figures.margin_ratio is not None and math.isfinite(figures.margin_ratio):
        text += f" = margin ratio {percent(figures.margin_ratio)} (higher is worse, 100 % liquidates)"
    if figures.guarantee_asset_ratio is not None:
        text += f", guarantee asset ratio {percent(figures.guarantee_asset_ratio)} (lower is worse, 0 % liquidates)"
    return text


def _causes(causes: Iterable[Cause]) -> str:
    return "; ".join(
        f"{one_line(cause.what)} {amount(cause.amount, sign=True)} {one_line(cause.unit)}"
        + (" of requirement" if cause.of == "requirement" else "")
        for cause in list(causes)[:CAUSES_MAX]
    )


def lever_lines(levers: Sequence[Lever]) -> list[str]:
    """Levers to the same end are alternatives: "send 4,310 USDT or 0.047 BTC to be back at health 1.50 (150 %)"."""
    ends: dict[tuple[str, float], list[str]] = {}
    for lever in levers:
        # Rounded up: a little too much still reaches the goal.
        ends.setdefault((lever.what, lever.health), []).append(f"{amount(lever.amount, up=True)} {one_line(lever.asset)}")
    return [
        f"{one_line(what)} {' or '.join(ways)} to be back at health {ratio(health)} ({percent(health)})"
        for (what, health), ways in ends.items()
    ]


def _worst_value(incident: Incident) -> str:
    if incident.worst_value is None:
        return ""
    return f", worst value {amount(incident.worst_value)}"


def _lasted_ms(message: Message) -> int:
    closed_ms = message.incident.closed_ms
    return (message.at_ms if closed_ms is None else closed_ms) - message.incident.opened_ms


def page_link(page_url: str, incident: Incident) -> str:
    key = incident.key
    if not key.pool:
        return page_url
    return f"{page_url.rstrip('/')}/#" + "/".join(
        quote(part, safe="", errors="replace") for part in (key.venue, key.account, key.pool)
    )


def runbook_link(page_url: str, rule: str = "") -> str:
    """What an alert of this rule means and what to do; without a rule: of all of them."""
    page = f"{page_url.rstrip('/')}/runbook"
    return f"{page}#{quote(rule, safe='')}" if rule else page


# ------------------------------------------------------------------ words and numbers


def word(level: Level) -> str:
    return level.word


def one_line(text: str, chars_max: int = VALUE_CHARS_MAX) -> str:
    """A text from outside as one harmless line: no control, direction or invisible characters, no line breaks, bounded."""
    shown = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in text[: 4 * chars_max])
    shown = " ".join(shown.split())
    return shown if len(shown) <= chars_max else shown[: chars_max - 1] + "…"


def amount(value: float, *, up: bool = False, sign: bool = False) -> str:
    """Two decimals from 100 up, five digits below, never an exponent, no trailing zeros. up: away from zero."""
    if not math.isfinite(value):
        return "unknown"
    if abs(value) >= 1e15:  # a float has no cents there
        return f"{value:,.0f}"
    decimals = 2 if abs(value) >= 100 else min(8, 4 - math.floor(math.log10(abs(value)))) if value else 0
    exact = Decimal(repr(value)).quantize(Decimal(1).scaleb(-decimals), ROUND_UP if up else ROUND_HALF_EVEN)
    text = f"{exact:{'+' if sign else ''},f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def ratio(value: float) -> str:
    """Two decimals; three near the limits, where they matter."""
    return f"{value:.3f}" if abs(value) < 2 and round(value, 2) != round(value, 3) else f"{value:,.2f}"


def percent(fraction: float) -> str:
    text = f"{fraction * 100:,.1f}"
    return f"{text.removesuffix('.0')} %"


def utc(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(length_ms: int) -> str:
    seconds = max(length_ms, 0) // 1000
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
