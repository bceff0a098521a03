"""What the op sockets say: accounts, positions, orders, contracts, the platform's heartbeat.

A change is pushed when it happens; an account's coin of which nothing was pushed for 5 s is shown as a snapshot. Prices
alone push nothing.
"""

from collections.abc import Callable, Iterable
from typing import Any

from monitor.sim.htx import rows
from monitor.sim.htx.account import Account
from monitor.sim.htx.desk import Change, Fill
from monitor.sim.htx.dialects import HEARTBEAT_TOPIC
from monitor.sim.htx.faults import Faults
from monitor.sim.htx.market import Coin, Market
from monitor.sim.htx.sockets import CENTER, NOTIFICATION, Connection, Hub, Message

SNAPSHOT_EVERY_MS = 5000
CONTRACTS_EVERY_MS = 60_000


class Pushes:
    def __init__(self, hub: Hub, market: Market, accounts: Iterable[Account], faults: Faults, now_ms: Callable[[], int]) -> None:
        self._hub = hub
        self._market = market
        self._accounts = list(accounts)
        self._faults = faults
        self._now_ms = now_ms
        self._pushed_ms: dict[tuple[str, str, str], int] = {}  # (account, kind, coin)
        self._contracts_ms = now_ms()

    # ------------------------------------------------------------------ changes

    def change(self, change: Change) -> None:
        """The account always, the legs it touched, and the order that filled; all with one time."""
        account, coin, now = change.account, change.coin, self._now_ms()
        purse = account.purses[coin.symbol]
        self._private(account, "accounts", coin, change.event, [rows.account_row(purse, coin)], now)
        if change.legs is not None:
            legs = [leg for leg in change.legs if leg.volume or not self._faults.absent_closed_legs]
            self._private(account, "positions", coin, change.event, [rows.position_row(leg, purse, coin) for leg in legs], now)
        if change.fill is not None:
            body = {"op": "notify", "topic": f"orders.{coin.symbol.lower()}", "ts": now}
            self._send(account, "orders", coin, change.event, {**body, **rows.order_body(account, coin, change.fill, now)})

    def liquidation(self, coin: Coin, fill: Fill) -> None:
        now = self._now_ms()
        body = _notice(f"public.{coin.symbol}.liquidation_orders", now, [rows.liquidation_row(coin, fill, now)])
        self._public("public.liquidation_orders", coin, body)

    def contracts(self, coin: Coin, event: str = "update") -> None:
        self._public("public.contract_info", coin, self._contract_notice(coin, event))

    def heartbeat(self, event: str = "update") -> None:
        self._hub.publish(Message(CENTER, f"{HEARTBEAT_TOPIC}.*", self._heartbeat_notice(event)))

    # ------------------------------------------------------------------ first pictures and snapshots

    def greet(self, connection: Connection, kind: str, symbol: str) -> None:
        """The `init` picture that follows a subscription, to this connection alone."""
        now = self._now_ms()
        coins = self._market.coins.values() if symbol == "*" else [self._market.coins[symbol.upper()]]
        if self._faults.is_silent(kind):
            return
        if kind == HEARTBEAT_TOPIC:
            connection.tell(self._heartbeat_notice("init"))
        elif kind == "public.contract_info":
            for coin in coins:
                connection.tell(self._contract_notice(coin, "init"))
        elif kind in {"accounts", "positions"} and connection.account is not None:
            for coin in coins:
                connection.tell(self._picture(connection.account, kind, coin, "init", now))

    def snapshots_due(self) -> None:
        now = self._now_ms()
        if now - self._contracts_ms >= CONTRACTS_EVERY_MS:
            self._contracts_ms = now
            for coin in self._market.coins.values():
                self.contracts(coin, "snapshot")
        if not any(connection.account is not None for connection in self._hub.connections):
            return
        for account in self._accounts:
            for coin in self._market.coins.values():
                for kind in ("accounts", "positions"):
                    key = (account.name, kind, coin.symbol)
                    if now - self._pushed_ms.setdefault(key, now) >= SNAPSHOT_EVERY_MS:
                        self._pushed_ms[key] = now
                        self._send(account, kind, coin, "snapshot", self._picture(account, kind, coin, "snapshot", now))

    def _picture(self, account: Account, kind: str, coin: Coin, event: str, now_ms: int) -> dict[str, Any]:
        purse = account.purses[coin.symbol]
        data = [rows.account_row(purse, coin)] if kind == "accounts" else rows.position_rows(purse, coin)
        return {**_notice(f"{kind}.{coin.symbol.lower()}", now_ms, data, event), "uid": account.uid}

    # ------------------------------------------------------------------ sending

    def _private(self, account: Account, kind: str, coin: Coin, event: str, data: list[Any], now_ms: int) -> None:
        self._pushed_ms[(account.name, kind, coin.symbol)] = now_ms
        body = {**_notice(f"{kind}.{coin.symbol.lower()}", now_ms, data, event), "uid": account.uid}
        self._send(account, kind, coin, event, body)

    def _send(self, account: Account, kind: str, coin: Coin, event: str, body: dict[str, Any]) -> None:
        topic = f"{kind}.{coin.symbol.lower()}"
        if not self._is_read(topic, f"{kind}.*", account):
            return  # nobody would notice a fault
        message = Message(NOTIFICATION, topic, body, account)
        self._faults.pass_push(event, lambda: self._hub.publish(message, f"{kind}.*"))

    def _is_read(self, topic: str, wider: str, account: Account) -> bool:
        readers = (*self._hub.readers(NOTIFICATION, topic), *self._hub.readers(NOTIFICATION, wider))
        return any(connection.account is account for connection in readers)

    def _public(self, kind: str, coin: Coin, body: dict[str, Any]) -> None:
        self._hub.publish(Message(NOTIFICATION, f"{kind}.{coin.symbol.lower()}", body), f"{kind}.*")

    def _contract_notice(self, coin: Coin, event: str) -> dict[str, Any]:
        return _notice(f"public.{coin.symbol.lower()}.contract_info", self._now_ms(), rows.contract_rows([coin]), event)

    def _heartbeat_notice(self, event: str) -> dict[str, Any]:
        now = self._now_ms()
        down = self._faults.maintenance
        data = {"heartbeat": 0 if down else 1, "estimated_recovery_time": now + 600_000 if down else None}
        return _notice(HEARTBEAT_TOPIC, now, data, event)


def _notice(topic: str, now_ms: int, data: Any, event: str = "") -> dict[str, Any]:
    body = {"op": "notify", "topic": topic, "ts": now_ms}
    return {**body, **({"event": event} if event else {}), "data": data}
