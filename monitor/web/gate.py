"""Few requests at a time: whoever asks 30,000 times at once waits, and the ticks do not.

A request's body must come within its time. Then reading requests go through a narrow gate in the order in which they came, those
that wait for the disk through another, so that a disk that hangs holds up no page; event streams have a limit of their own.
"""

import asyncio

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from monitor.web.answers import problem
from monitor.web.connections import Connections

AT_ONCE = 2  # that read; they compute between two turns of the event loop
DISK_AT_ONCE = 4
UNSENT_BYTES_MAX = 64 << 20  # of all answers that nobody takes
EVENTS_PATH = "/api/v1/events"
HISTORY_PATH = "/api/v1/history"


def watched(connections: Connections) -> Middleware:
    """The outermost: says which connection is busy. Refusals pass here too."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        with connections.handling(request.protocol, streams=request.path == EVENTS_PATH):
            await asyncio.sleep(0)  # a turn for the ticks: a thousand requests that came as one packet are answered one by one
            return await handler(request)

    return middleware


def few_at_once(connections: Connections, body_timeout_s: float) -> Middleware:
    """The innermost: only what may be asked gets here."""
    reading, waiting = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(DISK_AT_ONCE)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.can_read_body:
            try:
                async with asyncio.timeout(body_timeout_s):
                    await request.read()  # kept for the handler
            except TimeoutError:
                refusal = problem(408, f"the body did not come within {body_timeout_s:g} s")
                refusal.force_close()
                return refusal
        if request.path == EVENTS_PATH:
            return await handler(request)
        disk = request.method not in (hdrs.METH_GET, hdrs.METH_HEAD) or request.path == HISTORY_PATH
        async with waiting if disk else reading:
            if connections.unsent_bytes() > UNSENT_BYTES_MAX:
                return problem(503, "too many answers are not taken", "try again")
            return await handler(request)

    return middleware
