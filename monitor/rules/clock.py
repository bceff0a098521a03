"""How far our clock is from a venue's: signed requests are refused beyond a few seconds, and ages are off by as much."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from monitor.model.alerts import Level, Worse
from monitor.model.figures import Array
from monitor.rules.base import LadderRule, Levels, above


class ClockRule(LadderRule):
    """Difference of the two clocks, in either direction. What the round trip of the question may explain does not count."""

    name: ClassVar[str] = "clock"
    worse: ClassVar[Worse] = Worse.AWAY

    warning: float | None = Field(1.0, gt=0, description="difference, s; more counts")
    high: float | None = Field(5.0, gt=0, description="difference, s; more counts")
    hysteresis: float = Field(0.2, ge=0, lt=1, description="clears this fraction of the limit beyond it")

    def judge(self, offset_s: Array, was: Levels) -> Levels:
        """offset_s: venue − ours, what is sure of it."""
        return above(self, np.abs(offset_s), was, inclusive=False)

    def summary(self, subject: str, level: Level, value: float, limit: float | None) -> str:
        if level <= Level.OK or limit is None:
            return "our clock agrees with the venue's again"
        way = "behind" if value > 0 else "ahead of"
        return (
            f"our clock is {abs(value):.1f} s {way} the venue's, limit {limit:g} s; "
            "set the system clock (NTP) and start the monitor again: it reads that clock once"
        )
