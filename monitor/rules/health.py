"""How near a pool is to liquidation, in either sense of the ratio."""

import math
from typing import ClassVar

from pydantic import Field

from monitor.margin.joint import at_or_below
from monitor.model.alerts import Level, Worse
from monitor.model.figures import Array
from monitor.rules.base import AT_LIMIT, LadderRule, Levels


class HealthRule(LadderRule):
    """equity ÷ the equity at which liquidation starts; at or below counts. 1.2 is the articles' "120 %"."""

    name: ClassVar[str] = "health"
    worse: ClassVar[Worse] = Worse.DOWN
    limits_fall: ClassVar[bool] = True

    warning: float | None = Field(2.0, gt=0, description="health, lower is worse")
    high: float | None = Field(1.5, gt=0, description="health")
    critical: float | None = Field(1.2, gt=0, description="health: equity below 120 % of maintenance")
    emergency: float | None = Field(1.1, gt=0, description="health")
    liquidation: float | None = Field(1.0, gt=0, description="health: the venue liquidates here")

    def judge(self, equity: Array, requirement: Array, was: Levels) -> Levels:
        """Amounts of pools in any one unit each; NaN reaches nothing (the engine says unknown).

        Equity below 0 is the worst there is, a position left or not: the pool owes the venue.
        """
        owes = equity < 0
        return self.climb(
            lambda limit: owes | at_or_below(equity, requirement, limit * (1 + AT_LIMIT)),
            lambda limit: owes | at_or_below(equity, requirement, limit * (1 + self.hysteresis)),
            was,
        )

    def summary(self, subject: str, level: Level, value: float, limit: float | None) -> str:
        if math.isnan(value):  # nothing is required, so nothing can be liquidated; what is left may be a debt
            return "nothing is at risk any more" if level <= Level.OK else "no position is left, and equity is below 0"
        if level <= Level.OK or limit is None:
            return f"health {value:.4g} is clear of its limits"
        return f"health {value:.4g} is at or below {limit:g}"


class MarginRatioRule(LadderRule):
    """The same ladder in the other sense, maintenance margin ÷ equity: 0.5 is the articles' "50 %", 1.0 is liquidation."""

    name: ClassVar[str] = "margin_ratio"
    worse: ClassVar[Worse] = Worse.UP

    enabled: bool = Field(False, description="off: `health` says the same in the other sense")
    warning: float | None = Field(0.50, gt=0, le=2, description="margin ratio, higher is worse")
    high: float | None = Field(0.667, gt=0, le=2, description="margin ratio")
    critical: float | None = Field(0.833, gt=0, le=2, description="margin ratio")
    emergency: float | None = Field(0.909, gt=0, le=2, description="margin ratio")
    liquidation: float | None = Field(1.0, gt=0, le=2, description="margin ratio: the venue liquidates here")

    def judge(self, equity: Array, requirement: Array, was: Levels) -> Levels:
        """ratio ≥ limit, multiplied out: requirement ≥ limit × equity."""
        return self.climb(
            lambda limit: (requirement > 0) & (requirement >= limit * (1 - AT_LIMIT) * equity),
            lambda limit: (requirement > 0) & (requirement > limit * (1 - self.hysteresis) * equity),
            was,
        )

    def summary(self, subject: str, level: Level, value: float, limit: float | None) -> str:
        if level <= Level.OK or limit is None:
            return f"margin ratio {value:.1%} is clear of its limits"
        return f"margin ratio {value:.1%} is at or above {limit:.1%}"


class GuaranteeAssetRatioRule(LadderRule):
    """HTX: equity ÷ used margin − adjustment factor. At or below 0 the venue liquidates; nearness is told by `health`,
    because 0.04 at 20x is as near as 0.01 at 5x."""

    name: ClassVar[str] = "guarantee_asset_ratio"
    worse: ClassVar[Worse] = Worse.DOWN
    limits_fall: ClassVar[bool] = True

    liquidation: float | None = Field(0.0, description="guarantee-asset ratio, a fraction: the venue liquidates here")
    hysteresis: float = Field(0.04, ge=0, lt=1, description="clears this fraction of the adjustment factor above the limit")

    def judge(self, equity: Array, used: Array, factor: Array, was: Levels) -> Levels:
        """ratio ≤ limit, multiplied out: equity ≤ (limit + factor) × used."""
        return self.climb(
            lambda limit: (used > 0) & (equity <= (limit + factor * (1 + AT_LIMIT)) * used),
            lambda limit: (used > 0) & (equity <= (limit + factor * (1 + self.hysteresis)) * used),
            was,
        )

    def summary(self, subject: str, level: Level, value: float, limit: float | None) -> str:
        if level <= Level.OK or limit is None:
            return (
                "no margin is used any more" if math.isnan(value) else f"guarantee-asset ratio {value:.2%} is clear of its limits"
            )
        return f"guarantee-asset ratio {value:.2%} is at or below {limit:.2%}"
