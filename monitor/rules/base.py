"""What every rule shares: a ladder of limits, each with its level, raised at the limit and cleared only beyond it.

A rule is its own configuration. It judges arrays: figures and the previous level in, the level out. It never sends.
"""

from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from monitor.model.alerts import Level, Worse
from monitor.model.figures import Array
from monitor.model.misfit import misfit

Levels = NDArray[np.int8]
Mask = NDArray[np.bool_]

# A decimal limit has no exact float: 1 % of 100 is 1.0000000000000009 %. Closer than this is "at the limit".
AT_LIMIT = 1e-9


class Rule(BaseModel):
    """Base of all rules."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    worse: ClassVar[Worse] = Worse.NONE

    enabled: bool = Field(True, description="false: the rule is never judged")


class LadderRule(Rule):
    """A limit per level; a level without a limit is not used. Fields are the words of `Level`."""

    limits_fall: ClassVar[bool] = False  # the judged value falls towards trouble

    info: float | None = Field(None, description="limit of level info")
    warning: float | None = Field(None, description="limit of level warning")
    high: float | None = Field(None, description="limit of level high")
    critical: float | None = Field(None, description="limit of level critical")
    emergency: float | None = Field(None, description="limit of level emergency")
    liquidation: float | None = Field(None, description="limit of level liquidation")
    hysteresis: float = Field(0.04, ge=0, lt=1, description="clears this fraction of the limit beyond it")

    @model_validator(mode="after")
    def _limits_rise(self) -> Self:
        way = "fall" if self.limits_fall else "rise"
        for (milder, limit), (worse, next_limit) in pairwise(self.ladder):
            if (next_limit >= limit) if self.limits_fall else (next_limit <= limit):
                found = f"{milder.word} is {limit:g} and {worse.word} {next_limit:g}"
                raise misfit(f"limits must {way} from each level to the next worse one, but {found}", milder.word, worse.word)
        return self

    @cached_property
    def ladder(self) -> list[tuple[Level, float]]:
        """(level, limit), mildest first."""
        named = ((level, getattr(self, level.word)) for level in Level if level > Level.OK)
        return [(level, limit) for level, limit in named if limit is not None]

    def limit_of(self, level: Level) -> float | None:
        return dict(self.ladder).get(level)

    def summary(self, subject: str, level: Level, value: float, limit: float | None) -> str:
        """One plain line on what was found. subject: what was judged, where the rule judges several things."""
        raise NotImplementedError

    def climb(self, reached: Callable[[float], Mask], held: Callable[[float], Mask], was: Levels) -> Levels:
        """The highest level whose limit is reached, or that was reached and is still inside its hysteresis.

        reached(limit): true where the value is at the limit or worse; held(limit): the same with the hysteresis added.
        """
        level = np.zeros_like(was)
        ladder = self.ladder
        if not ladder or not (was.any() or reached(ladder[0][1]).any()):
            return level  # the ordinary case, for any number of pools: one comparison
        for step, limit in ladder:
            level[reached(limit) | ((was >= step) & held(limit))] = step
        return level


def above(rule: LadderRule, value: Array, was: Levels, *, inclusive: bool = True) -> Levels:
    """Levels of a value that is worse when higher. NaN reaches nothing."""
    slack = -AT_LIMIT if inclusive else AT_LIMIT
    return rule.climb(
        lambda limit: value >= limit + slack * max(1.0, abs(limit)),
        lambda limit: value > limit * (1 - rule.hysteresis),
        was,
    )
