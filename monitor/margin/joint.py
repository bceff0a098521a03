"""Linear contracts with collateral in several assets: Binance USDⓈ-M.

One form serves all three modes. A pool holds slots, one per margin asset, with the rates of that asset. In Multi-Assets
mode the rates are the collateral rates in USD; a single-asset or isolated pool has one slot whose rates are 1.
All functions take arrays of equal shape (a scalar is an array of one) and propagate NaN: an unknown input makes an unknown
figure, never a wrong one.
"""

import numpy as np
from numpy.typing import NDArray

from monitor.model.figures import Array


def unrealized_pnl(quantity: Array, mark: Array, entry: Array) -> Array:
    """In the quote asset. quantity: signed coin."""
    return quantity * (mark - entry)


def initial_margin(notional: Array, leverage: Array) -> Array:
    """Of a position, in the margin asset. notional: |quantity| × mark."""
    return notional / leverage


def asset_value(asset_equity: Array, bid: Array, ask: Array) -> Array:
    """What an asset's equity counts for: owned at bid, owed at ask.

    asset_equity: wallet + unrealised PnL of the cross positions margined in the asset, in the asset.
    Nothing counts for nothing, whatever its rate. Source: Binance help, "How to calculate margin in Multi-Assets mode".
    """
    return np.where(asset_equity == 0, 0.0, np.minimum(asset_equity * bid, asset_equity * ask))


def margin_value(margin: Array, ask: Array) -> Array:
    """What a margin (initial or maintenance) in an asset asks for: at ask, same source."""
    return np.where(margin == 0, 0.0, margin * ask)


def rate_used(asset_equity: Array, bid: Array, ask: Array) -> Array:
    """The one rate of an asset, by the sign of its equity; wallet and PnL are both valued with it."""
    return np.where(np.isnan(asset_equity), np.nan, np.where(asset_equity < 0, ask, bid))


def available(equity: Array, initial: Array) -> Array:
    """For new orders. equity and initial margin of the pool, open orders included, in its unit."""
    return np.maximum(0.0, equity - initial)


def withdrawable_bound(wallet_value: Array, equity: Array, initial: Array, maintenance: Array) -> Array:
    """The documented bound of a transfer out, before the venue's own caps: the figures that move it between two answers.

    Source: Binance help 360038447311: min(wallet − maintenance, equity − initial).
    """
    return np.minimum(wallet_value - maintenance, equity - initial)


def health(equity: Array, requirement: Array) -> Array:
    """equity / requirement; 1.0 is liquidation, lower is worse. NaN where nothing is required: nothing can be liquidated."""
    out = np.full(np.shape(equity), np.nan)
    np.divide(equity, requirement, out=out, where=requirement > 0)
    return out


def health_fall(equity: Array, requirement: Array, equity_moved: Array, requirement_moved: Array) -> Array:
    """The fraction of the health that a move took: 1 − health now / health without it; negative: it added to it.

    equity_moved, requirement_moved: the part of the present figures that the move did, in the same unit. 0 where nothing is
    required, and where equity would not be positive without the move either: there was no health to take.
    """
    equity_then, requirement_then = equity - equity_moved, requirement - requirement_moved
    base = requirement * equity_then
    kept = np.ones(np.shape(base))
    np.divide(equity * requirement_then, base, out=kept, where=(requirement > 0) & (equity_then > 0))
    return np.where(np.isnan(base), np.nan, 1.0 - kept)


def margin_ratio(equity: Array, requirement: Array) -> Array:
    """requirement / equity; 1.0 is liquidation, higher is worse. +inf where equity ≤ 0 bears a requirement; 0 without one."""
    out = np.where(np.isnan(equity) | np.isnan(requirement), np.nan, np.where(requirement > 0, np.inf, 0.0))
    np.divide(requirement, equity, out=out, where=(equity > 0) & (requirement > 0))
    return out


def at_or_below(equity: Array, requirement: Array, limit: Array | float) -> NDArray[np.bool_]:
    """True where equity / requirement ≤ limit. Multiplied out, so that equity ≤ 0 needs no case; no requirement, no danger."""
    return (requirement > 0) & (equity <= limit * requirement)
