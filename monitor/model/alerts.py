"""Levels, incidents and what the rules say about them."""

from enum import IntEnum, StrEnum
from typing import Literal

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from monitor.model.figures import PoolFigures


class Level(IntEnum):
    """How bad it is; also the value of the metric `margin_pool_level`."""

    UNKNOWN = -1
    OK = 0
    INFO = 1
    WARNING = 2
    HIGH = 3
    CRITICAL = 4
    EMERGENCY = 5
    LIQUIDATION = 6

    @property
    def word(self) -> str:
        return self.name.lower()

    @property
    def gravity(self) -> "Level":
        """The level that it is handled as. Nobody knows how bad UNKNOWN is, so it is as urgent as critical."""
        return Level.CRITICAL if self is Level.UNKNOWN else self


def gravities(levels: NDArray[np.int8]) -> NDArray[np.int8]:
    """`Level.gravity` of a column."""
    return np.where(levels == Level.UNKNOWN, np.int8(Level.UNKNOWN.gravity), levels)


class Worse(StrEnum):
    """Which way of the judged value is worse."""

    DOWN = "down"
    UP = "up"
    AWAY = "away"
    NONE = ""


class IncidentKey(Struct, frozen=True, order=True):
    """One incident: a rule on a pool. `subject` parts a rule that judges several things of one pool (an asset, a symbol)."""

    venue: str
    account: str  # the alias of the configuration
    pool: str  # "" where the rule speaks of the whole account
    rule: str
    subject: str = ""


class Cause(Struct, frozen=True):
    """One part of the move of a pool since its last message, in the pool's unit.

    The parts of the equity add up to its whole move; negative: it cost equity. Beside them stand those parts of the requirement's
    move that prices did not do; positive: more is required.
    """

    what: str  # "position BTCUSDT", "rate of BTC", "haircut of BTC", "funding USDT", "transfer USDT", "brackets of BTCUSDT"
    amount: float
    unit: str
    of: Literal["equity", "requirement"] = "equity"


class Lever(Struct, frozen=True):
    """One thing to do, with its amount, that brings the pool's health back to `health`."""

    what: str  # "send" (amount of an asset) or "close" (quantity of a position)
    amount: float
    asset: str  # asset or symbol
    health: float


class Transition(Struct, frozen=True, kw_only=True):
    """A rule changed its mind (`level != was`), or something happened once (`momentary`)."""

    key: IncidentKey
    level: Level
    was: Level
    at_ms: int
    summary: str  # one line, plain text: "health 1.18 is at or below 1.20"
    worse: Worse = Worse.NONE
    value: float | None = None  # what was judged
    limit: float | None = None  # the limit of `level`
    momentary: bool = False  # an occurrence (mode change, venue call): told once, nothing to clear
    figures: PoolFigures | None = None  # at the moment of the crossing
    causes: tuple[Cause, ...] = ()  # largest first
    levers: tuple[Lever, ...] = ()


class Acknowledgement(Struct, frozen=True, kw_only=True):
    """A person saw an incident and looks after it: it is not repeated until then. It dies when things get worse."""

    author: str
    note: str
    at_ms: int
    until_ms: int
    level: Level  # as it was known at that moment: what goes above it was not acknowledged


class Silence(Struct, frozen=True, kw_only=True):
    """Messages about what it matches wait until it ends; an empty part matches everything.

    It never hides an emergency or a liquidation, and never the end of what receivers were told.
    """

    id: str
    author: str
    note: str
    created_ms: int
    until_ms: int
    venue: str = ""
    account: str = ""
    pool: str = ""
    rule: str = ""
    subject: str = ""

    def matches(self, key: IncidentKey) -> bool:
        return (
            self.venue in ("", key.venue)
            and self.account in ("", key.account)
            and self.pool in ("", key.pool)
            and self.rule in ("", key.rule)
            and self.subject in ("", key.subject)
        )


class Incident(Struct, frozen=True, kw_only=True):
    """A key's life from its first crossing to its end. Immutable: a change is a new value."""

    id: str  # stable: receivers merge by it
    key: IncidentKey
    level: Level  # now; UNKNOWN while its data are missing
    worst: Level
    opened_ms: int
    changed_ms: int
    summary: str
    value: float | None = None
    worst_value: float | None = None
    worse: Worse = Worse.NONE
    known_level: Level = Level.OK  # the last level that was judged from data: what UNKNOWN must not forget
    notified_level: Level = Level.OK  # what the receivers were last told
    notified_ms: int = 0
    messages: int = 0
    calls: int = 0  # how often somebody was to be woken afresh: what a pager was told of an earlier call quietens no later one
    closed_ms: int | None = None
    acknowledged: Acknowledgement | None = None
    silence_id: str = ""  # of the silence that matches it; filled in for readers, never kept


class ChannelStatus(Struct, kw_only=True):
    """One alert channel, for metrics and pages."""

    name: str
    kind: str  # "slack", "telegram", "webhook", "alertmanager", "pagerduty"
    pending: int = 0
    oldest_ms: int | None = None  # created_ms of the oldest message that waits
    broken: str = ""  # why it takes no messages, until the next success
    results: dict[str, int] = field(default_factory=dict)  # "sent", "retry", "failed"
    last_sent_ms: int | None = None
