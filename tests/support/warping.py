"""An event loop whose time goes on only when there is nothing else to do: a timer never fires before the input that it guards.

    loop.time() stands still while callbacks run, bytes are on their way on loopback, or a thread works for the loop. When all
    of it has come to rest, time jumps to the next timer. So a minute costs nothing, and a busy machine cannot make anything late.

Both ends of each connection must live in this loop: what another process is about to send is not seen to be on its way.
Give everything that reads a monotonic clock `loop.time`, and everything that reads a wall clock a `WarpedClock`.

In the conftest.py of a folder whose tests shall run in it:

    from warping import warped as pytest_asyncio_loop_factories
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from typing import Any

Events = list[tuple[selectors.SelectorKey, int]]

BEGIN_S = 1_000_000.0  # far from 0, which might be taken for "never"
PATIENCE_S = 20.0  # real: a thread that works longer hangs, as in a test of a disk that does; time goes on without it


class WarpingLoop(asyncio.SelectorEventLoop):
    """A SelectorEventLoop in virtual time. patience_s: real seconds that time stands still for one piece of work in a thread."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._warp = _WarpingSelector(patience_s)
        super().__init__(self._warp)

    def time(self) -> float:
        return self._warp.now_s

    def run_in_executor(self, executor: Executor | None, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future = super().run_in_executor(executor, func, *args)
        self._warp.work.add(future)
        future.add_done_callback(self._warp.work.discard)  # runs in the loop, after the result has come
        return future

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """While something outside of the loop is waited for: a process, a thread of the test."""
        token = object()
        self._warp.work.add(token)
        try:
            yield
        finally:
            self._warp.work.discard(token)


class WarpedClock:
    """A wall clock in the time of the running loop."""

    def __init__(self, start_ms: int) -> None:
        self._now_s = asyncio.get_running_loop().time
        self._offset_s = start_ms / 1000 - self._now_s()

    def now_ms(self) -> int:
        return int((self._now_s() + self._offset_s) * 1000)


def warped() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The hook of pytest-asyncio that names the loops of a folder's tests."""
    return {"warping": WarpingLoop}


class _WarpingSelector(selectors.DefaultSelector):
    """Waits for nothing but the end of work that is under way; where the loop would wait for a timer, time jumps."""

    def __init__(self, patience_s: float) -> None:
        super().__init__()
        self.now_s = BEGIN_S
        self.work: set[object] = set()
        self._patience_s = patience_s
        self._stands_since_s: float | None = None  # real
        self._letter: _Letter | None = None

    def select(self, timeout: float | None = None) -> Events:
        if timeout is None or timeout <= 0:
            return self._arrived(timeout)
        if found := self._arrived(0):
            return found
        if self.work:
            return self._work_goes_on()
        if not (found := self._all_arrived()):
            self.now_s += timeout
        return found

    def close(self) -> None:
        if self._letter is not None:
            self._letter.close()
        super().close()

    def _work_goes_on(self) -> Events:
        now_s = time.monotonic()
        self._stands_since_s = self._stands_since_s or now_s
        left_s = self._stands_since_s + self._patience_s - now_s
        if left_s <= 0:
            self.work.clear()
            self._stands_since_s = None
            return []
        return self._arrived(left_s)

    def _all_arrived(self) -> Events:
        """What is still on its way on loopback. A letter to ourselves comes after all that was sent before it."""
        if self._letter is None:
            self._letter = _Letter()
            self.register(self._letter.inbox, selectors.EVENT_READ)
        self._letter.send()
        while self._letter.under_way:
            if found := self._arrived(None):
                return found
        return self._arrived(0)

    def _arrived(self, timeout: float | None) -> Events:
        found = super().select(timeout)
        if self._letter is not None:
            inbox = self._letter.inbox
            if any(key.fileobj is inbox for key, _ in found):
                self._letter.receive()
                found = [each for each in found if each[0].fileobj is not inbox]
        if found:
            self._stands_since_s = None
        return found


class _Letter:
    """A byte that is sent by TCP on loopback, as all that is tested: in the queues of the kernel it stands behind it."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self._outbox = socket.create_connection(server.getsockname())
            self.inbox, _ = server.accept()
        for end in (self._outbox, self.inbox):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.setblocking(False)
        self.under_way = False

    def send(self) -> None:
        if not self.under_way:
            self._outbox.send(b"\0")
            self.under_way = True

    def receive(self) -> None:
        self.inbox.recv(1)
        self.under_way = False

    def close(self) -> None:
        self._outbox.close()
        self.inbox.close()
