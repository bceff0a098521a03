"""Which of the waiting messages of one channel go out in one request, and under which id."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from hashlib import sha256
from operator import attrgetter

from msgspec import Struct

from monitor.alerts.dialects import units, without_mentions
from monitor.alerts.message import Message, Notice, OutboxRow
from monitor.alerts.text import summary_line

SUMMARY_MESSAGES_MAX = 20
SUMMARY_UNITS_MAX = 3_000  # of a Telegram message's 4,096; the rest is for the title and the links


class Waiting(Struct):
    """A row with its times on the monotonic clock, in seconds: a wall clock that is set does not move them."""

    row: OutboxRow
    since_s: float  # waits since
    due_s: float  # not to be tried before
    rank: tuple[int, int, int, str]  # least first
    in_flight: bool = False
    refused_at: int | None = None  # how many requests the channel had taken when this was first refused, alone or with others


class Batch(Struct, frozen=True):
    """The rows of one request. What becomes of it becomes of each of them."""

    ones: tuple[Waiting, ...]
    notice: Notice


by_rank = attrgetter("rank")


def rank(row: OutboxRow) -> tuple[int, int, int, str]:
    """Urgent ones overtake; what was refused before goes last, so that one bad message cannot stand in the way of all."""
    return row.refused, -row.message.urgency, row.created_ms, row.id


def chosen(
    first: Waiting, waiting: Sequence[Waiting], *, now_s: float, now_ms: int, late_ms: int, summary_above: int
) -> tuple[list[Waiting], bool]:
    """(`first` and what goes out with it, whether in short): where too many wait, or where it is too late to act on it.

    What was sent together goes out together again: same id, same content. What was refused must not spoil others.
    """
    together = first.row.together
    if together == first.row.message.id or (first.row.refused and not together):
        return [first], False
    if together:
        return sorted((one for one in waiting if one.row.together == together), key=by_rank), True
    due = [one for one in waiting if one.due_s <= now_s and not one.row.together and not one.row.refused]
    if len(due) <= summary_above:
        due = [one for one in due if now_ms - one.row.message.at_ms > late_ms]
        if all(one is not first for one in due):
            return [first], False
    return _that_fit(heapq.nsmallest(SUMMARY_MESSAGES_MAX, due, key=by_rank)), True


def notice_of(channel: str, messages: Sequence[Message], *, in_short: bool) -> Notice:
    """The id is one of its content: a receiver that merges by it drops nothing that is new."""
    if not in_short:
        (message,) = messages
        return Notice(id=message.id, messages=(message,))
    # The channel is part of it, as the message ids of another channel's summary may be the same.
    content = "\n".join(sorted(f"{message.id}:{message.swallowed}" for message in messages))
    digest = sha256(content.encode()).hexdigest()[:8]
    return Notice(id=f"{channel}.{messages[0].id}+{len(messages) - 1}.{digest}", messages=tuple(messages), summary=True)


def halves(channel: str, ones: Sequence[Waiting]) -> list[tuple[Waiting, str]]:
    """Each with the id under which it goes out next: in two smaller requests, one of one message in full."""
    middle = (len(ones) + 1) // 2
    parts = [part for part in (ones[:middle], ones[middle:]) if part]
    ids = [notice_of(channel, [one.row.message for one in part], in_short=len(part) > 1).id for part in parts]
    return [(one, part_id) for part, part_id in zip(parts, ids, strict=True) for one in part]


def _that_fit(due: list[Waiting]) -> list[Waiting]:
    """As many of the first as a message has room for: what a receiver would cut off counts as told, and never was."""
    room = SUMMARY_UNITS_MAX
    for number, one in enumerate(due):
        room -= units(without_mentions(summary_line(one.row.message))) + 1
        if room < 0:
            return due[: max(number, 1)]
    return due
