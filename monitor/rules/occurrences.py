"""Things that happen once: the venue changed a table or a mode, or raised the alarm itself."""

from typing import ClassVar, Literal

from pydantic import Field

from monitor.model.alerts import Level
from monitor.rules.base import Rule

LevelWord = Literal["info", "warning", "high", "critical", "emergency", "liquidation"]


class OccurrenceRule(Rule):
    level: LevelWord = Field("warning", description="level of the message")

    @property
    def severity(self) -> Level:
        return Level[self.level.upper()]


class TierChangeRule(OccurrenceRule):
    """Brackets or haircuts of something that the account holds changed; the text has old and new health."""

    name: ClassVar[str] = "tier_change"


class ModeChangeRule(OccurrenceRule):
    """Asset mode, position mode, margin type or leverage changed."""

    name: ClassVar[str] = "mode_change"


class DegradedRule(OccurrenceRule):
    """The way to the venue is impaired while the figures go on: a ban of our address, listen keys that end early, lost names."""

    name: ClassVar[str] = "degraded"

    level: LevelWord = Field("high", description="level of the message")


class VenueCallRule(OccurrenceRule):
    """The venue's own margin call or liquidation order."""

    name: ClassVar[str] = "venue_call"

    level: LevelWord = Field("critical", description="level of the message")
