"""The service manager's side channel (sd_notify(3)): ready, status, reloading, stopping, and the watchdog. No dependency.

Without `$NOTIFY_SOCKET` nothing is sent, so the same code runs under any other supervisor.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import NoReturn, Protocol

import structlog

from monitor.deadman import Reason

STATUS_EVERY_S = 10.0
RECHECK_S = 1.0  # while the watchdog is not fed

log = structlog.get_logger()


class Watched(Protocol):
    """What the service manager is told about."""

    def hangs(self) -> Mapping[Reason, str]:
        """Why a restart would help; empty while it would not."""

    def status(self) -> str:
        """One line for people."""


class ServiceManager:
    """Tells systemd how we are. environ: of the process, read once. A message that cannot be sent is logged, never raised."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = address if address.startswith(("/", "@")) else ""  # vsock is for virtual machines as a whole
        self._failed = False
        self.watchdog_s = _watchdog_s(environ)

    @property
    def present(self) -> bool:
        return bool(self._address)

    def tell(self, **fields: str | int) -> None:
        """Sends one datagram, `NAME=value` a line. The names are sd_notify's."""
        if not self._address:
            return
        lines = [f"{name}={' '.join(str(value).splitlines())}" for name, value in fields.items()]
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.connect(address)
                sock.send("\n".join(lines).encode())
            self._failed = False
        except OSError as exc:
            if not self._failed:
                log.warning("service_manager_not_told", problem=exc.strerror or str(exc))
            self._failed = True

    def ready(self) -> None:
        """Started, or through with a reload, whatever came of it."""
        self.tell(READY=1)

    def reloading(self) -> None:
        self.tell(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)

    def stopping(self) -> None:
        self.tell(STOPPING=1, STATUS="stopping")

    async def attend(self, watched: Callable[[], Watched]) -> NoReturn:
        """Feeds the watchdog while nothing hangs, and keeps the status line. Until cancelled.

        watched: asked anew each time, for a reload puts another one in its place.
        """
        every_s = min(STATUS_EVERY_S, self.watchdog_s / 2) if self.watchdog_s else STATUS_EVERY_S
        held: frozenset[Reason] = frozenset()
        said = ""
        while True:
            try:
                reasons = watched().hangs()
                if self.watchdog_s and not reasons:
                    self.tell(WATCHDOG=1)
                if self.watchdog_s and reasons.keys() - held:
                    log.error("watchdog_withheld", reasons=[*map(str, reasons)], text="; ".join(reasons.values()))
                held = frozenset(reasons)
                if (line := watched().status()) != said:
                    said = line
                    self.tell(STATUS=line)
            except Exception:
                log.error("watchdog_crashed", exc_info=True)  # and is not fed: a restart may help
            await asyncio.sleep(min(every_s, RECHECK_S) if held else every_s)


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """Within which time the service manager wants to hear of us; None: it does not care."""
    text, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not (text.isascii() and text.isdigit() and int(text) > 0) or pid not in ("", str(os.getpid())):
        return None
    return int(text) / 1_000_000
