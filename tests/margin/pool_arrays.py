"""A pool of an oracle's book as the arrays that `monitor.margin` takes, and its figures by `monitor.margin`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from oracle import Book, bracket_table, members

from monitor.margin import joint
from monitor.margin.brackets import TierTables, maintenance_margin
from monitor.margin.liquidation import IntArray, liquidation_prices
from monitor.model.events import Mode
from monitor.model.figures import Array


@dataclass(frozen=True)
class Figures:
    """By `monitor.margin`: of the legs (n,), of the slots (slots,), of the pool."""

    pnl: Array
    notional: Array
    maintenance: Array
    initial: Array
    tier: IntArray
    slot_equity: Array
    equity: float
    requirement: float
    initial_total: float
    margin_ratio: float
    health: float
    available: float


@dataclass(frozen=True)
class PoolArrays:
    """Names as in `liquidation_prices`."""

    symbol: IntArray
    quantity: Array
    entry: Array
    mark: Array
    leverage: Array
    floors: Array
    rates: Array
    deductions: Array
    slot: IntArray
    slot_wallet: Array
    slot_bid: Array
    slot_ask: Array
    slot_orders: Array
    assets: tuple[str, ...]
    symbols: tuple[str, ...]

    def figures(self) -> Figures:
        rows = np.arange(len(self.quantity))
        notional = np.abs(self.quantity) * self.mark
        tier = (notional[:, None] > self.floors[:, 1:]).sum(axis=1)
        maintenance = maintenance_margin(notional, self.rates[rows, tier], self.deductions[rows, tier])
        pnl = joint.unrealized_pnl(self.quantity, self.mark, self.entry)
        initial = joint.initial_margin(notional, self.leverage)
        slot_equity = self.slot_wallet + self._by_slot(pnl)
        equity = joint.asset_value(slot_equity, self.slot_bid, self.slot_ask).sum()
        requirement = joint.margin_value(self._by_slot(maintenance), self.slot_ask).sum()
        initial_total = joint.margin_value(self._by_slot(initial) + self.slot_orders, self.slot_ask).sum()
        pool = np.array([equity]), np.array([requirement])
        return Figures(
            pnl,
            notional,
            maintenance,
            initial,
            tier,
            slot_equity,
            float(equity),
            float(requirement),
            float(initial_total),
            float(joint.margin_ratio(*pool)[0]),
            float(joint.health(*pool)[0]),
            float(joint.available(equity, initial_total)),
        )

    def prices(self) -> Array:
        return liquidation_prices(
            symbol=self.symbol,
            quantity=self.quantity,
            entry=self.entry,
            mark=self.mark,
            floors=self.floors,
            rates=self.rates,
            deductions=self.deductions,
            slot=self.slot,
            slot_wallet=self.slot_wallet,
            slot_bid=self.slot_bid,
            slot_ask=self.slot_ask,
        )

    def _by_slot(self, values: Array) -> Array:
        return np.bincount(self.slot, values, minlength=len(self.assets)).astype(np.float64)


def arrays_of(book: Book, name: str) -> PoolArrays:
    """The pool with this name."""
    wallets, legs = members(book, name)
    tables = TierTables()
    rows = np.array([tables.row(bracket_table(leg.symbol, book.brackets[leg.symbol])) for leg in legs], np.intp)
    symbols = list(dict.fromkeys(leg.symbol for leg in legs))
    isolated = bool(legs) and legs[0].isolated
    assets = list(wallets)
    rates = [book.rates[asset][1:] if book.mode is Mode.MULTI_ASSETS else ("1", "1") for asset in assets]
    return PoolArrays(
        symbol=np.array([symbols.index(leg.symbol) for leg in legs], np.intp),
        quantity=_floats(leg.quantity for leg in legs),
        entry=_floats(leg.entry for leg in legs),
        mark=_floats(book.marks[leg.symbol] for leg in legs),
        leverage=_floats(book.leverages[leg.symbol] for leg in legs),
        floors=tables.floors[rows],
        rates=tables.rates[rows],
        deductions=tables.deductions[rows],
        slot=np.array([assets.index(book.margin_assets[leg.symbol]) for leg in legs], np.intp),
        slot_wallet=_floats(wallets.values()),
        slot_bid=_floats(bid for bid, _ in rates),
        slot_ask=_floats(ask for _, ask in rates),
        slot_orders=_floats("0" if isolated else book.open_orders.get(asset, "0") for asset in assets),
        assets=tuple(assets),
        symbols=tuple(symbols),
    )


def _floats(texts: Iterable[str | Fraction]) -> Array:
    return np.array([float(text) for text in texts], np.float64)
