"""One careful HTTP request: short, bounded, nowhere that it was not meant to go, and no word of its address on failure."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Literal, Self

import aiohttp
from msgspec import Struct

from monitor.alerts.channels.target import PrivateAddressError, PublicOnly
from monitor.model.retry_after import retry_after_s

BODY_BYTES_MAX = 64 << 10
RETRY_AFTER_S_MAX = 3600.0  # a receiver that asks for more is asked again after an hour

Why = Literal["private_address", "bad_url", "timeout", "tls_failed", "name_not_resolved", "connect_failed", "connection_lost"]


class Answer(Struct, frozen=True):
    """A receiver's answer: any status, at most 64 KiB of its body."""

    status: int
    body: bytes
    retry_after_s: float | None

    @property
    def accepted(self) -> bool:
        return self.status // 100 == 2


class NoAnswer(Struct, frozen=True):
    """Nobody answered; the word doubles as a metric label."""

    why: Why


class Http:
    """Requests of one channel: time-outs, no redirects, cookies or proxies. A session of its own: none shares its fate.

    true_ms: the time for receivers that go by it, None while nobody knows whether our clock is right; without it: now_ms.
    """

    def __init__(
        self,
        *,
        allow_insecure: bool,
        connect_s: float,
        total_s: float,
        now_ms: Callable[[], int],
        true_ms: Callable[[], int | None] | None = None,
    ) -> None:
        self._allow_insecure = allow_insecure
        self._timeout = aiohttp.ClientTimeout(total=total_s, connect=connect_s, sock_connect=connect_s)
        self.now_ms = now_ms
        self.true_ms = true_ms or now_ms
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # No keep-alive: a connection that died since the last alert would cost the next one its first attempt.
        connector = aiohttp.TCPConnector(force_close=True, resolver=None if self._allow_insecure else PublicOnly())
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, need_body: bool = False) -> Answer | NoAnswer:
        """JSON. need_body: a 2xx counts only with its body; otherwise its status is the acceptance."""
        sending = {"Content-Type": "application/json; charset=utf-8", **headers}
        return await self.request("post", url, body, sending, need_body=need_body)

    async def request(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], *, need_body: bool = False
    ) -> Answer | NoAnswer:
        if self._session is None:
            raise RuntimeError("not open")
        sending = {"User-Agent": "margin-monitor", **headers}
        try:
            async with self._session.request(method, url, data=body, headers=sending, allow_redirects=False) as response:
                accepted = response.status // 100 == 2
                if accepted and not need_body:
                    return Answer(response.status, b"", None)
                try:
                    text = await _read_capped(response)
                except (aiohttp.ClientError, OSError, TimeoutError):
                    if accepted:
                        raise
                    text = b""  # the status says enough
                return Answer(response.status, text, retry_after(response.headers, self.now_ms()))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as exc:
            return NoAnswer(_why(exc))


async def _read_capped(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    while len(body) < BODY_BYTES_MAX and (chunk := await response.content.read(BODY_BYTES_MAX - len(body))):
        body += chunk
    return bytes(body)


def _why(exc: Exception) -> Why:
    """An error in our own words: the library's may contain the url."""
    if isinstance(getattr(exc, "os_error", exc.__cause__), PrivateAddressError):
        return "private_address"
    kinds: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Why], ...] = (
        (TimeoutError, "timeout"),
        ((aiohttp.ClientSSLError, ssl.SSLError), "tls_failed"),
        (aiohttp.ClientConnectorDNSError, "name_not_resolved"),
        (aiohttp.ClientConnectorError, "connect_failed"),
        (ValueError, "bad_url"),  # a host name that cannot be one
    )
    return next((why for kind, why in kinds if isinstance(exc, kind)), "connection_lost")


def retry_after(headers: Mapping[str, str], now_ms: int) -> float | None:
    """Seconds that a receiver asks us to wait, against its own Date if it has one."""
    return retry_after_s(headers.get("Retry-After"), now_ms, longest_s=RETRY_AFTER_S_MAX, sent=headers.get("Date"))
