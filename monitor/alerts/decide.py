"""Why tell now? Pure: an incident as it was last told, and what is true now.

The promises: worsening is never held back; missing data resolve nothing; one end per incident; what stays open is told again.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, structs

from monitor.alerts.message import Reason, gravity
from monitor.model.alerts import Incident, Level, Transition, Worse


class RepeatPolicy(Struct, frozen=True):
    """After how long an open incident is told again, by level; a level that is not named is not repeated."""

    every_ms: Mapping[Level, int]
    tell_better: bool = False

    def due(self, incident: Incident, now_ms: int) -> bool:
        interval_ms = self.every_ms.get(gravity(incident.level))
        if interval_ms is None or incident.closed_ms is not None:
            return False
        waited_ms = now_ms - incident.notified_ms
        return waited_ms >= interval_ms or waited_ms < 0  # a clock that was set back must not silence us


def why_notify(incident: Incident | None, level: Level, policy: RepeatPolicy) -> Reason | None:
    """Why a change to `level` is told, or None.

    incident: the open one of the key, as it was before; None if there is none.
    """
    if incident is None:
        return {Level.OK: None, Level.UNKNOWN: Reason.UNKNOWN}.get(level, Reason.FIRST)
    if level is Level.OK:
        return Reason.RESOLVED
    if level is Level.UNKNOWN:
        return None if incident.level is Level.UNKNOWN else Reason.UNKNOWN
    if level > incident.notified_level:
        return Reason.WORSE
    if policy.tell_better and level < incident.notified_level and level < incident.known_level:
        return Reason.BETTER
    return None


def opened(transition: Transition, incident_id: str) -> Incident:
    """A new incident. What is momentary is over as soon as it is told."""
    return Incident(
        id=incident_id,
        key=transition.key,
        level=transition.level,
        worst=transition.level,
        opened_ms=transition.at_ms,
        changed_ms=transition.at_ms,
        summary=transition.summary,
        value=transition.value,
        worst_value=transition.value,
        worse=transition.worse,
        known_level=max(transition.level, Level.OK),
        closed_ms=transition.at_ms if transition.momentary else None,
    )


def changed(incident: Incident, transition: Transition) -> Incident:
    """The incident after a transition. UNKNOWN keeps what was last known; OK ends it."""
    level = transition.level
    unknown = level is Level.UNKNOWN
    return structs.replace(
        incident,
        level=level,
        worst=incident.worst if level is Level.OK else max(incident.worst, level),
        known_level=incident.known_level if unknown else level,
        changed_ms=transition.at_ms,
        summary=transition.summary,
        value=None if unknown else transition.value,
        worst_value=worst_value(transition.worse or incident.worse, incident.worst_value, transition.value),
        worse=transition.worse or incident.worse,
        closed_ms=transition.at_ms if level is Level.OK else None,
    )


def told(incident: Incident, at_ms: int) -> Incident:
    """The incident once its present state is on its way. While UNKNOWN, receivers are told the last known level with it."""
    return structs.replace(incident, notified_level=incident.known_level, notified_ms=at_ms, messages=incident.messages + 1)


def worst_value(worse: Worse, one: float | None, other: float | None) -> float | None:
    """The worse of two judged values; an unknown one is not worse than a known one."""
    if one is None or other is None:
        return other if one is None else one
    match worse:
        case Worse.DOWN:
            return min(one, other)
        case Worse.UP:
            return max(one, other)
        case Worse.AWAY:
            return max(one, other, key=abs)
        case Worse.NONE:
            return other
