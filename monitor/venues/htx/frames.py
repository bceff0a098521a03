"""Binary gzip frames and the heartbeats inside them: bytes in, JSON out, bounded."""

import re
import zlib
from collections import deque

from msgspec import Raw

_NUMBER = re.compile(rb'"?[0-9]{1,20}"?')


class FrameError(ValueError):
    """A frame that the venue's documentation does not allow. `reason` is one of a few fixed words (a counter's key)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def inflate(frame: bytes, bytes_max: int) -> bytes:
    """The text of one frame. Raises FrameError; a small frame that hides a huge text is not unpacked to its end."""
    unzip = zlib.decompressobj(wbits=31)
    try:
        text = unzip.decompress(frame, bytes_max)
    except zlib.error:
        raise FrameError("not_gzip") from None
    if unzip.unconsumed_tail:
        raise FrameError("too_large")
    if not unzip.eof:
        raise FrameError("truncated")
    if unzip.unused_data:
        raise FrameError("trailing_bytes")
    return text


def heartbeat_number(raw: Raw) -> bytes:
    """The number of a ping, to be sent back as it came: a number on the market sockets, a string on the account socket."""
    number = bytes(raw)
    if _NUMBER.fullmatch(number) is None or (number[:1] == b'"') != (len(number) > 1 and number[-1:] == b'"'):
        raise FrameError("not_a_heartbeat")
    return number


class HostileFrames:
    """How many unreadable frames came lately. Ends a connection once; then another one would not help for a while."""

    def __init__(self, limit: int, window_s: float, pause_s: float) -> None:
        self._limit = limit
        self._window_s = window_s
        self._pause_s = pause_s
        self._at: deque[float] = deque()
        self._silent_until = float("-inf")

    def note(self, now: float) -> bool:
        """Another one. True: end the connection."""
        self._at.append(now)
        while self._at[0] <= now - self._window_s:
            self._at.popleft()
        if len(self._at) < self._limit or now < self._silent_until:
            return False
        self._at.clear()
        self._silent_until = now + self._pause_s
        return True
