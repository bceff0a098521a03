"""From one channel to another: what a channel does not deliver, what it refuses, and what waited for one that is gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from operator import attrgetter

import structlog

from monitor.alerts.batch import Waiting
from monitor.alerts.book import Book, heard
from monitor.alerts.message import IncidentRecord, OutboxRow, Reason
from monitor.alerts.outbox import Change, Outbox, attempted
from monitor.alerts.receivers import Receivers
from monitor.alerts.routes import Routes
from monitor.alerts.sender import PROBE_GROWTH, Sender
from monitor.alerts.settings import DeliverySettings
from monitor.model.alerts import Level

FALL_OVERS_PER_TICK = 200  # more fall over with the next ticks: decisions about new crossings wait meanwhile

log = structlog.get_logger()


class Handover:
    """Each message by itself, and only to who may hear of its account. clock_s: monotonic."""

    def __init__(
        self,
        book: Book,
        outbox: Outbox,
        routes: Routes,
        senders: Mapping[str, Sender],
        delivery: DeliverySettings,
        clock_s: Callable[[], float],
    ) -> None:
        self._book = book
        self._outbox = outbox
        self._routes = routes
        self._senders = senders
        self._delivery = delivery
        self._clock_s = clock_s

    # -------------------------------------------------------------- what is not delivered

    async def fall_over(self) -> None:
        """Critical messages that their channels do not deliver go to the next channel too: the worst first, in one commit.

        Call it while deciding.
        """
        further: list[tuple[Waiting, str]] = []
        for one in sorted(self._outbox, key=attrgetter("rank")):
            if len(further) >= FALL_OVERS_PER_TICK:
                break
            if self._is_due(one) and (name := self._next_channel(one.row)) is not None:
                log.warning("alert_falls_over", channel=one.row.channel, to=name, message=one.row.message.id)
                further.append((one, name))
        if further:
            await self._outbox.pass_on(further, [*self._heard(further)])

    def _is_due(self, one: Waiting) -> bool:
        late = self._clock_s() - one.since_s >= self._delivery.fail_over_s
        broken = bool(self._senders[one.row.channel].status.broken and one.row.attempts)
        return one.row.message.urgency >= Level.CRITICAL and (late or broken)

    def _next_channel(self, row: OutboxRow) -> str | None:
        """Where a message goes as well. If the next one has it already, it is that one's turn to pass it on."""
        incident = row.message.incident
        for name in self._routes.after(row.channel, incident.key):
            newer = any(
                one.row.message.incident.messages > incident.messages for one in self._outbox.of_incident(name, incident.id)
            )
            if name in row.routed or newer:
                return None
            if not self._senders[name].status.broken:
                return name
        return None

    def _heard(self, further: list[tuple[Waiting, str]]) -> list[IncidentRecord]:
        """The open incidents as they are with the further channels, which get the end of them too."""
        records: dict[str, IncidentRecord] = {}
        for one, name in further:
            incident = one.row.message.incident
            record = self._book.get(incident.key)
            if record is not None and record.id == incident.id:
                records[record.id] = heard(record, (name,), incident.level)
                self._book.update(records[record.id])
        return list(records.values())

    # -------------------------------------------------------------- what is refused

    async def give_up(self, one: Waiting, reason: str) -> bool:
        """A channel refuses this message while it takes others: from now on it is for another one to deliver.

        False: there is no other that may hear of it, so it is lost here. Call it while deciding.
        """
        row = one.row
        reserves = self._routes.after(row.channel, row.message.incident.key)
        has_it = row.message.urgency <= Level.OK or any(name in row.routed for name in reserves)
        if not self._outbox.is_waiting(one):
            return True
        if not has_it and (name := self._next_channel(row)) is not None:
            further = [(one, name)]
            await self._outbox.pass_on(further, self._heard(further), drop=(row.id,))
        elif not has_it and reserves:  # all of them are broken: it waits for the first that is mended
            wait_s = self._delivery.probe_s * PROBE_GROWTH
            await self._outbox.postpone([one], partial(attempted, error=reason, refused=True), wait_s)
        else:
            await self._outbox.apply(Change(drop=(row.id,)))
            return has_it
        return True

    # -------------------------------------------------------------- what waited for another configuration

    def home_of(self, row: OutboxRow, receivers: Receivers) -> tuple[str, ...] | None:
        """The channels that are to deliver what an earlier run left: its own receiver, else those that the routes now lead to.

        Empty: others have it, or it is good news for a receiver that is gone. None: nobody may hear of it now.
        """
        message = row.message
        key = message.incident.key
        heir = receivers.heir(row.channel)
        if heir is not None and self._routes.may_hear(heir, key):
            return (heir,)
        if message.urgency <= Level.OK:
            return ()
        level = message.incident.worst if message.reason is Reason.RESOLVED else message.incident.level
        reserves = (name for name in self._routes.channels if self._routes.may_hear(name, key))
        homes = self._routes.of(key, level) or tuple(reserves)[:1]
        if not homes:
            log.error("alert_without_channel", message=message.id, account=key.account, hint="it stays in the store")
            return None
        have_it = {receivers.heir(name) for name in row.routed if name != row.channel}
        return tuple(name for name in homes if name not in have_it)
