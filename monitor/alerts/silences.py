"""The silences that people set: which of them is in force for an incident."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from monitor.alerts.decide import in_force
from monitor.model.alerts import IncidentKey, Silence


class Silences:
    """All that were set and have not been cleared away. Whoever changes it commits the change to the store."""

    def __init__(self, silences: Iterable[Silence] = ()) -> None:
        self._all = {silence.id: silence for silence in silences}

    def of(self, key: IncidentKey, now_ms: int) -> Silence | None:
        """The one in force that matches the key and lasts longest."""
        matching = (silence for silence in self._all.values() if silence.matches(key) and in_force(silence, now_ms))
        return max(matching, key=_end, default=None)

    def in_force(self, now_ms: int) -> Sequence[Silence]:
        """The next to end first."""
        return sorted((silence for silence in self._all.values() if in_force(silence, now_ms)), key=_end)

    def add(self, silence: Silence) -> None:
        self._all[silence.id] = silence

    def remove(self, silence_id: str) -> bool:
        return self._all.pop(silence_id, None) is not None

    def clear_ended(self, now_ms: int) -> Sequence[Silence]:
        """Takes out those that ended, and returns them."""
        ended = [silence for silence in self._all.values() if now_ms >= silence.until_ms]
        for silence in ended:
            del self._all[silence.id]
        return ended


def _end(silence: Silence) -> tuple[int, str]:
    return silence.until_ms, silence.id
