"""Collateral rates of the last hour outlive a restart: `collateral_rate` compares with them, and what moved is not calm again."""

import msgspec
import orjson
import structlog

from monitor.bans import Notes
from monitor.engine.engine import Engine
from monitor.engine.market import RateMemory

KEEP_EVERY_MS = 60_000  # they are sampled once a minute

log = structlog.get_logger()


class RateKeeper:
    """Gives the engine what a run before it remembered, and keeps what it remembers."""

    def __init__(self, engine: Engine, notes: Notes, venues: list[str], now_ms: int) -> None:
        self._engine, self._notes = engine, notes
        self._kept_ms = now_ms
        for venue in venues:
            kept = notes.note(_key(venue))
            if kept is None:
                continue
            try:
                engine.recall_rates(venue, msgspec.json.decode(kept, type=RateMemory), now_ms)
            except (msgspec.MsgspecError, IndexError, ValueError) as exc:
                log.warning("rates_not_recalled", venue=venue, problem=str(exc))

    async def look(self, now_ms: int) -> None:
        """Once a second."""
        if now_ms - self._kept_ms >= KEEP_EVERY_MS:
            await self.keep(now_ms)

    async def keep(self, now_ms: int) -> None:
        """Also once at the end, so that a restart loses no minute."""
        self._kept_ms = now_ms
        for venue, memory in self._engine.rate_memories().items():
            self._notes.put_note(_key(venue), orjson.dumps([*memory]).decode())
        await self._notes.commit()


def _key(venue: str) -> str:
    return f"rates:{venue}"
