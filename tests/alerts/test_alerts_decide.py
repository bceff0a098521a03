"""Why a message is sent: the table, and the promises under any history."""

from __future__ import annotations

import pytest
from alerts_kit import MINUTE, T0, crossing, incident
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import structs

from monitor.alerts.decide import RepeatPolicy, changed, opened, told, why_notify, worst_value
from monitor.alerts.message import Reason
from monitor.alerts.settings import AlertSettings
from monitor.model.alerts import Incident, Level, Worse

OK, INFO, WARNING, HIGH, CRITICAL, EMERGENCY = Level.OK, Level.INFO, Level.WARNING, Level.HIGH, Level.CRITICAL, Level.EMERGENCY
UNKNOWN = Level.UNKNOWN
POLICY = AlertSettings().repeat_policy()
BETTER_TOLD = structs.replace(POLICY, tell_better=True)


def standing(level: Level, notified: Level, known: Level | None = None) -> Incident:
    return incident(level, notified_level=notified, known_level=level if known is None else known, notified_ms=T0)


@pytest.mark.parametrize(
    ("before", "level", "policy", "reason", "why"),
    [
        (None, OK, POLICY, None, "nothing was wrong and nothing is"),
        (None, WARNING, POLICY, Reason.FIRST, "the first crossing"),
        (None, INFO, POLICY, Reason.FIRST, "info too: who wants it is the routes' question"),
        (None, UNKNOWN, POLICY, Reason.UNKNOWN, "unknown is a severity of its own"),
        (standing(WARNING, WARNING), CRITICAL, POLICY, Reason.WORSE, "worse than told"),
        (standing(CRITICAL, CRITICAL), CRITICAL, POLICY, None, "the same again is no news"),
        (standing(CRITICAL, CRITICAL), HIGH, POLICY, None, "better, not over: told with the next message"),
        (standing(CRITICAL, CRITICAL), HIGH, BETTER_TOLD, Reason.BETTER, "unless the owner asked for it"),
        (standing(HIGH, CRITICAL), CRITICAL, POLICY, None, "back to what they were told; repeats go on"),
        (standing(HIGH, CRITICAL), CRITICAL, BETTER_TOLD, None, "a step back up to the told level is not better"),
        (standing(HIGH, CRITICAL), EMERGENCY, POLICY, Reason.WORSE, "worse than ever told"),
        (standing(HIGH, HIGH), CRITICAL, POLICY, Reason.WORSE, "told better by a repeat meanwhile: then it is worse again"),
        (standing(CRITICAL, CRITICAL), OK, POLICY, Reason.RESOLVED, "over"),
        (standing(HIGH, CRITICAL), OK, POLICY, Reason.RESOLVED, "over by way of better"),
        (standing(CRITICAL, CRITICAL), UNKNOWN, POLICY, Reason.UNKNOWN, "the data went away: told, and nothing is resolved"),
        (standing(UNKNOWN, CRITICAL, CRITICAL), UNKNOWN, POLICY, None, "told once"),
        (standing(UNKNOWN, CRITICAL, CRITICAL), CRITICAL, POLICY, None, "data are back and no worse than told"),
        (standing(UNKNOWN, CRITICAL, CRITICAL), HIGH, POLICY, None, "data are back and better"),
        (standing(UNKNOWN, WARNING, WARNING), HIGH, POLICY, Reason.WORSE, "it got worse in the dark"),
        (standing(UNKNOWN, OK, OK), WARNING, POLICY, Reason.WORSE, "opened by missing data; now they say warning"),
        (standing(UNKNOWN, CRITICAL, CRITICAL), OK, POLICY, Reason.RESOLVED, "data are back and say that it is over"),
        (standing(UNKNOWN, OK, OK), OK, POLICY, Reason.RESOLVED, "who was told of missing data is told of their return"),
    ],
)
def test_why_notify(before: Incident | None, level: Level, policy: RepeatPolicy, reason: Reason | None, why: str) -> None:
    assert why_notify(before, level, policy) is reason, why


@pytest.mark.parametrize(
    ("level", "waited_ms", "due", "why"),
    [
        (CRITICAL, 5 * MINUTE - 1, False, "not yet"),
        (CRITICAL, 5 * MINUTE, True, "critical every 5 min"),
        (EMERGENCY, 5 * MINUTE, True, "and above"),
        (UNKNOWN, 5 * MINUTE, True, "nobody knows how bad it is"),
        (HIGH, 15 * MINUTE - 1, False, "not yet"),
        (HIGH, 15 * MINUTE, True, "high every 15 min"),
        (WARNING, 60 * MINUTE - 1, False, "not yet"),
        (WARNING, 60 * MINUTE, True, "warning every hour"),
        (INFO, 10_000 * MINUTE, False, "info never"),
        (WARNING, -1, True, "the clock was set back: better once too often than silence"),
    ],
)
def test_repeats(level: Level, waited_ms: int, due: bool, why: str) -> None:
    assert POLICY.due(standing(level, level), T0 + waited_ms) is due, why


def test_nothing_closed_repeats() -> None:
    assert not POLICY.due(structs.replace(standing(CRITICAL, CRITICAL), closed_ms=T0), T0 + 60 * MINUTE)


def test_a_repeat_can_be_switched_off() -> None:
    policy = AlertSettings.model_validate({"repeat": {"critical_min": 0}}).repeat_policy()
    assert not policy.due(standing(CRITICAL, CRITICAL), T0 + 600 * MINUTE)
    assert policy.due(standing(HIGH, HIGH), T0 + 15 * MINUTE), "the others go on"


@pytest.mark.parametrize(
    ("worse", "one", "other", "worst", "why"),
    [
        (Worse.DOWN, 1.2, 1.1, 1.1, "health: lower is worse"),
        (Worse.UP, 0.8, 0.9, 0.9, "margin ratio: higher is worse"),
        (Worse.AWAY, 0.01, -0.03, -0.03, "further away on either side"),
        (Worse.AWAY, -0.03, 0.01, -0.03, "and it stays the worst"),
        (Worse.NONE, 1.0, 2.0, 2.0, "no sense: the last"),
        (Worse.DOWN, None, 1.1, 1.1, "known beats unknown"),
        (Worse.DOWN, 1.1, None, 1.1, "unknown is not worse"),
    ],
)
def test_worst_value(worse: Worse, one: float | None, other: float | None, worst: float, why: str) -> None:
    assert worst_value(worse, one, other) == worst, why


def test_unknown_keeps_what_was_known() -> None:
    before = told(opened(crossing(CRITICAL, value=1.15), "X"), T0)
    dark = changed(before, crossing(UNKNOWN, CRITICAL, T0 + 1, value=None))
    assert (dark.level, dark.known_level, dark.worst, dark.worst_value, dark.closed_ms) == (
        UNKNOWN,
        CRITICAL,
        CRITICAL,
        1.15,
        None,
    )
    assert told(dark, T0 + 1).notified_level is CRITICAL


class Histories(RuleBasedStateMachine):
    """Any history of one key. The model knows only what a receiver was told last."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = T0
        self.incident: Incident | None = None
        self.level = OK  # as the engine sees it
        self.told: Level = OK  # highest claim that stands with the receiver: the level of the last message
        self.ends = 0
        self.begins = 0

    def send(self, reason: Reason) -> None:
        assert self.incident is not None
        self.begins += self.incident.messages == 0
        self.incident = told(self.incident, self.now_ms)
        self.told = OK if reason is Reason.RESOLVED else self.incident.known_level

    @rule(level=st.sampled_from([level for level in Level if level is not UNKNOWN]))
    def data(self, level: Level) -> None:
        self.step(level)
        assert self.told >= level, "a worsening was not told"
        if level is OK:
            assert self.incident is None, "over"

    @rule()
    def missing_data(self) -> None:
        was, known = self.incident, self.told
        self.step(UNKNOWN)
        assert self.incident is not None, "missing data resolved something"
        assert self.incident.closed_ms is None
        if was is not None:
            assert self.incident.known_level == was.known_level <= known

    @rule(minutes=st.integers(0, 90))
    def time(self, minutes: int) -> None:
        self.now_ms += minutes * MINUTE
        if self.incident is not None and POLICY.due(self.incident, self.now_ms):
            self.send(Reason.REPEAT_DUE)

    @precondition(lambda self: self.incident is not None and self.incident.level >= WARNING)
    @rule()
    def an_hour_is_never_silent(self) -> None:
        assert self.incident is not None
        assert POLICY.due(self.incident, self.incident.notified_ms + 60 * MINUTE)

    def step(self, level: Level) -> None:
        self.now_ms += 1000
        reason = why_notify(self.incident, level, POLICY)
        change = crossing(level, self.level, self.now_ms)
        self.level = level
        if self.incident is None and reason is None:
            return
        self.incident = opened(change, "X") if self.incident is None else changed(self.incident, change)
        if reason is not None:
            self.send(reason)
        if level is OK:
            assert reason is Reason.RESOLVED
            self.ends += 1
            self.incident = None

    @invariant()
    def one_end_per_beginning(self) -> None:
        assert self.begins - self.ends == (self.incident is not None)


Histories.TestCase.settings = hypothesis_settings(max_examples=150, stateful_step_count=30, deadline=None)
TestHistories = Histories.TestCase


def test_what_was_only_unknown_does_not_end_as_if_all_had_been_well() -> None:
    dark = told(opened(crossing(UNKNOWN), "X"), T0)
    assert changed(dark, crossing(OK, UNKNOWN, T0 + 1)).worst is UNKNOWN
    assert changed(dark, crossing(HIGH, UNKNOWN, T0 + 1)).worst is HIGH
