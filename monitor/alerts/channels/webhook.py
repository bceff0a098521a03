"""A JSON webhook for programs. The body is a contract: keys are added, never renamed or removed.

    {"schema": 1,
     "id": "20261122T053424-7KQMZ.1",        the same in every attempt, also as header Idempotency-Key
     "summary": false,                       true: several alerts that waited
     "text": "[CRITICAL] new: …",            what a person would read
     "alerts": [{                            one, or several in a summary
        "id": "20261122T053424-7KQMZ.1",     the same on every channel and in a summary: merge by it
        "reason": "first",                   first worse better unknown repeat resolved; acknowledged if you ask for it
        "level": "critical", "severity": 4,  −1 unknown, 0 ok … 6 liquidation
        "told_level": "ok",                  what you were told before
        "momentary": false,                  true: an occurrence, no end will be told
        "at": "2026-11-22T05:34:24.123Z",
        "venue": …, "account": …, "pool": …, "rule": …, "subject": …,
        "summary": "health 1.18 is at or below 1.20",
        "value": 1.18, "limit": 1.2, "worse": "down",
        "incident": {"id", "opened_at", "closed_at", "duration_s", "worst", "worst_value", "known_level", "messages",
                     "acknowledged": {"author", "note", "at", "until", "level"} or null},
        "replaces": 0,                       earlier messages of this incident that never left
        "figures": {"unit", "equity", "requirement", "health", "margin_ratio", "guarantee_asset_ratio", "available",
                    "withdrawable", "age_ms", "trusted", "venue_equity", "venue_requirement", "venue_age_ms", "unknown"} or null,
        "causes": [{"what", "amount", "unit", "of"}], "levers": [{"what", "amount", "asset", "health"}],
        "page_url": "…",                     the pool on the status page, "" if we do not know where that is
        "runbook_url": "…" }]}               what an alert of this rule means and what to do

Amounts are numbers in the pool's unit, ratios are fractions, what is not known is null.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, Field, field_validator

from monitor.alerts.channels.base import ChannelBase, Outcome, RateLimit, by_status
from monitor.alerts.channels.body import alert_body
from monitor.alerts.channels.http import Http
from monitor.alerts.channels.target import checked_target, shown
from monitor.alerts.message import Notice
from monitor.alerts.text import compose
from monitor.model.secret import Secret

SCHEMA = 1


class WebhookSettings(ChannelBase):
    """A program that takes JSON by POST."""

    kind: Literal["webhook"] = "webhook"
    url: Annotated[
        Secret,
        AfterValidator(checked_target),
        Field(description="Where to post; its path may be a password: a secret as a whole"),
    ]
    bearer_token: Annotated[Secret | None, Field(description="Sent as Authorization: Bearer …")] = None

    acknowledgements: Annotated[bool, Field(description="Also post when somebody acknowledges, as reason acknowledged")] = False

    @property
    def receiver(self) -> tuple[str, ...]:
        return self.kind, self.url.reveal()

    @property
    def where(self) -> str:
        return shown(self.url)

    @property
    def wants_acknowledgements(self) -> bool:
        return self.acknowledgements

    @field_validator("bearer_token")
    @classmethod
    def _one_line(cls, value: Secret | None) -> Secret | None:
        if value is not None and not value.reveal().isprintable():
            raise ValueError("must be printable on one line")  # it becomes a header
        return value


class WebhookChannel:
    """Any 2xx is an acceptance, whatever its body."""

    limits: tuple[RateLimit, ...] = ()
    refresh_s: float | None = None

    def __init__(self, settings: WebhookSettings, http: Http, page_url: str) -> None:
        self._settings = settings
        self._http = http
        self._page_url = page_url

    async def send(self, notice: Notice) -> Outcome:
        headers = {"Idempotency-Key": notice.id}
        if self._settings.bearer_token is not None:
            headers["Authorization"] = f"Bearer {self._settings.bearer_token.reveal()}"
        body = orjson.dumps(payload(notice, self._page_url))
        return by_status(await self._http.post(self._settings.url.reveal(), body, headers))


def payload(notice: Notice, page_url: str) -> dict[str, Any]:
    """The body of one request, as the module says."""
    return {
        "schema": SCHEMA,
        "id": notice.id,
        "summary": notice.summary,
        "text": compose(notice, page_url).plain,
        "alerts": [alert_body(message, page_url) for message in notice.messages],
    }
