"""A flow of crossings without an engine: seeded, endless, and the same whoever walks it and however often he dies on the way."""

from __future__ import annotations

import random
from collections.abc import Iterator

from msgspec import Struct

from monitor.model.alerts import IncidentKey, Level, Transition, Worse

T0 = 1_795_325_664_000  # 2026-11-22T05:34:24Z
STEP_MS = 1_000
ACCOUNTS = 12
LEVELS = (Level.UNKNOWN, Level.OK, Level.WARNING, Level.HIGH, Level.CRITICAL, Level.EMERGENCY)


class Step(Struct, frozen=True):
    """One second of the flow: one account goes to another level."""

    number: int
    key: IncidentKey
    was: Level
    level: Level

    @property
    def at_ms(self) -> int:
        return T0 + self.number * STEP_MS

    def crossing(self) -> Transition:
        summary = f"step {self.number}: {self.was.word} to {self.level.word}"
        value = None if self.level is Level.UNKNOWN else 2.0 - self.level / 5
        return Transition(
            key=self.key,
            level=self.level,
            was=self.was,
            at_ms=self.at_ms,
            summary=summary,
            worse=Worse.DOWN,
            value=value,
        )


def flow(seed: int) -> Iterator[Step]:
    """Steps 0, 1, 2, …; an account's level is what the step before said of it, OK at the start."""
    rng = random.Random(f"flow:{seed}")
    levels = {IncidentKey("binance_usdm", f"a{number}", "USD", "health"): Level.OK for number in range(ACCOUNTS)}
    number = 0
    while True:
        key = rng.choice(list(levels))
        level = rng.choice([level for level in LEVELS if level is not levels[key]])
        yield Step(number, key, levels[key], level)
        levels[key] = level
        number += 1
