"""What happens to the market: each scenario is a path of log prices over ticks (1 tick = 1 simulated second)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

HOUR_S = 3600


def _flat(_tick: int) -> float:
    return 0.0


@dataclass(frozen=True)
class Scenario:
    """`market` moves every coin by its beta; `own` moves single coins on top. Both are log prices against the start."""

    name: str
    market: Callable[[int], float] = _flat
    own: Mapping[str, Callable[[int], float]] = field(default_factory=dict)
    funding_interval_s: int = 8 * HOUR_S
    funding_rate: float = 0.0001


def _line(points: tuple[tuple[int, float], ...]) -> Callable[[int], float]:
    """Straight lines between (tick, value) points, level outside."""

    def at(tick: int) -> float:
        before = points[0]
        for point in points:
            if tick <= point[0]:
                span = point[0] - before[0]
                share = (tick - before[0]) / span if span else 1.0
                return before[1] + share * (point[1] - before[1])
            before = point
        return before[1]

    return at


# A fall of 9.4 % in half a minute takes the default account from 2.7 to below 1.1 times its maintenance margin, short of
# liquidation; 60 % of it comes back within a minute, then it rests.
_CRASH = _line(((0, 0.0), (4, 0.0), (34, math.log(0.906)), (42, math.log(0.906)), (100, math.log(0.961))))
_DEPEG = _line(((0, 0.0), (5, 0.0), (50, math.log(0.97))))


def _bleed(tick: int) -> float:
    return -0.00008 * tick


SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("calm"),
        Scenario("crash", market=_CRASH),
        Scenario("depeg", own={"USDT": _DEPEG}),
        # Funding every minute instead of every 8 hours, at thirty times the usual rate.
        Scenario("slow_bleed", market=_bleed, funding_interval_s=60, funding_rate=0.003),
    )
}


def scenario_named(name: str) -> Scenario:
    """Accepts "slow-bleed" and "slow bleed" too. Raises ValueError with the known names."""
    scenario = SCENARIOS.get(name.strip().lower().replace("-", "_").replace(" ", "_"))
    if scenario is None:
        raise ValueError(f"unknown scenario {name!r}; known: {', '.join(SCENARIOS)}")
    return scenario
