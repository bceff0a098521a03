"""Inverse contracts margined in their coin: HTX (Huobi) coin-margined delivery futures.

A pool is one coin of an account: all contracts of the coin, of all periods, long and short side by side. Amounts are in the
coin. Margin and PnL come from the *last* price of each contract. `contracts` of a leg are signed, short < 0; where long and
short stand side by side both are ≥ 0. `leverage` is one for the whole coin.

    used = position margin + frozen margin        requirement = adjustment factor × used
    guarantee-asset ratio = equity / used − adjustment factor: a fraction, falls towards trouble, liquidation at ≤ 0

`joint.health(equity, requirement)` and `joint.margin_ratio(equity, requirement)` hold here too: with R the guarantee-asset
ratio and a the factor, health is (R + a) / a, and its inverse is what the venue has shown as "margin ratio" since 2022.

All functions take arrays of equal shape (a scalar is an array of one) and propagate NaN: an unknown input makes an unknown
figure, never a wrong one. A price or a cost that is not > 0 is unknown. Sources: HTX help pages on margin, locked margin
(900001259343), forced liquidation (104918583173469). The formulas give what published accounts say, to twelve digits; of
locking across contracts, of several contracts near liquidation and of a transfer_profit_ratio above 0 none is published.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.model.figures import Array

Indices = NDArray[np.intp]

SAME_CONTRACT_FREED = 1.0  # of the margin locked between long and short of one contract
CROSS_CONTRACT_FREED = 0.5  # of the margin locked between different contracts
ROUNDING = 1e-12  # a price factor below this, or above its inverse, is what rounding leaves of 0, or of "never"
WHOLE = 1e-9  # a number of contracts this little above a whole one, as a fraction of the leg, is that whole one


# ------------------------------------------------------------------ legs


def notional(face: Array, contracts: Array, price: Array) -> Array:
    """What a leg is worth, in the coin, signed like `contracts`. face: USD per contract. Flat: 0, whatever the price."""
    return _quotient(face * contracts, price)


def leg_margin(leg_notional: Array, leverage: Array) -> Array:
    """face × contracts / last price / leverage, before locking: `position_margin` of the venue's position records."""
    return _quotient(np.abs(leg_notional), leverage)


def unrealized_pnl(leg_notional: Array, cost: Array, price: Array) -> Array:
    """In the coin: face × contracts × (1/cost − 1/price), written so that a small move loses no digits.

    leg_notional: `notional` at this price; cost: USD per coin. From `cost_hold`, which each settlement renews, it is
    `profit_unreal`, the part of equity; from `cost_open` it is `profit`, what the trade has earned since it was opened.
    """
    return _quotient(np.where(leg_notional == 0, 0.0, leg_notional * (price - cost)), cost)


# ------------------------------------------------------------------ pools


class Locked(NamedTuple):
    """Position margin of pools and how it comes about, in the coin, each of shape (pools,)."""

    total: Array  # of all legs, before locking
    same: Array  # locked between long and short of one contract
    cross: Array  # locked between long and short of different contracts
    margin: Array  # what is charged: `margin_position`

    @property
    def saved(self) -> Array:
        """What locking frees."""
        return self.total - self.margin


def lock(long_margin: Array, short_margin: Array, pool: Indices, pools: int) -> Locked:
    """Opposite legs need less margin: total − 100 % of what locks in one contract − 50 % of what then locks across.

    long_margin, short_margin: `leg_margin` of both directions, one row per contract of a pool; pool: its index in 0..pools−1.
    Margins lock, not contracts: at unlike prices equal contracts leave a rest. What has locked in its own contract does not
    lock across once more: the venue's announcement breaks off there, but only this reading fits its own example.
    """
    same = np.minimum(long_margin, short_margin)
    return _locked(
        _sums(pool, same, pools),
        _sums(pool, long_margin - same, pools),
        _sums(pool, short_margin - same, pools),
    )


def margin_after_delivery(
    long_margin: Array, short_margin: Array, leaving: NDArray[np.bool_], pool: Indices, pools: int
) -> Array:
    """Position margin of the pools, (pools,), when the contracts marked `leaving` are delivered and the others stay.

    Rows as in `lock`. Never more than now, but a leg whose counterpart leaves is charged in full again: less is freed than the
    leaving legs bore, and what stays is no longer hedged. Equity stays but for fees, as the delivered PnL is realised; the net
    position falls by the part of the leaving contracts.
    """
    return lock(np.where(leaving, 0.0, long_margin), np.where(leaving, 0.0, short_margin), pool, pools).margin


def net_contracts(long_contracts: Array, short_contracts: Array, pool: Indices, pools: int) -> Array:
    """What the tier of the adjustment factor goes by: Σ |long − short| over the contracts of a pool; rows as in `lock`."""
    return _sums(pool, np.abs(long_contracts - short_contracts), pools)


def margin_balance(margin_static: Array, pnl: Array) -> Array:
    """The equity of pools. pnl: Σ `unrealized_pnl` from cost_hold. Realised PnL is inside margin_static already."""
    return margin_static + pnl


def led(own: Array, venue: Array, gap: Array) -> Array:
    """An own figure of pools where the venue's own word of it leads.

    gap: venue − own when that word came, 0 where own explains it. The word holds; as prices move own towards it, that much of
    the gap is filled (ours was late), and as they move own away, the whole gap goes along: it is the one in the middle of own,
    own + gap and the word.
    """
    return np.where(gap == 0, own, own + np.clip(venue - own, np.minimum(gap, 0.0), np.maximum(gap, 0.0)))


def requirement(used: Array, factor: Array) -> Array:
    """The equity at which liquidation starts. Nothing used requires nothing, whatever the factor; NaN for a factor ≤ 0."""
    return np.where(used == 0, 0.0, np.where(factor > 0, factor, np.nan) * used)


def guarantee_asset_ratio(equity: Array, used: Array, factor: Array) -> Array:
    """`risk_rate`: a fraction; 0 is liquidation, lower is worse. NaN where nothing is used: nothing can be liquidated."""
    out = np.full(np.shape(equity), np.nan)
    np.divide(equity, used, out=out, where=used > 0)
    ratio: Array = out - factor
    return ratio


def available(cap: Array, position_margin: Array, frozen: Array) -> Array:
    """For new orders: `margin_available`. cap: `LadderTables.cap` of the equity.

    Below 0 by as much as is missing: to the venue equity = position + frozen + available, and no published account is cut at 0.
    """
    return cap - position_margin - frozen


def liquidation_price_factor(equity: Array, net_notional: Array, position_margin: Array, factor: Array) -> Array:
    """By which common factor x all last prices of a pool move until it is liquidated; x × last price is each contract's
    liquidation price. NaN: there is none, or it is unknown.

    net_notional: Σ `notional` of the legs, signed. At x the equity is E + N (1 − 1/x) and the margin is M / x, so that
    E + N = (N + a M) / x. Frozen margin is left out, as orders die first, and the adjustment factor stays. For one contract
    it is the venue's own `liquidation_price`; for several the venue documents none, there it is our estimate.
    """
    floating = net_notional + factor * position_margin
    kept = equity + net_notional  # the coins that no price moves
    x = np.full(np.shape(floating), np.nan)
    np.divide(floating, kept, out=x, where=kept != 0)
    return np.where((x > ROUNDING) & (x < 1 / ROUNDING), x, np.nan)


def transferable(margin_static: Array, profit_real: Array, profit_unreal: Array, used: Array, profit_ratio: Array) -> Array:
    """What may leave the account: `withdraw_available`, before the venue's own caps.

    Realised profit of the period leaves only beyond the used margin, and only the part profit_ratio of it:
    `transfer_profit_ratio` of the coin, 0 where it is not settled in real time. Unrealised profit never leaves.
    """
    opening = margin_static - profit_real  # equity at the last settlement + net transfers since
    covered = np.maximum(0.0, used - np.maximum(0.0, profit_real))
    free = np.maximum(0.0, profit_real - used)
    of_profit = np.where(free == 0, 0.0, free * profit_ratio)  # nothing of nothing, whatever the ratio
    losses = np.minimum(profit_real, 0.0) + np.minimum(profit_unreal, 0.0)
    amount: Array = np.maximum(0.0, opening + losses - covered) + of_profit
    return amount


def transferable_bound(amount: Array, equity: Array, used: Array) -> Array:
    """The cautious reading of `transferable`: never more than the equity that is not used."""
    return np.minimum(amount, np.maximum(0.0, equity - used))


# ------------------------------------------------------------------ what to do


def deposit_for_health(equity: Array, requirement: Array, target: Array | float) -> Array:
    """Coin to send so that equity = target × requirement; 0.0 if health is there already."""
    return np.maximum(0.0, target * requirement - equity)


def reduction_for_health(
    *,
    long_contracts: Array,
    short_contracts: Array,
    contract_margin: Array,
    net_max: Array,
    factors: Array,
    frozen: float,
    equity: float,
    target: float,
) -> tuple[Array, Array]:
    """The fewest whole contracts of each leg of one pool, taken alone, to close so that health ≥ target: (of longs, of shorts).

    long_contracts, short_contracts, contract_margin: one row per contract, (n,); contract_margin: face / last price / leverage.
    net_max, factors: the tiers of the adjustment factor, (tiers,), as a row of `FactorTables`; target > 0.
    Closed at the last price, fees not counted: PnL becomes realised and equity stays. Closing unlocks the opposite leg and
    changes the net position, so the requirement falls in bends, and jumps where a tier ends; closing the smaller leg can
    raise it. 0 if health is there already; NaN if closing all of it does not suffice, if the leg is flat, or if an input is
    unknown.
    """
    held = (long_contracts != 0) | (short_contracts != 0)
    contract_margin = np.where(held, contract_margin, 0.0)  # a contract long delivered has no price, and needs none
    allowed = np.full(len(factors), np.nan)  # position margin that each tier permits
    np.divide(equity, target * factors, out=allowed, where=factors > 0)
    allowed -= frozen
    sides = ((long_contracts, short_contracts), (short_contracts, long_contracts))
    of_longs, of_shorts = (_fewest_to_close(own, opposite, contract_margin, net_max, allowed) for own, opposite in sides)
    return of_longs, of_shorts


def _fewest_to_close(own: Array, opposite: Array, contract_margin: Array, net_max: Array, allowed: Array) -> Array:
    """Whole contracts of each leg of one side, until its pool's position margin is allowed in the tier that it then is in."""
    each = contract_margin[:, None]
    same = np.minimum(own, opposite) * contract_margin
    beyond = np.maximum(own - opposite, 0.0) * contract_margin
    against = np.maximum(opposite - own, 0.0) * contract_margin
    other_same, other_own, other_opposite = ((margin.sum() - margin)[:, None] for margin in (same, beyond, against))

    # Margin falls along chains of straight lines. They bend where the leg begins to unlock its own contract, and where its
    # side of the pool becomes the smaller one.
    net = own - opposite
    turn = net + _quotient((other_own - other_opposite)[:, 0], contract_margin)
    closed = np.sort(np.clip(np.stack([np.zeros_like(own), net, turn, own], axis=1), 0.0, own[:, None]), axis=1)
    left_net = net[:, None] - closed
    margin = _locked(
        other_same + np.minimum(own[:, None] - closed, opposite[:, None]) * each,
        other_own + np.maximum(left_net, 0.0) * each,
        other_opposite + np.maximum(-left_net, 0.0) * each,
    ).margin
    enough = np.ceil(_first_at_or_below(allowed, closed, margin) - WHOLE * own[:, None])  # (n, tiers)

    # In each tier the fewest are these, or as many as it takes to enter it: on the way down to a net position of 0, or on the
    # way up beyond.
    other_net = np.abs(net).sum() - np.abs(net)
    high = net_max - other_net[:, None]
    low = np.concatenate([np.full((len(net), 1), -np.inf), high[:, :-1]], axis=1)
    fewest = np.full(len(own), np.inf)
    for entry in (np.ceil(net[:, None] - high), np.floor(net[:, None] + low) + 1):
        count = np.maximum(enough, entry)
        left = np.abs(net[:, None] - count)
        valid = (left > low) & (left <= high) & (count <= own[:, None])
        fewest = np.minimum(fewest, np.where(valid, count, np.inf).min(axis=1))
    return np.where((own > 0) & (fewest < np.inf), np.maximum(fewest, 0.0), np.nan)


def _first_at_or_below(limit: Array, x: Array, y: Array) -> Array:
    """Where each chain of lines through (x, y), shape (n, points), first comes down to each limit, shape (limits,): (n, limits).

    x ascends and y falls; +inf where it stays above, or where y or the limit is NaN.
    """
    y = np.minimum.accumulate(y, axis=1)  # but for rounding it is so
    above = (~(y[:, :, None] <= limit)).sum(axis=1)
    end = np.clip(above, 1, x.shape[1] - 1)
    x0, x1, y0, y1 = (np.take_along_axis(a, e, axis=1) for a, e in ((x, end - 1), (x, end), (y, end - 1), (y, end)))
    between = (above > 0) & (above < x.shape[1])
    step = np.zeros(above.shape)
    np.divide(y0 - limit, y0 - y1, out=step, where=between)
    return np.where(above == 0, x0, np.where(between, x0 + step * (x1 - x0), np.inf))


# ------------------------------------------------------------------ arithmetic


def _locked(same: Array, longs: Array, shorts: Array) -> Locked:
    """same: locked in the contracts; longs, shorts: the margin of either side beyond that."""
    cross = np.minimum(longs, shorts)
    total = 2 * same + longs + shorts
    return Locked(total, same, cross, total - same * SAME_CONTRACT_FREED - cross * CROSS_CONTRACT_FREED)


def _quotient(numerator: Array, positive: Array) -> Array:
    """0 of anything is 0, also of what is unknown; otherwise a divisor that is not > 0 is unknown."""
    out = np.where(numerator == 0, 0.0, np.nan)
    np.divide(numerator, positive, out=out, where=(numerator != 0) & (positive > 0))
    return out


def _sums(target: Indices, values: Array, size: int) -> Array:
    """Sum of the values of each target 0..size−1."""
    return np.bincount(target, values, minlength=size).astype(np.float64, copy=False)
