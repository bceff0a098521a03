"""Work that belongs together: what its end does to the task that waits for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from monitor.venues.base import Fault, VenueError
from monitor.venues.dial import StreamEnded
from monitor.venues.stream import until_ended
from monitor.venues.together import together


async def fails(error: Exception, after: int = 0) -> bytes:
    for _ in range(after):
        await asyncio.sleep(0)
    raise error


async def hangs(ended: list[str] | None = None) -> bytes:
    try:
        await asyncio.Event().wait()
    finally:
        if ended is not None:
            ended.append("ended")
    return b""


async def says(text: bytes) -> bytes:
    await asyncio.sleep(0)
    return text


async def test_all_results_come_in_their_order() -> None:
    assert await together(says(b"a"), says(b"b")) == [b"a", b"b"]


async def test_the_first_failure_ends_the_others() -> None:
    ended: list[str] = []
    with pytest.raises(StreamEnded, match="silent"):
        await together(hangs(ended), fails(StreamEnded("silent", "nothing came")))
    assert ended == ["ended"]


async def test_a_bug_is_not_hidden_by_an_end_of_the_same_moment() -> None:
    with pytest.raises(ZeroDivisionError):
        await together(fails(StreamEnded("silent", "")), fails(ZeroDivisionError()))


@pytest.mark.parametrize("run", [together, until_ended])
async def test_row_27_the_task_that_waited_is_not_left_marked_as_cancelled(run: Any) -> None:
    """Before Python 3.11.3 a TaskGroup did: the stream then ended as cancelled, and was never dialled again."""
    with pytest.raises(StreamEnded):
        await run(fails(StreamEnded("silent", "nothing came"), after=1), hangs())
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await asyncio.Event().wait()


async def test_a_stop_is_obeyed_while_a_call_fails() -> None:
    """A cancellation in the very moment of an error must not be lost: the daemon would not stop."""

    for loops in range(1, 8):
        task = asyncio.create_task(together(fails(VenueError(Fault.AUTH, "rejected", retryable=False)), hangs()))
        for _ in range(loops):
            await asyncio.sleep(0)
        ended_before = task.done()
        task.cancel()
        with pytest.raises(VenueError if ended_before else asyncio.CancelledError):
            await task
