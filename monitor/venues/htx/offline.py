"""The raw answers of one account, kept in a file, as the events that the live adapter would have made of them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from monitor.model.events import CoinSnapshot, Event, Instruments, Price, PriceKind, Prices
from monitor.model.instruments import Instrument
from monitor.model.streams import Counters
from monitor.venues.base import Fault, VenueError
from monitor.venues.htx import reference
from monitor.venues.htx.numbers import Answer, Name, PriceNumber, read
from monitor.venues.htx.rows import VENUE
from monitor.venues.htx.snapshot import coin_snapshots

KEYS = frozenset(
    {
        "venue",
        "contract_contract_info",
        "contract_account_position_info",
        "contract_adjustfactor",
        "contract_ladder_margin",
        "contract_query_elements",
        "last_prices",
        "mark_prices",
    }
)
_REQUIRED = "contract_account_position_info"
_FACE_USD = {"BTC": 100.0}  # all others 10
_FACE_USD_OTHERS = 10.0


def events(answers: Mapping[str, Any], *, account: str, at_ms: int) -> Iterator[Event]:
    """answers: by endpoint name, each value the raw answer; only `contract_account_position_info` is required.

    `last_prices`, `mark_prices`: price by contract code; without the first the positions' own `last_price`.
    Without `contract_contract_info` a contract is of 100 USD for BTC and of 10 USD for any other coin.
    Raises VenueError(BAD_ANSWER) naming the endpoint and the first field that is not as documented.
    """
    if unknown := sorted(answers.keys() - KEYS):
        raise VenueError(Fault.BAD_ANSWER, f"unknown key {unknown[0]!r}; known: {', '.join(sorted(KEYS))}", retryable=False)
    told = {key: answers[key] for key in KEYS if answers.get(key) is not None}
    if _REQUIRED not in told:
        raise VenueError(
            Fault.BAD_ANSWER, f"the key {_REQUIRED!r} is missing: the raw answer of POST /api/v1/{_REQUIRED}", retryable=False
        )
    for key, answer in told.items():
        if isinstance(answer, dict) and answer.get("status", "ok") != "ok":
            code, text = answer.get("err_code", answer.get("err-code", "")), answer.get("err_msg", answer.get("err-msg", ""))
            problem = f"{key}: the venue refused the call: {answer['status']} {code} {text}".strip()
            raise VenueError(Fault.BAD_ANSWER, problem, retryable=False)
    counters = Counters()
    snapshots = coin_snapshots(told[_REQUIRED], account=account)
    yield _instruments(told.get("contract_contract_info"), snapshots, counters)
    for key, tables in (
        ("contract_adjustfactor", reference.adjust_factors),
        ("contract_ladder_margin", reference.ladder_margins),
        ("contract_query_elements", reference.coin_terms),
    ):
        if key in told:
            yield tables(told[key], counters)
    implied = {code: price for snapshot in snapshots for code, price in snapshot.implied_prices.items()}
    yield Prices(VENUE, PriceKind.LAST, _prices(implied | _plain(told.get("last_prices", {}), "last_prices"), at_ms))
    if "mark_prices" in told:
        yield Prices(VENUE, PriceKind.MARK, _prices(_plain(told["mark_prices"], "mark_prices"), at_ms))
    yield from snapshots
    if counters.refused:
        refused = ", ".join(f"{times} × {reason}" for reason, times in sorted(counters.refused.items()))
        raise VenueError(Fault.BAD_ANSWER, f"rows that are not as documented: {refused}", retryable=False)


def _plain(answer: Answer, what: str) -> dict[str, float]:
    return {code.upper(): price for code, price in read(answer, dict[Name, PriceNumber], what).items()}


def _prices(prices: Mapping[str, float], at_ms: int) -> list[Price]:
    return [Price(code, price, at_ms) for code, price in prices.items()]


def _instruments(answer: Answer | None, snapshots: Iterable[CoinSnapshot], counters: Counters) -> Instruments:
    """As the file tells, and those of the positions that it does not tell."""
    rows = () if answer is None else reference.instruments(answer, counters).rows
    known = {row.symbol for row in rows}
    held = {leg.symbol: leg.margin_asset for snapshot in snapshots for leg in snapshot.positions}
    own = [
        Instrument(code, coin, reference.LISTED, face=_FACE_USD.get(coin, _FACE_USD_OTHERS))
        for code, coin in held.items()
        if code not in known
    ]
    return Instruments(VENUE, (*rows, *own))
