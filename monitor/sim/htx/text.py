"""Numbers and frames as the exchange writes them: JSON numbers cut at 18 decimals, gzip frames."""

import zlib
from collections.abc import Callable
from decimal import ROUND_DOWN, Context, Decimal, localcontext
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import orjson

_P = ParamSpec("_P")
_R = TypeVar("_R")

ZERO = Decimal(0)
_PLACES_18 = Decimal("1E-18")
_EXACT = Context(prec=60, rounding=ROUND_DOWN)  # enough for 18 decimals of anything; Python's default of 28 digits is not

# As recorded: no name, mtime 0, OS 255.
_GZIP_HEADER = bytes.fromhex("1f8b08000000000000ff")
_LAST_BLOCK = bytes.fromhex("010000ffff")


def exact(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """The function computes with 60 digits, whatever the context of its caller."""

    @wraps(function)
    def within(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with localcontext(_EXACT):
            return function(*args, **kwargs)

    return within


def cut(value: Decimal) -> Decimal:
    """Toward zero at 18 places; never −0."""
    return value.quantize(_PLACES_18, context=_EXACT) + 0


def plain(value: Decimal) -> str:
    """Without exponent and without needless zeros: "12.3", "0"."""
    text = f"{value:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"", "-0"} else text


def encode(value: Any) -> bytes:
    """JSON; a Decimal becomes a number with all of its digits."""
    return orjson.dumps(value, default=_number)


def _number(value: Any) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(plain(value))
    raise TypeError(f"no JSON for {type(value).__name__}")


def gzip_frame(text: bytes) -> bytes:
    """One frame: a gzip stream of its own, flushed to a byte boundary and closed by an empty stored block."""
    deflate = zlib.compressobj(wbits=-15)
    body = deflate.compress(text) + deflate.flush(zlib.Z_SYNC_FLUSH) + _LAST_BLOCK
    return _GZIP_HEADER + body + zlib.crc32(text).to_bytes(4, "little") + (len(text) & 0xFFFFFFFF).to_bytes(4, "little")
