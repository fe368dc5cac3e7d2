"""The Grafana dashboards and their provisioning. The JSON files are what their program makes."""

import json
import subprocess
import sys
from pathlib import Path

import yaml

GRAFANA = Path(__file__).parent.parent.parent / "monitoring" / "grafana"
DASHBOARDS = {path.name: path.read_text() for path in (GRAFANA / "dashboards").glob("*.json")}


def test_the_dashboards_are_up_to_date(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(GRAFANA / "make_dashboards.py"), str(tmp_path)], check=True)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == DASHBOARDS


def test_each_dashboard_has_an_address_of_its_own_and_each_panel_a_title_and_a_query() -> None:
    boards = [json.loads(text) for text in DASHBOARDS.values()]
    assert sorted(board["title"] for board in boards) == [
        *("Capacity", "Endpoints", "Exports", "Registry", "Storage", "Workers and queue")
    ]
    assert len({board["uid"] for board in boards}) == len(boards)
    for board in boards:
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids)
        for panel in board["panels"]:
            assert panel["title"]
            assert panel["targets"]
            assert panel["fieldConfig"]["defaults"]["unit"]


def test_the_provisioned_data_source_is_the_one_of_the_panels() -> None:
    content = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())
    (source,) = content["datasources"]
    used = {
        panel["datasource"]["uid"] for text in DASHBOARDS.values() for panel in json.loads(text)["panels"]
    }
    assert used == {source["uid"]}
