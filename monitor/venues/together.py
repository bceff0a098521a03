"""Several pieces of work that belong together: all of them come to their end, or the first failure ends the others."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from monitor.venues.base import VenueError
from monitor.venues.dial import StreamEnded

T = TypeVar("T")


async def together(*parts: Coroutine[Any, Any, T]) -> list[T]:
    """The results of all, in their order; or the error of the first that failed, with the others ended. A bug goes first.

    Neither a TaskGroup nor `gather`: both can lose a cancellation that comes in the moment of an error, and the daemon would
    run on. Before Python 3.11.3 a TaskGroup that failed also leaves its task marked as being cancelled for ever: the next
    asyncio.timeout in that task then ends it as cancelled instead of raising TimeoutError (python/cpython#102780).
    """
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        failed = [error for task in tasks if not task.cancelled() and (error := task.exception()) is not None]
    if failed:
        raise min(failed, key=_is_expected)
    return [task.result() for task in tasks]


def _is_expected(error: BaseException) -> bool:
    return isinstance(error, VenueError | StreamEnded)
