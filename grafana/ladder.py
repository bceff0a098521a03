"""The levels as colours: those of the status page, the limits those of the product's own rules."""

from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.models.dashboard import Threshold, ThresholdsMode, ValueMap, ValueMapping, ValueMappingResult

from monitor.deadman import LAG_S_MAX, WAIT_S_MAX
from monitor.model.alerts import Level
from monitor.rules import RuleBook
from monitor.rules.base import LadderRule

RULES = RuleBook()
COLOURS = {
    Level.UNKNOWN: "#8e8e99",
    Level.OK: "#1b7a43",
    Level.INFO: "#1d62a8",
    Level.WARNING: "#f5d67b",
    Level.HIGH: "#f2a65a",
    Level.CRITICAL: "#c62a2f",
    Level.EMERGENCY: "#8f1044",
    Level.LIQUIDATION: "#4a0011",
}


def steps(*limits: tuple[float | None, str]) -> ThresholdsConfig:
    """(from this value on, colour), ascending; None: from −∞ on."""
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps([Threshold(value, colour) for value, colour in limits])


def falling(rule: LadderRule) -> ThresholdsConfig:
    """Of a figure that falls towards trouble: each limit ends the colour of its level."""
    worst_first = list(reversed(rule.ladder))
    above = [level for level, _ in worst_first[1:]] + [Level.OK]
    limits = [(limit, COLOURS[level]) for (_, limit), level in zip(worst_first, above, strict=True)]
    return steps((None, COLOURS[worst_first[0][0]]), *limits)


def rising(*rules: LadderRule) -> ThresholdsConfig:
    """Of a figure that rises towards trouble."""
    return steps((None, COLOURS[Level.OK]), *((limit, COLOURS[level]) for rule in rules for level, limit in rule.ladder))


HEALTH = falling(RULES.health)
MARGIN_RATIO = rising(RULES.margin_ratio)
GUARANTEE = falling(RULES.guarantee_asset_ratio)
AGE = rising(RULES.stale)
RECONCILE = rising(RULES.reconcile)
LEVELS = steps((None, COLOURS[Level.UNKNOWN]), *((float(level), COLOURS[level]) for level in Level if level >= Level.OK))
GOOD = COLOURS[Level.OK]
BAD = COLOURS[Level.CRITICAL]
NONE_IS_GOOD = steps((None, GOOD), (1.0, BAD))
ONE_IS_GOOD = steps((None, BAD), (1.0, GOOD))
WAIT = steps((None, GOOD), (WAIT_S_MAX, COLOURS[Level.HIGH]), (300.0, BAD))  # MarginOutboxStuck, MarginOutboxStuckCritical
LAG = steps((None, GOOD), (LAG_S_MAX / 2, BAD))  # MarginLoopLag: half of what withholds the heartbeat


def words(named: dict[str, tuple[str, str]]) -> list[ValueMapping]:
    """Values as words: value → (word, colour)."""
    return [ValueMap({value: ValueMappingResult(text=text, color=colour) for value, (text, colour) in named.items()})]


LEVEL_WORDS = words({str(int(level)): (level.word, COLOURS[level]) for level in Level})
UP_WORDS = words({"0": ("down", BAD), "1": ("up", GOOD)})
BROKEN_WORDS = words({"0": ("works", GOOD), "1": ("broken", BAD)})
WITHHELD_WORDS = words({"0": ("fed", GOOD), "1": ("withheld", BAD)})
LOAD_WORDS = words({"0": ("refused", BAD), "1": ("good", GOOD)})
