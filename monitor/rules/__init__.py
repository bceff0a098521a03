"""All rules. A new one is its file and its line in RuleBook."""

from pydantic import BaseModel, ConfigDict, Field

from monitor.rules.clock import ClockRule
from monitor.rules.collateral import AssetMixRule, AutoExchangeRule, CollateralMoveRule, CollateralRateRule, PremiumRule
from monitor.rules.health import GuaranteeAssetRatioRule, HealthRule, MarginRatioRule
from monitor.rules.occurrences import DegradedRule, ModeChangeRule, TierChangeRule, VenueCallRule
from monitor.rules.settlement import SettlementRule
from monitor.rules.trust import ReconcileRule, StaleRule


class RuleBook(BaseModel):
    """The rules of one account, each with its own settings. A rule that is left out has its defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    health: HealthRule = Field(HealthRule(), description="equity ÷ maintenance margin")
    margin_ratio: MarginRatioRule = Field(MarginRatioRule(), description="maintenance margin ÷ equity")
    guarantee_asset_ratio: GuaranteeAssetRatioRule = Field(
        GuaranteeAssetRatioRule(), description="HTX: equity ÷ used margin − adjustment factor"
    )
    settlement: SettlementRule = Field(SettlementRule(), description="HTX: a delivery ahead while opposite periods are locked")
    collateral_rate: CollateralRateRule = Field(CollateralRateRule(), description="USD rate of a pegged asset moves")
    collateral_move: CollateralMoveRule = Field(
        CollateralMoveRule(), description="health that the move of other collateral takes"
    )
    premium: PremiumRule = Field(PremiumRule(), description="a stablecoin above its dollar")
    asset_mix: AssetMixRule = Field(AssetMixRule(), description="share of an asset off its target")
    auto_exchange: AutoExchangeRule = Field(AutoExchangeRule(), description="a wallet nears the automatic exchange")
    tier_change: TierChangeRule = Field(TierChangeRule(), description="brackets or haircuts changed")
    stale: StaleRule = Field(StaleRule(), description="age of the data")
    clock: ClockRule = Field(ClockRule(), description="our clock against the venue's")
    reconcile: ReconcileRule = Field(ReconcileRule(), description="own figures against the venue's")
    mode_change: ModeChangeRule = Field(ModeChangeRule(), description="account mode or leverage changed")
    degraded: DegradedRule = Field(DegradedRule(), description="bans, listen keys that end early, names that are not resolved")
    venue_call: VenueCallRule = Field(VenueCallRule(), description="the venue's own alarm")


__all__ = ["RuleBook"]
