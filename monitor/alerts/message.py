"""The nouns of this part: what is to be told, to whom, and what of an incident must survive a restart."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from msgspec import Struct, structs

from monitor.model.alerts import Cause, Incident, Level, Lever, Transition
from monitor.model.figures import PoolFigures


class Reason(StrEnum):
    """Why a message is sent now."""

    FIRST = "first"
    WORSE = "worse"
    BETTER = "better"
    UNKNOWN = "unknown"
    REPEAT_DUE = "repeat"
    ACKNOWLEDGED = "acknowledged"  # only to channels that ask for it
    RESOLVED = "resolved"


class Message(Struct, frozen=True, kw_only=True):
    """One state of one incident, to be told. Receivers merge by the id: it is the same in every attempt and on every channel."""

    id: str
    reason: Reason
    incident: Incident  # as it stands with this message
    told_level: Level  # what the receiver was told before: the direction is seen from here
    at_ms: int
    momentary: bool = False
    limit: float | None = None
    figures: PoolFigures | None = None  # without assets and positions
    causes: tuple[Cause, ...] = ()
    levers: tuple[Lever, ...] = ()
    swallowed: int = 0  # earlier messages of this incident that were still waiting: this one replaced them
    swallowed_worst: Level = Level.OK

    @property
    def urgency(self) -> Level:
        """How badly it wants to be delivered; good news can wait, unless it is all that is left of bad news never told."""
        good_news = self.reason in (Reason.RESOLVED, Reason.ACKNOWLEDGED)
        own = Level.OK if good_news else self.incident.level.gravity
        return max(own, self.swallowed_worst)

    def swallowing(self, older: Message) -> Message:
        """This message in the place of an older one that was never delivered: nothing that it said gets lost."""
        news = older.reason is not Reason.ACKNOWLEDGED
        worst = max(older.incident.level.gravity if news else Level.OK, older.swallowed_worst)
        return structs.replace(
            self,
            # An acknowledgement changes nothing of what the receiver knows of the danger.
            told_level=older.told_level if news else self.told_level,
            swallowed=self.swallowed + older.swallowed + news,
            swallowed_worst=max(self.swallowed_worst, worst),
            causes=_added_up(older.causes, self.causes) if older.causes and self.causes else self.causes or older.causes,
        )


class Notice(Struct, frozen=True, kw_only=True):
    """What one request carries: a message, or several of one channel in short. Then it has its own id."""

    id: str
    messages: tuple[Message, ...]
    summary: bool = False  # in short: too many at once, or too late to act on

    @property
    def urgency(self) -> Level:
        return max(message.urgency for message in self.messages)


class OutboxRow(Struct, frozen=True, kw_only=True):
    """One message that waits for one channel, with its own routes and attempts. On disk before it is on the network, deleted when
    the channel took it."""

    id: str  # message id @ channel
    channel: str
    notice: Notice  # of this one message; an earlier version put several into a row: see `rows_of`
    created_ms: int  # since when its oldest content waits
    routed: tuple[str, ...] = ()  # the channels that have it, this one included
    attempts: int = 0
    refused: int = 0  # times that it was refused while it was sent alone
    not_before_ms: int = 0  # the receiver said so (Retry-After): holds across a restart
    error: str = ""  # of the last attempt
    together: str = ""  # id of the request that it was last part of; its own message id: it is to be sent alone, in full

    @property
    def message(self) -> Message:
        return self.notice.messages[0]


class IncidentRecord(Struct, frozen=True, kw_only=True):
    """An incident with what only this part needs to know of it."""

    incident: Incident
    told: tuple[str, ...] = ()  # channels that heard of it: they get the end of it too
    heard: dict[str, Level] = {}  # the level that each of them was last told; older records lack it
    limit: float | None = None  # of the last crossing
    held: Transition | None = None  # the last news that a silence holds back, without its figures' workings

    @property
    def id(self) -> str:
        return self.incident.id

    @property
    def is_open(self) -> bool:
        """It must survive a restart. An occurrence is over at once, but not before it is told."""
        return self.incident.closed_ms is None or self.held is not None


def row_of(message: Message, channel: str, created_ms: int, routed: tuple[str, ...]) -> OutboxRow:
    notice = Notice(id=message.id, messages=(message,))
    return OutboxRow(id=f"{message.id}@{channel}", channel=channel, notice=notice, created_ms=created_ms, routed=routed)


def with_message(row: OutboxRow, message: Message) -> OutboxRow:
    """The row with more to say under the same id."""
    return structs.replace(row, notice=structs.replace(row.notice, messages=(message,)))


def rows_of(row: OutboxRow) -> tuple[OutboxRow, ...]:
    """The row as this version keeps it: a summary of an earlier version as a row for each of its messages.

    There, the messages of a summary had their routes in common. Which of them really went to the others nobody knows any more:
    they fall over once more, under the same ids.
    """
    if len(row.notice.messages) == 1 and not row.notice.summary:
        return (row,)
    return tuple(
        structs.replace(row_of(message, row.channel, row.created_ms, (row.channel,)), not_before_ms=row.not_before_ms)
        for message in row.notice.messages
    )


def _added_up(*steps: tuple[Cause, ...]) -> tuple[Cause, ...]:
    """The causes of several steps as those of one, the largest first."""
    amounts: dict[tuple[str, str, Literal["equity", "requirement"]], float] = {}
    for cause in (cause for step in steps for cause in step):
        part = (cause.what, cause.unit, cause.of)
        amounts[part] = amounts.get(part, 0.0) + cause.amount
    causes = [Cause(what, amount, unit, of) for (what, unit, of), amount in amounts.items() if amount]
    return tuple(sorted(causes, key=lambda cause: -abs(cause.amount)))


def digest(figures: PoolFigures | None) -> PoolFigures | None:
    """The figures without their workings: a message says how it stands, the page says why to the last position."""
    return None if figures is None else structs.replace(figures, assets=(), positions=())
