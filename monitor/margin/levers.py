"""What to do, with its amount: how much to send, or how much of a position to close, so that health is back at a target.

health = equity / requirement (maintenance margin). Prices and rates stay as they are, fees are not counted. Each answer
stands alone: one deposit, or one position reduced.
"""

import numpy as np

from monitor.margin.brackets import maintenance_margin, tier_of
from monitor.model.figures import Array


def deposit_for_health(
    *,
    slot_equity: Array,
    slot_bid: Array,
    slot_ask: Array,
    slot_index: int,
    equity: float,
    requirement: float,
    target: float,
) -> float:
    """Amount of the asset `slot_index` to send, in that asset, so that equity = target × requirement.

    slot_equity: wallet + unrealised PnL of each asset, in the asset; slot_bid, slot_ask: pool unit per asset; all (slots,).
    equity, requirement: of the pool, in its unit. An asset in debt is paid back at ask first; what is beyond counts at bid.
    0.0 if health is there already; NaN if an input is unknown or no amount of this asset suffices (its bid is 0).
    """
    owned, bid, ask = float(slot_equity[slot_index]), float(slot_bid[slot_index]), float(slot_ask[slot_index])
    missing = target * requirement - equity
    if missing <= 0:
        return 0.0
    debt = max(0.0, -owned)
    if missing <= debt * ask:
        return missing / ask
    if not bid > 0 or np.isnan(owned):
        return float("nan")
    return debt + (missing - debt * ask) / bid


def reduction_for_health(
    *,
    notional: Array,
    floors: Array,
    rates: Array,
    deductions: Array,
    ask: Array,
    equity: float,
    requirement: float,
    target: float,
) -> Array:
    """Fraction of each position, taken alone, to close at the mark so that equity = target × requirement; shape (n,).

    notional: |quantity| × mark in the margin asset, (n,); floors, rates, deductions: its tiers, (n, tiers), padded as in
    `TierTables`; ask: pool unit per margin asset, (n,); equity, requirement: of the pool, in its unit.
    Closing at the mark turns PnL into wallet, so equity stays; the requirement falls by the tiers of what is left.
    0 if health is there already, up to 1 (all of it); NaN if closing all of it does not suffice, if the position is flat, or
    if an input is unknown. For cross pools: with a part of an isolated position goes the margin of that part.
    """
    if equity >= target * requirement:
        return np.where(notional > 0, 0.0, np.nan)
    rows = np.arange(len(notional))
    tier = tier_of(notional, floors)
    now = maintenance_margin(notional, rates[rows, tier], deductions[rows, tier])
    allowed = now - (requirement - equity / target) / ask  # maintenance margin that may be left of this position

    # In each tier the largest notional that needs no more than allowed; the largest of all tiers is what may stay.
    caps = np.concatenate([floors[:, 1:], np.full((len(notional), 1), np.inf)], axis=1)
    top = np.minimum(caps, notional[:, None])
    limit = allowed[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):  # padded tiers, and tiers that ask for nothing
        stay = np.where(maintenance_margin(top, rates, deductions) <= limit, top, (limit + deductions) / rates)
        lowest = floors.copy()
        lowest[:, 0] = -np.inf  # the first tier holds down to nothing at all
        left = np.where(stay > lowest, stay, -np.inf).max(axis=1)
        return np.where(left >= 0, 1.0 - left / notional, np.nan)
