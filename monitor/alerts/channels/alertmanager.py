"""Prometheus Alertmanager, API v2, so that a site's own routing, grouping and on-call rota can be used.

Alertmanager knows states, not messages: an alert fires until its `endsAt`, and its labels are its identity. So what is open is
sent again every `resend_s` with an `endsAt` ahead, and a change of severity ends one alert and starts another in one request.
While nobody knows whether our clock is right there is no `endsAt`: its own `resolve_timeout` counts, and none is over on arrival.
While data are missing the last known severity goes on firing beside severity `unknown`: missing data resolve nothing.

    labels        alertname (the rule, as MarginHealth), venue, account, pool, rule, subject, severity; what happened once
                  (a margin call, a liquidation order) also has occurrence, else it would be one with the next of its kind
    annotations   summary, description (what a person would read on another channel), incident, acknowledged_by, runbook_url
    generatorURL  the pool on the status page

Acknowledgements and silences of this program stop no alert there: Alertmanager has its own.
Source: https://prometheus.io/docs/alerting/latest/alerts_api/
"""

from __future__ import annotations

from base64 import b64encode
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import AfterValidator, Field, field_validator, model_validator

from monitor.alerts.channels.base import ChannelBase, Outcome, RateLimit, Sent, by_status
from monitor.alerts.channels.body import iso
from monitor.alerts.channels.http import Http
from monitor.alerts.channels.target import checked_target, shown
from monitor.alerts.message import Message, Notice, Reason
from monitor.alerts.text import compose, one_line, page_link, runbook_link
from monitor.model.alerts import Level
from monitor.model.secret import Secret

PATH = "/api/v2/alerts"


class AlertmanagerSettings(ChannelBase):
    """A Prometheus Alertmanager (API v2), which does the routing itself."""

    kind: Literal["alertmanager"] = "alertmanager"
    url: Annotated[
        Secret,
        AfterValidator(checked_target),
        Field(description="Its address up to, without, /api/v2/alerts; a secret because it may hold one"),
    ]
    bearer_token: Annotated[Secret | None, Field(description="Sent as Authorization: Bearer …")] = None
    username: Annotated[str, Field(max_length=100, description="For Authorization: Basic …; empty: none")] = ""
    password: Annotated[Secret | None, Field(description="For Authorization: Basic …")] = None
    resend_s: Annotated[
        float, Field(ge=1, le=600, description="How often it is told of all that is open, in seconds: it forgets what is not")
    ] = 60.0
    hold_min: Annotated[
        float,
        Field(ge=1, le=1440, description="How long it keeps an alert firing without a word from us, in minutes; above resend_s"),
    ] = 15.0

    @property
    def receiver(self) -> tuple[str, ...]:
        return self.kind, self.url.reveal().rstrip("/").removesuffix(PATH)

    @property
    def where(self) -> str:
        return shown(self.url)

    @field_validator("bearer_token", "password")
    @classmethod
    def _one_line(cls, value: Secret | None) -> Secret | None:
        if value is not None and not value.reveal().isprintable():
            raise ValueError("must be printable on one line")  # it becomes a header
        return value

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.bearer_token is not None and (self.username or self.password is not None):
            raise ValueError("bearer_token, or username and password, not both")
        if bool(self.username) != (self.password is not None):
            raise ValueError("username and password belong together")
        if ":" in self.username or not self.username.isprintable():
            raise ValueError("username must be printable and have no colon")
        if self.hold_min * 60 < 2 * self.resend_s:
            raise ValueError("hold_min must be at least twice resend_s, or alerts end between two words of ours")
        return self


class AlertmanagerChannel:
    """Any 2xx is an acceptance."""

    limits: tuple[RateLimit, ...] = ()

    def __init__(self, settings: AlertmanagerSettings, http: Http, page_url: str) -> None:
        self._http = http
        self._page_url = page_url
        self._url = settings.url.reveal().rstrip("/").removesuffix(PATH) + PATH
        self._headers = _authorization(settings)
        self._hold_ms = round(settings.hold_min * 60_000)
        self.refresh_s: float | None = settings.resend_s
        self._fires: dict[str, frozenset[Level]] = {}  # severities that may fire there, by incident

    async def send(self, notice: Notice) -> Outcome:
        firing = {message.incident.id: _severities(message) for message in notice.messages}
        body = orjson.dumps([alert for message in notice.messages for alert in self._alerts(message)])
        for incident_id, severities in firing.items():  # before the answer: it may be lost after the acceptance
            self._fires[incident_id] = self._fires.get(incident_id, frozenset()) | severities
        outcome = by_status(await self._http.post(self._url, body, {"Idempotency-Key": notice.id, **self._headers}))
        if isinstance(outcome, Sent):
            self._fires |= firing
            for message in notice.messages:
                if message.reason is Reason.RESOLVED or message.momentary:
                    del self._fires[message.incident.id]
        return outcome

    def _alerts(self, message: Message) -> list[dict[str, Any]]:
        incident = message.incident
        now_ms = self._http.true_ms()
        ended_ms = self._http.now_ms() if incident.closed_ms is None else incident.closed_ms
        firing = _severities(message)
        ending = self._fires.get(incident.id) or _may_fire(message)
        holds_until_ms = None if now_ms is None else now_ms + self._hold_ms
        alerts = [self._alert(message, level, holds_until_ms, now_ms) for level in sorted(firing)]
        ended_ms = ended_ms if now_ms is None else min(ended_ms, now_ms)  # an end in its future would go on firing
        return alerts + [self._alert(message, level, ended_ms, now_ms) for level in sorted(ending - firing)]

    def _alert(self, message: Message, severity: Level, ends_ms: int | None, now_ms: int | None) -> dict[str, Any]:
        incident = message.incident
        key = incident.key
        text = compose(Notice(id=message.id, messages=(message,)), self._page_url)
        labels = {
            "alertname": "Margin" + "".join(word.capitalize() for word in key.rule.split("_")),
            "venue": key.venue,
            "account": key.account,
            "pool": key.pool,
            "rule": key.rule,
            "subject": key.subject,
            "severity": severity.word,
            "occurrence": incident.id if message.momentary else "",
        }
        starts_ms = incident.opened_ms if now_ms is None else min(incident.opened_ms, now_ms)
        annotations = {"summary": incident.summary, "description": text.plain, "incident": incident.id}
        if incident.acknowledged is not None:
            annotations["acknowledged_by"] = incident.acknowledged.author
        if self._page_url:
            annotations["runbook_url"] = runbook_link(self._page_url, key.rule)
        alert = {
            "labels": {name: line for name, value in labels.items() if (line := one_line(value))},  # to it, an empty one is none
            "annotations": annotations,
            "startsAt": iso(starts_ms),
        }
        if ends_ms is not None:
            alert["endsAt"] = iso(max(ends_ms, starts_ms))  # it refuses an end before the start
        return alert | {"generatorURL": page_link(self._page_url, incident)} if self._page_url else alert


def _severities(message: Message) -> frozenset[Level]:
    """What fires with this message."""
    incident = message.incident
    if message.reason is Reason.RESOLVED:
        return frozenset()
    return frozenset({incident.level, incident.known_level} - {Level.OK})


def _may_fire(message: Message) -> frozenset[Level]:
    """What an earlier process may have set off, as far as the message tells."""
    told_again = message.reason in (Reason.RESOLVED, Reason.REPEAT_DUE)
    if message.momentary or (message.incident.messages <= 1 and not told_again):
        return frozenset()
    worst = max(message.incident.worst, message.told_level)
    return frozenset(level for level in Level if level is not Level.OK and level <= worst)


def _authorization(settings: AlertmanagerSettings) -> dict[str, str]:
    if settings.bearer_token is not None:
        return {"Authorization": f"Bearer {settings.bearer_token.reveal()}"}
    if settings.password is not None:
        pair = f"{settings.username}:{settings.password.reveal()}".encode()
        return {"Authorization": f"Basic {b64encode(pair).decode()}"}
    return {}
