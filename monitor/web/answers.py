"""How an answer is written: JSON by orjson, gzip when accepted, and the event loop let run in between."""

import asyncio
import gzip
from collections.abc import Iterable
from typing import Any

import orjson
from aiohttp import hdrs, web

JSON = "application/json"
GZIP_BYTES_MIN = 1400  # below, it fits into one packet anyway
THREAD_BYTES_MIN = 65_536  # from here on, compressing takes longer than handing it to a thread


class RefusedError(Exception):
    """A request that ends in a refusal, from wherever that is noticed. The guard turns it into the response."""

    def __init__(self, response: web.Response) -> None:
        super().__init__(response.status)
        self.response = response


def problem(status: int, what: str, hint: str = "") -> web.Response:
    """A refusal: `{"error": …, "hint": …}`."""
    body = {"error": what, "hint": hint} if hint else {"error": what}
    return web.Response(status=status, body=orjson.dumps(body), content_type=JSON)


def json_answer(value: Any, status: int = 200) -> web.Response:
    """A small answer. NaN and ±Inf become null."""
    return web.Response(status=status, body=orjson.dumps(value), content_type=JSON)


async def gathered(blocks: Iterable[bytes], between: bytes = b"") -> bytes:
    """Joins what is produced piece by piece; between two pieces the ticks go on."""
    pieces = []
    for block in blocks:
        pieces.append(block)
        await asyncio.sleep(0)
    return between.join(pieces)


async def packed(request: web.Request, body: bytes, content_type: str) -> web.Response:
    """A large answer, compressed if the client takes gzip. content_type: with its parameters."""
    headers = {hdrs.CONTENT_TYPE: content_type, hdrs.VARY: "Accept, Accept-Encoding"}
    if len(body) >= GZIP_BYTES_MIN and takes_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, "")):
        headers[hdrs.CONTENT_ENCODING] = "gzip"
        # Level 1: a third of the time of level 6 for nearly the same size. zlib lets other threads run.
        if len(body) >= THREAD_BYTES_MIN:
            body = await asyncio.to_thread(gzip.compress, body, 1, mtime=0)
        else:
            body = gzip.compress(body, 1, mtime=0)
    return web.Response(body=body, headers=headers)


def takes_gzip(accept_encoding: str) -> bool:
    """Whether `Accept-Encoding` names gzip, and not with weight 0."""
    return "gzip" in _accepted(accept_encoding)


def takes_openmetrics(accept: str) -> bool:
    """Whether `Accept` names OpenMetrics; Prometheus prefers it wherever it names it."""
    return "application/openmetrics-text" in _accepted(accept)


def _accepted(header: str) -> set[str]:
    accepted = set()
    for part in header.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        weights = [parameter[2:] for parameter in parameters if parameter.startswith("q=")]
        if not any(weight.strip("0.") == "" for weight in weights):
            accepted.add(name)
    return accepted
