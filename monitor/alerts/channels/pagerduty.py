"""PagerDuty, Events API v2: what wakes people who are on call.

One incident here is one alert there while nobody has to be woken afresh. PagerDuty stays silent about an alert that was
acknowledged, whatever comes after; so what must wake somebody again (it got worse, data went missing, an acknowledgement ended)
opens a new alert, and then ends the earlier one. Missing data end nothing.

    dedup_key        the incident's id; of a later call "id/2", "id/3", …
    event_action     trigger; acknowledge, when somebody acknowledges here; resolve
    payload          summary, severity, source (venue/account), timestamp, component (pool), group (account), class (rule),
                     custom_details (the text, and the alert as the webhook has it)

Source: https://developer.pagerduty.com/docs/events-api-v2/trigger-events/ ; answers: 202 accepted, 400 never, 429 and 5xx later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
import orjson
from msgspec import Struct
from pydantic import Field, ValidationInfo, field_validator

from monitor.alerts.channels.base import ChannelBase, Outcome, RateLimit, Sent, by_status, harmless
from monitor.alerts.channels.body import alert_body, iso
from monitor.alerts.channels.http import Answer, Http, NoAnswer
from monitor.alerts.channels.target import check_target, shown
from monitor.alerts.dialects import cut
from monitor.alerts.message import Message, Notice, Reason
from monitor.alerts.text import compose, one_line, page_link, runbook_link
from monitor.model.alerts import Level
from monitor.model.secret import Secret

SUMMARY_CHARS_MAX = 1024
CALLS_ENDED_MAX = 20  # of an incident whose earlier calls this process does not remember
SEVERITIES = {Level.INFO: "info", Level.WARNING: "warning", Level.HIGH: "error"}  # and critical above
_KEY = re.compile(r"[A-Za-z0-9]{32}")


class PagerDutySettings(ChannelBase):
    """A PagerDuty service with an integration of the kind "Events API v2"."""

    kind: Literal["pagerduty"] = "pagerduty"
    routing_key: Annotated[Secret, Field(description="The integration key of the service, 32 letters and digits")]
    url: Annotated[str, Field(description="In the EU: https://events.eu.pagerduty.com/v2/enqueue")] = (
        "https://events.pagerduty.com/v2/enqueue"
    )

    @property
    def receiver(self) -> tuple[str, ...]:
        return self.kind, self.url, self.routing_key.reveal()

    @property
    def where(self) -> str:
        return shown(self.routing_key, urlsplit(self.url).hostname or "")

    @property
    def wants_acknowledgements(self) -> bool:
        return True

    @field_validator("routing_key")
    @classmethod
    def _key(cls, value: Secret) -> Secret:
        if not _KEY.fullmatch(value.reveal()):
            raise ValueError("is no integration key: 32 letters and digits")
        return value

    @field_validator("url")
    @classmethod
    def _target(cls, value: str, info: ValidationInfo) -> str:
        return check_target(value, allow_insecure=info.data.get("allow_insecure", False))


class _Reply(Struct):
    """The keys that we use of a refusal."""

    message: str = ""
    errors: list[str] = []


_decode_reply = msgspec.json.Decoder(_Reply).decode


class PagerDutyChannel:
    """Sends the events of a notice one after the other; what was accepted is not sent again with a retry."""

    limits: tuple[RateLimit, ...] = ()  # PagerDuty publishes none: it says 429
    refresh_s: float | None = None

    def __init__(self, settings: PagerDutySettings, http: Http, page_url: str) -> None:
        self._settings = settings
        self._http = http
        self._page_url = page_url
        self._may_be_open: dict[str, set[int]] = {}  # calls that may be open there, by incident
        self._notice_id = ""
        self._accepted: set[str] = set()  # ids of its events

    async def send(self, notice: Notice) -> Outcome:
        if notice.id != self._notice_id:
            self._notice_id, self._accepted = notice.id, set()
        for message in notice.messages:
            for event_id, event in self._events(message):
                if event_id in self._accepted:
                    continue
                outcome = await self._post(event_id, event)
                if not isinstance(outcome, Sent):
                    return outcome
                self._accepted.add(event_id)
            self._settle(message)
        return Sent()

    # -------------------------------------------------------------- what is said

    def _events(self, message: Message) -> Iterator[tuple[str, dict[str, Any]]]:
        """(id, event), in the order in which they must arrive: nobody is let go before the next call is there."""
        incident, call = message.incident, max(message.incident.calls, 1)
        # After a restart nobody knows which earlier calls are open; there, words about one that is not are dropped.
        may_be_open = self._may_be_open.setdefault(incident.id, set(range(max(1, call - CALLS_ENDED_MAX), call)))
        match message.reason:
            case Reason.ACKNOWLEDGED:
                yield from self._each(
                    message, "acknowledge", {open_call for open_call in may_be_open if open_call < call} | {call}
                )
            case Reason.RESOLVED:
                yield from self._each(message, "resolve", may_be_open | {call})
            case _:
                may_be_open.add(call)  # before the answer: it may be lost after the acceptance
                event = {"event_action": "trigger", "dedup_key": _dedup_key(message, call), **self._described(message)}
                yield message.id, event
                if incident.level is not Level.UNKNOWN:
                    yield from self._each(message, "resolve", {open_call for open_call in may_be_open if open_call < call})

    def _each(self, message: Message, action: str, calls: set[int]) -> Iterator[tuple[str, dict[str, Any]]]:
        for call in sorted(calls):
            yield f"{message.id}.{action}{call}", {"event_action": action, "dedup_key": _dedup_key(message, call)}

    def _settle(self, message: Message) -> None:
        incident = message.incident
        if message.reason is Reason.RESOLVED or message.momentary:
            del self._may_be_open[incident.id]
        elif message.reason is not Reason.ACKNOWLEDGED and incident.level is not Level.UNKNOWN:
            calls = self._may_be_open[incident.id]  # a later one is of a newer message: this one ended only the earlier
            self._may_be_open[incident.id] = {call for call in calls if call >= max(incident.calls, 1)}

    def _described(self, message: Message) -> dict[str, Any]:
        key = message.incident.key
        text = compose(Notice(id=message.id, messages=(message,)), self._page_url)
        payload = {
            "summary": cut(": ".join((text.title, *text.lines[:1])), SUMMARY_CHARS_MAX),
            "severity": SEVERITIES.get(message.incident.level.gravity, "critical"),
            "source": one_line("/".join(part for part in (key.venue, key.account) if part)) or "margin-monitor",
            "timestamp": iso(message.at_ms),
            "component": one_line(key.pool),
            "group": one_line(key.account),
            "class": one_line(key.rule),
            "custom_details": {"text": text.plain, **alert_body(message, self._page_url)},
        }
        event: dict[str, Any] = {
            "payload": {name: value for name, value in payload.items() if value},
            "client": "margin-monitor",
        }
        if self._page_url:
            page = page_link(self._page_url, message.incident)
            runbook = runbook_link(self._page_url, key.rule)
            event |= {"client_url": page, "links": [{"href": page, "text": "The pool"}, {"href": runbook, "text": "What to do"}]}
        return event

    # -------------------------------------------------------------- how it is said

    async def _post(self, event_id: str, event: dict[str, Any]) -> Outcome:
        body = orjson.dumps({"routing_key": self._settings.routing_key.reveal(), **event})
        answer = await self._http.post(self._settings.url, body, {"Idempotency-Key": event_id})
        return by_status(answer, self._why(answer))

    def _why(self, answer: Answer | NoAnswer) -> str:
        """PagerDuty's own words, which name the field that it does not like."""
        if isinstance(answer, NoAnswer):
            return ""
        try:
            reply = _decode_reply(answer.body)
        except msgspec.DecodeError:
            return ""
        return harmless("; ".join(reply.errors) or reply.message, self._settings.routing_key)


def _dedup_key(message: Message, call: int) -> str:
    return message.incident.id if call == 1 else f"{message.incident.id}/{call}"
