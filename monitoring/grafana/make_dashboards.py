"""Write the Grafana dashboards: ``python monitoring/grafana/make_dashboards.py``.

The JSON files in ``dashboards/`` are made by this program from the modules in ``boards/``; change those.
"""

import sys
from pathlib import Path

from boards import BOARDS
from boards.panels import Board, Panel
from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

FOLDER = Path(__file__).parent / "dashboards"
_SOURCE = models.DataSourceRef(type_val="prometheus", uid="prometheus")


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
