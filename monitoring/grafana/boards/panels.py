"""What the dashboards share: panels, and PromQL that they repeat."""

from dataclasses import dataclass, field

API_REQUESTS = 'endpoint!~"/health.*|/metrics"'
DEPLOYMENT = "model_service_deployment"  # what the names of its metrics begin with
SELECTED = 'deployment=~"$deployment"'
_RATE = "$__rate_interval"


@dataclass(frozen=True)
class Panel:
    """A graph, or one number. ``queries``: the legend of each, and its PromQL."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    description: str = ""
    single: bool = False
    stacked: bool = False
    most: float | None = None


@dataclass(frozen=True)
class Board:
    title: str
    panels: list[Panel]
    variables: dict[str, str] = field(default_factory=dict)  # name → label_values(…)


def rate(metric: str, by: str = "", where: str = "") -> str:
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{{{where}}}[{_RATE}]))"


def quantile(share: float, metric: str, by: str = "", where: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', labels, where)})"
