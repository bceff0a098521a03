"""What the pools of linear contracts are made of, all at once and as columns: a fraction of the work of explaining each."""

import numpy as np

from monitor.engine.columns import FloatColumn
from monitor.engine.joint_book import JointBook
from monitor.engine.market import UNIT
from monitor.engine.pools import Rows
from monitor.margin import joint
from monitor.margin.liquidation import liquidation_prices
from monitor.model.workings import AssetTable, PositionTable


def positions(book: JointBook) -> PositionTable:
    """In the order of the book."""
    legs, slots, market = book.legs, book.slots, book.market
    rows = np.flatnonzero(legs.quantity)
    slot = legs.slot[rows]
    pool, rate_row = slots.pool[slot], slots.rate_row[slot]
    price = market.symbols.price[legs.symbol[rows]]
    pnl, maintenance, notional = book.leg_figures(rows, market.symbols.price)
    index, bid, ask = (column[rate_row] for column in (market.assets.index, market.assets.bid, market.assets.ask))

    def known(figures: FloatColumn) -> FloatColumn:
        return np.where(book.pools.blind[pool], np.nan, figures)

    return PositionTable(
        keys=[(book.pool_keys[of], *book.leg_keys[row][1:]) for of, row in zip(pool, rows, strict=True)],
        units=_units(book, slot),
        price=known(price),
        liquidation_price=known(_liquidation(book, rows)),
        notional=known(np.copysign(notional, legs.quantity[rows]) * index),
        unrealized_pnl=known(pnl * joint.rate_used(slots.equity[slot], bid, ask)),
        requirement=known(joint.margin_value(maintenance, ask)),
    )


def assets(book: JointBook) -> AssetTable:
    """In the order of the book."""
    slots = book.slots
    rows = np.flatnonzero((slots.wallet != 0) | (slots.equity != 0) | (slots.maintenance != 0))
    pool = slots.pool[rows]
    return AssetTable(
        keys=[(book.pool_keys[of], book.slot_assets[row]) for of, row in zip(pool, rows, strict=True)],
        units=_units(book, rows),
        equity=np.where(book.pools.blind[pool], np.nan, slots.value[rows]),
    )


def _liquidation(book: JointBook, rows: Rows) -> FloatColumn:
    legs, slots, rates = book.legs, book.slots, book.market.assets
    tables = legs.table[rows]
    return liquidation_prices(
        symbol=legs.symbol[rows],
        quantity=legs.quantity[rows],
        entry=legs.entry[rows],
        mark=book.market.symbols.price[legs.symbol[rows]],
        floors=book.tiers.floors[tables],
        rates=book.tiers.rates[tables],
        deductions=book.tiers.deductions[tables],
        slot=legs.slot[rows],
        slot_wallet=slots.wallet,
        slot_bid=rates.bid[slots.rate_row],
        slot_ask=rates.ask[slots.rate_row],
        slot_pool=slots.pool,
    )


def _units(book: JointBook, slots: Rows) -> list[str]:
    """Of the slots' pools: USD for joint margin, else the margin asset."""
    joint_margin = book.slots.rate_row[slots] != UNIT
    return [
        book.pool_keys[book.slots.pool[slot]].pool if of_many else book.slot_assets[slot]
        for slot, of_many in zip(slots, joint_margin, strict=True)
    ]
