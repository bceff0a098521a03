"""Where the mark price of one contract must go for its pool to be liquidated, all other prices standing still."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from monitor.sim.binance.account import Account
from monitor.sim.binance.margin import ZERO, Figures, LegFigures, counted
from monitor.sim.binance.market import Bracket, Market


@dataclass(frozen=True)
class Rest:
    """All of the pool but the contract's own legs. `wallet`, `pnl` and `maintenance` are of the contract's margin asset;
    `other` is what the other assets add (equity − maintenance, in USD)."""

    wallet: Decimal
    pnl: Decimal = ZERO
    maintenance: Decimal = ZERO
    other: Decimal = ZERO
    bid: Decimal = Decimal(1)
    ask: Decimal = Decimal(1)


def solve(legs: Sequence[tuple[Decimal, Decimal]], table: Sequence[Bracket], rest: Rest, mark: Decimal) -> Decimal:
    """The price P at which equity(P) = maintenance(P). Between tier borders both are straight lines in P, so every choice of
    tiers (and of bid or ask for the margin asset) gives one candidate; it counts if it lies where the choice was made.

    legs: (signed quantity, entry price) of the contract's positions in the pool. Returns 0 if there is no positive
    price; of several the one nearest to `mark`.
    """
    quantity = sum((q for q, _ in legs), ZERO)
    cost = sum((q * entry for q, entry in legs), ZERO)
    found: list[Decimal] = []
    for rate, tiers in itertools.product({rest.bid, rest.ask}, itertools.product(table, repeat=len(legs))):
        slope = rate * quantity - rest.ask * sum((abs(q) * tier.rate for (q, _), tier in zip(legs, tiers, strict=True)), ZERO)
        if not slope:
            continue
        cum = sum((tier.cum for tier in tiers), ZERO)
        price = (rest.ask * (rest.maintenance - cum) - rest.other - rate * (rest.wallet + rest.pnl - cost)) / slope
        if price <= 0:
            continue
        equity = rest.wallet + rest.pnl + quantity * price - cost
        if rate != (rest.bid if equity >= 0 else rest.ask):
            continue
        last = table[-1]
        if all(
            tier.floor < abs(q) * price and (abs(q) * price <= tier.cap or tier is last)
            for (q, _), tier in zip(legs, tiers, strict=True)
        ):
            found.append(price)
    return min(found, key=lambda price: abs(price - mark), default=ZERO)


def liquidation_price(row: LegFigures, account: Account, market: Market, all_figures: Figures) -> Decimal:
    """Of one open position; 0 if there is none. The two legs of a hedged cross contract share one price."""
    contract = market.contracts[row.leg.symbol]
    if not row.leg.quantity:
        return ZERO
    if row.isolated:
        return solve(((row.leg.quantity, row.leg.entry_price),), contract.brackets, Rest(row.leg.isolated_wallet), row.mark)
    own = [leg for leg in all_figures.legs if leg.leg.symbol == row.leg.symbol and leg.leg.quantity]
    asset = all_figures.assets[row.asset]
    rest = Rest(
        wallet=asset.cross_wallet,
        pnl=asset.cross_pnl - sum((leg.pnl for leg in own), ZERO),
        maintenance=asset.cross_maintenance - sum((leg.maintenance for leg in own), ZERO),
    )
    if account.multi_assets:
        collateral = market.assets[row.asset]
        other = sum(
            (
                counted(a.equity, market.assets[a.asset]) - a.cross_maintenance * market.assets[a.asset].ask
                for a in all_figures.assets.values()
                if a.asset != row.asset and market.assets[a.asset].margin_available
            ),
            ZERO,
        )
        rest = Rest(rest.wallet, rest.pnl, rest.maintenance, other, collateral.bid, collateral.ask)
    return solve([(leg.leg.quantity, leg.leg.entry_price) for leg in own], contract.brackets, rest, row.mark)
