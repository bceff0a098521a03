"""Faults on order: state that the simulated venues consult while they answer and publish."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

Event = dict[str, Any]


@dataclass
class RestFault:
    """The next `count` REST calls whose path contains `path` are refused (status > 0) or answered late."""

    count: int
    path: str = ""
    status: int = 0
    code: int = -1000
    message: str = "An unknown error occurred while processing the request."
    retry_after_s: int | str | None = None  # a text: the header as it is
    html: bool = False
    delay_ms: int = 0


@dataclass
class Faults:
    """`clear()` ends them all."""

    rest: list[RestFault] = field(default_factory=list)
    silent_streams: set[str] = field(default_factory=set)
    silent_symbols: set[str] = field(default_factory=set)
    event_time_frozen_ms: int | None = None
    refuse_sockets: int = 0
    zero_marks: int = 0
    stale: dict[tuple[str, str], Any] = field(default_factory=dict)  # (account, path) → frozen answer
    stale_count: int = 0
    drop_user_events: int = 0
    drop_event_kind: str = ""
    duplicate_user_events: int = 0
    reorder_user_events: int = 0
    _held: list[tuple[str, Event]] = field(default_factory=list)

    def clear(self) -> list[tuple[str, Event]]:
        """Returns user events that were still held back."""
        held = self._held
        self.__dict__.update(Faults().__dict__)
        return held

    def is_silent(self, stream: str) -> bool:
        """A silenced name holds for the stream itself and for its slower and faster forms; "*" for all."""
        return bool(self.silent_streams) and any(name == "*" or stream.startswith(name) for name in self.silent_streams)

    def event_time_ms(self, now_ms: int) -> int:
        return now_ms if self.event_time_frozen_ms is None else self.event_time_frozen_ms

    def take_rest(self, path: str) -> RestFault | None:
        for fault in self.rest:
            if fault.path in path:
                fault.count -= 1
                if fault.count <= 0:
                    self.rest.remove(fault)
                return fault
        return None

    def take_stale(self, account: str, path: str, fresh: Callable[[], Any]) -> Any:
        """The frozen answer while there are calls left that want one, else the fresh one."""
        if self.stale_count > 0 and (account, path) in self.stale:
            self.stale_count -= 1
            return self.stale[(account, path)]
        return fresh()

    def pass_user_event(self, account: str, event: Event) -> Iterable[tuple[str, Event]]:
        """What goes out instead of one user event: nothing, itself, itself twice, or a held batch in reverse."""
        if self.drop_user_events > 0 and self.drop_event_kind in {"", event["e"]}:
            self.drop_user_events -= 1
            return []
        if self.reorder_user_events > 0:
            self._held.append((account, event))
            self.reorder_user_events -= 1
            if self.reorder_user_events:
                return []
            out, self._held = self._held[::-1], []
            return out
        if self.duplicate_user_events > 0:
            self.duplicate_user_events -= 1
            return [(account, event), (account, event)]
        return [(account, event)]


def garbage_frame(form: str, symbol: str, now_ms: int) -> str:
    """A market frame that the documentation does not allow. Raises ValueError for an unknown form."""

    def mark(price: str) -> str:
        return (
            f'{{"e":"markPriceUpdate","E":{now_ms},"s":"{symbol}","p":{price},"i":"100.00000000",'
            f'"P":"100.00000000","r":"0.00010000","T":{now_ms + 3_600_000}}}'
        )

    if form == "huge":
        return '[{"e":"markPriceUpdate","x":"' + "A" * (6 << 20) + '"}]'
    forms = {
        "truncated": mark('"100.00000000"')[:70],
        "nan": mark('"NaN"'),
        "infinity": mark('"Infinity"'),
        "bare_nan": mark("NaN"),
        "negative": mark('"-100.00000000"'),
        "zero": mark('"0.00000000"'),
        "empty": mark('""'),
        "null": mark("null"),
        "underscore": mark('"1_000.0"'),
        "full_width": mark('"１００"'),
        "unknown_event": f'{{"e":"somethingNew","E":{now_ms},"s":"{symbol}","zz":{{"deep":[1,2,3]}}}}',
        "not_json": "<html><body>Bad gateway</body></html>",
        "deep": "[" * 20_000 + "]" * 20_000,
    }
    if form not in forms:
        raise ValueError(f"unknown form of garbage {form!r}; known: huge, {', '.join(forms)}")
    return forms[form]
