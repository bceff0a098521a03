"""Faults on order: state that the simulated venue consults while it answers and pushes."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from monitor.sim.htx.text import encode, gzip_frame

BOMB_BYTES = 64 << 20


@dataclass
class RestFault:
    """The next `count` REST calls whose path contains `path` are refused (code or status given) or answered late."""

    count: int
    path: str = ""
    status: int = 200
    code: int | None = None
    message: str = ""
    html: bool = False
    delay_ms: int = 0

    @property
    def refuses(self) -> bool:
        return self.code is not None or self.status != 200


@dataclass
class Faults:
    """`clear()` ends them all."""

    rest: list[RestFault] = field(default_factory=list)
    maintenance: bool = False
    silent_topics: set[str] = field(default_factory=set)
    silent_heartbeats: bool = False
    deaf_to_pongs: bool = False
    event_time_frozen_ms: int | None = None
    refuse_sockets: int = 0
    absent_closed_legs: bool = False
    stale: dict[tuple[str, str, str], Any] = field(default_factory=dict)  # (account, path, coin) → frozen answer
    stale_count: int = 0
    drop_pushes: int = 0
    drop_event: str = ""
    duplicate_pushes: int = 0
    reorder_pushes: int = 0
    _held: list[Callable[[], None]] = field(default_factory=list)

    def clear(self) -> None:
        """Pushes that were still held back go out."""
        held = self._held
        self.__dict__.update(Faults().__dict__)
        for send in held:
            send()

    def is_silent(self, topic: str) -> bool:
        """A silenced name holds for all topics that begin with it, in any case; "*" for all."""
        return any(name == "*" or topic.lower().startswith(name) for name in self.silent_topics)

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

    def take_stale(self, key: tuple[str, str, str], fresh: Callable[[], Any]) -> Any:
        """The frozen answer while there are calls left that want one, else the fresh one."""
        if self.stale_count > 0 and key in self.stale:
            self.stale_count -= 1
            return self.stale[key]
        return fresh()

    def pass_push(self, event: str, send: Callable[[], None]) -> None:
        """Send one private push, or do not, or twice, or when enough are held, in reverse."""
        if self.drop_pushes > 0 and self.drop_event in {"", event}:
            self.drop_pushes -= 1
        elif self.reorder_pushes > 0:
            self._held.append(send)
            self.reorder_pushes -= 1
            if not self.reorder_pushes:
                held, self._held = self._held[::-1], []
                for late in held:
                    late()
        else:
            send()
            if self.duplicate_pushes > 0:
                self.duplicate_pushes -= 1
                send()


def garbage_frame(form: str, topic: str, now_ms: int) -> str | bytes:
    """A frame that the documentation does not allow; text where even the frame's kind is wrong. Raises ValueError."""
    make = _FORMS.get(form)
    if make is None:
        raise ValueError(f"unknown form of garbage {form!r}; known: {', '.join(_FORMS)}")
    return make(topic, now_ms)


def _trade(topic: str, now_ms: int, price: str) -> bytes:
    """A trade with a price written just so."""
    return (
        f'{{"ch":"{topic}","ts":{now_ms},"tick":{{"id":1,"ts":{now_ms},"data":[{{"amount":2,"ts":{now_ms},"id":1,'
        f'"price":{price},"direction":"sell","quantity":0.1}}]}}}}'
    ).encode()


def _bomb(_topic: str, _now_ms: int) -> bytes:
    """A few ten kilobytes that unpack to 64 MiB."""
    deflate = zlib.compressobj(9, wbits=31)
    block = b" " * (1 << 20)
    parts = [deflate.compress(block) for _ in range(BOMB_BYTES >> 20)]
    return b"".join(parts) + deflate.compress(b"{}") + deflate.flush()


def _priced(price: str) -> Callable[[str, int], bytes]:
    return lambda topic, now_ms: gzip_frame(_trade(topic, now_ms, price))


_Form = Callable[[str, int], "str | bytes"]

_FORMS: dict[str, _Form] = {
    "half_gzip": lambda topic, now_ms: gzip_frame(_trade(topic, now_ms, "100"))[:-20],
    "bad_checksum": lambda topic, now_ms: gzip_frame(_trade(topic, now_ms, "100"))[:-8] + bytes(8),
    "bomb": _bomb,
    "plain_text": lambda topic, now_ms: _trade(topic, now_ms, "100").decode(),
    "not_gzip": lambda topic, now_ms: _trade(topic, now_ms, "100"),
    "empty": lambda _topic, _now_ms: b"",
    "html": lambda _topic, _now_ms: gzip_frame(b"<html><body>Bad gateway</body></html>"),
    "truncated": lambda topic, now_ms: gzip_frame(_trade(topic, now_ms, "100")[:60]),
    "not_an_object": lambda _topic, _now_ms: gzip_frame(b"[1,2,3]"),
    "deep": lambda _topic, _now_ms: gzip_frame(b"[" * 20_000 + b"]" * 20_000),
    "unknown_message": lambda _topic, now_ms: gzip_frame(encode({"something": "new", "ts": now_ms, "zz": {"deep": [1]}})),
    "unknown_topic": lambda _topic, now_ms: gzip_frame(encode({"ch": "market.XYZ.novelty", "ts": now_ms, "tick": {"id": 1}})),
    "nan": _priced('"NaN"'),
    "bare_nan": _priced("NaN"),
    "infinity": _priced("1e400"),
    "negative": _priced("-100"),
    "zero": _priced("0"),
    "null": _priced("null"),
    "empty_price": _priced('""'),
    "underscore": _priced('"1_000.0"'),
    "full_width": _priced('"１００"'),
    "ping_text": lambda _topic, _now_ms: gzip_frame(b'{"ping":"abc"}'),
    "ping_null": lambda _topic, _now_ms: gzip_frame(b'{"ping":null}'),
    "ping_huge": lambda _topic, _now_ms: gzip_frame(b'{"ping":99999999999999999999999999}'),
    "op_ping_number": lambda _topic, now_ms: gzip_frame(encode({"op": "ping", "ts": now_ms})),
    "op_ping_bare": lambda _topic, _now_ms: gzip_frame(b'{"op":"ping"}'),
    "op_error": lambda _topic, now_ms: gzip_frame(encode({"op": "error", "ts": now_ms})),
}
