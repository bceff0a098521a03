"""A delivery ahead while opposite periods are locked: the lock goes with the leg that is delivered."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from monitor.model.alerts import Level, Worse
from monitor.model.figures import Array
from monitor.rules.base import LadderRule, Levels


class SettlementRule(LadderRule):
    """HTX: a contract that is locked against another period is delivered soon."""

    name: ClassVar[str] = "settlement"
    worse: ClassVar[Worse] = Worse.DOWN
    limits_fall: ClassVar[bool] = True

    warning: float | None = Field(60.0, gt=0, description="minutes to the delivery")
    high: float | None = Field(15.0, gt=0, description="minutes to the delivery")
    hysteresis: float = Field(0.0, ge=0, lt=1, description="time does not go back")

    def judge(self, minutes: Array, was: Levels) -> Levels:
        """minutes: to the next delivery of a contract whose lock it breaks; +inf: none."""
        return self.climb(lambda limit: minutes <= limit, lambda limit: minutes <= limit, was)

    def summary(self, subject: str, level: Level, value: float, limit: float | None) -> str:
        if level <= Level.OK or limit is None or not np.isfinite(value):
            return "no lock is about to break by a delivery"
        return f"a contract that is locked against another period is delivered in {max(0.0, value):.0f} min"
