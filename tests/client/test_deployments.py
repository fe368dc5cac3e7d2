"""Deployments through the client and the commands, against the real registry."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from typer.testing import CliRunner
from werkzeug.serving import make_server

from model_service.app import create_app
from model_service.cli.app import app as cli
from model_service.client import (
    Conflict,
    Deployment,
    DeploymentFailed,
    InvalidArgument,
    InvalidRequest,
    ModelServiceClient,
    NotFound,
    PreconditionFailed,
)
from model_service.config import Settings
from model_service.latency import LATENCY_BUCKETS, bucket_of
from model_service.storage.common.db import Database, now
from model_service.storage.deployments.usage import Batch, Counts, UsageCounts, UsageKey
from model_service.storage.stores import build_stores
from tests.api.deployed import exported

from .cli.test_cli import run


@pytest.fixture
def app(settings: Settings, database: Database) -> Flask:
    return create_app(settings)


@pytest.fixture
def http(app: Flask) -> Iterator[FlaskClient]:
    with app.test_client() as http:
        yield http


@pytest.fixture
def service_url(app: Flask) -> Iterator[str]:
    """The real API at a real address, in a thread: no process of its own has to start for each test."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        serving.join()


@pytest.fixture
def jobs(http: FlaskClient, database: Database) -> tuple[str, str]:
    """Two verified exports."""
    return exported(http, database), exported(http, database)


@pytest.fixture
def live(client: ModelServiceClient, database: Database, jobs: tuple[str, str]) -> Deployment:
    """One that the inference servers have loaded."""
    created = client.create_deployment(jobs[0], "digits")
    assert build_stores(database).serving_reports.made_live(created.id, 1)
    return client.wait_for_deployment(created)


def test_a_deployments_life(client: ModelServiceClient, database: Database, jobs: tuple[str, str]) -> None:
    created = client.create_deployment(jobs[0], "digits", description="scans", config={"max_concurrency": 8})
    assert created.api_key is not None
    assert created.api_key.startswith("pk_")
    assert created.api_key not in repr(created)
    assert (created.status, created.revision, created.live_revision) == ("pending", 1, None)
    assert created.config["max_concurrency"] == 8
    assert created.created_at is not None

    build_stores(database).serving_reports.made_live(created.id, 1)
    serving = client.wait_for_deployment(created)
    assert (serving.status, serving.api_key) == ("active", created.api_key)
    assert [each.id for each in client.list_deployments(status="active", name="digits")] == [created.id]
    assert client.list_deployments(name="others").items == ()

    split = client.update_deployment(
        created.id,
        traffic=[
            {"export_job_id": jobs[0], "weight": 9},
            {"export_job_id": jobs[1], "weight": 1, "name": "new"},
        ],
        config={"batching": {"max_batch_size": 4}},
        revision=1,
    )
    assert [(each["name"], each["weight"]) for each in split.members] == [("v1.0", 9), ("new", 1)]
    assert (split.revision, split.config["max_concurrency"]) == (2, 8)
    assert not split.serves(2)
    with pytest.raises(PreconditionFailed):
        client.update_deployment(created.id, description="late", revision=1)

    promoted = client.promote_deployment(created.id, "new")
    assert [each["export_job_id"] for each in promoted.members] == [jobs[1]]
    back = client.rollback_deployment(created.id, 1)
    assert [each["export_job_id"] for each in back.members] == [jobs[0]]
    assert [each["revision"] for each in back.revisions] == [1, 2, 3, 4]
    plain = client.replace_deployment(created.id, name="digits", export_job_id=jobs[1])
    assert (plain.description, plain.config["max_concurrency"]) == (None, 64)

    scaled = client.scale_deployment(created.id, min_replicas=1, max_replicas=3, target_utilization=60)
    assert scaled.config["auto_scaling"] == {"min_replicas": 1, "max_replicas": 3, "target_utilization": 60}
    assert client.scale_deployment(created.id, 2).config["auto_scaling"]["max_replicas"] == 2
    assert client.deactivate_deployment(created.id).status == "inactive"
    with pytest.raises(DeploymentFailed, match="inactive"):
        client.wait_for_deployment(created.id)
    assert client.activate_deployment(created.id).status == "deploying"

    events = client.deployment_history(created.id)
    assert {"promoted", "rolled_back", "scaled", "deactivated", "reactivated"} <= {
        each.event_type for each in events
    }
    assert events.items[0].created_at is not None
    assert [each.event_type for each in client.deployment_history(created.id, event="promoted")] == [
        "promoted"
    ]
    assert client.delete_deployment(created.id)["deleted_id"] == created.id
    with pytest.raises(NotFound):
        client.get_deployment(created.id)


def test_all_the_ways_to_say_who_answers(client: ModelServiceClient, jobs: tuple[str, str]) -> None:
    first, second = jobs
    models = client.create_deployment(name="zoo", models={"cats": first, "dogs": second})
    assert (models.routing["mode"], [each["name"] for each in models.members]) == ("models", ["cats", "dogs"])
    guarded = client.create_deployment(
        first,
        "guarded",
        shadow={"export_job_id": second, "share": 0.5},
        rollback={"max_error_rate": 0.1},
        sticky_header="X-User",
    )
    assert guarded.routing["shadow"]["share"] == 0.5
    assert guarded.routing["rollback"]["min_requests"] == 50
    with pytest.raises(InvalidArgument, match="exactly one"):
        client.create_deployment(first, "both", models={"cats": first})
    with pytest.raises(InvalidArgument, match="exactly one"):
        client.create_deployment(name="none")
    with pytest.raises(InvalidArgument, match="name"):
        client.create_deployment(first)
    with pytest.raises(InvalidRequest):
        client.create_deployment(first, "wrong", config={"no_such": 1})


def test_what_is_not_verified_is_refused_with_the_reason(
    client: ModelServiceClient, http: FlaskClient, database: Database
) -> None:
    job = exported(http, database, verdict="failed")
    with pytest.raises(Conflict, match="verified") as caught:
        client.create_deployment(job, "digits")
    assert caught.value.code == "not_verified"


def test_keys_are_made_listed_rotated_and_revoked(client: ModelServiceClient, live: Deployment) -> None:
    soon = datetime.now(UTC) + timedelta(days=1)
    made = client.create_deployment_key(live.id, "a phone", expires_at=soon)
    assert made.key is not None
    assert made.expires_at is not None
    assert abs(made.expires_at - soon) < timedelta(milliseconds=1)  # as MongoDB keeps it
    assert made.key not in repr(made)
    rotated = client.rotate_deployment_key(live.id, made.id, grace_s=60)
    assert rotated.key not in (None, made.key)
    listed = client.list_deployment_keys(live.id)
    assert {each.id for each in listed} >= {made.id, rotated.id}
    assert all(each.key is None for each in listed)
    assert client.revoke_deployment_key(live.id, rotated.id)["deleted_id"] == rotated.id
    assert rotated.id not in {each.id for each in client.list_deployment_keys(live.id)}


def test_a_name_finds_a_deployment_that_has_it_alone(
    client: ModelServiceClient, live: Deployment, jobs: tuple[str, str]
) -> None:
    assert client.find_deployment("digits").id == client.find_deployment(live.id).id == live.id
    other = client.create_deployment(jobs[1], "digits")
    with pytest.raises(Conflict, match=live.id) as caught:
        client.find_deployment("digits")
    assert other.id in str(caught.value)
    with pytest.raises(NotFound, match="'letters'"):
        client.find_deployment("letters")


def test_a_revision_is_waited_for_until_it_serves_or_was_given_up(
    client: ModelServiceClient, live: Deployment, database: Database, jobs: tuple[str, str]
) -> None:
    changed = client.update_deployment(live.id, export_job_id=jobs[1])
    assert client.wait_for_deployment(live).live_revision == 1  # the revision that was passed in
    assert build_stores(database).serving_reports.update_failed(live.id, 2, "The package is damaged.")
    with pytest.raises(DeploymentFailed, match=r"Revision 2 .* The package is damaged\."):
        client.wait_for_deployment(changed)
    again = client.update_deployment(live.id, config={"max_concurrency": 9})
    build_stores(database).serving_reports.made_live(live.id, again.revision or 0)
    assert client.wait_for_deployment(again).live_revision == again.revision


def count(database: Database, deployment: Deployment, requests: int, errors: int = 0) -> None:
    """As an inference server does; each took between 3.2 and 5.6 ms."""
    at = now()
    histogram = [0] * LATENCY_BUCKETS
    histogram[bucket_of(5)] = requests
    hour = at.replace(minute=0, second=0, microsecond=0)
    counts = Counts(at, requests, 0, errors, 2.0 * requests, 100, 200, histogram)
    UsageCounts(database).add({UsageKey(hour, deployment.id, "v1.0", "v1.0"): counts}, Batch("p1", 1))


def test_usage_and_logs_are_typed(client: ModelServiceClient, live: Deployment, database: Database) -> None:
    count(database, live, 8, errors=1)
    entry = {
        "deployment_id": live.id,
        "at": now(),
        "level": "error",
        "event": "load",
        "message": "No.",
        "server": "s",
    }
    build_stores(database).deployment_logs.insert([entry, entry | {"level": "info", "message": "Yes."}])
    usage = client.deployment_usage(live.id, start=datetime.now(UTC) - timedelta(hours=3), granularity="day")
    assert (usage.total.requests, usage.total.errors, usage.total.bytes_out) == (8, 1, 200)
    assert [(each.member, each.requests) for each in usage.usage] == [("v1.0", 8)]
    assert 3.2 <= (usage.total.latency_ms["p95"] or 0) <= 5.6
    assert [each.message for each in client.deployment_logs(live.id, level="warning")] == ["No."]
    assert len(client.deployment_logs(live.id)) == 2


def command(*words: str, url: str, **env: str) -> Any:
    done = run("deployments", *words, "--json", url=url, **env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_commands_do_the_same(
    client: ModelServiceClient, service_url: str, database: Database, jobs: tuple[str, str], tmp_path: Path
) -> None:
    first, second = jobs
    words = ("create", "digits", "--traffic", f"{first}=9", "--traffic", f"{second}=1", "--keep-key")
    created = command(
        *words,
        "--shadow",
        f"{second}=0.5",
        "--rollback",
        '{"max_error_rate": 0.1}',
        url=service_url,
        XDG_CONFIG_HOME=str(tmp_path),
    )
    assert [each["weight"] for each in created["routing"]["members"]] == [9, 1]
    kept = tmp_path / "model-service" / "deployment_keys.json"
    assert json.loads(kept.read_text()) == {created["id"]: created["api_key"]}
    assert kept.stat().st_mode & 0o777 == 0o600
    assert command("list", "--name", "digits", url=service_url)["deployments"][0]["id"] == created["id"]
    build_stores(database).serving_reports.made_live(created["id"], 1)
    words = ("--clear", "shadow", "--clear", "sticky-header")
    updated = command("update", "digits", "--export", second, "--revision", "1", *words, url=service_url)
    assert (updated["routing"]["shadow"], updated["routing"]["rollback"]["max_error_rate"]) == (None, 0.1)
    assert [each["export_job_id"] for each in updated["routing"]["members"]] == [second]
    assert command("scale", "digits", "3", url=service_url)["config"]["auto_scaling"]["min_replicas"] == 3
    assert command("rollback", "digits", url=service_url)["routing"]["members"][0]["export_job_id"] == first
    key = command("keys", "create", "digits", "a phone", "--days", "2", url=service_url)
    assert command("keys", "revoke", "digits", key["id"], url=service_url)["deleted_id"] == key["id"]
    command("delete", "digits", url=service_url, XDG_CONFIG_HOME=str(tmp_path))
    assert json.loads(kept.read_text()) == {}


def test_an_ensembles_names_and_inputs_come_from_a_file(
    service_url: str, jobs: tuple[str, str], tmp_path: Path
) -> None:
    chain = tmp_path / "chain.json"
    first = {"export_job_id": jobs[0], "name": "first", "inputs": {"x": "pixels"}}
    second = {"export_job_id": jobs[1], "name": "second", "inputs": {"x": "first.output"}}
    third = {"export_job_id": jobs[0], "name": "third", "inputs": {"x": "second.output"}}
    for verb, members in (("create", [first, second]), ("update", [first, second, third])):
        chain.write_text(json.dumps(members))
        routing = command(verb, "digits", "--ensemble", f"@{chain}", url=service_url)["routing"]
        told = [{name: each[name] for name in first} for each in routing["members"]]
        assert (routing["mode"], told) == ("ensemble", members)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "There is no file"),
        ("[", "not JSON"),
        ("{}", "not a JSON list like"),
        ("[]", "not a JSON list like"),
        ('[{"export_job_id": "j1"}]', "only @FILE"),
    ],
    ids=["missing", "cut", "object", "empty", "with another"],
)
def test_a_file_of_no_ensemble_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    chain = tmp_path / "chain.json"
    if content is not None:
        chain.write_text(content)
    words = ["deployments", "create", "digits", "--ensemble", f"@{chain}"]
    if said == "only @FILE":
        words += ["--ensemble", "j2"]
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())


def test_a_key_that_cannot_be_kept_is_told_all_the_same(
    service_url: str, jobs: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "model-service").touch()  # where a folder should be
    env = {"MODEL_SERVICE_URL": service_url, "XDG_CONFIG_HOME": str(tmp_path)}
    done = CliRunner().invoke(cli, ["deployments", "create", jobs[0], "digits", "--keep-key"], env=env)
    assert done.exit_code == 0, done.stderr
    assert "pk_" in done.stdout
    assert "not stored" in done.stderr


def test_a_person_sees_what_serves_and_what_it_was_asked(
    service_url: str, live: Deployment, database: Database
) -> None:
    count(database, live, 8)
    shown = run("deployments", "show", "digits", url=service_url).stdout
    assert live.id in shown
    assert "v1.0: digits v1.0, weight 100" in shown
    usage = run("deployments", "usage", "digits", url=service_url).stdout
    (total,) = (line.split() for line in usage.splitlines() if line.startswith("in all"))
    assert total[2] == "8"
    watched = run("deployments", "watch", "digits", "--until-active", url=service_url)
    assert watched.returncode == 0, watched.stderr
    assert "requests/s" in watched.stdout
    assert live.id in watched.stdout
    look = command("watch", "--until-active", url=service_url)
    assert look["deployments"][0]["request_count"] == 8
    assert look["deployments"][0]["latency_ms"]["p50"] > 3


def test_watching_ends_with_1_when_it_failed(
    service_url: str, client: ModelServiceClient, live: Deployment, database: Database, jobs: tuple[str, str]
) -> None:
    client.update_deployment(live.id, export_job_id=jobs[1])
    build_stores(database).serving_reports.update_failed(live.id, 2, "The package is damaged.")
    ended = run("deployments", "watch", live.id, "--until-active", url=service_url)
    assert ended.returncode == 1
    assert "The package is damaged." in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("create", "digits"),
        ("create", "j1", "digits", "--traffic", "j1=90"),
        ("create", "digits", "--traffic", "j1"),
        ("create", "digits", "--traffic", "j1=many"),
        ("update", "d1"),
        ("update", "d1", "--clear", "config"),
        ("scale", "d1"),
        ("scale", "d1", "2", "--min", "1"),
        ("scale", "d1", "0"),
        ("keys", "create", "d1", "a phone", "--days", "1e9"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(cli, ["deployments", *words], catch_exceptions=False)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Usage:" in done.stderr
