"""Who may ask, and how often: signatures, time window, request weights and bans of the REST interface."""

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

RECV_WINDOW_DEFAULT_MS = 5000
MINUTE_MS = 60_000


@dataclass
class ApiError(Exception):
    """An error answer: `{"code": …, "msg": …}` with an HTTP status."""

    status: int
    code: int
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)


def malformed(name: str) -> ApiError:
    return ApiError(400, -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def check_key_format(key: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9]{64}", key):
        raise ApiError(401, -2014, "API-key format invalid.")


def refuse_key() -> ApiError:
    return ApiError(401, -2015, "Invalid API-key, IP, or permissions for action.")


def check_signature(
    secret: str, query: str, body: str, parameters: Mapping[str, str], now_ms: int, check_time: bool = True
) -> None:
    """HMAC-SHA256 over query + body with nothing between, the `signature` parameter left out.

    `query` and `body` as they came over the wire: what is signed is the percent-encoded text. Raises ApiError.
    """
    if not parameters.get("signature"):
        raise malformed("signature")
    timestamp = parameters.get("timestamp", "")
    if not re.fullmatch(r"[0-9]{1,18}", timestamp):
        raise malformed("timestamp")
    window = parameters.get("recvWindow", str(RECV_WINDOW_DEFAULT_MS))
    if not re.fullmatch(r"[0-9]{1,6}", window):
        raise malformed("recvWindow")
    if check_time:
        if int(timestamp) >= now_ms + 1000:
            raise ApiError(400, -1021, "Timestamp for this request was 1000ms ahead of the server's time.")
        if now_ms - int(timestamp) > int(window):
            raise ApiError(400, -1021, "Timestamp for this request is outside of the recvWindow.")
    signed = _without_signature(query) + _without_signature(body)
    expected = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, parameters["signature"].lower()):
        raise ApiError(400, -1022, "Signature for this request is not valid.")


def _without_signature(text: str) -> str:
    return "&".join(part for part in text.split("&") if not part.startswith("signature="))


class WeightLimiter:
    """Request weight per simulated minute, for the one IP there is. Over the limit: 429; going on: 418."""

    def __init__(self, now_ms: Callable[[], int], limit: int = 2400, patience: int = 10, ban_ms: int = 120_000) -> None:
        self._now_ms = now_ms
        self.limit = limit
        self._patience = patience
        self._ban_ms = ban_ms
        self._minute = -1
        self._refused = 0
        self._banned_until_ms = 0
        self.used = 0

    def spend(self, weight: int) -> None:
        """Count one request; raises ApiError when it must be refused."""
        now = self._now_ms()
        if now < self._banned_until_ms:
            raise self._banned(now)
        minute = now // MINUTE_MS
        if minute != self._minute:
            self._minute, self.used, self._refused = minute, 0, 0
        self.used += weight
        if self.used <= self.limit:
            return
        self._refused += 1
        if self._refused > self._patience:
            self._banned_until_ms = now + self._ban_ms
            raise self._banned(now)
        raise ApiError(
            429,
            -1003,
            f"Too many requests; current limit of IP(127.0.0.1) is {self.limit} requests per minute. "
            "Please use the websocket for live updates to avoid polling the API.",
            {"Retry-After": str(max(1, -(-((minute + 1) * MINUTE_MS - now) // 1000)))},
        )

    def _banned(self, now_ms: int) -> ApiError:
        return ApiError(
            418,
            -1003,
            f"Way too many requests; IP(127.0.0.1) banned until {self._banned_until_ms}. "
            "Please use the websocket for live updates to avoid bans.",
            {"Retry-After": str(max(1, -(-(self._banned_until_ms - now_ms) // 1000)))},
        )
