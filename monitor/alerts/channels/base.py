"""What every channel is made of: its three answers, and one careful HTTP POST."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Annotated, Any, ClassVar, Protocol, Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo

from monitor.alerts.message import Notice
from monitor.model.secret import Secret

BODY_BYTES_MAX = 64 << 10
RETRY_AFTER_S_MAX = 3600.0  # a receiver that asks for more is asked again after an hour

# ------------------------------------------------------------------ answers


class Sent(Struct, frozen=True):
    """The receiver took it."""


class RetryAt(Struct, frozen=True):
    """Not now. after_s: the receiver's own word; None leaves it to the sender's back-off."""

    reason: str
    after_s: float | None = None


class GiveUp(Struct, frozen=True):
    """No retry helps until a person changes something: the channel is broken."""

    reason: str


Outcome = Sent | RetryAt | GiveUp


class RateLimit(Struct, frozen=True):
    """The receiver takes at most `count` messages in `per_s` seconds."""

    count: int
    per_s: float
    scope: tuple[str | Secret, ...] = ()  # what it counts for, of all channels together (a bot, a chat); empty: this channel


class Channel(Protocol):
    """One way out. `send` raises nothing but bugs and cancellation."""

    @property
    def limits(self) -> tuple[RateLimit, ...]: ...
    @property
    def refresh_s(self) -> float | None:
        """How often it wants to be told of all that is open, None for a receiver that remembers."""

    async def send(self, notice: Notice) -> Outcome: ...


# ------------------------------------------------------------------ settings


class ChannelBase(BaseModel):
    """What the settings of every channel have."""

    # A refused value may be a secret, and a webhook's address is one: errors never show it. Only the outermost model's word
    # counts here, so whoever embeds these settings says the same.
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$", description="How routes, metrics and messages call it")]
    allow_insecure: Annotated[
        bool, Field(description="Allow http and private addresses: for a receiver on this machine or network")
    ] = False

    @property
    def wants_acknowledgements(self) -> bool:
        """Whether the channel is told when a person here acknowledges an incident that it heard of."""
        return False


def checked_target(url: Secret, info: ValidationInfo) -> Secret:
    """For a field validator of a secret address."""
    check_target(url.reveal(), allow_insecure=info.data.get("allow_insecure", False))
    return url


def check_target(url: str, *, allow_insecure: bool) -> str:
    """The url, if a channel may post to it; else ValueError, whose text never contains the url (it may be a secret)."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("not a URL") from None
    if parts.scheme not in ("https", "http") or not host:
        raise ValueError("must be a URL that starts with https://")
    if any(char <= " " or char == "\x7f" for char in url):
        raise ValueError("a URL has no spaces or control characters")
    if allow_insecure:
        return url
    if parts.scheme != "https":
        raise ValueError("must be https; allow_insecure: true permits http")
    if not is_public(host):
        raise ValueError("is a private address; allow_insecure: true permits it")
    return url


def is_public(host: str) -> bool:
    """False for an address literal that does not lead to the public internet. Names pass: they are judged when resolved."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return True
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(address.packed[-4:])
        if inner is not None:
            return is_public(str(inner))
    return address.is_global and not address.is_multicast


class PrivateAddressError(OSError):
    """A name of a public target leads into a private network."""


class _PublicOnly(AbstractResolver):
    """Resolves once and hands out what it judged, so that the connection goes to the judged address and to no other."""

    def __init__(self) -> None:
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        if not all(is_public(one["host"].partition("%")[0]) for one in found):
            raise PrivateAddressError("private address")
        return found

    async def close(self) -> None:
        await self._resolver.close()


# ------------------------------------------------------------------ HTTP


class Answer(Struct, frozen=True):
    """A receiver's answer: any status, at most 64 KiB of its body."""

    status: int
    body: bytes
    retry_after_s: float | None


class Http:
    """POST for one channel, with time-outs, without redirects, cookies or proxies. A session of its own: none shares its fate."""

    def __init__(self, *, allow_insecure: bool, connect_s: float, total_s: float, now_ms: Callable[[], int]) -> None:
        self._allow_insecure = allow_insecure
        self._timeout = aiohttp.ClientTimeout(total=total_s, connect=connect_s, sock_connect=connect_s)
        self.now_ms = now_ms
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # No keep-alive: a connection that died since the last alert would cost the next one its first attempt.
        connector = aiohttp.TCPConnector(force_close=True, resolver=None if self._allow_insecure else _PublicOnly())
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, need_body: bool = False
    ) -> Answer | RetryAt | GiveUp:
        """need_body: a 2xx counts only with its body; otherwise its status is the acceptance. No reason ever holds the url."""
        if self._session is None:
            raise RuntimeError("not open")
        sending = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "margin-monitor", **headers}
        try:
            async with self._session.post(url, data=body, headers=sending, allow_redirects=False) as response:
                retry_after_s = retry_after(response.headers, self.now_ms())
                accepted = response.status // 100 == 2
                if accepted and not need_body:
                    return Answer(response.status, b"", retry_after_s)
                try:
                    text = await _read_capped(response)
                except (aiohttp.ClientError, OSError, TimeoutError):
                    if accepted:
                        raise
                    text = b""  # the status says enough
                return Answer(response.status, text, retry_after_s)
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            return _failure(exc)


async def _read_capped(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    while len(body) < BODY_BYTES_MAX and (chunk := await response.content.read(BODY_BYTES_MAX - len(body))):
        body += chunk
    return bytes(body)


def _failure(exc: Exception) -> RetryAt | GiveUp:
    """An error in our own words: the library's may contain the url."""
    if isinstance(getattr(exc, "os_error", exc.__cause__), PrivateAddressError):
        return GiveUp("its name leads to a private address; allow_insecure: true permits it")
    if isinstance(exc, TimeoutError | asyncio.TimeoutError):
        return RetryAt("timeout")
    if isinstance(exc, aiohttp.ClientSSLError | ssl.SSLError):
        return RetryAt("tls_failed")
    if isinstance(exc, aiohttp.ClientConnectorDNSError):
        return RetryAt("name_not_resolved")
    if isinstance(exc, aiohttp.ClientConnectorError):
        return RetryAt("connect_failed")
    return RetryAt("connection_lost")


def retry_after(headers: Mapping[str, str], now_ms: int) -> float | None:
    """Seconds to wait by a Retry-After header: seconds, or an HTTP date, held against the receiver's own Date if it has one."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), RETRY_AFTER_S_MAX)
    until_s = _http_date_s(text)
    if until_s is None:
        return None
    from_s = _http_date_s(headers.get("Date", ""))
    return min(max(until_s - (now_ms / 1000 if from_s is None else from_s), 0.0), RETRY_AFTER_S_MAX)


def _http_date_s(text: str) -> float | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def by_status(answer: Answer, why: str = "") -> Outcome:
    """What a status means for any receiver. why: the receiver's own word, already known to be harmless."""
    status = answer.status
    reason = f"http_{status}" + (f": {why}" if why else "")
    if status // 100 == 2:
        return Sent()
    if status in (408, 425, 429) or status >= 500:
        return RetryAt(reason, answer.retry_after_s)
    return GiveUp(reason)


class Notes(Protocol):
    """What a channel learns from its receiver and must know after a restart."""

    def note(self, key: str) -> str | None: ...
    def put_note(self, key: str, value: str) -> None:
        """Known at once; on disk with the next commit, the one that follows each attempt."""


Build = Callable[[Any, Http, str, Notes], Channel]  # settings, http, page url, notes
