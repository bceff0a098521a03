"""What the collateral itself does: its rate, its premium, its mix, and the venue's automatic exchange."""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, StringConstraints, field_validator

from monitor.model.alerts import Level, Worse
from monitor.model.figures import Array
from monitor.rules.base import LadderRule, Levels, Mask, above

# As the venue writes it: "usdt" would never match.
AssetName = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{1,20}$")]


class CollateralRateRule(LadderRule):
    """The USD rate of a pegged asset moves away from 1, or from where it was a while ago. Others: see CollateralMoveRule."""

    name: ClassVar[str] = "collateral_rate"
    worse: ClassVar[Worse] = Worse.AWAY

    info: float | None = Field(0.005, gt=0, description="fraction moved; more than this counts")
    high: float | None = Field(0.01, gt=0, description="fraction moved")
    critical: float | None = Field(0.03, gt=0, description="fraction moved")
    hysteresis: float = Field(0.1, ge=0, lt=1, description="clears this fraction of the limit beyond it")
    share_min: float = Field(0.01, ge=0, le=1, description="silent for an asset below this share of the pool's equity")
    pegged: tuple[AssetName, ...] = Field(
        (
            "USDT",
            "USDC",
            "FDUSD",
            "BFUSD",
            "BUSD",
            "TUSD",
            "USD1",
            "USDE",
            "RWUSD",
            "DAI",
            "USDP",
            "BNFCR",
            "LDUSDT",
            "U",
        ),
        description="assets that are worth 1 USD each; any other is left to `collateral_move`",
    )

    def judge(self, move_from_peg: Array, move_in_window: Array, share: Array, was: Levels) -> Levels:
        """Per pegged asset. Moves: index / reference − 1 (0 or NaN where there is none); share: |value| / |equity|."""
        move = np.fmax(np.abs(move_from_peg), np.abs(move_in_window))
        level = above(self, np.nan_to_num(move), was, inclusive=False)
        level[~(share >= self.share_min)] = 0
        return level

    def summary(self, subject: str, level: Level, value: float, limit: float | None) -> str:
        if level <= Level.OK or limit is None:
            return f"rate of {subject} is calm again ({value:+.2%})"
        return f"rate of {subject} moved {value:+.2%}, more than {limit:.2%}"


class CollateralMoveRule(LadderRule):
    """What the move of an asset without a peg has cost: the part of the pool's health that it took within the hour."""

    name: ClassVar[str] = "collateral_move"
    worse: ClassVar[Worse] = Worse.UP

    enabled: bool = Field(False, description="off: such an asset moves every day, and what it does is in `health` already")
    warning: float | None = Field(0.10, gt=0, description="fraction of the pool's health that the move took; at or above counts")
    high: float | None = Field(0.20, gt=0, description="fraction of the pool's health")
    hysteresis: float = Field(0.1, ge=0, lt=1, description="clears this fraction of the limit beyond it")

    def judge(self, fall: Array, was: Levels) -> Levels:
        """Per asset that is not pegged. fall: 1 − health / health at the asset's rate of an hour ago; negative: it rose."""
        return above(self, np.nan_to_num(fall), was)

    def summary(self, subject: str, level: Level, value: float, limit: float | None) -> str:
        if level <= Level.OK or limit is None:
            return f"the move of {subject} takes {max(value, 0.0):.1%} of the pool's health, below its limit"
        return f"the move of {subject} took {value:.1%} of the pool's health, at or above {limit:.0%}"


class PremiumRule(LadderRule):
    """A stablecoin costs more than its dollar: the articles' "USDT premium 2 %"."""

    name: ClassVar[str] = "premium"
    worse: ClassVar[Worse] = Worse.UP

    enabled: bool = Field(False, description="off: an opportunity rather than a danger")
    info: float | None = Field(0.02, gt=0, description="premium over 1 USD, a fraction")
    assets: tuple[AssetName, ...] = Field(("USDT",), description="assets that are watched, as the venue writes them")

    def judge(self, index: Array, watched: Mask, was: Levels) -> Levels:
        """index: USD per unit; watched: the asset is one of `assets`."""
        return above(self, np.where(watched, index - 1.0, 0.0), was)

    def summary(self, subject: str, level: Level, value: float, limit: float | None) -> str:
        if level <= Level.OK or limit is None:
            return f"premium of {subject} is {value:+.2%}, below its limit"
        return f"{subject} costs {value:+.2%} over its dollar, at or above {limit:.2%}"


class AssetMixRule(LadderRule):
    """The share of an asset in the collateral drifts from its target: the articles' "70/30"."""

    name: ClassVar[str] = "asset_mix"
    worse: ClassVar[Worse] = Worse.AWAY

    enabled: bool = Field(False, description="off: a matter of strategy")
    warning: float | None = Field(0.05, gt=0, description="distance from the target, as a fraction of equity; more counts")
    targets: dict[AssetName, Annotated[float, Field(ge=0, le=1)]] = Field(
        {"USDT": 0.70, "USDC": 0.30}, description="share of equity by asset, a fraction: 0.7 is 70 %; together at most 1"
    )

    @field_validator("targets")
    @classmethod
    def _shares_of_one(cls, targets: dict[str, float]) -> dict[str, float]:
        if sum(targets.values()) > 1 + 1e-9:
            raise ValueError(f"shares add up to {sum(targets.values()):g}, more than 1")
        return targets

    def __hash__(self) -> int:  # pydantic's own cannot hash the mapping; the engine groups accounts by equal rules
        return hash((self.enabled, tuple(self.ladder), self.hysteresis, tuple(sorted(self.targets.items()))))

    def judge(self, share: Array, target: Array, was: Levels) -> Levels:
        """share: value / equity, signed; target: NaN where the asset has none."""
        return above(self, np.nan_to_num(np.abs(share - target)), was, inclusive=False)

    def summary(self, subject: str, level: Level, value: float, limit: float | None) -> str:
        target = self.targets.get(subject, 0.0)
        if level <= Level.OK or limit is None:
            return f"share of {subject} is near its target of {target:.0%} again ({value:+.1%})"
        return f"share of {subject} is {value:+.1%} off its target of {target:.0%}"


class AutoExchangeRule(LadderRule):
    """A wallet in debt nears the threshold at which the venue converts other collateral by itself, at a cost."""

    name: ClassVar[str] = "auto_exchange"
    worse: ClassVar[Worse] = Worse.UP  # of the fraction; the wallet itself falls

    warning: float | None = Field(0.70, gt=0, description="wallet as a fraction of the (negative) threshold")
    high: float | None = Field(0.90, gt=0, description="fraction of the threshold")
    critical: float | None = Field(1.00, gt=0, description="fraction of the threshold: the venue converts")
    default_threshold_usd: float = Field(-10_000.0, lt=0, description="used where the venue names none, USD")

    def judge(self, fraction: Array, was: Levels) -> Levels:
        """fraction: wallet / threshold, > 0 in debt."""
        return above(self, np.nan_to_num(fraction), was)

    def summary(self, subject: str, level: Level, value: float, limit: float | None) -> str:
        if level <= Level.OK or limit is None:
            return f"wallet of {subject} is clear of the automatic exchange ({value:.0%} of the threshold)"
        return f"wallet of {subject} is at {value:.0%} of the automatic-exchange threshold"
