"""The webhook's body is a contract. This is the whole of it: a key that changes its name or goes away breaks somebody's pager."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson
from alerts_kit import CAUSES, KEY, LEVERS, MINUTE, T0, figures, incident, message
from msgspec import structs

from monitor.alerts.channels import webhook
from monitor.alerts.channels.webhook import payload
from monitor.alerts.message import Notice, Reason
from monitor.model.alerts import Acknowledgement, Level, Worse

PAGE = "https://desk.example/margin/"


def body(notice: Notice, page_url: str = PAGE) -> Any:
    return orjson.loads(orjson.dumps(payload(notice, page_url)))


def test_the_whole_body() -> None:
    acknowledged = Acknowledgement(author="ann", note="adding margin", at_ms=T0, until_ms=T0 + 60 * MINUTE, level=Level.HIGH)
    about = incident(
        Level.HIGH,
        key=structs.replace(KEY, subject="BTCUSDT"),
        value=1.18,
        worst=Level.CRITICAL,
        worst_value=1.17,
        worse=Worse.DOWN,
        messages=3,
        acknowledged=acknowledged,
    )
    one = message(
        Level.HIGH,
        Reason.BETTER,
        incident=about,
        id="20261122T053424-7KQMZ.3",
        told_level=Level.CRITICAL,
        at_ms=T0 + 5123,
        limit=1.5,
        figures=figures(available=100.5, withdrawable=99.25, venue_age_ms=1500, trusted=False),
        causes=CAUSES,
        levers=LEVERS,
    )
    said = body(Notice(id=one.id, messages=(one,)))
    text = said.pop("text")
    assert text.startswith("[HIGH] better, was critical: main · USD · binance_usdm · health · BTCUSDT\n")
    assert said == {
        "schema": 1,
        "id": "20261122T053424-7KQMZ.3",
        "summary": False,
        "alerts": [
            {
                "id": "20261122T053424-7KQMZ.3",
                "reason": "better",
                "level": "high",
                "severity": 3,
                "told_level": "critical",
                "momentary": False,
                "at": "2026-11-22T05:34:29.123Z",
                "venue": "binance_usdm",
                "account": "main",
                "pool": "USD",
                "rule": "health",
                "subject": "BTCUSDT",
                "summary": "health 1.18 is at or below 1.20",
                "value": 1.18,
                "limit": 1.5,
                "worse": "down",
                "incident": {
                    "id": "20261122T053424-7KQMZ",
                    "opened_at": "2026-11-22T05:34:24.000Z",
                    "closed_at": None,
                    "duration_s": 5.123,
                    "worst": "critical",
                    "worst_value": 1.17,
                    "known_level": "high",
                    "messages": 3,
                    "acknowledged": {
                        "author": "ann",
                        "note": "adding margin",
                        "at": "2026-11-22T05:34:24.000Z",
                        "until": "2026-11-22T06:34:24.000Z",
                        "level": "high",
                    },
                },
                "replaces": 0,
                "figures": {
                    "unit": "USD",
                    "equity": 11800.0,
                    "requirement": 10000.0,
                    "health": 1.18,
                    "margin_ratio": 10_000.0 / 11_800.0,
                    "guarantee_asset_ratio": None,
                    "available": 100.5,
                    "withdrawable": 99.25,
                    "age_ms": 412,
                    "trusted": False,
                    "venue_equity": 11790.0,
                    "venue_requirement": 10000.0,
                    "venue_age_ms": 1500,
                    "unknown": [],
                },
                "causes": [
                    {"what": "position BTCUSDT", "amount": -812.4, "unit": "USD", "of": "equity"},
                    {"what": "rate of BTC", "amount": -101.0, "unit": "USD", "of": "equity"},
                ],
                "levers": [
                    {"what": "send", "amount": 4310.001, "asset": "USDT", "health": 1.5},
                    {"what": "send", "amount": 0.0470001, "asset": "BTC", "health": 1.5},
                ],
                "page_url": "https://desk.example/margin/#binance_usdm/main/USD",
                "runbook_url": "https://desk.example/margin/runbook#health",
            }
        ],
    }


def test_what_is_not_known_is_null_or_empty_never_left_out() -> None:
    full = body(Notice(id="N", messages=(message(figures=figures()),)))["alerts"][0]
    bare = body(Notice(id="N", messages=(message(),)), "")["alerts"][0]
    assert set(bare) == set(full)
    assert (bare["figures"], bare["causes"], bare["levers"], bare["page_url"], bare["runbook_url"]) == (None, [], [], "", "")


def test_the_docstring_names_every_key() -> None:
    """It is what an integrator reads."""
    documented = set(re.findall(r'"([a-z_]+)"', webhook.__doc__ or ""))
    acknowledged = Acknowledgement(author="ann", note="", at_ms=T0, until_ms=T0, level=Level.HIGH)
    one = message(incident=incident(acknowledged=acknowledged), figures=figures(), causes=CAUSES, levers=LEVERS)
    assert set(_keys(body(Notice(id="N", messages=(one,))))) <= documented


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)
