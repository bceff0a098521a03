"""Newer replaces older: of one incident a channel is told the newest state, with all that the older ones had to say."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, structs

from monitor.alerts.message import OutboxRow, Reason, with_message


class Replaced(Struct, frozen=True):
    """The row that stays, and those whose place it takes."""

    row: OutboxRow
    older: tuple[OutboxRow, ...]


def replace_older(rows: Sequence[OutboxRow]) -> Replaced | None:
    """rows: of one incident and one channel, none of them in flight. None: there is nothing to replace.

    An acknowledgement says nothing of the danger: it takes nobody's place, but a newer state takes its place.
    """
    news = [row for row in rows if row.message.reason is not Reason.ACKNOWLEDGED]
    newest = max(news, key=_number, default=None)
    if newest is None:
        return None
    older = sorted((row for row in rows if _number(row) < _number(newest)), key=_number, reverse=True)
    if not older:
        return None
    message = newest.message
    for row in older:  # the newest of them first: what the receiver was told before is what the oldest knew
        message = message.swallowing(row.message)
    merged = structs.replace(
        with_message(newest, message),
        created_ms=min(row.created_ms for row in (newest, *older)),
        not_before_ms=max(row.not_before_ms for row in (newest, *older)),
    )
    return Replaced(merged, tuple(older))


def _number(row: OutboxRow) -> int:
    return row.message.incident.messages
