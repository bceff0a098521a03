"""Who a channel is: its kind and its address. What was heard under a name belongs to the receiver behind it, not to the name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Protocol

import msgspec

from monitor.alerts.channels.base import ChannelBase

NOTE = "alert_channels"  # name → receiver, of the configuration before this one

_decode = msgspec.json.Decoder(dict[str, str]).decode


class Notes(Protocol):
    def note(self, key: str) -> str | None: ...
    def put_note(self, key: str, value: str) -> None: ...


def receiver_of(channel: ChannelBase) -> str:
    """A receiver by a digest: its address may be a secret, and the store keeps none."""
    return sha256("\0".join(channel.receiver).encode()).hexdigest()[:16]


def heirs_of(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str | None]:
    """For each earlier name the present name of the same receiver, None where there is none any more."""
    names = {receiver: name for name, receiver in reversed(list(now.items()))}
    return {name: name if now.get(name) == receiver else names.get(receiver) for name, receiver in before.items()}


class Receivers:
    """The channels of this run beside those of the run before."""

    def __init__(self, channels: Iterable[ChannelBase], notes: Notes) -> None:
        self._now = {channel.name: receiver_of(channel) for channel in channels}
        self._notes = notes
        self._heirs = heirs_of(_before(notes), self._now)

    def heir(self, name: str) -> str | None:
        """Under which name the receiver that was called so is reached now, None if it is not. Nobody kept a note of earlier
        versions' channels: their names are taken as they are."""
        return self._heirs.get(name, name if name in self._now else None)

    def remember(self) -> None:
        """On disk with the next commit."""
        self._notes.put_note(NOTE, msgspec.json.encode(self._now).decode())
        self._heirs = {}


def _before(notes: Notes) -> dict[str, str]:
    try:
        return _decode(notes.note(NOTE) or "{}")
    except msgspec.DecodeError:
        return {}
