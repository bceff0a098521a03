"""Incident ids: they sort by time, a person can read and say them, and two of one second differ."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no I, L, O, U
RANDOM_CHARS = 5


class IncidentIds:
    """`new(now_ms)` gives an id like `20261122T053424-7KQMZ`. Never the same twice in one process."""

    def __init__(self, choose: Callable[[str], str] = secrets.choice) -> None:
        self._choose = choose
        self._second = ""
        self._given: set[str] = set()  # within the current second

    def new(self, now_ms: int) -> str:
        second = datetime.fromtimestamp(now_ms // 1000, UTC).strftime("%Y%m%dT%H%M%S")
        if second != self._second:
            self._second = second
            self._given.clear()
        while True:
            tail = "".join(self._choose(ALPHABET) for _ in range(RANDOM_CHARS))
            if tail not in self._given:
                self._given.add(tail)
                return f"{second}-{tail}"
