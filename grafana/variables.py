"""What may be chosen at the head of a dashboard."""

from grafana_foundation_sdk.builders.dashboard import DatasourceVariable, QueryVariable, TextBoxVariable
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import VariableModel, VariableOption, VariableRefresh, VariableSort

from grafana.panels import SOURCE

PAGE = "http://127.0.0.1:9877/"
CHOSEN = 'venue=~"$venue",account=~"$account",pool=~"$pool"'
OF_ACCOUNT = 'venue=~"$venue",account=~"$account"'
OF_VENUE = 'venue=~"$venue"'


def variables(*, one_pool: bool) -> list[Builder[VariableModel]]:
    """one_pool: one value of each, else any number."""

    def labels(name: str, selector: str, title: str) -> QueryVariable:
        built = (
            QueryVariable(name)
            .label(title)
            .datasource(SOURCE)
            .query(f"label_values(margin_pool_level{selector}, {name})")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
        )
        if one_pool:
            return built.multi(False).include_all(False)
        return (
            built.multi(True).include_all(True).all_value(".*").current(VariableOption(text="All", value="$__all", selected=True))
        )

    return [
        DatasourceVariable("datasource").label("Prometheus").type("prometheus"),
        labels("venue", "", "Venue"),
        labels("account", f"{{{OF_VENUE}}}", "Account"),
        labels("pool", f"{{{OF_ACCOUNT}}}", "Pool"),
        TextBoxVariable("page").label("Status page").default_value(PAGE),
    ]
