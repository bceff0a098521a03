"""From a transition to a message and its channels: what of it is told, to whom, and what a silence holds back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice

import structlog
from msgspec import structs

from monitor.alerts.book import Book, Work, by_gravity, heard, pool_of, with_value
from monitor.alerts.decide import RepeatPolicy, can_wait, changed, in_force, opened, owed, told, why_notify
from monitor.alerts.message import IncidentRecord, Message, Notice, Reason, digest
from monitor.alerts.routes import Routes
from monitor.alerts.silences import Silences
from monitor.model.alerts import IncidentKey, Level, Lever, Transition
from monitor.model.figures import PoolFigures, PoolKey

STANDING_PER_NOTICE = 50  # their present figures cost time

log = structlog.get_logger()


class Teller:
    """Adds to the work that it is given; whoever holds the work commits it.

    figures_of, levers_of: the present ones, for what is told again (levers of an old crossing would be wrong amounts).
    """

    def __init__(
        self,
        book: Book,
        silences: Silences,
        routes: Routes,
        policy: RepeatPolicy,
        *,
        figures_of: Callable[[PoolKey], PoolFigures | None],
        levers_of: Callable[[IncidentKey], Sequence[Lever]],
        new_id: Callable[[int], str],
        now_ms: Callable[[], int],
    ) -> None:
        self._book = book
        self._silences = silences
        self._routes = routes
        self._policy = policy
        self._figures_of = figures_of
        self._levers_of = levers_of
        self._new_id = new_id
        self._now_ms = now_ms
        self._unheard: list[tuple[IncidentRecord, str]] = []  # what was open at the start, and a channel that never heard of it
        self.crossings: dict[tuple[str, str], int] = {}  # towards worse, and occurrences, by (rule, level word)

    # -------------------------------------------------------------- decisions

    def take(self, transition: Transition, work: Work) -> None:
        """What the engine found."""
        key, level = transition.key, transition.level
        if level is not Level.OK and (transition.momentary or level is Level.UNKNOWN or level > transition.was):
            crossing = (key.rule, level.word)
            self.crossings[crossing] = self.crossings.get(crossing, 0) + 1
        record = None if transition.momentary else self._book.get(key)
        before = None if record is None else record.incident
        reason = why_notify(before, level, self._policy)
        if before is None and reason is None:
            return
        if before is None or record is None:
            record = IncidentRecord(incident=opened(transition, self._new_id(transition.at_ms)), limit=transition.limit)
        else:
            record = structs.replace(record, incident=changed(before, transition), limit=transition.limit)
            if before.acknowledged and not record.incident.acknowledged and level is not Level.OK:
                log.info("acknowledgement_ended", incident=record.id, reason="it got worse", level=level.word)
        silence = self._silences.of(key, self._now_ms())
        if reason is not None and silence is not None and can_wait(reason, record.incident):
            log.info("alert_held", incident=record.id, level=level.word, silence=silence.id, summary=transition.summary)
            record = structs.replace(record, held=structs.replace(transition, figures=digest(transition.figures)))
        elif reason is not None:
            record = self._tell(record, reason, transition, work)
        elif level is Level.OK or not can_wait(Reason.REPEAT_DUE, record.incident):
            # Over before the silence was: nobody has to know. Or told already, and so bad that no silence may stop the repeats.
            record = structs.replace(record, held=None)
        self._book.keep(record, work)

    def repeat(self, now_ms: int, work: Work, count_max: int) -> None:
        """What is open and due, the worst first."""
        due = [
            record
            for record in self._book
            if record.held is None and self._policy.due(record.incident, now_ms, silenced=self._is_silenced(record, now_ms))
        ]
        for record in sorted(due, key=by_gravity)[:count_max]:
            self._still(record, Reason.REPEAT_DUE, now_ms, work)

    def release(self, now_ms: int, work: Work, count_max: int) -> None:
        """What a silence held back that is over: an occurrence as it was, an incident as it is now, if it is news still."""
        free = [record for record in self._book.held() if not self._is_silenced(record, now_ms)]
        for record in sorted(free, key=by_gravity)[:count_max]:
            held = record.held
            if held is None:
                continue
            reason = owed(record.incident, held.level)
            if held.momentary:
                self._book.keep(self._tell(record, Reason.FIRST, held, work), work)
            elif reason is not None:
                self._still(record, reason, now_ms, work)
            else:
                self._book.keep(structs.replace(record, held=None), work)

    # -------------------------------------------------------------- new channels

    def meet_channels(self, with_states: Collection[str], work: Work) -> None:
        """After a start: which channels do not know of what is open, although the routes lead to them now.

        with_states: those that are sent all that is open again and again. They only have to be known for it.
        """
        for record in sorted(self._book, key=by_gravity):
            if record.incident.messages == 0 or record.held is not None:  # nobody was told: whoever is, will be by the routes
                continue
            new = [name for name in self._routes.of(record.incident.key, record.incident.level) if name not in record.told]
            if states := tuple(name for name in new if name in with_states):
                self._book.keep(heard(record, states, record.incident.level), work)
            self._unheard += [(record, name) for name in new if name not in with_states]

    def introduce(self, now_ms: int, work: Work, count_max: int) -> None:
        """Notifies new channels once of what is open: now, or once nobody looks after it any more and no silence holds."""
        waiting: list[tuple[IncidentRecord, str]] = []
        for before, name in self._unheard:
            record = self._book.get(before.incident.key)
            if record is None or record.id != before.id or name in record.told:
                continue
            incident = record.incident
            quiet = self._is_silenced(record, now_ms) and can_wait(Reason.REPEAT_DUE, incident)
            if count_max <= 0 or quiet or in_force(incident.acknowledged, now_ms) or record.held is not None:
                waiting.append((before, name))
            elif name in self._routes.of(incident.key, incident.level):
                count_max -= 1
                log.info("alert_to_new_channel", incident=record.id, channel=name, level=incident.level.word)
                work.messages.append((self._as_it_is(record, now_ms), (name,)))
                self._book.keep(heard(record, (name,), incident.level), work)
        self._unheard = waiting

    def _as_it_is(self, record: IncidentRecord, now_ms: int) -> Message:
        """For one that knows nothing yet, under the number of what the others heard last."""
        incident = record.incident
        return Message(
            id=f"{incident.id}.{incident.messages}",
            reason=Reason.REPEAT_DUE,
            incident=incident,
            told_level=Level.OK,
            at_ms=now_ms,
            limit=record.limit,
            figures=digest(self._figures(incident.key)),
            levers=tuple(self._levers_of(incident.key)),
        )

    def _is_silenced(self, record: IncidentRecord, now_ms: int) -> bool:
        return self._silences.of(record.incident.key, now_ms) is not None

    def _still(self, record: IncidentRecord, reason: Reason, now_ms: int, work: Work) -> None:
        """Tells an open incident as it is now."""
        figures = self._figures(record.incident.key)
        if figures is not None:
            record = with_value(record, figures)
        incident = record.incident
        still = Transition(
            key=incident.key,
            level=incident.level,
            was=incident.level,
            at_ms=now_ms,
            summary=incident.summary,
            worse=incident.worse,
            value=incident.value,
            limit=record.limit,
            figures=figures,
            causes=record.held.causes if record.held is not None else (),
            levers=tuple(self._levers_of(incident.key)),
        )
        self._book.keep(self._tell(record, reason, still, work), work)

    def _tell(self, record: IncidentRecord, reason: Reason, now: Transition, work: Work) -> IncidentRecord:
        """Adds the message to the work. Returns the record with what receivers know from now on."""
        before = record.incident
        incident = told(before, now.at_ms, reason)
        if reason is Reason.RESOLVED:  # who heard of it hears of its end, whatever the routes say today
            channels = tuple(name for name in self._routes.channels if name in record.told)
        else:
            channels = self._routes.of(incident.key, incident.level)
        message = Message(
            id=f"{incident.id}.{incident.messages}",
            reason=reason,
            incident=incident,
            told_level=before.notified_level,
            at_ms=now.at_ms,
            momentary=now.momentary,
            limit=now.limit,
            figures=digest(now.figures),
            causes=now.causes,
            levers=now.levers,
        )
        work.messages.append((message, channels))
        log.warning(
            "alert",
            reason=reason.value,
            level=incident.level.word,
            incident=incident.id,
            venue=incident.key.venue,
            account=incident.key.account,
            pool=incident.key.pool,
            rule=incident.key.rule,
            subject=incident.key.subject,
            summary=incident.summary,
            channels=channels,
        )
        return structs.replace(heard(record, channels, incident.level), incident=incident, held=None)

    # -------------------------------------------------------------- receivers that forget

    def standing(self, channel: str) -> Iterator[Notice]:
        """What is open now of all that the channel was told, for receivers that forget what is not repeated.

        Read when it is asked for: an incident that ended meanwhile is left out. What a silence holds back, or what the routes do
        not send there, stays as the channel last heard it.
        """
        keys = iter([record.incident.key for record in self._book if channel in record.told])
        while part := list(islice(keys, STANDING_PER_NOTICE)):
            records = [record for key in part if (record := self._book.get(key)) is not None and channel in record.told]
            if records:
                messages = tuple(self._standing_of(record, channel) for record in records)
                yield Notice(id=f"{channel}.standing.{messages[0].id}", messages=messages)

    def _standing_of(self, record: IncidentRecord, channel: str) -> Message:
        key, incident = record.incident.key, record.incident
        if record.held is not None or channel not in self._routes.of(key, incident.level):
            level = record.heard.get(channel, incident.notified_level)
            known = incident.notified_level if level is Level.UNKNOWN else level
            incident = structs.replace(incident, level=level, known_level=known)
        return Message(
            id=f"{incident.id}.{incident.messages}",
            reason=Reason.REPEAT_DUE,
            incident=incident,
            told_level=incident.notified_level,
            at_ms=self._now_ms(),
            limit=record.limit,
            figures=digest(self._figures(key)),
        )

    def _figures(self, key: IncidentKey) -> PoolFigures | None:
        pool = pool_of(key)
        return None if pool is None else self._figures_of(pool)
