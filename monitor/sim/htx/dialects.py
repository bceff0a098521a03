"""What the sockets understand: `sub`/`ping` of the market sockets, `op` messages of the private and center ones."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import orjson

from monitor.sim.htx import market_frames
from monitor.sim.htx.account import Account
from monitor.sim.htx.auth import SIGNED_NAMES, AuthError, check_signature
from monitor.sim.htx.faults import Faults
from monitor.sim.htx.market import Market
from monitor.sim.htx.sockets import CENTER, CONNECTIONS_PER_USER_MAX, Connection, Hub
from monitor.sim.htx.topics import parse_topic
from monitor.sim.refused import RefusedError

# Every so many-th subscription gets its first data before its acknowledgement, as it was recorded of the real one.
DATA_BEFORE_ACK_EVERY = 2

PRIVATE_TOPICS = ("accounts", "positions", "orders", "matchOrders", "trigger_order")
PUBLIC_TOPICS = ("liquidation_orders", "contract_info")
HEARTBEAT_TOPIC = "public.futures.heartbeat"


class _OpError(Exception):
    """An op message that is refused, with the socket's code."""

    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


class Dialect(Protocol):
    def ping(self, now_ms: int) -> tuple[int | str, dict[str, Any]]:
        """What must come back, and the message."""

    def receive(self, connection: Connection, text: str | bytes) -> None:
        """One message of the client."""


def _object(text: str | bytes) -> dict[str, Any] | None:
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return message if isinstance(message, dict) else None


class MarketDialect:
    """/ws and /ws_index."""

    def __init__(self, hub: Hub, market: Market, faults: Faults, now_ms: Callable[[], int]) -> None:
        self._hub = hub
        self._market = market
        self._faults = faults
        self._now_ms = now_ms
        self._subscriptions = itertools.count(1)

    def ping(self, now_ms: int) -> tuple[int | str, dict[str, Any]]:
        return now_ms, {"ping": now_ms}

    def receive(self, connection: Connection, text: str | bytes) -> None:
        message = _object(text)
        if message is None:
            self._refuse(connection, {}, "invalid json")
        elif "pong" in message:
            if not self._faults.deaf_to_pongs:
                connection.ponged(message["pong"])
        elif "ping" in message:
            connection.tell({"pong": message["ping"]})
        elif isinstance(message.get("sub"), str):
            self._subscribe(connection, message, message["sub"])
        elif isinstance(message.get("unsub"), str):
            self._unsubscribe(connection, message, message["unsub"])
        else:
            self._refuse(connection, message, "invalid command")

    def _subscribe(self, connection: Connection, message: dict[str, Any], label: str) -> None:
        topic = parse_topic(label, connection.path)
        try:
            first = None if topic is None else market_frames.frame(topic, self._market, self._now_ms())
        except RefusedError:
            first = None
        if topic is None or first is None:
            self._refuse(connection, message, f"invalid topic {label}")
            return
        self._hub.subscribe(connection, topic.name, label)
        early = next(self._subscriptions) % DATA_BEFORE_ACK_EVERY == 0 and not self._faults.is_silent(topic.name)
        if early:
            connection.tell({**first, "ch": label})
        connection.tell({"id": _id(message), "status": "ok", "subbed": label, "ts": self._now_ms()})

    def _unsubscribe(self, connection: Connection, message: dict[str, Any], label: str) -> None:
        topic = parse_topic(label, connection.path)
        if topic is None or topic.name not in connection.subscriptions:
            self._refuse(connection, message, f"unsub with not subbed topic {label}")
            return
        self._hub.unsubscribe(connection, topic.name)
        connection.tell({"id": _id(message), "status": "ok", "unsubbed": label, "ts": self._now_ms()})

    def _refuse(self, connection: Connection, message: dict[str, Any], reason: str) -> None:
        refusal = {"status": "error", "err-code": "bad-request", "err-msg": reason, "id": _id(message), "ts": self._now_ms()}
        connection.tell(refusal)


def _id(message: dict[str, Any]) -> str:
    return str(message.get("id", ""))


class OpDialect:
    """/notification and /center-notification. `greet` sends the first picture of a topic to one connection."""

    def __init__(
        self,
        hub: Hub,
        market: Market,
        faults: Faults,
        accounts: Mapping[str, Account],
        greet: Callable[[Connection, str, str], None],
        now_ms: Callable[[], int],
        check_timestamps: bool = True,
    ) -> None:
        self._hub = hub
        self._market = market
        self._faults = faults
        self._accounts = accounts  # by key
        self._greet = greet
        self._now_ms = now_ms
        self._check_timestamps = check_timestamps

    def ping(self, now_ms: int) -> tuple[int | str, dict[str, Any]]:
        return str(now_ms), {"op": "ping", "ts": str(now_ms)}

    def receive(self, connection: Connection, text: str | bytes) -> None:
        message = _object(text) or {}
        op = message.get("op")
        if op == "pong":
            if not self._faults.deaf_to_pongs:
                connection.ponged(message.get("ts"))
        elif op == "ping":
            connection.tell({"op": "pong", "ts": message.get("ts")})
        elif op == "auth":
            self._authenticate(connection, message)
        elif op in ("sub", "unsub") and isinstance(message.get("topic"), str):
            code = self._change(connection, op, message["topic"])
            self._answer(connection, message, code, topic=message["topic"])
            if op == "sub" and code == 0:
                kind, symbol = split_topic(message["topic"])
                self._greet(connection, kind, symbol)
        else:
            connection.tell({"op": "error", "ts": self._now_ms()})

    def _answer(self, connection: Connection, message: dict[str, Any], code: int, **more: Any) -> None:
        cid = {"cid": message["cid"]} if "cid" in message else {}
        answer = {"op": message["op"], **cid, **more, "ts": self._now_ms(), "err-code": code}
        if code:
            answer["err-msg"] = _MESSAGES[code]
        connection.tell(answer)

    # ------------------------------------------------------------------ who it is

    def _authenticate(self, connection: Connection, message: dict[str, Any]) -> None:
        """A refusal ends the connection; a second authentication does not."""
        if connection.account is not None:
            self._answer(connection, message, 2005, type=message.get("type"))
            return
        try:
            connection.account = self._account_of(connection, message)
        except _OpError as error:
            self._answer(connection, message, error.code, type=message.get("type"))
            connection.tell({"op": "close", "ts": self._now_ms()})
            connection.closing = True
        else:
            self._answer(connection, message, 0, type="api", data={"user-id": connection.account.uid})

    def _account_of(self, connection: Connection, message: dict[str, Any]) -> Account:
        if message.get("type") != "api":
            raise _OpError(2013)
        parameters = {name: message.get(name) for name in (*SIGNED_NAMES, "Signature")}
        if not all(isinstance(value, str) and value for value in parameters.values()):
            raise _OpError(2040)
        texts = {name: str(value) for name, value in parameters.items()}
        account = self._accounts.get(texts["AccessKeyId"])
        if account is None:
            raise _OpError(2001)
        host, path = connection.host, connection.path
        try:
            check_signature(account.api_secret, "GET", host, path, texts, self._now_ms(), self._check_timestamps)
        except AuthError:
            raise _OpError(2003) from None
        if sum(other.account is account for other in self._hub.connections) >= CONNECTIONS_PER_USER_MAX:
            raise _OpError(2030)
        return account

    # ------------------------------------------------------------------ what it reads

    def _change(self, connection: Connection, op: str, label: str) -> int:
        kind, symbol = split_topic(label)
        code = self._topic_code(connection, kind, symbol)
        if code:
            return code
        topic = f"{kind}.{symbol}"
        if op == "sub":
            if topic in connection.subscriptions:
                return 2014
            self._hub.subscribe(connection, topic, label)
            return 0
        if topic not in connection.subscriptions:
            # One coin cannot be taken out of a subscription to all.
            return 2010 if f"{kind}.*" in connection.subscriptions else 2012
        self._hub.unsubscribe(connection, topic)
        return 0

    def _topic_code(self, connection: Connection, kind: str, symbol: str) -> int:
        if kind == HEARTBEAT_TOPIC:
            return 0 if connection.path == CENTER else 2010
        is_public = kind.startswith("public.")
        if connection.path == CENTER or not (is_public or kind in PRIVATE_TOPICS):
            return 2010
        if not is_public and connection.account is None:
            return 2002
        return 0 if symbol == "*" or symbol.upper() in self._market.coins else 2011


def split_topic(text: str) -> tuple[str, str]:
    """(kind, coin in lower case or "*"): "accounts.BTC" → accounts, btc; "public.BTC.contract_info" → public.contract_info, btc.

    An unknown topic gives ("", "").
    """
    parts = text.split(".")
    if len(parts) == 2:
        known = {kind.lower(): kind for kind in PRIVATE_TOPICS}.get(parts[0].lower(), "")
        return (known, parts[1].lower()) if known else ("", "")
    if text.lower() == HEARTBEAT_TOPIC:
        return HEARTBEAT_TOPIC, "*"
    if len(parts) == 3 and parts[0].lower() == "public" and parts[2].lower() in PUBLIC_TOPICS:
        return f"public.{parts[2].lower()}", parts[1].lower()
    return "", ""


_MESSAGES = {
    2001: "Invalid authentication.",
    2002: "Authentication required.",
    2003: "Authentication failed.",
    2005: "The user has been authenticated already.",
    2010: "Topic error.",
    2011: "Contract doesn't exist.",
    2012: "Topic not subscribed.",
    2013: "Authentication type doesn't exist.",
    2014: "Repeated subscription.",
    2030: "Exceeds connection limit of single user.",
    2040: "Missing required parameter.",
}
