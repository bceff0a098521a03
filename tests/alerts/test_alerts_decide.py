"""Why a message is sent: the table, and the promises under any history."""

from __future__ import annotations

import msgspec
import pytest
from alerts_kit import KEY, MINUTE, T0, crossing, incident
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import structs

from monitor.alerts.decide import (
    CLOCK_SLACK_MS,
    RepeatPolicy,
    acknowledgement_after,
    can_wait,
    changed,
    in_force,
    opened,
    owed,
    told,
    why_notify,
    worst_value,
)
from monitor.alerts.message import IncidentRecord, Reason
from monitor.alerts.settings import AlertSettings
from monitor.model.alerts import Acknowledgement, Incident, Level, Silence, Worse

OK, INFO, WARNING, HIGH, CRITICAL, EMERGENCY = Level.OK, Level.INFO, Level.WARNING, Level.HIGH, Level.CRITICAL, Level.EMERGENCY
UNKNOWN, LIQUIDATION = Level.UNKNOWN, Level.LIQUIDATION
POLICY = AlertSettings().repeat_policy()
BETTER_TOLD = structs.replace(POLICY, tell_better=True)


def standing(level: Level, notified: Level, known: Level | None = None, **more: object) -> Incident:
    return incident(level, notified_level=notified, known_level=level if known is None else known, notified_ms=T0, **more)


def acked(level: Level, at_ms: int = T0, minutes: int = 60) -> Acknowledgement:
    return Acknowledgement(author="ann", note="", at_ms=at_ms, until_ms=at_ms + minutes * MINUTE, level=level)


def silence(at_ms: int = T0, minutes: int = 60, **match: str) -> Silence:
    return Silence(id="S1", author="ann", note="", created_ms=at_ms, until_ms=at_ms + minutes * MINUTE, **match)


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
        (standing(HIGH, CRITICAL), CRITICAL, POLICY, Reason.WORSE, "row 16: a rise above what was last in force"),
        (standing(HIGH, CRITICAL), CRITICAL, BETTER_TOLD, Reason.WORSE, "a step back up to the told level is not better"),
        (standing(HIGH, CRITICAL, acknowledged=acked(CRITICAL)), CRITICAL, POLICY, None, "row 16: up to there somebody knows"),
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
        (standing(WARNING, OK, messages=0), HIGH, POLICY, Reason.FIRST, "a silence kept it quiet so far: the first word of it"),
        (standing(CRITICAL, OK, messages=0), WARNING, POLICY, Reason.FIRST, "the same on its way down"),
        (standing(CRITICAL, OK, messages=0), OK, POLICY, None, "nobody was told of it: nobody waits for its end"),
        (standing(CRITICAL, CRITICAL, acknowledged=acked(CRITICAL)), EMERGENCY, POLICY, Reason.WORSE, "acknowledged, but worse"),
        (
            standing(HIGH, CRITICAL, acknowledged=acked(HIGH)),
            CRITICAL,
            POLICY,
            Reason.WORSE,
            "they were told of critical, but what was acknowledged is high",
        ),
        (standing(CRITICAL, CRITICAL, acknowledged=acked(CRITICAL)), UNKNOWN, POLICY, Reason.UNKNOWN, "blind is worse"),
        (standing(CRITICAL, CRITICAL, acknowledged=acked(CRITICAL)), OK, POLICY, Reason.RESOLVED, "its end is told all the same"),
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


@pytest.mark.parametrize(
    ("acknowledged", "level", "silenced", "due", "why"),
    [
        (acked(CRITICAL), CRITICAL, False, False, "somebody looks after it"),
        (acked(CRITICAL, minutes=5), CRITICAL, False, True, "the acknowledgement is over"),
        (acked(CRITICAL, T0 + 5 * MINUTE + CLOCK_SLACK_MS + 1), CRITICAL, False, True, "the clock was set back far: no silence"),
        (acked(CRITICAL, T0 + 5 * MINUTE + 500), CRITICAL, False, False, "the clock was set back a little: a correction"),
        (acked(LIQUIDATION), LIQUIDATION, False, False, "whoever acknowledges a liquidation knows of it"),
        (None, CRITICAL, True, False, "silenced"),
        (None, UNKNOWN, True, False, "silenced, blind"),
        (None, EMERGENCY, True, True, "no silence hides an emergency"),
        (None, LIQUIDATION, True, True, "no silence hides a liquidation"),
        (acked(EMERGENCY), EMERGENCY, True, False, "an acknowledgement does, for this one incident"),
    ],
)
def test_what_stops_a_repeat(acknowledged: Acknowledgement | None, level: Level, silenced: bool, due: bool, why: str) -> None:
    one = standing(level, level, acknowledged=acknowledged)
    assert POLICY.due(one, T0 + 5 * MINUTE, silenced=silenced) is due, why


@pytest.mark.parametrize(
    ("reason", "level", "waits", "why"),
    [
        (Reason.FIRST, WARNING, True, "bad news below an emergency"),
        (Reason.WORSE, CRITICAL, True, "up to critical"),
        (Reason.UNKNOWN, UNKNOWN, True, "which is what UNKNOWN counts as"),
        (Reason.REPEAT_DUE, HIGH, True, "repeats"),
        (Reason.BETTER, WARNING, True, "half good news too"),
        (Reason.FIRST, EMERGENCY, False, "an emergency breaks through"),
        (Reason.WORSE, LIQUIDATION, False, "a liquidation too"),
        (Reason.RESOLVED, OK, False, "who was told of it is told of its end"),
    ],
)
def test_what_a_silence_holds_back(reason: Reason, level: Level, waits: bool, why: str) -> None:
    assert can_wait(reason, standing(level, OK)) is waits, why


@pytest.mark.parametrize(
    ("known", "waits", "why"),
    [
        (CRITICAL, True, "as urgent as critical"),
        (EMERGENCY, False, "an emergency whose data went missing is one still"),
        (LIQUIDATION, False, "a liquidation too"),
    ],
)
def test_what_a_silence_holds_back_without_data(known: Level, waits: bool, why: str) -> None:
    assert can_wait(Reason.UNKNOWN, standing(UNKNOWN, known, known)) is waits, why
    assert (
        RepeatPolicy(every_ms={CRITICAL: 1}).due(standing(UNKNOWN, known, known), T0 + 3_600_000, silenced=True) is not waits
    ), why


@pytest.mark.parametrize(
    ("one", "reason", "why"),
    [
        (standing(WARNING, OK, messages=0), Reason.FIRST, "it opened in silence"),
        (standing(CRITICAL, WARNING), Reason.WORSE, "it got worse in silence"),
        (standing(UNKNOWN, CRITICAL, CRITICAL), Reason.UNKNOWN, "its data went away in silence"),
        (standing(UNKNOWN, OK, OK, messages=0), Reason.UNKNOWN, "it opened blind"),
        (standing(WARNING, WARNING), None, "it got worse and better again: they know all that is true now"),
        (standing(WARNING, CRITICAL), None, "they believe worse than it is: the next repeat says so"),
        (standing(CRITICAL, OK, messages=0, closed_ms=T0), None, "over"),
    ],
)
def test_what_is_owed_after_a_silence(one: Incident, reason: Reason | None, why: str) -> None:
    assert owed(one) is reason, why


@pytest.mark.parametrize(
    ("was", "at", "level", "lives", "why"),
    [
        (CRITICAL, CRITICAL, CRITICAL, True, "nothing happened"),
        (CRITICAL, CRITICAL, HIGH, True, "better"),
        (HIGH, CRITICAL, CRITICAL, True, "back to what was acknowledged"),
        (CRITICAL, CRITICAL, EMERGENCY, False, "worse than what was acknowledged"),
        (HIGH, HIGH, CRITICAL, False, "worse than what was acknowledged, whatever was told before"),
        (CRITICAL, CRITICAL, UNKNOWN, False, "blind now: nobody acknowledged that"),
        (UNKNOWN, CRITICAL, UNKNOWN, True, "acknowledged in the dark, and still dark"),
        (UNKNOWN, CRITICAL, CRITICAL, True, "the data are back and as bad as was known"),
        (UNKNOWN, WARNING, HIGH, False, "the data are back and worse than was known"),
        (CRITICAL, CRITICAL, OK, False, "over"),
    ],
)
def test_an_acknowledgement_dies_when_it_gets_worse(was: Level, at: Level, level: Level, lives: bool, why: str) -> None:
    before = standing(was, CRITICAL, acknowledged=acked(at))
    assert (acknowledgement_after(before, level) is not None) is lives, why
    assert (changed(before, crossing(level, was)).acknowledged is not None) is lives, why


@pytest.mark.parametrize(
    ("now_ms", "lasts", "why"),
    [
        (T0, True, "from its first moment"),
        (T0 + 60 * MINUTE - 1, True, "to its last"),
        (T0 + 60 * MINUTE, False, "its end is outside"),
        (T0 - CLOCK_SLACK_MS, True, "a clock may be corrected"),
        (T0 - CLOCK_SLACK_MS - 1, False, "a clock that was set back must not silence us for days"),
    ],
)
def test_how_long_quiet_lasts(now_ms: int, lasts: bool, why: str) -> None:
    assert in_force(acked(HIGH), now_ms) is lasts, why
    assert in_force(silence(account="main"), now_ms) is lasts, why
    assert not in_force(None, now_ms)


@pytest.mark.parametrize(
    ("match", "matches", "why"),
    [
        ({"account": "main"}, True, "one part"),
        ({"venue": "binance_usdm", "account": "main", "pool": "USD", "rule": "health"}, True, "all parts"),
        ({"account": "main", "rule": "stale"}, False, "each named part must match"),
        ({"account": "mai"}, False, "parts are compared whole"),
        ({"subject": "BTC"}, False, "an incident without subject has none to match"),
    ],
)
def test_what_a_silence_matches(match: dict[str, str], matches: bool, why: str) -> None:
    assert silence(**match).matches(KEY) is matches, why


def test_records_of_older_versions_are_readable() -> None:
    new = IncidentRecord(incident=standing(CRITICAL, CRITICAL), told=("w",), limit=1.2)
    plain = msgspec.json.decode(msgspec.json.encode(new))
    for late in ("heard", "held"):
        del plain[late]
    for late in ("acknowledged", "silence_id"):
        del plain["incident"][late]
    assert msgspec.convert(plain, IncidentRecord) == new


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
    before = told(opened(crossing(CRITICAL, value=1.15), "X"), T0, Reason.FIRST)
    dark = changed(before, crossing(UNKNOWN, CRITICAL, T0 + 1, value=None))
    assert (dark.level, dark.known_level, dark.worst, dark.worst_value, dark.closed_ms) == (
        UNKNOWN,
        CRITICAL,
        CRITICAL,
        1.15,
        None,
    )
    assert told(dark, T0 + 1, Reason.UNKNOWN).notified_level is CRITICAL


class Histories(RuleBasedStateMachine):
    """Any history of one key, with people who acknowledge and silence, and with restarts.

    The model knows only what a receiver was told last, and what the people asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = T0
        self.record: IncidentRecord | None = None
        self.silence: Silence | None = None
        self.level = OK  # as the engine sees it
        self.told: Level = OK  # highest claim that stands with the receiver: the level of the last message
        self.told_blind = False  # the last message said that data are missing
        self.ends = 0
        self.begins = 0

    @property
    def incident(self) -> Incident | None:
        return None if self.record is None else self.record.incident

    @property
    def silenced(self) -> bool:
        return self.silence is not None and self.silence.matches(KEY) and in_force(self.silence, self.now_ms)

    def send(self, reason: Reason) -> None:
        assert self.record is not None
        before = self.record.incident
        assert not (self.silenced and can_wait(reason, before)), "a silence was broken"
        assert not (reason is Reason.REPEAT_DUE and in_force(before.acknowledged, self.now_ms)), "an acknowledgement was broken"
        self.begins += before.messages == 0
        self.record = structs.replace(self.record, incident=told(before, self.now_ms, reason), held=None)
        self.told = OK if reason is Reason.RESOLVED else before.known_level
        self.told_blind = before.level is UNKNOWN

    @rule(level=st.sampled_from([level for level in Level if level is not UNKNOWN]))
    def data(self, level: Level) -> None:
        before = self.incident
        self.step(level)
        if level is OK:
            assert self.incident is None, "over"
            return
        assert self.incident is not None
        if not self.silenced or level >= EMERGENCY:
            assert self.told >= level, "a worsening was not told"
        elif self.told < level:
            assert self.record is not None
            assert self.record.held is not None, "a worsening was lost in a silence"
        if before is not None and before.acknowledged is not None:
            died = self.incident.acknowledged is None
            assert died == (level > before.acknowledged.level), "an acknowledgement dies by worsening, and only by it"

    @rule()
    def missing_data(self) -> None:
        was, known = self.incident, self.told
        self.step(UNKNOWN)
        assert self.incident is not None, "missing data resolved something"
        assert self.incident.closed_ms is None
        assert self.silenced or self.told_blind, "blindness was not told"
        if was is not None:
            assert self.incident.known_level == was.known_level
            assert self.silenced or was.messages == 0 or was.known_level <= known

    @rule(minutes=st.integers(0, 90))
    def time(self, minutes: int) -> None:
        self.now_ms += minutes * MINUTE
        self.tick()
        if self.incident is not None and not self.silenced:
            assert self.told >= self.incident.known_level or self.incident.level is UNKNOWN, "a silence swallowed news"
            assert self.told_blind or self.incident.level is not UNKNOWN, "a silence swallowed blindness"

    def tick(self) -> None:
        """What the desk does about once a second, in its order."""
        record = self.record
        if record is None:
            return
        if not in_force(record.incident.acknowledged, self.now_ms):
            self.record = record = structs.replace(record, incident=structs.replace(record.incident, acknowledged=None))
        if record.held is not None and not self.silenced:
            reason = owed(record.incident, record.held.level)
            if reason is None:
                self.record = structs.replace(record, held=None)
            else:
                self.send(reason)
        elif record.held is None and POLICY.due(record.incident, self.now_ms, silenced=self.silenced):
            self.send(Reason.REPEAT_DUE)

    @precondition(lambda self: self.record is not None)
    @rule(minutes=st.integers(1, 120))
    def acknowledge(self, minutes: int) -> None:
        assert self.record is not None
        incident = self.record.incident
        acknowledged = acked(incident.known_level, self.now_ms, minutes)
        self.record = structs.replace(self.record, incident=structs.replace(incident, acknowledged=acknowledged))

    @rule(minutes=st.integers(1, 120), account=st.sampled_from(["main", "", "other"]), pool=st.sampled_from(["USD", ""]))
    def silence_it(self, minutes: int, account: str, pool: str) -> None:
        self.silence = silence(self.now_ms, minutes, account=account, pool=pool, rule="health")
        self.tick()  # it may have taken the place of one that held something back

    @rule()
    def unsilence(self) -> None:
        self.silence = None
        self.tick()

    @rule()
    def restart(self) -> None:
        """All that the process knows is what the store gives back."""
        if self.record is not None:
            assert self.record.is_open
            self.record = msgspec.json.decode(msgspec.json.encode(self.record), type=IncidentRecord)
        if self.silence is not None:
            self.silence = msgspec.json.decode(msgspec.json.encode(self.silence), type=Silence)

    @precondition(lambda self: self.incident is not None and self.incident.level >= WARNING)
    @rule()
    def an_hour_is_never_silent(self) -> None:
        assert self.incident is not None
        if self.incident.messages and self.incident.acknowledged is None:
            assert POLICY.due(self.incident, self.incident.notified_ms + 60 * MINUTE)
            if self.incident.level >= EMERGENCY:
                assert POLICY.due(self.incident, self.incident.notified_ms + 60 * MINUTE, silenced=True)

    def step(self, level: Level) -> None:
        self.now_ms += 1000
        reason = why_notify(self.incident, level, POLICY)
        change = crossing(level, self.level, self.now_ms)
        self.level = level
        if self.record is None and reason is None:
            return
        if self.record is None:
            self.record = IncidentRecord(incident=opened(change, "X"))
        else:
            self.record = structs.replace(self.record, incident=changed(self.record.incident, change))
        if reason is not None and self.silenced and can_wait(reason, self.record.incident):
            self.record = structs.replace(self.record, held=change)
        elif reason is not None:
            self.send(reason)
        if level is OK:
            assert (reason is Reason.RESOLVED) == (self.record.incident.messages > 0)
            self.ends += reason is Reason.RESOLVED
            self.record = None

    @invariant()
    def one_end_per_beginning(self) -> None:
        assert self.begins - self.ends == (self.incident is not None and self.incident.messages > 0)


Histories.TestCase.settings = hypothesis_settings(max_examples=150, stateful_step_count=30, deadline=None)
TestHistories = Histories.TestCase


def test_what_was_only_unknown_does_not_end_as_if_all_had_been_well() -> None:
    dark = told(opened(crossing(UNKNOWN), "X"), T0, Reason.UNKNOWN)
    assert changed(dark, crossing(OK, UNKNOWN, T0 + 1)).worst is UNKNOWN
    assert changed(dark, crossing(HIGH, UNKNOWN, T0 + 1)).worst is HIGH
