"""How far the figures can be trusted: age of the data, and agreement with the venue's own figures."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from monitor.model.alerts import Level, Worse
from monitor.model.figures import Array
from monitor.rules.base import LadderRule, Levels, above


class StaleRule(LadderRule):
    """Age of the oldest input. At `critical` the pool's level is UNKNOWN: old figures are no figures."""

    name: ClassVar[str] = "stale"
    worse: ClassVar[Worse] = Worse.UP

    warning: float | None = Field(5.0, gt=0, description="age, s")
    high: float | None = Field(15.0, gt=0, description="age, s; an older pool cannot improve")
    critical: float | None = Field(60.0, gt=0, description="age, s; an older pool is UNKNOWN")
    hysteresis: float = Field(0.0, ge=0, lt=1, description="fresh data clear at once")
    reconcile_due_s: float = Field(
        45.0, gt=0, description="a full picture of the account (HTX: of the coin) may be this old, s; then it is unverified"
    )
    unverified_s: float = Field(
        300.0, gt=0, description="beyond that it is UNKNOWN once its stream has brought nothing for this long either, s"
    )

    @property
    def improve_ms(self) -> float:
        """Beyond this age nothing gets better."""
        return 1000 * (self.high or self.critical or np.inf)

    @property
    def unknown_ms(self) -> float:
        """From this age on nothing is known."""
        return 1000 * (self.critical or np.inf)

    def judge(self, age_s: Array, was: Levels) -> Levels:
        return above(self, age_s, was)

    def summary(self, subject: str, level: Level, value: float, limit: float | None) -> str:
        if level <= Level.OK or limit is None:
            return f"{subject} is fresh again"
        unknown = "; the figures are UNKNOWN" if level >= Level.CRITICAL else ""
        return f"{subject} is {value:.0f} s old, limit {limit:g} s{unknown}"

    def judge_unverified(self, overdue_s: Array, lapsed: NDArray[np.bool_], was: Levels) -> Levels:
        """overdue_s: of a full picture, beyond its due time; lapsed: the stream brings nothing either. Only that is critical."""
        milder = max((level for level, _ in self.ladder if level < Level.CRITICAL), default=Level.OK)
        level = np.minimum(above(self, overdue_s, was), np.int8(milder))
        level[lapsed] = Level.CRITICAL
        return level

    def unverified_summary(self, subject: str, level: Level, value: float, limit: float | None) -> str:
        """value: s beyond the due time."""
        if level <= Level.OK:
            return f"{subject} is in time again"
        if level >= Level.CRITICAL:
            return (
                f"{subject} is {value:.0f} s beyond its due time, and the stream brought nothing for {self.unverified_s:g} s "
                "either; the figures are UNKNOWN"
            )
        return f"{subject} is {value:.0f} s beyond its due time, limit {limit:g} s; the figures are unverified"


class ReconcileRule(LadderRule):
    """Own figures against the venue's own. A difference means that something is misread or missed."""

    name: ClassVar[str] = "reconcile"
    worse: ClassVar[Worse] = Worse.AWAY

    warning: float | None = Field(0.01, gt=0, description="relative difference, `times` answers in a row; more counts")
    high: float | None = Field(0.05, gt=0, description="relative difference; more counts")
    hysteresis: float = Field(0.5, ge=0, lt=1, description="clears this fraction of the limit beyond it")
    times: int = Field(3, ge=1, le=100, description="answers in a row before `warning`")
    unheard_s: float = Field(
        3.0, gt=0, description="a change that REST shows may be told by the stream this much later, s; then the stream lost it"
    )

    def judge(self, difference: Array, in_a_row: NDArray[np.int64], was: Levels) -> Levels:
        """difference: ≥ 0, the greater of equity's and requirement's; in_a_row: answers above `warning` so far."""
        level = above(self, np.nan_to_num(difference), was, inclusive=False)
        patient = (level == Level.WARNING) & (was < Level.WARNING) & (in_a_row < self.times)
        level[patient] = 0
        return level

    def level_of(self, moved: float) -> Level | None:
        """Of a change that the stream lost; None: too small to tell. moved: of equity or requirement, relative, the greater."""
        reached = [level for level, limit in self.ladder if moved > limit]
        return reached[-1] if reached else None

    def summary(self, subject: str, level: Level, value: float, limit: float | None) -> str:
        if level <= Level.OK or limit is None:
            return f"own figures agree with the venue's again ({value:.2%})"
        return f"own figures differ from the venue's by {value:.2%}, more than {limit:.0%}"
