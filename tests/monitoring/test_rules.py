"""The rules of Prometheus: valid, tested alert by alert, with runbooks, and about metrics that exist."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from model_service.metrics import GAUGES, exposition
from model_service.metrics_folder import VARIABLE, write_state
from model_service.serving.hosting.deployment_metrics import DeploymentMetrics
from model_service.serving.hosting.loaded_deployment import LoadedDeployment
from model_service.serving.pool.supervisor import STATE
from tests.monitoring.rules import ROOT, RULES, alerts, rules, shorter, write_shorter

CASES = sorted((Path(__file__).parent / "alerts").glob("*.yml"))
DASHBOARDS = sorted((ROOT / "monitoring" / "grafana" / "dashboards").glob("*.json"))
ALERTMANAGER = ROOT / "monitoring" / "alertmanager" / "alertmanager.yml"
RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
# Names of other exporters and of Prometheus itself
FOREIGN = {"up", "probe_ssl_earliest_cert_expiry", "scrape_duration_seconds"}


def run(tool: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a tool of Prometheus, or skip the test."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed; on Debian: apt-get install prometheus prometheus-alertmanager")
    return subprocess.run([tool, *arguments], cwd=ROOT, capture_output=True, text=True)


def cases() -> list[dict[str, Any]]:
    return [case for path in CASES for case in yaml.safe_load(path.read_text())["tests"]]


class NoHost:
    """In place of a server's deployments: there are none."""

    names: Mapping[str, str] = {}
    failing: tuple[str, ...] = ()

    def hosted(self) -> list[LoadedDeployment]:
        return []

    def __len__(self) -> int:
        return 0


@pytest.fixture
def exposed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of all metrics of the service."""
    text = exposition(dict.fromkeys(GAUGES, 0.0)).decode()
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    write_state(STATE, {"deaths": 0, "started_at": 0.0})
    of_serving = CollectorRegistry()
    of_serving.register(DeploymentMetrics(NoHost()))  # type: ignore[arg-type]
    text += generate_latest(of_serving).decode()
    return {
        name
        for name in re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE)
        if not name.startswith(("python_", "process_")) and not name.endswith("_created")
    }


@pytest.mark.parametrize("path", sorted(RULES.glob("*.yml")), ids=lambda path: path.stem)
def test_promtool_accepts_the_rules(path: Path) -> None:
    done = run("promtool", "check", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_and_amtool_accept_the_configuration() -> None:
    done = run("promtool", "check", "config", "monitoring/prometheus/prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    done = run("amtool", "check-config", "monitoring/alertmanager/alertmanager.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_each_alert_fires_and_does_not_fire_where_it_should(path: Path) -> None:
    done = run("promtool", "test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    fires, silent = set(), set()
    for case in cases():
        for test in case["promql_expr_test"]:
            (name,) = re.findall(r'alertname="(\w+)"', test["expr"])
            (fires if test["exp_samples"] else silent).add(name)
    assert fires == silent == set(alerts())


def matches(matchers: list[str], labels: Mapping[str, str]) -> bool:
    """Whether Alertmanager's matchers, of ``=`` and ``=~``, accept an alert with these labels."""
    for matcher in matchers:
        label, operator, value = re.fullmatch(r'(\w+)(=~?)"(.*)"', matcher).groups()  # type: ignore[union-attr]
        pattern = value if operator == "=~" else re.escape(value)
        if not re.fullmatch(pattern, labels.get(label, "")):
            return False
    return True


def test_an_alert_mutes_only_those_that_follow_from_it() -> None:
    inhibits = yaml.safe_load(ALERTMANAGER.read_text())["inhibit_rules"]
    firing = [{"alertname": name, **rule["labels"]} for name, rule in alerts().items()]
    down = next(labels for labels in firing if labels["alertname"] == "TargetDown")
    firing.remove(down)
    firing += [{**down, "job": job} for job in ("api", "worker", "serving")]
    muted: dict[str, list[str]] = {}
    for rule in inhibits:
        for source in firing:
            for target in firing:
                if (
                    matches(rule["source_matchers"], source)
                    and matches(rule["target_matchers"], target)
                    and all(source.get(label) == target.get(label) for label in rule.get("equal", ()))
                ):
                    name = " ".join(filter(None, (target["alertname"], target.get("job"))))
                    muted.setdefault(source["alertname"], []).append(name)
    assert muted == {
        "ApiDown": ["TargetDown api"],
        "ServingDown": ["TargetDown serving"],
        "MongoDBUnreachable": ["ApiErrorBudgetSlow", "ApiLatencyBudgetFast", "ApiLatencyBudgetSlow"],
        "ApiErrorBudgetFast": ["ApiErrorBudgetSlow"],
        "ApiLatencyBudgetFast": ["ApiLatencyBudgetSlow"],
        "InferenceErrorBudgetFast": ["InferenceErrorBudgetSlow"],
        "InferenceLatencyBudgetFast": ["InferenceLatencyBudgetSlow"],
    }


def test_each_alert_has_a_runbook_and_a_severity() -> None:
    sections = re.findall(r"^### (\w+)$", RUNBOOKS, re.MULTILINE)
    assert sorted(sections) == sorted(alerts())
    for name, rule in alerts().items():
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert (page, anchor) == ("docs/runbooks.md", name.lower())
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_each_metric_is_documented_and_in_base_units(exposed: set[str]) -> None:
    documented = set(re.findall(r"`((?:model_service|api|storage|active|model)_\w+)`", OPERATIONS))
    assert sorted(exposed - documented) == []
    assert [
        name for name in exposed if re.search(r"_(ms|milliseconds|minutes|mb|kb|percent)(_|$)", name)
    ] == []


def queries() -> dict[str, str]:
    found = {rule.get("alert") or rule["record"]: rule["expr"] for rule in rules()}
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                found[f"{path.stem}: {panel['title']} {target['refId']}"] = target["expr"]
    return found


def test_rules_and_panels_only_use_metrics_that_exist(exposed: set[str]) -> None:
    known = exposed | {rule["record"] for rule in rules() if "record" in rule}
    for name, query in queries().items():
        without = re.sub(r'"[^"]*"|\b(?:by|on|group_left) ?\([^)]*\)', "", query)
        used = set(re.findall(r"\b(?:model_service:\w+:\w+|[a-z]\w*_\w+)\b", without))
        used = {re.sub(r"_(bucket|count|sum)$", "", metric) for metric in used}
        functions = {"histogram_quantile", "predict_linear", "label_replace", "group_left", "__name__"}
        assert used - known - FOREIGN - functions - {"__rate_interval", "error_code"} == set(), name


def test_durations_are_divided_by_60(tmp_path: Path) -> None:
    assert shorter("rate(x[5m]) > 15 * 60") == "rate(x[5000ms]) > (15 * 60 / 60)"
    assert shorter("x:rate5m > 14.4 * 0.001") == "x:rate5m > 14.4 * 0.001"
    write_shorter(tmp_path)
    assert sum(1 for _ in rules(tmp_path)) == sum(1 for _ in rules())
    texts = "".join(path.read_text() for path in tmp_path.glob("*.yml"))
    assert not re.search(r"\[\d+[mhd]\]|for: \d+[mhd]$", texts, re.MULTILINE)
