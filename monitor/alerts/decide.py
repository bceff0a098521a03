"""Why tell now? Pure: an incident as it was last told, and what is true now.

The promises: worsening is never lost; missing data resolve nothing; one end per incident; what stays open is told again, until
somebody acknowledges it. A silence may delay what it matches, up to critical; an emergency breaks through.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, structs

from monitor.alerts.message import Reason
from monitor.model.alerts import Acknowledgement, Incident, Level, Silence, Transition, Worse

BREAKS_SILENCE = Level.EMERGENCY  # and above: nobody sleeps through a liquidation because of a silence
CLOCK_SLACK_MS = 60_000


class RepeatPolicy(Struct, frozen=True):
    """After how long an open incident is told again, by level; a level that is not named is not repeated."""

    every_ms: Mapping[Level, int]
    tell_better: bool = False

    def due(self, incident: Incident, now_ms: int, *, silenced: bool = False) -> bool:
        """silenced: a silence that is in force matches it."""
        interval_ms = self.every_ms.get(incident.level.gravity)
        if interval_ms is None or incident.closed_ms is not None:
            return False
        if (silenced and can_wait(Reason.REPEAT_DUE, incident)) or in_force(incident.acknowledged, now_ms):
            return False
        waited_ms = now_ms - incident.notified_ms
        return waited_ms >= interval_ms or waited_ms < 0  # a clock that was set back must not silence us


def why_notify(incident: Incident | None, level: Level, policy: RepeatPolicy) -> Reason | None:
    """Why a change to `level` is told, or None. Whether a silence holds it back is the question of `can_wait`.

    incident: the open one of the key, as it was before; None if there is none.
    """
    was_told = incident is not None and incident.messages > 0  # else a silence kept it quiet so far
    if level is Level.OK:
        return Reason.RESOLVED if was_told else None
    if level is Level.UNKNOWN:
        return None if incident is not None and incident.level is Level.UNKNOWN else Reason.UNKNOWN
    if incident is None or not was_told:
        return Reason.FIRST
    # Above what was last in force, also where nobody heard that it had been better; up to what was acknowledged somebody knows.
    acknowledged = incident.acknowledged
    in_force_was = incident.known_level if acknowledged is None else acknowledged.level
    if level > incident.notified_level or level > in_force_was:
        return Reason.WORSE
    if policy.tell_better and level < incident.notified_level and level < incident.known_level:
        return Reason.BETTER
    return None


def can_wait(reason: Reason, incident: Incident) -> bool:
    """Whether a silence may hold back a message of this reason: bad news below an emergency. An end disturbs nobody's sleep.

    incident: as the message would tell it. An emergency whose data went missing is one still.
    """
    return reason is not Reason.RESOLVED and max(incident.level.gravity, incident.known_level) < BREAKS_SILENCE


def owed(incident: Incident, held: Level = Level.UNKNOWN) -> Reason | None:
    """Why an incident of which a silence held back news is told when the silence is over; None: they know all that counts.

    held: the level of those news.
    """
    if incident.closed_ms is not None:
        return None
    if incident.level is Level.UNKNOWN:
        return Reason.UNKNOWN
    if incident.messages == 0:
        return Reason.FIRST
    rose_again = incident.level >= held >= incident.notified_level  # to what they know, after it had been better
    return Reason.WORSE if incident.level > incident.notified_level or rose_again else None


def in_force(what: Acknowledgement | Silence | None, now_ms: int) -> bool:
    """Whether an acknowledgement or a silence has neither ended nor begun far in the future: a clock that was set back must not
    silence us."""
    if what is None:
        return False
    since_ms = what.at_ms if isinstance(what, Acknowledgement) else what.created_ms
    return since_ms - CLOCK_SLACK_MS <= now_ms < what.until_ms


def acknowledgement_after(incident: Incident, level: Level) -> Acknowledgement | None:
    """What is left of an incident's acknowledgement when its level changes: nothing if that is worse, darkness included."""
    acknowledged = incident.acknowledged
    if acknowledged is None or level is Level.OK or level > acknowledged.level:
        return None
    went_dark = level is Level.UNKNOWN and incident.level is not Level.UNKNOWN
    return None if went_dark else acknowledged


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
        acknowledged=acknowledgement_after(incident, level),
    )


def told(incident: Incident, at_ms: int, reason: Reason) -> Incident:
    """The incident once its present state is on its way. While UNKNOWN, receivers are told the last known level with it."""
    return structs.replace(
        incident,
        notified_level=incident.known_level,
        notified_ms=at_ms,
        messages=incident.messages + 1,
        calls=incident.calls + (reason in (Reason.FIRST, Reason.WORSE, Reason.UNKNOWN)),
    )


def unacknowledged(incident: Incident) -> Incident:
    """The incident once its acknowledgement was taken back or ended: the next message calls afresh."""
    return structs.replace(incident, acknowledged=None, calls=incident.calls + 1)


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
