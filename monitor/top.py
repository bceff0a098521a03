"""`margin-monitor top`: the running daemon on one screen, until q or Ctrl-C."""

import contextlib
import os
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TextIO

from msgspec import Struct
from rich.console import Console
from rich.live import Live

from monitor.remote import Daemon, RemoteError
from monitor.screen import Answer, screen

POLL_S = 1.0
REFRESH_S = 0.25
ROWS = 100  # pools; no screen has more


class Seen(Struct, frozen=True):
    """What the daemon said last, and what has come in the way since."""

    answer: Answer
    at_s: float  # monotonic
    problem: str = ""


class Feed:
    """Asks the daemon in a thread of its own, so that a hanging daemon never holds up the screen or a key."""

    def __init__(self, daemon: Daemon, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Asks once, so that what is wrong from the start is said at once. Raises RemoteError."""
        self._daemon = daemon
        self._clock_s = clock_s
        self._closed = threading.Event()
        self.seen = self._ask()
        self._thread = threading.Thread(target=self._run, name="top-feed", daemon=True)

    def __enter__(self) -> "Feed":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()  # not joined: it may wait for an answer for seconds

    def _run(self) -> None:
        while not self._closed.wait(POLL_S):
            try:
                self.seen = self._ask()
            except RemoteError as exc:
                self.seen = Seen(self.seen.answer, self.seen.at_s, exc.problem)

    def _ask(self) -> Seen:
        return Seen(self._daemon.worst(ROWS), self._clock_s())


def top(daemon: Daemon, console: Console, keys: TextIO = sys.stdin) -> None:
    """Until q or Ctrl-C. Raises RemoteError if the daemon is not there at the start; later it is waited for."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)  # else the terminal would stay as it is now
    with (
        Feed(daemon) as feed,
        pressed_keys(keys) as pressed,
        Live(console=console, screen=True, auto_refresh=False) as live,
        contextlib.suppress(KeyboardInterrupt),
    ):
        while True:
            live.update(_shown(feed.seen, console), refresh=True)
            if "q" in pressed(REFRESH_S).lower():
                return


def _leave(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _shown(seen: Seen, console: Console) -> Any:
    silent_s = time.monotonic() - seen.at_s
    banner = f"{seen.problem}: figures of {silent_s:.0f} s ago; trying again" if seen.problem else ""
    size = console.size
    return screen(seen.answer, width=size.width, height=size.height, banner=banner, silent_s=silent_s)


@contextlib.contextmanager
def pressed_keys(stream: TextIO) -> Iterator[Callable[[float], str]]:
    """Keys without Enter: the function waits so many seconds at most and returns what was pressed; a closed terminal is q."""
    descriptor = stream.fileno()
    before = termios.tcgetattr(descriptor)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        if not ready:
            return ""
        keys = os.read(descriptor, 1024)  # not through the stream: what that keeps back, select does not see
        return keys.decode("ascii", "replace") if keys else "q"

    try:
        tty.setcbreak(descriptor)
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
