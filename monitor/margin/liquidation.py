"""The mark price of each symbol at which its pool of linear contracts is liquidated, everything else of the pool as it is.

Along the mark P of one symbol, surplus(P) = equity(P) − maintenance margin(P) is a chain of straight lines. It bends where
a leg enters another tier and where the equity of the symbol's margin asset changes its sign (owned at bid, owed at ask).
Each line is solved for zero by its own intercept and slope, and the zero counts if it lies on its own stretch.
With all rates 1 this is the venue's own formula (Binance help b3c689c1f50a44cabb3a84e663b81d93, with its rule that the
bracket is the one at the liquidation price). For Multi-Assets mode the venue documents none: there it is our estimate.
What "everything else as it is" leaves out: an asset index that moves together with the mark (BTC as collateral of BTC).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.margin.brackets import maintenance_margin, tier_of
from monitor.margin.joint import asset_value, margin_value, unrealized_pnl
from monitor.model.figures import Array

IntArray = NDArray[np.int64] | NDArray[np.intp]

ROUNDING = 1e-12  # a price below this fraction of the mark is the rounding of 0: an account that a fall to 0 just empties


def liquidation_prices(
    *,
    symbol: IntArray,
    quantity: Array,
    entry: Array,
    mark: Array,
    floors: Array,
    rates: Array,
    deductions: Array,
    slot: IntArray,
    slot_wallet: Array,
    slot_bid: Array,
    slot_ask: Array,
    slot_pool: IntArray | None = None,
) -> Array:
    """Liquidation price of each leg, in the quote asset, shape (n,); NaN: there is none, or it is unknown.

    symbol: any number that the legs of one symbol share, (n,); in one pool they get the same price, as they have the same mark.
    quantity: signed coin, 0 is flat; entry, mark: quote per coin; all (n,).
    floors, rates, deductions: the tiers of each leg, (n, tiers), padded as in `TierTables`.
    slot: index of the leg's margin asset, (n,). slot_wallet: in the asset; slot_bid, slot_ask: pool unit per asset, (slots,).
    slot_pool: any number that the slots of one pool share, (slots,); None: all are of one pool. Pools do not touch each other.
    Where a hedged symbol has two liquidation prices, one on either side, it is the nearer by |ln(price / mark)|. The surplus
    is concave, positive only between the two, so of a pool under water the nearer one is the way out.
    A NaN input makes unknown only the prices that depend on it.
    """
    prices = np.full(len(quantity), np.nan)
    held = np.flatnonzero(quantity != 0)
    if not len(held):
        return prices
    pool = np.zeros(len(slot_wallet), np.intp) if slot_pool is None else slot_pool
    symbols, number = np.unique(symbol[held], return_inverse=True)
    _, one, group = np.unique(pool[slot[held]] * len(symbols) + number, return_index=True, return_inverse=True)
    legs = _Legs(group, one, quantity[held], entry[held], mark[held], floors[held], rates[held], deductions[held], slot[held])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # rows without a price, padding
        rest = _rest_of_pool(legs, pool, slot_wallet, slot_bid, slot_ask)
        prices[held] = _nearest_zero(_lines(legs, rest), legs.mark[one])[group]
    return prices


class _Legs(NamedTuple):
    """Open legs, shape (n,) or (n, tiers)."""

    group: IntArray  # numbers the symbols of all pools 0..groups-1
    one: IntArray  # (groups,): one leg of each symbol, for what its legs have in common
    quantity: Array
    entry: Array
    mark: Array
    floors: Array
    rates: Array
    deductions: Array
    slot: IntArray


class _Rest(NamedTuple):
    """What stays fixed while the mark of one symbol moves, shape (groups,)."""

    surplus: Array  # other assets' values − all other legs' maintenance margin, in the pool's unit
    equity: Array  # of the symbol's margin asset without the symbol's own legs: wallet + other PnL, in the asset
    bid: Array
    ask: Array


class _Lines(NamedTuple):
    """surplus(P) = intercept + slope·P for low < P ≤ high, shape (groups, stretches), ascending; low = high is padding."""

    low: Array
    high: Array
    intercept: Array
    slope: Array


def _rest_of_pool(legs: _Legs, pool: IntArray, wallet: Array, bid: Array, ask: Array) -> _Rest:
    notional = np.abs(legs.quantity) * legs.mark
    tier = tier_of(notional, legs.floors)[:, None]
    rate, deduction = (np.take_along_axis(table, tier, axis=1)[:, 0] for table in (legs.rates, legs.deductions))
    maintenance = maintenance_margin(notional, rate, deduction)
    pnl = unrealized_pnl(legs.quantity, legs.mark, legs.entry)

    # A cell is a symbol beside one slot of its pool.
    own = legs.slot[legs.one]
    cell_group, cell_slot = _pairs(pool[own], pool)
    cells = cell_group * len(wallet) + cell_slot  # ascending
    home = np.searchsorted(cells, np.arange(len(own)) * len(wallet) + own)

    # Summed over the other legs, not taken off the total: an unknown price of the symbol itself is no part of its rest.
    group, leg = _pairs(pool[own], pool[legs.slot])
    other = legs.group[leg] != group
    group, leg = group[other], leg[other]
    cell = np.searchsorted(cells, group * len(wallet) + legs.slot[leg])
    equity = wallet[cell_slot] + _sums(cell, pnl[leg], len(cells))
    required = _sums(cell, maintenance[leg], len(cells))

    value = asset_value(equity, bid[cell_slot], ask[cell_slot])
    value[home] = 0.0  # it moves with the mark: part of the lines
    asked = margin_value(required, ask[cell_slot])
    surplus = _sums(cell_group, value, len(own)) - _sums(cell_group, asked, len(own))
    return _Rest(surplus, equity[home], bid[own], ask[own])


def _lines(legs: _Legs, rest: _Rest) -> _Lines:
    groups, size = len(legs.one), np.abs(legs.quantity)
    # Equity of the margin asset = offset + net·P.
    net = _sums(legs.group, legs.quantity, groups)
    offset = rest.equity - _sums(legs.group, legs.quantity * legs.entry, groups)
    sign_change = -offset / net

    borders = legs.floors / size[:, None]
    borders[:, 0] = 0.0  # below the first floor the first tier holds
    bends = np.where(sign_change > 0, sign_change, np.inf)[:, None]
    low = np.sort(np.concatenate([_side_by_side(borders, legs.group, groups), bends], axis=1), axis=1)
    high = np.concatenate([low[:, 1:], np.full((groups, 1), np.inf)], axis=1)

    tier = (borders[:, None, 1:] <= low[legs.group][:, :, None]).sum(axis=2)
    required_slope, deducted = np.zeros_like(low), np.zeros_like(low)
    np.add.at(required_slope, legs.group, size[:, None] * np.take_along_axis(legs.rates, tier, axis=1))
    np.add.at(deducted, legs.group, np.take_along_axis(legs.deductions, tier, axis=1))

    up, down, constant = (net > 0)[:, None], (net < 0)[:, None], (offset >= 0)[:, None]
    owned = np.where(up, low >= sign_change[:, None], np.where(down, low < sign_change[:, None], constant))
    rate, ask = np.where(owned, rest.bid[:, None], rest.ask[:, None]), rest.ask[:, None]
    intercept = rest.surplus[:, None] + rate * offset[:, None] + ask * deducted
    return _Lines(low, high, intercept, rate * net[:, None] - ask * required_slope)


def _nearest_zero(lines: _Lines, mark: Array) -> Array:
    low, high, intercept, slope = lines
    at_low = np.sign(intercept + slope * low)
    at_high = np.sign(np.where(np.isinf(high), np.where(slope == 0, intercept, slope), intercept + slope * high))
    zero = np.where(at_low * at_high <= 0, np.clip(-intercept / slope, low, high), np.nan)
    # A table whose tiers do not meet may pass zero in the jump; so may, by rounding, a zero that lies on a border.
    jump = np.where(at_high[:, :-1] * at_low[:, 1:] < 0, high[:, :-1], np.nan)

    found = np.concatenate([zero, jump], axis=1)
    found[~((found > ROUNDING * mark[:, None]) & (found < np.inf))] = np.nan
    distance = np.abs(np.log(found / mark[:, None]))
    nearest = np.argmin(np.where(np.isnan(distance), np.inf, distance), axis=1)
    price = found[np.arange(len(mark)), nearest]
    unknown = (np.isnan(intercept + slope) & (low < high)).any(axis=1)  # a zero elsewhere may not be the nearest
    return np.where(unknown, np.nan, price)


def _pairs(left: IntArray, right: IntArray) -> tuple[IntArray, IntArray]:
    """All (i, j) with left[i] = right[j], ascending."""
    order = np.argsort(right, kind="stable")
    first, end = (np.searchsorted(right[order], left, side) for side in ("left", "right"))
    count = end - first
    i = np.repeat(np.arange(len(left)), count)
    return i, order[np.arange(len(i)) - np.repeat(np.cumsum(count) - count - first, count)]


def _sums(index: IntArray, weights: Array, size: int) -> Array:
    """Sum of the weights of each index 0..size-1."""
    return np.bincount(index, weights, minlength=size).astype(np.float64)


def _side_by_side(rows: Array, group: IntArray, groups: int) -> Array:
    """The rows of each group in one long row, padded with +inf: (n, k) → (groups, legs·k)."""
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(groups))
    place = np.empty(len(group), np.intp)
    place[order] = np.arange(len(group)) - starts[group[order]]
    out = np.full((groups, int(place.max()) + 1, rows.shape[1]), np.inf)
    out[group, place] = rows
    return out.reshape(groups, -1)
