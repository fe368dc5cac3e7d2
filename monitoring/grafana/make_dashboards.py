"""Write the Grafana dashboards: ``python monitoring/grafana/make_dashboards.py``.

The JSON files in ``dashboards/`` are made by this program; change it, not them.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

FOLDER = Path(__file__).parent / "dashboards"
_SOURCE = models.DataSourceRef(type_val="prometheus", uid="prometheus")
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


_API = 'endpoint!~"/health.*|/metrics"'
_DEPLOYMENT = "model_service_deployment"
_HERE = 'deployment=~"$deployment"'

BOARDS = [
    Board(
        "Registry",
        [
            Panel("Models", {"models": "max(model_service_models_total)"}, single=True),
            Panel("Active models", {"active": "max(active_models_total)"}, single=True),
            Panel("Stored bytes", {"stored": "max(storage_usage_bytes)"}, "bytes", single=True),
            Panel(
                "Failed requests (SLO: 0.1 %)",
                {"5 minutes": "model_service:api_errors:ratio_rate5m"},
                "percentunit",
                single=True,
            ),
            Panel(
                "Requests by status",
                {"{{status}}": rate("model_service_api_requests_total", "status", _API)},
                "reqps",
                stacked=True,
            ),
            Panel(
                "Error ratio by window",
                {
                    window: f"model_service:api_errors:ratio_rate{window}"
                    for window in ("5m", "30m", "1h", "6h", "3d")
                },
                "percentunit",
                "The windows of the burn-rate alerts. The budget is 0.1 %.",
            ),
            Panel(
                "Time until the response's headers",
                {
                    "p50": quantile(0.5, "model_service_request_duration_seconds", where=_API),
                    "p99": quantile(0.99, "model_service_request_duration_seconds", where=_API),
                },
                "s",
            ),
            Panel(
                "Slow requests by window",
                {window: f"model_service:api_slow:ratio_rate{window}" for window in ("5m", "1h", "6h")},
                "percentunit",
                "The share of requests for metadata that took more than 0.5 s. The budget is 1 %.",
            ),
            Panel(
                "Busiest routes",
                {
                    "{{method}} {{endpoint}}": "topk(10, "
                    + rate("model_service_api_requests_total", "method, endpoint", _API)
                    + ")"
                },
                "reqps",
            ),
            Panel(
                "Slowest routes (p99)",
                {
                    "{{method}} {{endpoint}}": "topk(10, "
                    + quantile(0.99, "model_service_request_duration_seconds", "method, endpoint", _API)
                    + ")"
                },
                "s",
            ),
            Panel(
                "Registered versions by algorithm",
                {"{{algorithm}}": rate("model_registrations_total", "algorithm")},
                "ops",
            ),
            Panel(
                "Downloads by algorithm",
                {"{{algorithm}}": rate("model_service_downloads_total", "algorithm")},
                "ops",
            ),
            Panel(
                "Commands to MongoDB",
                {
                    "{{operation}}": "topk(10, "
                    + rate("model_service_mongodb_operations_total", "operation")
                    + ")"
                },
                "ops",
            ),
            Panel(
                "Sign-ins with a password",
                {"{{outcome}}": rate("model_service_logins_total", "outcome")},
                "ops",
            ),
        ],
    ),
    Board(
        "Exports",
        [
            Panel(
                "Attempts by outcome",
                {"{{outcome}}": rate("model_service_exports_total", "outcome")},
                "ops",
                stacked=True,
            ),
            Panel(
                "Attempts by format",
                {"{{format}}": rate("model_service_exports_total", "format")},
                "ops",
                stacked=True,
            ),
            Panel(
                "Failures in an hour by error code",
                {"{{error_code}}": "sum by (error_code) (increase(model_service_export_failures_total[1h]))"},
                description="The codes are explained in docs/api.md.",
                stacked=True,
            ),
            Panel(
                "Share of failed exports in an hour",
                {
                    "failed": "sum(increase(model_service_export_failures_total[1h]))"
                    " / (sum(increase(model_service_export_failures_total[1h]))"
                    ' + (sum(increase(model_service_exports_total{outcome=~"completed|reused"}[1h]))'
                    " or vector(0)))"
                },
                "percentunit",
                most=1,
            ),
            Panel(
                "Duration by format (median)",
                {"{{format}}": quantile(0.5, "model_service_export_duration_seconds", "format")},
                "s",
            ),
            Panel(
                "Duration by format (p95)",
                {"{{format}}": quantile(0.95, "model_service_export_duration_seconds", "format")},
                "s",
            ),
            Panel(
                "Verification failures in an hour",
                {
                    "verification_failed": "sum(increase("
                    'model_service_export_failures_total{error_code="verification_failed"}[1h]))'
                },
            ),
            Panel(
                "Scanned files by verdict",
                {"{{verdict}}": rate("model_service_file_scans_total", "verdict")},
                "ops",
                stacked=True,
            ),
        ],
    ),
    Board(
        "Endpoints",
        [
            Panel(
                "Requests",
                {"{{deployment}}": rate(f"{_DEPLOYMENT}_requests_total", "deployment", _HERE)},
                "reqps",
                stacked=True,
            ),
            Panel(
                "Requests by outcome",
                {"{{outcome}}": rate(f"{_DEPLOYMENT}_requests_total", "outcome", _HERE)},
                "reqps",
                stacked=True,
            ),
            Panel(
                "Error ratio",
                {
                    "{{deployment}}": rate(
                        f"{_DEPLOYMENT}_requests_total", "deployment", f'{_HERE},outcome="server_error"'
                    )
                    + " / "
                    + rate(f"{_DEPLOYMENT}_requests_total", "deployment", _HERE)
                },
                "percentunit",
                "The share of requests that failed with a 5xx status.",
                most=1,
            ),
            Panel(
                "Latency (median)",
                {
                    "{{deployment}}": quantile(
                        0.5, f"{_DEPLOYMENT}_request_duration_seconds", "deployment", _HERE
                    )
                },
                "s",
            ),
            Panel(
                "Latency (p99)",
                {
                    "{{deployment}}": quantile(
                        0.99, f"{_DEPLOYMENT}_request_duration_seconds", "deployment", _HERE
                    )
                },
                "s",
            ),
            Panel(
                "Mean batch size",
                {
                    "{{deployment}} {{member}}": rate(
                        f"{_DEPLOYMENT}_batch_rows_total", "deployment, member", _HERE
                    )
                    + " / "
                    + rate(f"{_DEPLOYMENT}_batches_total", "deployment, member", _HERE)
                },
                description="Rows in a run of the model.",
            ),
            Panel(
                "Traffic of the members",
                {
                    "{{deployment}} {{member}}": rate(
                        f"{_DEPLOYMENT}_requests_total", "deployment, member", _HERE
                    )
                },
                "reqps",
                stacked=True,
            ),
            Panel(
                "Agreement of the shadow",
                {
                    "{{deployment}}": rate(
                        f"{_DEPLOYMENT}_shadow_requests_total", "deployment", f'{_HERE},outcome="agreed"'
                    )
                    + " / "
                    + rate(
                        f"{_DEPLOYMENT}_shadow_requests_total",
                        "deployment",
                        f'{_HERE},outcome=~"agreed|differed"',
                    )
                },
                "percentunit",
                "The share of compared requests in which the shadow returned the same outputs.",
                most=1,
            ),
            Panel(
                "Time in the models",
                {"{{deployment}}": rate(f"{_DEPLOYMENT}_inference_seconds_total", "deployment", _HERE)},
                "short",
                "Seconds of inference in a second: 1 is one model that runs all the time.",
            ),
            Panel(
                "Deployments",
                {
                    "loaded": "min(model_service_loaded_deployments)",
                    "failing": "max(model_service_failing_deployments)",
                },
                description="Loaded by every serving process; failing in at least one.",
            ),
        ],
        {"deployment": f"label_values({_DEPLOYMENT}_requests_total, deployment)"},
    ),
    Board(
        "Workers and queue",
        [
            Panel("Live workers", {"workers": "max(model_service_workers)"}, single=True),
            Panel("Waiting exports", {"waiting": "max(model_service_queue_jobs)"}, single=True),
            Panel(
                "Age of the oldest waiting export",
                {"age": "max(model_service_queue_oldest_age_seconds)"},
                "s",
                single=True,
            ),
            Panel("Waiting scans", {"waiting": "max(model_service_queue_scans)"}, single=True),
            Panel(
                "Exports",
                {"waiting": "max(model_service_queue_jobs)", "running": "max(model_service_running_jobs)"},
            ),
            Panel(
                "Busy workers",
                {"busy": "max(model_service_running_jobs) / max(model_service_workers)"},
                "percentunit",
                "The share of the live workers that run an export.",
            ),
            Panel(
                "Oldest export",
                {
                    "waiting": "max(model_service_queue_oldest_age_seconds)",
                    "running": "max(model_service_running_oldest_age_seconds)",
                },
                "s",
                "The time since the creation of a waiting export, and since the start of an attempt.",
            ),
            Panel(
                "Lost leases in an hour",
                {"lost": "sum(increase(model_service_leases_lost_total[1h]))"},
                description="Exports whose worker was lost while it ran them.",
            ),
            Panel(
                "Attempts by outcome",
                {"{{outcome}}": rate("model_service_exports_total", "outcome")},
                "ops",
                stacked=True,
            ),
            Panel("Worker hosts that respond", {"{{instance}}": 'up{job="worker"}'}, most=1),
        ],
    ),
    Board(
        "Storage",
        [
            Panel("Stored bytes", {"stored": "max(storage_usage_bytes)"}, "bytes", single=True),
            Panel(
                "MongoDB accepts writes",
                {"accepts": "min(model_service_accepts_writes)"},
                description="0: requests that store data get 507 (disk_full).",
                single=True,
            ),
            Panel(
                "Age of the last backup",
                {"age": "time() - max(model_service_last_backup_timestamp_seconds)"},
                "s",
                single=True,
            ),
            Panel(
                "Problems of the last verification",
                {"problems": "max(model_service_last_verify_problems)"},
                single=True,
            ),
            Panel(
                "Free space",
                {
                    name: f"min(model_service_{name}_disk_free_bytes)"
                    for name in ("mongodb", "cache", "work", "temp")
                }
                | {"DISK_WARN_FREE": "max(model_service_disk_warn_free_bytes)"},
                "bytes",
            ),
            Panel(
                "Growth of the stored bytes in a day",
                {"growth": "max(deriv(storage_usage_bytes[1h])) * 86400"},
                "bytes",
            ),
            Panel("Stored bytes over time", {"stored": "max(storage_usage_bytes)"}, "bytes"),
            Panel(
                "Lookups in the disk cache",
                {"{{outcome}}": rate("model_service_file_cache_requests_total", "outcome")},
                "ops",
                stacked=True,
            ),
            Panel(
                "Bytes of the disk cache",
                {"{{what}}": rate("model_service_file_cache_bytes_total", "what")},
                "Bps",
            ),
            Panel(
                "Time since the last sweep",
                {"age": "time() - max(model_service_last_sweep_timestamp_seconds)"},
                "s",
            ),
        ],
    ),
    Board(
        "Capacity",
        [
            Panel("Processes that respond", {"{{job}}": 'sum by (job) (up{job=~"api|worker|serving"})'}),
            Panel(
                "Requests in progress in the registry",
                {"requests": rate("model_service_request_duration_seconds_sum", where=_API)},
                description="Mean number at a time, until the headers. Each takes a thread (API_THREADS).",
            ),
            Panel(
                "Requests in progress at the endpoints",
                {"requests": rate(f"{_DEPLOYMENT}_request_duration_seconds_sum")},
                description="Mean number at a time, from the whole body until the response.",
            ),
            Panel(
                "Inference requests of a serving process",
                {
                    "{{instance}}": rate("model_service_inference_requests_total", "instance")
                    + " / sum by (instance) (model_service_serving_processes)"
                },
                "reqps",
            ),
            Panel(
                "Running models of a serving process",
                {
                    "{{instance}}": rate("model_service_inference_duration_seconds_sum", "instance")
                    + " / sum by (instance) (model_service_serving_processes)"
                },
                description="Mean number of requests in a model. A batch counts once for each request.",
            ),
            Panel(
                "Serving processes", {"{{instance}}": "sum by (instance) (model_service_serving_processes)"}
            ),
            Panel(
                "Restarts in an hour",
                {
                    "serving processes": "sum(increase(model_service_serving_process_deaths_total[1h]))",
                    "model hosts": "sum(increase(model_service_model_host_restarts_total[1h]))",
                },
            ),
            Panel(
                "Busy workers",
                {"busy": "max(model_service_running_jobs) / max(model_service_workers)"},
                "percentunit",
            ),
            Panel(
                "Free space on MongoDB's disk in four days",
                {"free": "min(predict_linear(model_service_mongodb_disk_free_bytes[6h], 4 * 86400))"},
                "bytes",
            ),
            Panel(
                "Duration of a scrape",
                {"{{job}} {{instance}}": 'scrape_duration_seconds{job=~"api|worker|serving"}'},
                "s",
            ),
        ],
    ),
]


def _panel(panel: Panel) -> stat.Panel | timeseries.Panel:
    made: stat.Panel | timeseries.Panel
    if panel.single:
        options = common.ReduceDataOptions().calcs(["lastNotNull"])
        made = stat.Panel().span(6).height(4).reduce_options(options)
    else:
        made = timeseries.Panel().span(12).height(8).fill_opacity(20 if panel.stacked else 0).line_width(1)
        made = made.show_points(common_models.VisibilityMode.NEVER)
        made = made.legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
        ).tooltip(common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI))
        if panel.stacked:
            made = made.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
        if panel.most is not None:
            made = made.max(panel.most)
        made = made.min(0) if panel.unit != "bytes" else made
    made = made.title(panel.title).unit(panel.unit).datasource(_SOURCE)
    if panel.description:
        made = made.description(panel.description)
    for letter, (legend, query) in zip("ABCDEF", panel.queries.items(), strict=False):
        made = made.with_target(prometheus.Dataquery().expr(query).legend_format(legend).ref_id(letter))
    return made


def _variable(name: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(name.capitalize())
        .query(query)
        .datasource(_SOURCE)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(models.VariableOption(selected=True, text="All", value="$__all"))
    )


def name_of(board: Board) -> str:
    return board.title.lower().replace(" ", "-")


def made(board: Board) -> str:
    """Return the dashboard's JSON."""
    name = name_of(board)
    built = (
        dashboard.Dashboard(board.title)
        .uid(f"model-service-{name}")
        .tags(["model-service"])
        .editable()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .time("now-6h", "now")
        .refresh("30s")
        .timezone("browser")
        .link(
            dashboard.DashboardLink("Model Service")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["model-service"])
            .as_dropdown(True)
            .keep_time(True)
        )
    )
    for variable, query in board.variables.items():
        built = built.with_variable(_variable(variable, query))
    for number, panel in enumerate(board.panels, 1):
        built = built.with_panel(_panel(panel).id(number))
    return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"


def main(folder: Path) -> None:
    """Write the dashboards, and remove the files of deleted ones."""
    texts = {f"{name_of(board)}.json": made(board) for board in BOARDS}
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.json"):
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
