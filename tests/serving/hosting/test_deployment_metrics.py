"""The metrics by deployment: bounded, removed with their deployment, and kept when a process ends."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from model_service.metrics_folder import VARIABLE
from model_service.serving.accounting.usage import Usage
from model_service.serving.engine.engine import Runs
from model_service.serving.hosting import deployment_labels
from model_service.serving.hosting.deployment_metrics import DeploymentMetrics
from model_service.serving.hosting.host import Host as RealHost
from model_service.storage.deployments.usage import UsageCounts
from tests.exposition import samples
from tests.serving.conftest import World
from tests.waiting import wait_for


@dataclass(eq=False)
class Model:
    name: str
    runs: Runs = field(default_factory=Runs)


@dataclass(eq=False)
class Shadow:
    counts: dict[str, int] = field(default_factory=lambda: {"agreed": 0, "differed": 0})


@dataclass
class Route:
    members: tuple[Model, ...]


@dataclass
class Deployment:
    """What the metrics read of a loaded deployment."""

    id: str
    name: str
    models: tuple[Model, ...]
    shadow: Shadow | None = None

    @property
    def route(self) -> Route:
        return Route(self.models)


class Host:
    """What the metrics read of a host.

    ``renamed``: new names by id of deployments whose revision with the new name is not loaded.
    ``loading``: names by id of deployments without a loaded revision.
    """

    def __init__(self, *deployments: Deployment) -> None:
        self.deployments = list(deployments)
        self.renamed: dict[str, str] = {}
        self.loading: dict[str, str] = {}
        self.failing: list[str] = []

    def hosted(self) -> list[Deployment]:
        return self.deployments

    @property
    def names(self) -> dict[str, str]:
        return {each.id: each.name for each in self.deployments} | self.renamed | self.loading

    def __len__(self) -> int:
        return len(self.deployments)


class Process:
    """One serving process: its host, its counts, and what it answers to Prometheus."""

    def __init__(self, *deployments: Deployment, host: RealHost | None = None) -> None:
        self.host = Host(*deployments)
        self.metrics = DeploymentMetrics(host or self.host)  # type: ignore[arg-type]
        self.usage = Usage(self.metrics.count)
        self.usage.collect()

    def answered(self, deployment_id: str, member: str = "v1", *, status: int = 200, times: int = 1) -> None:
        for _ in range(times):
            self.usage.count(
                deployment_id,
                member,
                "v1.0",
                status=status,
                seconds=0.02,
                inference_seconds=0.01,
                bytes_in=1,
                bytes_out=1,
            )

    def scrape(self) -> dict[str, float]:
        self.usage.collect()
        registry = CollectorRegistry()
        registry.register(self.metrics)
        return samples(generate_latest(registry).decode())


def digits(key: str = "1", name: str = "digits", *models: Model) -> Deployment:
    return Deployment(key, name, models or (Model("v1"),))


def requests(name: str = "digits", member: str = "v1", outcome: str = "success") -> str:
    labels = f'deployment="{name}",member="{member}",outcome="{outcome}"'
    return f"model_service_deployment_requests_total{{{labels}}}"


@pytest.fixture(params=["one process", "several processes"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if request.param == "several processes":
        monkeypatch.setenv(VARIABLE, str(tmp_path))
    else:
        monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path


def test_requests_are_counted_by_deployment_member_and_outcome(folder: Path) -> None:
    process = Process(digits(), digits("2", "words"))
    assert process.scrape()[requests()] == 0  # before the first one, so that Prometheus sees its increase
    process.answered("1", times=3)
    process.answered("1", status=422)
    process.answered("1", status=503)
    found = process.scrape()
    assert [found[requests(outcome=each)] for each in ("success", "client_error", "server_error")] == [
        3,
        1,
        1,
    ]
    assert found[requests("words")] == 0
    duration = "model_service_deployment_request_duration_seconds"
    assert found[f'{duration}_bucket{{deployment="digits",le="0.018"}}'] == 0
    assert found[f'{duration}_bucket{{deployment="digits",le="0.032"}}'] == 5
    assert found[f'{duration}_count{{deployment="digits"}}'] == 5
    assert found[f'{duration}_sum{{deployment="digits"}}'] == pytest.approx(0.1)
    of_member = '{deployment="digits",member="v1"}'
    assert found[f"model_service_deployment_inference_seconds_total{of_member}"] == pytest.approx(0.05)


def test_runs_and_shadow_results_are_added_once(folder: Path) -> None:
    model, shadow = Model("v1"), Shadow()
    process = Process(Deployment("1", "digits", (model,), shadow))
    for _ in range(2):
        model.runs.note(requests=2, rows=8, seconds=0.1)
        shadow.counts["agreed"] += 3
        process.usage.collect()
    found = process.scrape()
    assert found['model_service_deployment_batches_total{deployment="digits",member="v1"}'] == 2
    assert found['model_service_deployment_batch_rows_total{deployment="digits",member="v1"}'] == 16
    assert found['model_service_deployment_shadow_requests_total{deployment="digits",outcome="agreed"}'] == 6
    assert (
        found['model_service_deployment_shadow_requests_total{deployment="digits",outcome="differed"}'] == 0
    )


def test_a_deleted_deployment_and_a_former_member_have_no_series(folder: Path) -> None:
    process = Process(digits(), digits("2", "words"))
    process.answered("1")
    process.answered("2")
    assert process.scrape()[requests("words")] == 1
    process.host.deployments = [digits("1", "digits", Model("v2"))]
    process.answered("2")  # answered just before its end
    found = process.scrape()
    assert not [series for series in found if '"words"' in series or '"v1"' in series]
    assert found[requests(member="v2")] == 0
    assert found['model_service_deployment_request_duration_seconds_count{deployment="digits"}'] == 1
    process.host.deployments = [digits("3", "words")]
    assert process.scrape()[requests("words")] == 0  # another deployment of the same name begins at 0


def test_only_so_many_deployments_have_series_of_their_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment_labels, "MAX_DEPLOYMENTS", 3)
    process = Process(*(digits(str(number), f"d{number}") for number in range(6)))
    for number in range(6):
        process.answered(str(number))
    found = process.scrape()
    assert [found.get(requests(f"d{number}")) for number in range(6)] == [1, 1, 1, None, None, None]
    assert found[requests("other", "other")] == 3
    # The free place is for the next name. Its former requests stay in the sum of the others.
    process.host.deployments = [*process.host.deployments[1:], digits("7", "new")]
    process.answered("3")
    process.answered("7")
    found = process.scrape()
    assert [found[requests(name)] for name in ("d1", "d2", "d3")] == [1, 1, 1]
    assert found[requests("other", "other")] == 4
    assert requests("new") not in found
    process.host.deployments = []
    assert process.scrape()[requests("other", "other")] == 4  # a sum of many never decreases


def test_each_process_gives_the_same_deployments_series_of_their_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment_labels, "MAX_DEPLOYMENTS", 2)
    a, b, c = digits("1", "a"), digits("2", "b"), digits("3", "c")
    for first, second in ((c, {"1": "a", "2": "b"}), (a, {"3": "c", "2": "b"})):
        process = Process(first)
        process.host.loading = second
        process.usage.collect()
        process.host.deployments, process.host.loading = [a, b, c], {}
        for key in "123":
            process.answered(key)
        found = process.scrape()
        assert [found.get(requests(name)) for name in "abc"] == [1, 1, None]
        assert found[requests("other", "other")] == 1


def test_a_deployment_named_other_counts_with_the_others(folder: Path) -> None:
    process = Process(digits("1", "other"), digits("2", "digits"), digits("3", "digits"))
    for key in "123":
        process.answered(key)
    found = process.scrape()
    assert (found[requests("other", "other")], found[requests()]) == (1, 2)  # equal names share a series
    assert requests("other", "v1") not in found


@pytest.mark.parametrize("loaded", [False, True])
def test_a_renamed_deployment_counts_under_its_new_name(folder: Path, loaded: bool) -> None:
    process = Process(digits(), digits("2", "words"))
    process.answered("1", times=3)
    assert process.scrape()[requests()] == 3
    if loaded:
        process.host.deployments = [digits("1", "numbers"), digits("2", "words")]
    else:  # loading, or its load has failed
        process.host.renamed = {"1": "numbers"}
        process.host.deployments = [digits(), digits("3", "new")]
    process.answered("1", times=2)
    found = process.scrape()
    assert found[requests("numbers")] == 2
    assert not [series for series in found if '"digits"' in series]


def test_no_usage_is_lost_when_a_deployment_is_renamed(
    world: World, package_zip: bytes, folder: Path
) -> None:
    renamed = world.deploy(package_zip)
    words = world.deploy_routing({"members": [world.member(package_zip)]}, name="words")
    host = world.serving(renamed)
    wait_for(lambda: host.get(words), "the other deployment to be loaded")
    process, counts = Process(host=host), UsageCounts(world.database)

    def flushed(deployment_id: str) -> int:
        process.answered(deployment_id, "v1.0")
        process.usage.flush(counts)
        return sum(row["requests"] for row in world.database.usage.find({"deployment_id": deployment_id}))

    assert (flushed(renamed), flushed(words)) == (1, 1)
    world.database.deployments.update_one({"_id": renamed}, {"$set": {"name": "new"}})
    wait_for(lambda: host.names == {renamed: "new", words: "words"}, "the new name")
    assert host.get(renamed).name == "endpoint"  # type: ignore[union-attr]
    assert (flushed(renamed), flushed(words)) == (2, 2)
    world.revise(renamed, {})
    wait_for(lambda: host.get(renamed).name == "new", "the renamed revision")  # type: ignore[union-attr]
    assert (flushed(renamed), flushed(words)) == (3, 3)
    found = process.scrape()
    assert (found[requests("new", "v1.0")], found[requests("words", "v1.0")]) == (2, 3)
    assert requests("endpoint", "v1.0") not in found


def test_a_scrape_at_any_moment_of_a_change_is_answered(folder: Path) -> None:
    """A scrape begins whenever the metrics read an attribute of the new deployment."""

    class Scraping(Deployment):
        scrapes = 0
        scraping = False

        def __getattribute__(self, name: str) -> object:
            cls = Scraping
            if not cls.scraping and not name.startswith("_"):
                cls.scraping = True
                list(process.metrics.collect())
                cls.scraping = False
                cls.scrapes += 1
            return super().__getattribute__(name)

    process = Process(digits(), digits("2", "words"))
    process.answered("1")
    process.usage.collect()
    process.host.deployments = [digits(), Scraping("3", "new", (Model("v1"),))]
    found = process.scrape()
    assert Scraping.scrapes > 2
    assert (found[requests()], found[requests("new")]) == (1, 0)


def test_there_are_200(folder: Path) -> None:
    process = Process(*(digits(str(number), f"d{number}") for number in range(250)))
    counted = {
        series for series in process.scrape() if series.startswith("model_service_deployment_requests")
    }
    assert len(counted) == (200 + 1) * 3


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, object]], None]:
    """Adds the file of another process, which has ended."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))

    def add(counts: dict[str, object]) -> None:
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        state = {"counts": counts, "loaded": 1, "failing": 1}
        (tmp_path / f"deployments_{ended.pid}.json").write_text(json.dumps(state))

    return add


def test_the_counts_of_ended_processes_stay(
    shared: Callable[[dict[str, object]], None], tmp_path: Path
) -> None:
    other = Process(digits(), digits("2", "words"))
    other.answered("1", times=3)
    other.answered("2", times=3)
    other.usage.collect()
    counts = other.metrics._state()["counts"]
    process = Process(digits())
    for total in (3, 6):
        shared(counts)
        for _ in range(2):
            found = process.scrape()
            assert found[requests()] == total
            assert requests("words") not in found  # deleted since
        assert found["model_service_serving_processes"] == 1
        assert found["model_service_failing_deployments"] == 0  # of a process that has ended
    process.answered("1")
    assert process.scrape()[requests()] == 7
    assert len([*tmp_path.glob("deployments_*.json")]) == 2
