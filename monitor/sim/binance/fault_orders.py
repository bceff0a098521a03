"""Faults that can be ordered of the simulated venue (POST /sim/fault {"kind": …, options}, or `SimExchange.fault`).

kind                options (default)                       effect
clear               –                                       ends all faults; held user events go out
silence_stream      stream ("*")                            subscribed, pinged, but no frame; a prefix of the stream's
                                                            name, "user" for the private ones, "*" for all
speak_stream        stream ("*")                            ends it
silence_symbol      symbol                                  one symbol is missing in all market frames
freeze_event_time   on (true)                               frames come, their E stands still
kill_sockets        family (""), code (null)                cuts sockets off, or closes them with a code
refuse_sockets      count (1)                               the next socket attempts are answered HTTP 503
expire_listen_keys  account (""), copies (1),               listenKeyExpired now; copies 2 as seen in the wild;
                    time_as_text (false)                    its E as a string
reject_rest         count (1), path (""), status (503),     the next calls whose path contains `path` are refused
                    code (-1000), msg, retry_after_s, html
delay_rest          count (1), path (""), delay_ms (1000)   answered late (real milliseconds)
stale_rest          count (1)                               the next account answers are those of this moment
zero_mark           count (1)                               positionRisk says markPrice 0.00000000
garbage             form ("truncated"), symbol ("BTCUSDT"), sent at once to all mark price readers (or, family
                    family ("market"), count (1)            "private", to all user streams); forms: faults.py
drop_user_events    count (1), event ("")                   never sent (of one kind, or any)
duplicate_user_events  count (1)                            each sent twice
reorder_user_events    count (2)                            held until that many are there, then sent in reverse
"""

from typing import TYPE_CHECKING, Any

from monitor.sim.faults import RestFault, garbage_frame

if TYPE_CHECKING:
    from monitor.sim.binance.venue import BinanceUsdm


def order_fault(venue: "BinanceUsdm", now_ms: int, kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """Start a fault; returns what it did. Raises ValueError for an unknown kind, TypeError for an unknown option."""
    order = _ORDERS.get(kind)
    if order is None:
        raise ValueError(f"unknown fault {kind!r}; known: {', '.join(_ORDERS)}")
    return {"kind": kind, **(order(venue, now_ms, **options) or {})}


def _clear(venue: "BinanceUsdm", _now_ms: int) -> None:
    for account, event in venue.faults.clear():
        venue.send_user_event(account, event)


def _silence_stream(venue: "BinanceUsdm", _now_ms: int, stream: str = "*") -> None:
    venue.faults.silent_streams.add(stream)


def _speak_stream(venue: "BinanceUsdm", _now_ms: int, stream: str = "*") -> None:
    if stream == "*":
        venue.faults.silent_streams.clear()
    venue.faults.silent_streams.discard(stream)


def _silence_symbol(venue: "BinanceUsdm", _now_ms: int, symbol: str) -> None:
    venue.faults.silent_symbols.add(symbol)


def _freeze_event_time(venue: "BinanceUsdm", now_ms: int, on: bool = True) -> None:
    venue.faults.event_time_frozen_ms = now_ms if on else None


def _kill_sockets(venue: "BinanceUsdm", _now_ms: int, family: str = "", code: int | None = None) -> dict[str, int]:
    return {"killed": venue.hub.kill(family, code)}


def _refuse_sockets(venue: "BinanceUsdm", _now_ms: int, count: int = 1) -> None:
    venue.faults.refuse_sockets = count


def _expire_listen_keys(
    venue: "BinanceUsdm", _now_ms: int, account: str = "", copies: int = 1, time_as_text: bool = False
) -> None:
    for name in [account] if account else list(venue.accounts):
        venue.listen_keys.expire(name, copies, time_as_text)


def _reject_rest(
    venue: "BinanceUsdm",
    _now_ms: int,
    count: int = 1,
    path: str = "",
    status: int = 503,
    code: int = -1000,
    msg: str = "Unknown error, please check your request or try again later.",
    retry_after_s: int | str | None = None,
    html: bool = False,
) -> None:
    venue.faults.rest.append(RestFault(count, path, status, code, msg, retry_after_s, html))


def _delay_rest(venue: "BinanceUsdm", _now_ms: int, count: int = 1, path: str = "", delay_ms: int = 1000) -> None:
    venue.faults.rest.append(RestFault(count, path, delay_ms=delay_ms))


def _stale_rest(venue: "BinanceUsdm", _now_ms: int, count: int = 1) -> None:
    venue.rest.freeze_account_answers(count)


def _zero_mark(venue: "BinanceUsdm", _now_ms: int, count: int = 1) -> None:
    venue.faults.zero_marks = count


def _garbage(
    venue: "BinanceUsdm", now_ms: int, form: str = "truncated", symbol: str = "BTCUSDT", family: str = "market", count: int = 1
) -> dict[str, int]:
    frame = garbage_frame(form, symbol, now_ms)
    streams = [s for s in venue.hub.streams(family) if family != "market" or "markPrice" in s]
    for stream in streams:
        for _ in range(count):
            venue.hub.send_text(family, stream, frame)
    return {"streams": len(streams)}


def _drop_user_events(venue: "BinanceUsdm", _now_ms: int, count: int = 1, event: str = "") -> None:
    venue.faults.drop_user_events, venue.faults.drop_event_kind = count, event


def _duplicate_user_events(venue: "BinanceUsdm", _now_ms: int, count: int = 1) -> None:
    venue.faults.duplicate_user_events = count


def _reorder_user_events(venue: "BinanceUsdm", _now_ms: int, count: int = 2) -> None:
    venue.faults.reorder_user_events = count


_ORDERS: dict[str, Any] = {
    order.__name__.removeprefix("_"): order
    for order in (
        _clear,
        _silence_stream,
        _speak_stream,
        _silence_symbol,
        _freeze_event_time,
        _kill_sockets,
        _refuse_sockets,
        _expire_listen_keys,
        _reject_rest,
        _delay_rest,
        _stale_rest,
        _zero_mark,
        _garbage,
        _drop_user_events,
        _duplicate_user_events,
        _reorder_user_events,
    )
}
