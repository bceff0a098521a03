"""A JSON webhook for programs. The body is a contract: keys are added, never renamed or removed.

    {"schema": 1,
     "id": "20261122T053424-7KQMZ.1",        the same in every attempt, also as header Idempotency-Key
     "summary": false,                       true: several alerts that waited
     "text": "[CRITICAL] new: …",            what a person would read
     "alerts": [{                            one, or several in a summary
        "id": "20261122T053424-7KQMZ.1",     the same on every channel and in a summary: merge by it
        "reason": "first",                   first worse better unknown repeat resolved
        "level": "critical", "severity": 4,  −1 unknown, 0 ok … 6 liquidation
        "told_level": "ok",                  what you were told before
        "momentary": false,                  true: an occurrence, no end will be told
        "at": "2026-11-22T05:34:24.123Z",
        "venue": …, "account": …, "pool": …, "rule": …, "subject": …,
        "summary": "health 1.18 is at or below 1.20",
        "value": 1.18, "limit": 1.2, "worse": "down",
        "incident": {"id", "opened_at", "closed_at", "duration_s", "worst", "worst_value", "known_level", "messages"},
        "replaces": 0,                       earlier messages of this incident that never left
        "figures": {"unit", "equity", "requirement", "health", "margin_ratio", "guarantee_asset_ratio", "available",
                    "withdrawable", "age_ms", "trusted", "venue_equity", "venue_requirement", "unknown"} or null,
        "causes": [{"what", "amount", "unit"}], "levers": [{"what", "amount", "asset", "health"}],
        "page_url": "…" }]}

Amounts are numbers in the pool's unit, ratios are fractions, what is not known is null.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, Field, field_validator

from monitor.alerts.channels.base import Answer, ChannelBase, Http, Outcome, RateLimit, by_status, checked_target
from monitor.alerts.message import Message, Notice
from monitor.alerts.text import compose, page_link
from monitor.model.figures import PoolFigures
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
        answer = await self._http.post(self._settings.url.reveal(), body, headers)
        return by_status(answer) if isinstance(answer, Answer) else answer


def payload(notice: Notice, page_url: str) -> dict[str, Any]:
    """The body of one request, as the module says."""
    return {
        "schema": SCHEMA,
        "id": notice.id,
        "summary": notice.summary,
        "text": compose(notice, page_url).plain,
        "alerts": [_alert(message, page_url) for message in notice.messages],
    }


def _alert(message: Message, page_url: str) -> dict[str, Any]:
    incident = message.incident
    key = incident.key
    return {
        "id": message.id,
        "reason": message.reason.value,
        "level": incident.level.word,
        "severity": int(incident.level),
        "told_level": message.told_level.word,
        "momentary": message.momentary,
        "at": _iso(message.at_ms),
        "venue": key.venue,
        "account": key.account,
        "pool": key.pool,
        "rule": key.rule,
        "subject": key.subject,
        "summary": incident.summary,
        "value": incident.value,
        "limit": message.limit,
        "worse": incident.worse.value,
        "incident": {
            "id": incident.id,
            "opened_at": _iso(incident.opened_ms),
            "closed_at": None if incident.closed_ms is None else _iso(incident.closed_ms),
            "duration_s": max((incident.closed_ms or message.at_ms) - incident.opened_ms, 0) / 1000,
            "worst": incident.worst.word,
            "worst_value": incident.worst_value,
            "known_level": incident.known_level.word,
            "messages": incident.messages,
        },
        "replaces": message.swallowed,
        "figures": None if message.figures is None else _figures(message.figures),
        "causes": [{"what": cause.what, "amount": cause.amount, "unit": cause.unit} for cause in message.causes],
        "levers": [
            {"what": lever.what, "amount": lever.amount, "asset": lever.asset, "health": lever.health} for lever in message.levers
        ],
        "page_url": page_link(page_url, incident) if page_url else "",
    }


def _figures(figures: PoolFigures) -> dict[str, Any]:
    return {
        "unit": figures.unit,
        "equity": figures.equity,
        "requirement": figures.requirement,
        "health": figures.health,
        "margin_ratio": figures.margin_ratio,
        "guarantee_asset_ratio": figures.guarantee_asset_ratio,
        "available": figures.available,
        "withdrawable": figures.withdrawable,
        "age_ms": figures.age_ms,
        "trusted": figures.trusted,
        "venue_equity": figures.venue_equity,
        "venue_requirement": figures.venue_requirement,
        "unknown": list(figures.unknown),
    }


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
