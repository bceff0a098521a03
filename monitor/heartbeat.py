"""The outgoing heartbeat: a call to a service that wakes somebody when the calls stop, such as healthchecks or Uptime Kuma.

It carries no word about the accounts; that it comes at all is the message.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar, Literal, NoReturn

import structlog
from msgspec import Struct, field
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from monitor.alerts.channels.http import Answer, Http
from monitor.alerts.channels.target import checked_target
from monitor.deadman import Reason
from monitor.model.secret import Secret
from monitor.model.streams import count

TIMEOUT_S = 10.0
RECHECK_S = 1.0  # while it is withheld
RETRY_S = 10.0  # after a call that failed

log = structlog.get_logger()


class HeartbeatSettings(BaseModel):
    """A sign of life for a service outside, which calls when it stays away."""

    # A refused value may be a secret: errors never show it.
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    allow_insecure: Annotated[
        bool, Field(description="Allow http and private addresses: for a service on this machine or network")
    ] = False
    url: Annotated[
        Secret | None,
        Field(description="What to call, https; its path is a password: a secret as a whole; null: no heartbeat"),
    ] = None
    method: Annotated[
        Literal["get", "post"], Field(description="How to call it; the body is empty, and the answer's body is not read")
    ] = "get"
    period_s: Annotated[
        float,
        Field(
            ge=1,
            le=3600,
            description="Seconds between calls; give the service at least twice as long before it calls. "
            "Left out while a stream is down, data are too old, the event loop or the outbox is stuck, no channel takes "
            "messages, or the disk does not keep our state",
        ),
    ] = 60.0

    @field_validator("url")
    @classmethod
    def _target(cls, url: Secret | None, info: ValidationInfo) -> Secret | None:
        return None if url is None else checked_target(url, info)


class HeartbeatStatus(Struct):
    """What became of the calls."""

    last_success_ms: int | None = None
    results: dict[str, int] = field(default_factory=dict)  # "sent", or why not: "timeout", "http_500", …


class Heartbeat:
    """Calls while `unwell` names no reason against it. Whatever happens to a call, nobody else notices.

    now_ms: wall clock. clock_s: monotonic.
    """

    def __init__(
        self,
        url: Secret,
        settings: HeartbeatSettings,
        unwell: Callable[[], Mapping[Reason, str]],
        now_ms: Callable[[], int],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.status = HeartbeatStatus()
        self._url = url
        self._settings = settings
        self._unwell = unwell
        self._now_ms = now_ms
        self._clock_s = clock_s
        self._withheld: frozenset[Reason] = frozenset()

    async def run(self) -> NoReturn:
        """Until cancelled."""
        insecure = self._settings.allow_insecure
        async with Http(allow_insecure=insecure, connect_s=TIMEOUT_S, total_s=TIMEOUT_S, now_ms=self._now_ms) as http:
            due_s = self._clock_s()
            while True:
                await asyncio.sleep(max(0.0, due_s - self._clock_s()))
                due_s = max(due_s + await self._turn(http), self._clock_s())

    async def _turn(self, http: Http) -> float:
        """A call, or none. Returns the seconds until the next."""
        try:
            if self._is_withheld():
                return RECHECK_S
            return self._settings.period_s if await self._beat(http) else min(RETRY_S, self._settings.period_s)
        except Exception:
            log.error("heartbeat_crashed", exc_info=True)
            count(self.status.results, "crashed")
            return self._settings.period_s

    def _is_withheld(self) -> bool:
        reasons = self._unwell()
        was, self._withheld = self._withheld, frozenset(reasons)
        if self._withheld - was:
            log.warning("heartbeat_withheld", reasons=[*map(str, reasons)], text="; ".join(reasons.values()))
        elif was and not reasons:
            log.info("heartbeat_resumed")
        return bool(reasons)

    async def _beat(self, http: Http) -> bool:
        answer = await http.request(self._settings.method, self._url.reveal(), None, {})
        if isinstance(answer, Answer) and answer.accepted:
            count(self.status.results, "sent")
            self.status.last_success_ms = self._now_ms()
            return True
        reason = f"http_{answer.status}" if isinstance(answer, Answer) else answer.why
        count(self.status.results, reason)
        log.warning("heartbeat_failed", reason=reason)
        return False
