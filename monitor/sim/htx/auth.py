"""Who may ask: HMAC signatures over method, host, path and sorted query, good for five minutes.

Codes 12001 (time) and 12008 (verification) are the venue's; the finer ones between them are from its public list of codes.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote

WINDOW_MS = 300_000
SIGNED_NAMES = ("AccessKeyId", "SignatureMethod", "SignatureVersion", "Timestamp")


class AuthError(Exception):
    """A call that is not believed: the REST interface's code and message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


def text_to_sign(method: str, host: str, path: str, parameters: Mapping[str, str]) -> str:
    """Four lines; parameters sorted by ASCII and percent-encoded with capitals, a space as %20."""
    query = "&".join(f"{name}={quote(parameters[name], safe='-_.~')}" for name in sorted(parameters))
    return "\n".join((method.upper(), host.lower(), path, query))


def sign(secret: str, text: str) -> str:
    """Base64, not percent-encoded."""
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()).decode()


def check_signature(
    secret: str, method: str, host: str, path: str, parameters: Mapping[str, str], now_ms: int, check_time: bool = True
) -> None:
    """`parameters`: as received and decoded, with Signature; with POST only the four of SIGNED_NAMES are signed.

    Raises AuthError.
    """
    if parameters.get("SignatureVersion") != "2":
        raise AuthError(12002, "Incorrect signature version")
    if parameters.get("SignatureMethod") != "HmacSHA256":
        raise AuthError(12003, "Incorrect signature method")
    _check_time(parameters.get("Timestamp", ""), now_ms, check_time)
    signed = {
        name: value for name, value in parameters.items() if name != "Signature" and (method == "GET" or name in SIGNED_NAMES)
    }
    expected = sign(secret, text_to_sign(method, host, path, signed))
    if not hmac.compare_digest(expected.encode(), parameters.get("Signature", "").encode()):
        raise AuthError(12008, "Verification failure")


def _check_time(text: str, now_ms: int, check_time: bool) -> None:
    if not text:
        raise AuthError(12006, "The submission time can't be empty")
    try:
        moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        raise AuthError(12001, "Invalid submission time") from None
    if check_time and abs(now_ms - moment.timestamp() * 1000) > WINDOW_MS:
        raise AuthError(12001, "Invalid submission time")
