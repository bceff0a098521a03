"""The raw answers of one account, kept in a file, as the events that the live adapter would have made of them."""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct, structs

from monitor.model.events import Event, Instruments, Price, PriceKind, Prices
from monitor.model.instruments import AssetInfo, Instrument
from monitor.model.streams import Counters
from monitor.venues.base import Fault, VenueError
from monitor.venues.binance import reference
from monitor.venues.binance.answers import read
from monitor.venues.binance.snapshot import SnapshotAnswers, account_snapshot, margin_asset_of, read_answers
from monitor.venues.binance.wire import VENUE

KEYS = frozenset(
    {
        "venue",
        "accountConfig",
        "multiAssetsMargin",
        "positionSide",
        "account",
        "positionRisk",
        "symbolConfig",
        "assetIndex",
        "leverageBracket",
        "premiumIndex",
        "exchangeInfo",
    }
)


class _Collateral(Struct, rename="camel"):
    asset: str
    margin_available: bool = True


class _Assets(Struct):
    assets: list[_Collateral]


def events(answers: Mapping[str, Any], *, account: str, at_ms: int) -> Iterator[Event]:
    """answers: by endpoint name, each value the raw answer; only `account` is required.

    Raises VenueError(BAD_ANSWER) naming the endpoint and the first field that is not as documented.
    """
    if unknown := sorted(answers.keys() - KEYS):
        raise VenueError(Fault.BAD_ANSWER, f"unknown key {unknown[0]!r}; known: {', '.join(sorted(KEYS))}", retryable=False)
    if "account" not in answers:
        raise VenueError(
            Fault.BAD_ANSWER, "the key 'account' is missing: the raw answer of GET /fapi/v3/account", retryable=False
        )
    counters = Counters()
    told = _told(answers)
    read_ones = _read(told)
    snapshot = account_snapshot(read_ones, account=account, as_of_ms=at_ms)
    described = reference.instruments(told["exchangeInfo"], counters) if "exchangeInfo" in told else Instruments(VENUE, ())
    yield _instruments(described, read_ones, told["account"])
    if "leverageBracket" in told:
        yield reference.brackets(told["leverageBracket"], counters, account=account, event_time_ms=at_ms)
    if "assetIndex" in told:
        yield reference.asset_rates(told["assetIndex"], counters)
    yield Prices(VENUE, PriceKind.MARK, list(_marks(told, read_ones, snapshot.implied_prices, counters)))
    yield snapshot
    if counters.refused:
        refused = ", ".join(f"{count} × {reason}" for reason, count in sorted(counters.refused.items()))
        raise VenueError(Fault.BAD_ANSWER, f"rows that are not as documented: {refused}", retryable=False)


def assumed(answers: Mapping[str, Any]) -> list[str]:
    """What no answer says and was taken for granted, after `events` has read them."""
    read_ones = _read(_told(answers))
    if read_ones.config.multi_assets_margin is None and read_ones.account.multi_assets_margin is None:
        return [
            "asset mode: no answer names it, taken as single-asset; of a Multi-Assets account every figure is another: "
            "add the answer of accountConfig or multiAssetsMargin"
        ]
    return []


def _told(answers: Mapping[str, Any]) -> dict[str, Any]:
    return {key: answers[key] for key in KEYS if answers.get(key) is not None}


def _read(told: Mapping[str, Any]) -> SnapshotAnswers:
    configs = [told[key] for key in ("accountConfig", "multiAssetsMargin", "positionSide") if key in told]
    return read_answers(told["account"], told.get("positionRisk"), told.get("symbolConfig"), configs)


def _marks(
    told: Mapping[str, Any], answers: SnapshotAnswers, implied: Mapping[str, float], counters: Counters
) -> Iterator[Price]:
    """premiumIndex first, else positionRisk, else what follows from the account's own notional."""
    marks = dict(implied)
    marks |= {row.symbol: row.mark_price for row in answers.risk or () if row.mark_price > 0}
    if "premiumIndex" in told:
        marks |= {row.symbol: row.price for row in reference.mark_prices(told["premiumIndex"], counters).rows}
    yield from (Price(symbol, price, 1) for symbol, price in marks.items())


def _instruments(described: Instruments, answers: SnapshotAnswers, account: Any) -> Instruments:
    """Contracts and collateral as the account itself names them, where exchangeInfo was not kept."""
    known = {row.symbol for row in described.rows}
    named = {row.symbol: row.margin_asset for row in answers.risk or () if row.margin_asset}  # `account` lists only what is held
    collateral = [AssetInfo(row.asset, row.margin_available) for row in read(account, _Assets, "account").assets]
    assets = [*(row.asset for row in collateral), *named.values()]
    symbols = dict.fromkeys(row.symbol for row in (*answers.account.positions, *(answers.risk or ())))
    own = [Instrument(symbol, named.get(symbol) or margin_asset_of(symbol, assets)) for symbol in symbols if symbol not in known]
    return structs.replace(described, rows=(*described.rows, *own), assets=(*collateral, *described.assets), complete=False)
