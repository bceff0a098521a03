"""How long a server asks to be left alone. Its number is a stranger's: read strictly, capped, and never an error of ours."""

from calendar import timegm
from email.utils import parsedate_tz

_DIGITS_MAX = 9  # 31 years: what is longer is read as so much
_DATE_LENGTH_MAX = 64


def retry_after_s(header: str | None, now_ms: int, *, longest_s: float, sent: str | None = None) -> float | None:
    """Seconds to wait by a `Retry-After` header, 0 to `longest_s`; None: there is none, or it is no such thing.

    It is whole seconds or a date, which is held against the sender's own `Date` (sent) where that can be read, else against our
    clock. Never raises. Source: RFC 9110, section 10.2.3.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        digits = text.lstrip("0")
        return min(float(digits or "0"), longest_s) if len(digits) <= _DIGITS_MAX else longest_s
    until_s = http_date_s(text)
    if until_s is None:
        return None
    sent_s = http_date_s(sent)
    return min(max(until_s - (now_ms / 1000 if sent_s is None else sent_s), 0.0), longest_s)


def http_date_s(text: str | None) -> float | None:
    """Seconds since 1970; None: not a date, or one that no calendar has. Never raises. Without a zone it is UTC."""
    if not text or len(text) > _DATE_LENGTH_MAX:
        return None
    try:
        parts = parsedate_tz(text)
        return None if parts is None else float(timegm(parts[:6]) - (parts[9] or 0))
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
