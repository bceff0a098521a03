"""Names of market topics: `market.BTC_CQ.trade.detail`, `market.BTC-USD.index.1min`. Case does not matter."""

from dataclasses import dataclass

from monitor.sim.htx.history import PERIODS_S
from monitor.sim.htx.sockets import INDEX, MARKET

_KINDS = {MARKET: {"trade.detail", "detail", "bbo"}, INDEX: {"index", "mark_price"}}


@dataclass(frozen=True)
class Topic:
    symbol: str  # code or alias of a contract; "BTC-USD" for an index
    kind: str
    period: str = ""

    @property
    def name(self) -> str:
        """The canonical form, under which readers are listed."""
        return ".".join(part for part in ("market", self.symbol, self.kind, self.period) if part)


def parse_topic(text: str, path: str) -> Topic | None:
    """None for what the socket of that path does not offer."""
    parts = text.split(".")
    if len(parts) != 4 and (len(parts) != 3 or path == INDEX):
        return None
    if parts[0].lower() != "market":
        return None
    symbol, *rest = (parts[1].upper(), *(part.lower() for part in parts[2:]))
    if path == MARKET:
        topic = Topic(symbol, ".".join(rest))
    else:
        topic = Topic(symbol, *rest)
        if topic.period not in PERIODS_S or (topic.kind == "index") != symbol.endswith("-USD"):
            return None
    return topic if topic.kind in _KINDS[path] else None
