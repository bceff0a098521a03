"""Listen keys: one per account, alive for 60 simulated minutes after the last POST or PUT."""

from collections.abc import Callable
from dataclasses import dataclass

from monitor.sim.binance import user_events
from monitor.sim.binance.account import Account, seeded_key
from monitor.sim.binance.auth import ApiError
from monitor.sim.binance.streams import Hub

LIFE_MS = 60 * 60_000


@dataclass
class _Entry:
    listen_key: str
    until_ms: int


class ListenKeys:
    def __init__(self, hub: Hub, now_ms: Callable[[], int], seed: int) -> None:
        self._hub = hub
        self._now_ms = now_ms
        self._seed = seed
        self._made = 0
        self._live: dict[str, _Entry] = {}  # by account name

    def of(self, account: Account) -> str | None:
        entry = self._live.get(account.name)
        return None if entry is None else entry.listen_key

    def open(self, account: Account) -> str:
        """POST: the live key, its life extended, or a new one."""
        self._made += account.name not in self._live
        entry = self._live.setdefault(account.name, _Entry(seeded_key(self._seed, account.name, "listen", str(self._made)), 0))
        entry.until_ms = self._now_ms() + LIFE_MS
        return entry.listen_key

    def extend(self, account: Account) -> str:
        """PUT. Raises ApiError −1125 when there is none."""
        if account.name not in self._live:
            raise ApiError(400, -1125, "This listenKey does not exist.")
        return self.open(account)

    def close(self, account: Account) -> dict[str, str]:
        """DELETE: the stream ends for every program that reads it."""
        entry = self._live.pop(account.name, None)
        if entry is None:
            raise ApiError(400, -1125, "This listenKey does not exist.")
        for reader in self._hub.readers("private", entry.listen_key):
            self._hub.drop(reader, 1000)
        return {}

    def expire_due(self) -> None:
        now = self._now_ms()
        for name, entry in list(self._live.items()):
            if entry.until_ms <= now:
                self.expire(name)

    def expire(self, account_name: str, copies: int = 1, time_as_text: bool = False) -> None:
        """The event goes out (seen in the wild: twice, or with its time as a string), then the key is dead."""
        entry = self._live.pop(account_name, None)
        if entry is None:
            return
        event = user_events.listen_key_expired(self._now_ms(), entry.listen_key)
        if time_as_text:
            event["E"] = str(event["E"])
        for _ in range(copies):
            self._hub.publish("private", entry.listen_key, event, event["e"])
