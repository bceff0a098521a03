"""State of the connections, kept by the venues and read by readiness, metrics and pages."""

from msgspec import Struct, field


class StreamStatus(Struct, kw_only=True):
    """One stream. Its venue adapter is the only writer."""

    venue: str
    account: str  # "": serves every account of the venue
    stream: str  # "mark_price", "asset_index", "user", …
    up: bool = False  # data flow now
    first_data: bool = False  # at least one good frame since start
    last_event_ms: int | None = None  # wall clock of the last good frame
    down_reason: str = "not yet connected"  # plain words, while not up
    reconnects: dict[str, int] = field(default_factory=dict)  # by reason

    def set_up(self, now_ms: int) -> None:
        """Data flow. now_ms: wall clock."""
        self.up = self.first_data = True
        self.down_reason = ""
        self.last_event_ms = now_ms

    def set_down(self, reason: str) -> None:
        self.up = False
        self.down_reason = reason


class Counters(Struct, kw_only=True):
    """What a venue survived. Keys are few and fixed per venue, never text from outside."""

    frames: dict[str, int] = field(default_factory=dict)  # by stream
    refused: dict[str, int] = field(default_factory=dict)  # by reason: "not_json", "not_a_price", "unknown_event", …
    rest: dict[str, int] = field(default_factory=dict)  # by result: "ok", "429", "418", "-1021", "timeout", …
    weight_used: int = 0  # of the request budget in the current minute


def count(counter: dict[str, int], key: str, by: int = 1) -> None:
    counter[key] = counter.get(key, 0) + by
