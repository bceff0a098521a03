"""What may be asked of the venue at all, and the signature.

The table is the whole capability of this program: a (method, path) that is not in it can be neither signed nor sent. No order, no
transfer and no change of leverage (`contract_switch_lever_rate`) is in it. Every POST in it reads.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from msgspec import Struct

from monitor.venues.base import SecretText


class Scope(StrEnum):
    """Whose request limit a call counts against."""

    PRIVATE = "private"  # per user
    PUBLIC = "public"  # reference data, per address
    MARKET = "market"  # market data, per address
    SPOT = "spot"  # the spot host's own


class Endpoint(Struct, frozen=True):
    """One call of the venue."""

    method: str
    path: str
    scope: Scope
    signed: bool = False


class NotAllowedError(Exception):
    """A bug: this program tried to make a call that is not in its table."""


TIMESTAMP: Final = Endpoint("GET", "/api/v1/timestamp", Scope.PUBLIC)
CONTRACT_INFO: Final = Endpoint("GET", "/api/v1/contract_contract_info", Scope.PUBLIC)
INDEX: Final = Endpoint("GET", "/api/v1/contract_index", Scope.PUBLIC)
ADJUST_FACTOR: Final = Endpoint("GET", "/api/v1/contract_adjustfactor", Scope.PUBLIC)
LADDER_MARGIN: Final = Endpoint("GET", "/api/v1/contract_ladder_margin", Scope.PUBLIC)
QUERY_ELEMENTS: Final = Endpoint("GET", "/api/v1/contract_query_elements", Scope.PUBLIC)
TRADE: Final = Endpoint("GET", "/market/trade", Scope.MARKET)
MARK_PRICE_KLINE: Final = Endpoint("GET", "/index/market/history/mark_price_kline", Scope.PUBLIC)
ACCOUNT_INFO: Final = Endpoint("POST", "/api/v1/contract_account_info", Scope.PRIVATE, signed=True)
ACCOUNT_POSITION_INFO: Final = Endpoint("POST", "/api/v1/contract_account_position_info", Scope.PRIVATE, signed=True)
USER_UID: Final = Endpoint("GET", "/v2/user/uid", Scope.SPOT, signed=True)
USER_API_KEY: Final = Endpoint("GET", "/v2/user/api-key", Scope.SPOT, signed=True)

ALLOWED: Final = frozenset(
    {
        TIMESTAMP,
        CONTRACT_INFO,
        INDEX,
        ADJUST_FACTOR,
        LADDER_MARGIN,
        QUERY_ELEMENTS,
        TRADE,
        MARK_PRICE_KLINE,
        ACCOUNT_INFO,
        ACCOUNT_POSITION_INFO,
        USER_UID,
        USER_API_KEY,
    }
)

Parameters = Sequence[tuple[str, str]]

_LIKE_A_KEY = re.compile(r"[A-Za-z0-9+/=-]{24,}")

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def masked(text: str) -> str:
    """A text of the venue for people: it may quote the key or the signature."""
    return _LIKE_A_KEY.sub("***", text)[:200]


def check_allowed(endpoint: Endpoint) -> None:
    if endpoint not in ALLOWED:
        raise NotAllowedError(f"{endpoint.method} {endpoint.path} is not a call that this program makes")


def signed_host(base_url: str) -> str:
    """The host as the request's `Host` header names it: lower case, with the port where it is not the scheme's own."""
    parts = urlsplit(base_url)
    host = (parts.hostname or "").lower()
    return host if parts.port in (None, _DEFAULT_PORTS.get(parts.scheme)) else f"{host}:{parts.port}"


def timestamp_text(at_ms: int) -> str:
    """UTC to the second: 2017-05-11T15:19:30."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def query_of(parameters: Parameters) -> str:
    """Sorted by name in ASCII order (capitals first), values percent-encoded, a space as %20."""
    return urlencode(sorted(parameters), quote_via=quote, safe="")


def text_to_sign(method: str, host: str, path: str, query: str) -> str:
    return f"{method}\n{host}\n{path}\n{query}"


def signature(text: str, secret: SecretText) -> str:
    """HMAC-SHA256 in base64."""
    return base64.b64encode(hmac.new(secret.reveal().encode(), text.encode(), hashlib.sha256).digest()).decode()


def _identity(api_key: SecretText, at_ms: int) -> list[tuple[str, str]]:
    return [
        ("AccessKeyId", api_key.reveal()),
        ("SignatureMethod", "HmacSHA256"),
        ("SignatureVersion", "2"),
        ("Timestamp", timestamp_text(at_ms)),
    ]


def signed_query(
    endpoint: Endpoint, parameters: Parameters, *, host: str, api_key: SecretText, api_secret: SecretText, at_ms: int
) -> str:
    """The whole query, signature last. `parameters`: a GET's own; a POST's body is not signed.

    The result is a credential for five minutes: never logged.
    """
    check_allowed(endpoint)
    if not endpoint.signed:
        raise NotAllowedError(f"{endpoint.method} {endpoint.path} is not a signed call")
    query = query_of([*parameters, *_identity(api_key, at_ms)])
    signed = signature(text_to_sign(endpoint.method, host, endpoint.path, query), api_secret)
    return f"{query}&Signature={quote(signed, safe='')}"


def socket_auth(*, host: str, path: str, api_key: SecretText, api_secret: SecretText, at_ms: int) -> dict[str, str]:
    """The message that opens the private socket. Here neither timestamp nor signature is percent-encoded. Never logged."""
    identity = _identity(api_key, at_ms)
    signed = signature(text_to_sign("GET", host, path, query_of(identity)), api_secret)
    return {"op": "auth", "type": "api", **dict(identity), "Signature": signed}
