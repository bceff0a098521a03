"""An alert as JSON for programs: what the webhook documents, and the details of what a pager shows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from monitor.alerts.message import Message
from monitor.alerts.text import page_link, runbook_link
from monitor.model.alerts import Acknowledgement
from monitor.model.figures import PoolFigures


def alert_body(message: Message, page_url: str) -> dict[str, Any]:
    """A JSON object: amounts in the pool's unit, ratios as fractions, null for what is not known."""
    incident = message.incident
    key = incident.key
    return {
        "id": message.id,
        "reason": message.reason.value,
        "level": incident.level.word,
        "severity": int(incident.level),
        "told_level": message.told_level.word,
        "momentary": message.momentary,
        "at": iso(message.at_ms),
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
            "opened_at": iso(incident.opened_ms),
            "closed_at": None if incident.closed_ms is None else iso(incident.closed_ms),
            "duration_s": max((incident.closed_ms or message.at_ms) - incident.opened_ms, 0) / 1000,
            "worst": incident.worst.word,
            "worst_value": incident.worst_value,
            "known_level": incident.known_level.word,
            "messages": incident.messages,
            "acknowledged": _acknowledgement(incident.acknowledged),
        },
        "replaces": message.swallowed,
        "figures": None if message.figures is None else _figures(message.figures),
        "causes": [msgspec.to_builtins(cause) for cause in message.causes],
        "levers": [msgspec.to_builtins(lever) for lever in message.levers],
        "page_url": page_link(page_url, incident) if page_url else "",
        "runbook_url": runbook_link(page_url, key.rule) if page_url else "",
    }


def _acknowledgement(acknowledged: Acknowledgement | None) -> dict[str, Any] | None:
    if acknowledged is None:
        return None
    return {
        "author": acknowledged.author,
        "note": acknowledged.note,
        "at": iso(acknowledged.at_ms),
        "until": iso(acknowledged.until_ms),
        "level": acknowledged.level.word,
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
        "venue_age_ms": figures.venue_age_ms,
        "unknown": list(figures.unknown),
    }


def iso(at_ms: int) -> str:
    """UTC with milliseconds and Z."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
