"""What every venue adapter shares: the family of errors, the key of an account, and what is said about that key."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal, Protocol

from msgspec import Struct


class SecretText(Protocol):
    """A secret whose repr is not the secret; the configuration supplies it. Only signing and request headers reveal it."""

    def reveal(self) -> str: ...


class AccountAccess(Struct, frozen=True):
    """One account of the configuration and its read-only key."""

    alias: str
    api_key: SecretText
    api_secret: SecretText


class KeyFinding(Struct, frozen=True):
    """One thing that is wrong with an account's key, or with the account behind it."""

    alias: str
    verdict: Literal["refuse", "warn"]  # refuse: the key could move money, or the figures would be wrong
    right: str  # the venue's own name of the right, "" where the call itself failed
    text: str  # one plain line: what, and what to do


class Fault(StrEnum):
    """Why a venue's REST call failed; doubles as a metric label."""

    AUTH = "auth"  # key, signature or address not accepted: only the owner can repair it
    CLOCK = "clock"  # our timestamp is outside the venue's window
    RATE_LIMIT = "rate_limit"
    BANNED = "banned"
    FIREWALL = "firewall"
    UNAVAILABLE = "unavailable"  # the venue's side: 5xx, maintenance page
    TIMEOUT = "timeout"
    NETWORK = "network"  # DNS, refused, reset
    TLS = "tls"
    BAD_ANSWER = "bad_answer"  # not what the venue documents
    REFUSED = "refused"  # any other error code


class VenueError(Exception):
    """A REST call failed. `retry_at_ms` (our wall clock): not before; None: the caller's own back-off.

    The text never holds a URL, a query or a header.
    """

    def __init__(
        self, reason: Fault, detail: str, *, retryable: bool, code: int | None = None, retry_at_ms: int | None = None
    ) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.retryable = retryable
        self.code = code
        self.retry_at_ms = retry_at_ms

    def wait_s(self, now_ms: int) -> float:
        """Seconds until the venue allows another try; 0 if it named no time."""
        return 0.0 if self.retry_at_ms is None else max(0.0, (self.retry_at_ms - now_ms) / 1000)


def utc(at_ms: int) -> str:
    """A moment for people: "2026-03-04 02:00:05 UTC"."""
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
