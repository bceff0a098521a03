"""`top` in a pseudo-terminal of 80 columns: figures, the banner when the daemon goes, its return, and every way to end it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator
from typing import Any

import pytest
from test_cli_status import NoMetrics, figures
from web.view_in_memory import MemoryView

from monitor.model.alerts import Level
from monitor.web.server import Server, ServerSettings

SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
ALTERNATE, BACK = "\x1b[?1049h", "\x1b[?1049l"


class Terminal:
    """The command at one end of a pseudo-terminal, the reader at the other."""

    def __init__(self, process: asyncio.subprocess.Process, descriptor: int) -> None:
        self.process = process
        self.descriptor = descriptor
        self.text = ""
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            self.text += os.read(self.descriptor, 1 << 16).decode("utf-8", "replace")
        except OSError:  # the other end is closed
            asyncio.get_running_loop().remove_reader(self.descriptor)

    @property
    def frame(self) -> str:
        """What was drawn last, without colours."""
        return SEQUENCE.sub("", self.text.rsplit("\x1b[H", 1)[-1])

    async def shows(self, words: str, seconds: float = 30) -> str:
        try:
            async with asyncio.timeout(seconds):
                while words not in self.frame:  # noqa: ASYNC110  it is written by another process
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"{words!r} was not shown within {seconds} s: {self.frame}")
        return self.frame

    async def end(self) -> int:
        async with asyncio.timeout(20):
            return await self.process.wait()


@pytest.fixture
async def view() -> MemoryView:
    return MemoryView([figures("main", 1.15, Level.CRITICAL)])


async def serve(view: MemoryView, port: int = 0) -> Server:
    server = Server(view, NoMetrics(), ServerSettings(port=port, version="0.1.0"))
    await server.start()
    return server


@pytest.fixture
async def server(view: MemoryView) -> AsyncIterator[Server]:
    server = await serve(view)
    yield server
    await server.stop()


@pytest.fixture
async def terminal(server: Server) -> AsyncIterator[Terminal]:
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before = termios.tcgetattr(theirs)
    env: dict[str, Any] = {**os.environ, "TERM": "xterm-256color"}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        env.pop(name, None)

    def controlled() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)  # so that Ctrl-C is a signal to it

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "monitor", "top", "--url", server.url),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=env,
        preexec_fn=controlled,
    )
    terminal = Terminal(process, ours)
    yield terminal
    asyncio.get_running_loop().remove_reader(ours)
    if process.returncode is None:
        process.kill()
        await process.wait()
    else:
        assert termios.tcgetattr(theirs) == before, "the terminal is as it was"
    os.close(ours)
    os.close(theirs)


async def test_figures_change_and_q_ends_it(terminal: Terminal, view: MemoryView) -> None:
    frame = await terminal.shows("CRITICAL")
    assert "1.150" in frame
    assert "87.0%" in frame, "the other sense"
    assert ALTERNATE in terminal.text, "the screen before comes back"
    view.put(figures("main", 0.95, Level.LIQUIDATION))
    await terminal.shows("LIQUIDATION")
    os.write(terminal.descriptor, b"xq")
    assert await terminal.end() == 0
    assert BACK in terminal.text
    assert "Traceback" not in terminal.text


async def test_ctrl_c_ends_it(terminal: Terminal) -> None:
    await terminal.shows("CRITICAL")
    os.write(terminal.descriptor, b"\x03")
    assert await terminal.end() == 0
    assert BACK in terminal.text
    assert "Traceback" not in terminal.text


async def test_a_daemon_that_goes_away_is_said_and_waited_for(terminal: Terminal, server: Server, view: MemoryView) -> None:
    await terminal.shows("CRITICAL")
    port = server.port
    await server.stop()
    frame = await terminal.shows("no daemon answers")
    assert "CRITICAL" in frame, "the last figures stay, with their growing age"
    view.put(figures("main", 3.0, Level.OK))
    again = await serve(view, port)
    try:
        await terminal.shows("3.000")
        assert "no daemon answers" not in terminal.frame
        os.write(terminal.descriptor, b"q")
        assert await terminal.end() == 0
    finally:
        await again.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_ends_it_and_the_terminal_is_as_before(terminal: Terminal, number: signal.Signals) -> None:
    await terminal.shows("CRITICAL")
    terminal.process.send_signal(number)
    assert await terminal.end() == 128 + number
    assert BACK in terminal.text
