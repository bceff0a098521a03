"""Faults that can be ordered of the venue (POST /sim/htx_fault {"kind": …, options}, or `HtxControl.fault`).

kind                options (default)                       effect
clear               –                                       ends all faults; held pushes go out
silence_topic       topic ("*")                             acknowledged, pinged, but no frame; a prefix of the topic
                                                            ("accounts", "market.btc", "public.contract_info"), "*": all
speak_topic         topic ("*")                             ends it
freeze_event_time   on (true)                               market frames come, their times stand still
silence_heartbeats  on (true)                               no pings
deaf_to_pongs       on (true)                               pongs are not heard: the client is dropped though it answers
kill_sockets        path ("")                               cuts sockets off (code 1006)
refuse_sockets      count (1)                               the next socket attempts are answered HTTP 503
maintenance         on (true)                               REST says {"status":"maintain"}, all sockets but the center's end
reject_rest         count (1), path (""), status (200),     the next calls whose path contains `path` are refused
                    code (1004), message (""), html (false)
delay_rest          count (1), path (""), delay_ms (1000)   answered late (real milliseconds)
stale_rest          count (1)                               the next account answers are those of this moment
garbage             form ("half_gzip"), path ("/ws"),       sent at once to all sockets of that path; forms: faults.py
                    topic ("market.BTC_CQ.trade.detail"),
                    count (1)
drop_pushes         count (1), event ("")                   private pushes never sent (of one event, or any)
duplicate_pushes    count (1)                               each sent twice
reorder_pushes      count (2)                               held until that many are there, then sent in reverse
absent_closed_legs  on (true)                               a closed leg is left out of pushes instead of volume 0
"""

from typing import TYPE_CHECKING, Any

from monitor.sim.htx.faults import RestFault, garbage_frame
from monitor.sim.htx.sockets import CENTER, PATHS

if TYPE_CHECKING:
    from monitor.sim.htx.venue import HtxCoinFutures


def order_fault(venue: "HtxCoinFutures", kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """Start a fault; returns what it did. Raises ValueError for an unknown kind, TypeError for an unknown option."""
    order = _ORDERS.get(kind)
    if order is None:
        raise ValueError(f"unknown fault {kind!r}; known: {', '.join(_ORDERS)}")
    return {"kind": kind, **(order(venue, **options) or {})}


def _clear(venue: "HtxCoinFutures") -> None:
    was_down = venue.faults.maintenance
    venue.faults.clear()
    if was_down:
        venue.pushes.heartbeat()


def _silence_topic(venue: "HtxCoinFutures", topic: str = "*") -> None:
    venue.faults.silent_topics.add(topic.lower())


def _speak_topic(venue: "HtxCoinFutures", topic: str = "*") -> None:
    if topic == "*":
        venue.faults.silent_topics.clear()
    venue.faults.silent_topics.discard(topic.lower())


def _freeze_event_time(venue: "HtxCoinFutures", on: bool = True) -> None:
    venue.faults.event_time_frozen_ms = venue.now_ms() if on else None


def _silence_heartbeats(venue: "HtxCoinFutures", on: bool = True) -> None:
    venue.faults.silent_heartbeats = on


def _deaf_to_pongs(venue: "HtxCoinFutures", on: bool = True) -> None:
    venue.faults.deaf_to_pongs = on


def _kill_sockets(venue: "HtxCoinFutures", path: str = "") -> dict[str, int]:
    return {"killed": venue.hub.kill(path)}


def _refuse_sockets(venue: "HtxCoinFutures", count: int = 1) -> None:
    venue.faults.refuse_sockets = count


def _maintenance(venue: "HtxCoinFutures", on: bool = True) -> None:
    venue.faults.maintenance = on
    venue.pushes.heartbeat()
    for path in PATHS if on else ():
        if path != CENTER:
            venue.hub.kill(path)


def _reject_rest(
    venue: "HtxCoinFutures",
    count: int = 1,
    path: str = "",
    status: int = 200,
    code: int = 1004,
    message: str = "",
    html: bool = False,
) -> None:
    venue.faults.rest.append(RestFault(count, path, status, code, message, html))


def _delay_rest(venue: "HtxCoinFutures", count: int = 1, path: str = "", delay_ms: int = 1000) -> None:
    venue.faults.rest.append(RestFault(count, path, delay_ms=delay_ms))


def _stale_rest(venue: "HtxCoinFutures", count: int = 1) -> None:
    venue.rest.freeze_account_answers(count)


def _garbage(
    venue: "HtxCoinFutures",
    form: str = "half_gzip",
    path: str = "/ws",
    topic: str = "market.BTC_CQ.trade.detail",
    count: int = 1,
) -> dict[str, int]:
    frame = garbage_frame(form, topic, venue.now_ms())
    concerned = [connection for connection in venue.hub.connections if connection.path == path]
    for connection in concerned:
        for _ in range(count):
            connection.put(frame)
    return {"sockets": len(concerned)}


def _drop_pushes(venue: "HtxCoinFutures", count: int = 1, event: str = "") -> None:
    venue.faults.drop_pushes, venue.faults.drop_event = count, event


def _duplicate_pushes(venue: "HtxCoinFutures", count: int = 1) -> None:
    venue.faults.duplicate_pushes = count


def _reorder_pushes(venue: "HtxCoinFutures", count: int = 2) -> None:
    venue.faults.reorder_pushes = count


def _absent_closed_legs(venue: "HtxCoinFutures", on: bool = True) -> None:
    venue.faults.absent_closed_legs = on


_ORDERS: dict[str, Any] = {
    order.__name__.removeprefix("_"): order
    for order in (
        _clear,
        _silence_topic,
        _speak_topic,
        _freeze_event_time,
        _silence_heartbeats,
        _deaf_to_pongs,
        _kill_sockets,
        _refuse_sockets,
        _maintenance,
        _reject_rest,
        _delay_rest,
        _stale_rest,
        _garbage,
        _drop_pushes,
        _duplicate_pushes,
        _reorder_pushes,
        _absent_closed_legs,
    )
}
