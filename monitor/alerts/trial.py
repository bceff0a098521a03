"""One clearly marked test message to each channel, by the channel's own code: would they wake anybody?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from msgspec import Struct

from monitor.alerts.channels import CHANNELS, ChannelSettings
from monitor.alerts.channels.base import Sent
from monitor.alerts.channels.http import Http
from monitor.alerts.ids import IncidentIds
from monitor.alerts.message import Message, Notice, Reason
from monitor.alerts.settings import AlertSettings
from monitor.alerts.text import TEST_RULE
from monitor.model.alerts import Incident, IncidentKey, Level

SUMMARY = "a test of this channel: no account is in danger; where it stays open, end it by hand"


class UnknownChannelError(ValueError):
    """A name that is no channel's; the text says which there are."""


class TestResult(Struct, frozen=True):
    """What a channel's receiver made of the test."""

    __test__: ClassVar[bool] = False  # for pytest, which takes the name for one of its own

    channel: str
    kind: str
    where: str  # its address as it may be shown
    ok: bool
    refusal: str  # one line without any secret, such as "http_404: no_service"; "" if ok
    ms: int  # until its answer


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


async def test_alert(
    settings: AlertSettings,
    names: Sequence[str] = (),  # noqa: PT028  it is no test of pytest's
    *,
    now_ms: Callable[[], int] = _wall_ms,  # noqa: PT028
) -> list[TestResult]:
    """Sends to the channels of these names, without any: to all, at the same time. No store, no retries, no routes.

    It is sent as critical, so that it takes the way of what must wake somebody; in every text it is marked [TEST].
    Raises UnknownChannelError before anything is sent.
    """
    channels = {channel.name: channel for channel in settings.channels}
    unknown = [name for name in names if name not in channels]
    if unknown:
        raise UnknownChannelError(f"no channel is called {', '.join(unknown)}; there are: {', '.join(channels) or 'none'}")
    chosen = [channels[name] for name in dict.fromkeys(names)] or list(channels.values())
    notice = _notice(now_ms())
    return list(await asyncio.gather(*(_tried(channel, notice, settings, now_ms) for channel in chosen)))


test_alert.__test__ = False  # type: ignore[attr-defined]


class _NoNotes:
    """Nothing was learned before, and what is learned now is the daemon's to learn again."""

    def note(self, key: str) -> str | None:
        return None

    def put_note(self, key: str, value: str) -> None:
        return


async def _tried(channel: ChannelSettings, notice: Notice, settings: AlertSettings, now_ms: Callable[[], int]) -> TestResult:
    began_s = time.monotonic()
    async with Http(
        allow_insecure=channel.allow_insecure,
        connect_s=settings.delivery.connect_s,
        total_s=settings.delivery.total_s,
        now_ms=now_ms,
    ) as http:
        outcome = await CHANNELS[channel.kind](channel, http, settings.page_url or "", _NoNotes()).send(notice)
    refusal = "" if isinstance(outcome, Sent) else outcome.reason
    ms = round((time.monotonic() - began_s) * 1000)
    return TestResult(channel=channel.name, kind=channel.kind, where=channel.where, ok=not refusal, refusal=refusal, ms=ms)


def _notice(at_ms: int) -> Notice:
    incident = Incident(
        id=IncidentIds().new(at_ms),
        key=IncidentKey("", "", "", TEST_RULE),
        level=Level.CRITICAL,
        known_level=Level.CRITICAL,
        worst=Level.CRITICAL,
        opened_ms=at_ms,
        changed_ms=at_ms,
        closed_ms=at_ms,
        summary=SUMMARY,
        messages=1,
    )
    message = Message(
        id=f"{incident.id}.1", reason=Reason.FIRST, incident=incident, told_level=Level.OK, at_ms=at_ms, momentary=True
    )
    return Notice(id=message.id, messages=(message,))
