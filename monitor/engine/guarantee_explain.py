"""One coin's pool with its workings, for people: figures, what moved it, and what to do."""

import numpy as np

from monitor.engine import moves
from monitor.engine.guarantee_book import GuaranteeBook
from monitor.engine.guarantee_pushes import SIBLING_MS
from monitor.engine.market import FLAT, NEVER
from monitor.engine.pools import Rows
from monitor.margin import guarantee, joint
from monitor.margin.guarantee_tables import FactorTables
from monitor.model.alerts import Cause, Lever
from monitor.model.figures import AssetFigures, GuaranteeFigures, PoolFigures, PositionFigures

MARK_MS_MAX = 60_000  # an older mark price is not shown as one of now


class GuaranteeExplainer:
    """Reads the book; changes nothing but the baselines of `causes`."""

    def __init__(self, book: GuaranteeBook) -> None:
        self._book = book

    # -------------------------------------------------------------- figures

    def figures(self, pool: int, *, now_ms: int, level: int, trusted: bool, why_untrusted: str = "") -> PoolFigures:
        book, p = self._book, self._book.pools
        equity, required = p.equity[pool : pool + 1], p.requirement[pool : pool + 1]
        used, factor = p.used[pool : pool + 1], p.factor[pool : pool + 1]
        ratio = _known(joint.margin_ratio(equity, required)[0])
        guarantee_ratio = _known(guarantee.guarantee_asset_ratio(equity, used, factor)[0])
        positions = self._positions(pool, now_ms)
        unknown = self._unknown(pool, positions) + self._old_marks(pool, now_ms)
        if p.gap_ms[pool] != NEVER and now_ms - p.gap_ms[pool] >= SIBLING_MS:
            unknown.append("positions: not all that the venue's own equity and margin speak of; these lead until a snapshot")
        if why_untrusted:
            unknown.append(f"not trusted: {why_untrusted}")
        return PoolFigures(
            key=book.pool_keys[pool],
            unit=self.unit(pool),
            equity=_known(equity[0]),
            requirement=_known(required[0]),
            initial_margin=_known(used[0]),
            margin_ratio=None if ratio is None or np.isinf(ratio) else ratio,
            health=_known(joint.health(equity, required)[0]),
            guarantee_asset_ratio=guarantee_ratio,
            available=_known(book.available()[pool]),
            withdrawable=_known(book.withdrawable()[pool]),
            level=level,
            trusted=trusted,
            age_ms=None if p.fresh_ms[pool] == NEVER else max(0, now_ms - int(p.fresh_ms[pool])),
            reconcile_difference=_known(p.difference[pool]),
            venue_age_ms=None if p.answered_ms[pool] == NEVER else max(0, now_ms - int(p.answered_ms[pool])),
            venue_equity=_known(p.venue_equity[pool]),
            venue_requirement=_known(p.venue_requirement[pool]),
            venue_withdrawable=_known(p.venue_withdrawable[pool]),
            guarantee=self._guarantee(pool, now_ms),
            assets=(self._asset(pool),),
            positions=positions,
            unknown=tuple(unknown),
        )

    def unit(self, pool: int) -> str:
        return self._book.pool_keys[pool].pool

    def _guarantee(self, pool: int, now_ms: int) -> GuaranteeFigures:
        book, p = self._book, self._book.pools
        return GuaranteeFigures(
            unrealized_pnl=_known(p.pnl[pool]),
            used_margin=_known(p.position_margin[pool]),
            margin_frozen=float(p.frozen[pool]),
            locked_same=_known(p.same[pool]),
            locked_cross=_known(p.cross[pool]),
            net_position=_known(p.net[pool]),
            adjustment_factor=_known(p.factor[pool]),
            price_factor_to_liquidation=_known(book.liquidation_factor()[pool]),
            guarantee_asset_ratio_at_mark=None if self._old_marks(pool, now_ms) else self._ratio_at_mark(pool),
            venue=self._venue(pool),
        )

    def _venue(self, pool: int) -> dict[str, float]:
        """The venue's own figures at its last word, by its own names."""
        key = self._book.pool_keys[pool]
        balance = self._book.accounts[key.account].ledger.balances.get(key.pool)
        if balance is None:
            return {}
        told = {
            "margin_balance": balance.venue_equity,
            "margin_position": balance.venue_position_margin,
            "margin_frozen": balance.margin_frozen,
            "margin_available": balance.venue_available,
            "risk_rate": balance.venue_guarantee_asset_ratio,
            "withdraw_available": balance.venue_withdrawable,
            "liquidation_price": balance.venue_liquidation_price,
            "adjust_factor": balance.adjust_factor,
        }
        return {name: value for name, value in told.items() if value is not None}

    def _ratio_at_mark(self, pool: int) -> float | None:
        """The same ratio at the mark prices; None until all of them are known."""
        book, p, symbols = self._book, self._book.pools, self._book.market.symbols
        rows = self._legs(pool)
        if not len(rows) or np.isnan(symbols.mark[book.legs.symbol[rows]]).any():
            return None
        mark = symbols.mark.copy()
        mark[FLAT] = 1.0
        at = book.at(pool, mark)
        equity, used = np.array([p.static[pool] + at.pnl + p.lead[pool]]), np.array([at.margin + p.frozen[pool]])
        return _known(guarantee.guarantee_asset_ratio(equity, used, p.factor[pool : pool + 1])[0])

    def _old_marks(self, pool: int, now_ms: int) -> list[str]:
        """Mark prices that are known and say nothing of now."""
        book, market = self._book, self._book.market
        symbols = [int(book.legs.symbol[row]) for row in self._legs(pool)]
        ages_ms = {symbol: now_ms + market.clock_offset_ms - int(market.symbols.mark_ms[symbol]) for symbol in symbols}
        return [
            f"guarantee_asset_ratio_at_mark: the mark price of {market.symbol_names[symbol]} is {age_ms / 1000:.0f} s old"
            for symbol, age_ms in ages_ms.items()
            if age_ms >= MARK_MS_MAX and not np.isnan(market.symbols.mark[symbol])
        ]

    def _asset(self, pool: int) -> AssetFigures:
        """The coin itself: the only collateral."""
        p, coin = self._book.pools, self.unit(pool)
        rate = self._book.market.last_rates.get(coin)
        return AssetFigures(
            asset=coin,
            wallet=float(p.static[pool]),
            equity=_known(p.equity[pool]),
            index=None if rate is None else rate.index,
            bid=1.0,
            ask=1.0,
            maintenance_margin=_known(p.requirement[pool]),
        )

    def _legs(self, pool: int) -> Rows:
        book = self._book
        rows: Rows = np.flatnonzero((book.contracts.pool[book.legs.contract] == pool) & (book.legs.quantity != 0))
        return rows

    def _positions(self, pool: int, now_ms: int) -> tuple[PositionFigures, ...]:
        book, legs, symbols = self._book, self._book.legs, self._book.market.symbols
        notional, pnl, margin = book.leg_figures(symbols.price)
        factor = book.liquidation_factor()[pool]
        out = []
        for row in self._legs(pool):
            _, symbol, side = book.leg_keys[row]
            seen = int(symbols.seen_ms[legs.symbol[row]])
            price = symbols.price[legs.symbol[row]]
            out.append(
                PositionFigures(
                    symbol=symbol,
                    side=side,
                    margin_asset=self.unit(pool),
                    quantity=float(legs.quantity[row]),
                    entry_price=float(legs.hold[row]),
                    price=_known(price),
                    price_age_ms=None if seen == NEVER else max(0, now_ms - seen),
                    leverage=_known(book.pools.leverage[pool]),
                    unrealized_pnl=_known(pnl[row]),
                    notional=_known(notional[row]),
                    initial_margin=_known(margin[row]),
                    maintenance_margin=None,
                    bracket=None,
                    maintenance_rate=None,
                    liquidation_price=_known(factor * price),
                )
            )
        return tuple(out)

    def _unknown(self, pool: int, positions: tuple[PositionFigures, ...]) -> list[str]:
        """Why a figure of the pool is None, each cause once."""
        book, p = self._book, self._book.pools
        every = "equity, used_margin, guarantee_asset_ratio, margin_ratio, health, available, transferable, liquidation_price"
        reasons = [f"{every}: no last price of {position.symbol}" for position in positions if position.price is None]
        reasons += [
            f"{every}: the face value of {book.leg_keys[row][1]} is not known"
            for row in self._legs(pool)
            if np.isnan(book.legs.face[row])
        ]
        if np.isnan(p.static[pool]):
            reasons.append(f"{every}: no account of {self.unit(pool)}")
        if p.used[pool] == 0:
            reasons.append("guarantee_asset_ratio, health: no margin is used, so nothing can be liquidated")
        elif np.isnan(p.factor[pool]):
            table = "no table" if p.factor_table[pool] == FactorTables.UNKNOWN else "no tier"
            reasons.append(f"adjustment_factor, guarantee_asset_ratio, margin_ratio, health, liquidation_price: {table} for it")
        elif p.factor[pool] <= 0:
            reasons.append("margin_ratio, health, liquidation_price: an adjustment factor that is not above 0 cannot be right")
        if p.requirement[pool] > 0 and p.equity[pool] <= 0:
            reasons.append("margin_ratio: beyond any number, equity is not positive")
        if not reasons and np.isnan(book.liquidation_factor()[pool]):
            reasons.append(
                "liquidation_price, price_factor_to_liquidation: none, no common move of the prices liquidates the pool"
            )
        if book.without_ladder()[pool]:
            reasons.append(f"available: no margin ladder of {self.unit(pool)} at {p.leverage[pool]:g}x, which limits it")
        elif p.ladder_off[pool]:
            reasons.append("available: the venue's own does not follow from the margin ladder that it published")
        return list(dict.fromkeys(reasons))

    # -------------------------------------------------------------- why, and what to do

    def causes(self, pool: int) -> tuple[Cause, ...]:
        """What moved the pool since the last call; then the count begins anew. Nothing while its equity is unknown."""
        book, p = self._book, self._book.pools
        equity = float(p.equity[pool])
        if np.isnan(equity):
            return ()
        rows = self._legs(pool)
        said: tuple[Cause, ...] = ()
        if p.based[pool]:
            moved = dict(book.moves.of(pool))
            for row in rows.tolist():
                name = book.leg_name(row)
                moved[name] = moved.get(name, 0.0) + book.earned(row, book.market.symbols.price[book.legs.symbol[row]])
            moved[moves.AHEAD] = float(p.lead[pool] - p.base_lead[pool])
            required, needs = book.required.of(pool), float(p.requirement[pool])
            said = moves.told(moved, required, unit=self.unit(pool), equity=equity, requirement=needs)
        self._set_base(np.array([pool]), rows)
        return said

    def begin_baselines(self) -> None:
        book, p = self._book, self._book.pools
        fresh = np.flatnonzero(~p.based & ~np.isnan(p.equity))
        if len(fresh):
            self._set_base(fresh, np.flatnonzero(np.isin(book.contracts.pool[book.legs.contract], fresh)))

    def _set_base(self, pools: Rows, legs: Rows) -> None:
        book = self._book
        book.legs.base_price[legs] = book.market.symbols.price[book.legs.symbol[legs]]
        book.moves.forget(pools.tolist())
        book.required.forget(pools.tolist())
        book.pools.base_lead[pools] = book.pools.lead[pools]
        book.pools.based[pools] = True

    def levers(self, pool: int, target: float) -> tuple[Lever, ...]:
        """The coin to send, or the contracts of one leg to close, so that health is `target` again."""
        book, p = self._book, self._book.pools
        equity, required = p.equity[pool], p.requirement[pool]
        if np.isnan(equity) or np.isnan(required) or required <= 0 or equity >= target * required:
            return ()
        amount = float(guarantee.deposit_for_health(np.array([equity]), np.array([required]), target)[0])
        levers = [Lever("send", amount, self.unit(pool), target)]
        rows = np.flatnonzero(book.contracts.pool == pool)
        contracts, table = book.contracts, p.factor_table[pool]
        face = {book.legs.contract[leg]: book.legs.face[leg] for leg in self._legs(pool)}
        price = book.market.symbols.price[contracts.symbol[rows]]
        each = np.array([face.get(row, np.nan) for row in rows]) / price / p.leverage[pool]
        of_longs, of_shorts = guarantee.reduction_for_health(
            long_contracts=contracts.longs[rows],
            short_contracts=contracts.shorts[rows],
            contract_margin=each,
            net_max=book.factors.net_max[table],
            factors=book.factors.factors[table],
            frozen=float(p.frozen[pool]),
            equity=float(equity),
            target=target,
        )
        options = [
            (count * margin, count, row, side)
            for counts, side in ((of_longs, "LONG"), (of_shorts, "SHORT"))
            for count, margin, row in zip(counts, each, rows, strict=True)
            if np.isfinite(count) and count > 0
        ]
        if options:
            _, count, row, side = min(options)
            symbol = next(name for name, place in book.accounts[book.pool_keys[pool].account].contracts.items() if place == row)
            levers.append(Lever("close", float(count), f"{symbol} {side}", target))
        return tuple(levers)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
