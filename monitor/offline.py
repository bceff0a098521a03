"""Figures from raw answers that somebody kept, offline, by the very code of the daemon."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, structs
from rich.console import Console
from rich.table import Table

from monitor.engine.engine import Engine
from monitor.engine.scheme import AccountSetup
from monitor.model.events import Event, TimePassed
from monitor.model.figures import GuaranteeFigures, PoolFigures
from monitor.rules import RuleBook
from monitor.venues.base import VenueError
from monitor.venues.binance import offline as binance_offline
from monitor.venues.htx import offline as htx_offline

ALIAS = "file"
AT_MS = 4_000_000_000_000  # a moment that is later than all row versions in any file
SIZE_MAX = 64 << 20

READERS: dict[str, Callable[..., Iterator[Event]]] = {
    "binance_usdm": binance_offline.events,
    "htx_coin_futures": htx_offline.events,
}

# What the answers do not say and the reader takes for granted, as plain lines.
ASSUMED: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {"binance_usdm": binance_offline.assumed}


class FileError(Exception):
    """What is wrong with the file, and what to do about it."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.problem, self.hint = problem, hint


def pools_of(path: Path) -> list[PoolFigures]:
    """The pools of the account in the file. Raises FileError."""
    answers = _read(path)
    venue = answers.get("venue")
    if not isinstance(venue, str) or venue not in READERS:
        raise FileError(f"{path}: venue is {venue!r}", f"write one of: {', '.join(READERS)}")
    engine = Engine([AccountSetup(venue, ALIAS, RuleBook())])
    try:
        for event in READERS[venue](answers, account=ALIAS, at_ms=AT_MS):
            engine.step(event, AT_MS)
    except VenueError as exc:
        raise FileError(f"{path}: {exc.detail}", "each value is the raw answer of the endpoint that its key names") from None
    engine.step(TimePassed(), AT_MS)
    assumed = ASSUMED[venue](answers) if venue in ASSUMED else []
    found = (engine.figures(key) for key in engine.table().keys)
    return [structs.replace(figures, unknown=(*figures.unknown, *assumed)) for figures in found if figures is not None]


def as_json(pools: list[PoolFigures]) -> dict[str, Any]:
    """The documented shape of `figures --json`; amounts in USD for the pool `USD`, else in the pool's asset."""
    return {"pools": [_pool(pool) for pool in pools]}


def _pool(pool: PoolFigures) -> dict[str, Any]:
    return _joint_pool(pool) if pool.guarantee is None else _coin_pool(pool, pool.guarantee)


def _joint_pool(pool: PoolFigures) -> dict[str, Any]:
    return {
        "pool": pool.key.pool,
        "equity": pool.equity,
        "maintenance_margin": pool.requirement,
        "margin_ratio": pool.margin_ratio,
        "health": pool.health,
        "available": pool.available,
        "withdrawable": pool.withdrawable,
        "assets": [_picked(asset, ("asset", "wallet", "equity", "bid", "ask", "maintenance_margin")) for asset in pool.assets],
        "positions": [_picked(position, LINEAR_LEG) for position in pool.positions],
        "venue": {"equity": pool.venue_equity, "maintenance_margin": pool.venue_requirement},
        "unknown": list(pool.unknown),
    }


def _coin_pool(pool: PoolFigures, coin: GuaranteeFigures) -> dict[str, Any]:
    positions = [
        {**_picked(position, COIN_LEG), "contracts": abs(position.quantity), "position_margin": position.initial_margin}
        for position in pool.positions
    ]
    prices = {position.symbol: position.liquidation_price for position in pool.positions}
    unknown = list(pool.unknown)
    if len(prices) > 1 and coin.price_factor_to_liquidation is not None:
        unknown.append("liquidation_price: each contract has its own, see positions; all move by price_factor_to_liquidation")
    at_mark = {"guarantee_asset_ratio_at_mark": coin.guarantee_asset_ratio_at_mark}
    return {
        "pool": pool.key.pool,
        "equity": pool.equity,
        **_picked(coin, ("unrealized_pnl", "used_margin", "margin_frozen", "locked_same", "locked_cross", "net_position")),
        "adjustment_factor": coin.adjustment_factor,
        "guarantee_asset_ratio": pool.guarantee_asset_ratio,
        "margin_ratio": pool.margin_ratio,
        "health": pool.health,
        "available": pool.available,
        "transferable": pool.withdrawable,
        "liquidation_price": next(iter(prices.values())) if len(prices) == 1 else None,
        "price_factor_to_liquidation": coin.price_factor_to_liquidation,
        **(at_mark if coin.guarantee_asset_ratio_at_mark is not None else {}),
        "positions": positions,
        "venue": coin.venue,
        "unknown": unknown,
    }


LINEAR_LEG = ("symbol", "side", "unrealized_pnl", "notional", "maintenance_margin", "bracket", "liquidation_price")
COIN_LEG = ("symbol", "side", "entry_price", "price", "leverage", "unrealized_pnl", "notional", "liquidation_price")


def _picked(figures: Struct, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(figures, name) for name in names}


def show(pools: list[PoolFigures], console: Console) -> None:
    """The same figures as a table for people."""
    for pool in pools:
        console.print(f"[bold]{pool.key.pool}[/bold]  amounts in {pool.unit}")
        console.print(_head(pool))
        if pool.positions:
            table = Table("position", "side", "PnL", "notional", "margin", "bracket", "liquidation price", box=None)
            for p in pool.positions:
                margin = p.initial_margin if pool.guarantee else p.maintenance_margin
                table.add_row(
                    p.symbol, p.side, *map(_text, (p.unrealized_pnl, p.notional, margin, p.bracket, p.liquidation_price))
                )
            console.print(table)
        for reason in pool.unknown:
            console.print(f"unknown: {reason}", markup=False)
        console.print()


def _head(pool: PoolFigures) -> Table:
    head = Table("", "own", "the venue's", box=None, pad_edge=False)
    head.add_row("equity", _text(pool.equity), _text(pool.venue_equity))
    if pool.guarantee is None:
        head.add_row("maintenance margin", _text(pool.requirement), _text(pool.venue_requirement))
    else:
        coin, told = pool.guarantee, pool.guarantee.venue
        head.add_row("used margin, after locking", _text(coin.used_margin), _text(told.get("margin_position")))
        head.add_row("frozen margin", _text(coin.margin_frozen), _text(told.get("margin_frozen")))
        head.add_row("locked in one contract", _text(coin.locked_same), "")
        head.add_row("locked across contracts", _text(coin.locked_cross), "")
        head.add_row("adjustment factor", _text(coin.adjustment_factor), _text(told.get("adjust_factor")))
        ratio = pool.guarantee_asset_ratio
        head.add_row("guarantee-asset ratio (lower is worse, 0 liquidates)", _text(ratio), _text(told.get("risk_rate")))
    head.add_row("margin ratio (higher is worse, 1 liquidates)", _text(pool.margin_ratio), "")
    head.add_row("health (lower is worse, 1 liquidates)", _text(pool.health), "")
    head.add_row(
        "available", _text(pool.available), _text((pool.guarantee.venue if pool.guarantee else {}).get("margin_available"))
    )
    head.add_row("withdrawable", _text(pool.withdrawable), _text(pool.venue_withdrawable))
    return head


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:,.10g}"


def _read(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > SIZE_MAX:
            raise FileError(f"{path}: larger than {SIZE_MAX >> 20} MiB", "keep the answers of one account in it")
        answers = json.loads(path.read_bytes())
    except OSError as exc:
        raise FileError(f"{path}: {exc.strerror or exc}", "give the path of a JSON file") from None
    except (ValueError, RecursionError) as exc:
        raise FileError(f"{path}: not JSON: {exc}", "one JSON object whose values are raw answers of the venue") from None
    if not isinstance(answers, dict):
        raise FileError(f"{path}: not a JSON object", 'begin with {"venue": "binance_usdm", "account": …}')
    return answers
