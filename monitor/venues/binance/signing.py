"""What may be asked of the venue at all, and the signature.

The table is the whole capability of this program: a (method, path) that is not in it can be neither signed nor sent.
No order, transfer or withdrawal is in it.
"""

import hashlib
import hmac
from collections.abc import Sequence
from enum import Enum
from typing import Final
from urllib.parse import quote, urlencode

from msgspec import Struct

from monitor.venues.base import SecretText


class Security(Enum):
    NONE = "none"
    KEY = "key"  # X-MBX-APIKEY only
    SIGNED = "signed"  # key, timestamp and signature


class Endpoint(Struct, frozen=True):
    """One call of the venue and its request weight."""

    method: str
    path: str
    weight: int
    security: Security = Security.NONE
    spot_host: bool = False


class NotAllowedError(Exception):
    """A bug: this program tried to make a call that is not in its table."""


SERVER_TIME: Final = Endpoint("GET", "/fapi/v1/time", 1)
EXCHANGE_INFO: Final = Endpoint("GET", "/fapi/v1/exchangeInfo", 1)
PREMIUM_INDEX: Final = Endpoint("GET", "/fapi/v1/premiumIndex", 10)
ASSET_INDEX: Final = Endpoint("GET", "/fapi/v1/assetIndex", 10)
LEVERAGE_BRACKET: Final = Endpoint("GET", "/fapi/v1/leverageBracket", 1, Security.SIGNED)
ACCOUNT_CONFIG: Final = Endpoint("GET", "/fapi/v1/accountConfig", 5, Security.SIGNED)
SYMBOL_CONFIG: Final = Endpoint("GET", "/fapi/v1/symbolConfig", 5, Security.SIGNED)
ACCOUNT: Final = Endpoint("GET", "/fapi/v3/account", 5, Security.SIGNED)
POSITION_RISK: Final = Endpoint("GET", "/fapi/v3/positionRisk", 5, Security.SIGNED)
LISTEN_KEY_OPEN: Final = Endpoint("POST", "/fapi/v1/listenKey", 1, Security.KEY)
LISTEN_KEY_EXTEND: Final = Endpoint("PUT", "/fapi/v1/listenKey", 1, Security.KEY)
# No DELETE of the listen key: an account has one, and closing it would end the streams of the owner's other programs.
KEY_RIGHTS: Final = Endpoint("GET", "/sapi/v1/account/apiRestrictions", 1, Security.SIGNED, spot_host=True)
PRODUCTS: Final = Endpoint("GET", "/sapi/v1/account/info", 1, Security.SIGNED, spot_host=True)

ALLOWED: Final = frozenset(
    {
        SERVER_TIME,
        EXCHANGE_INFO,
        PREMIUM_INDEX,
        ASSET_INDEX,
        LEVERAGE_BRACKET,
        ACCOUNT_CONFIG,
        SYMBOL_CONFIG,
        ACCOUNT,
        POSITION_RISK,
        LISTEN_KEY_OPEN,
        LISTEN_KEY_EXTEND,
        KEY_RIGHTS,
        PRODUCTS,
    }
)

Parameters = Sequence[tuple[str, str | int]]


def check_allowed(endpoint: Endpoint) -> None:
    if endpoint not in ALLOWED:
        raise NotAllowedError(f"{endpoint.method} {endpoint.path} is not a call that this program makes")


def query_of(parameters: Parameters) -> str:
    """Percent-encoded, UTF-8, a space as %20: the very bytes that are signed and sent."""
    return urlencode(parameters, quote_via=quote)


def signature(query: str, secret: SecretText) -> str:
    """HMAC-SHA256 in hex over the percent-encoded query."""
    return hmac.new(secret.reveal().encode(), query.encode(), hashlib.sha256).hexdigest()


def signed_query(
    endpoint: Endpoint, parameters: Parameters, secret: SecretText, *, timestamp_ms: int, recv_window_ms: int
) -> str:
    """The whole query, signature last. It is a credential for `recv_window_ms`: never logged."""
    check_allowed(endpoint)
    if endpoint.security is not Security.SIGNED:
        raise NotAllowedError(f"{endpoint.method} {endpoint.path} is not a signed call")
    query = query_of([*parameters, ("recvWindow", recv_window_ms), ("timestamp", timestamp_ms)])
    return f"{query}&signature={signature(query, secret)}"
