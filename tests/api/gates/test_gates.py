"""Gates of aliases: which version gets one, and what is missing for it."""

from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from model_service.app import create_app
from model_service.config import Settings
from model_service.states import EvaluationStatus
from model_service.storage.common.db import Database, now, object_id
from tests.api.deployed import exported
from tests.api.models.test_aliases import aliases
from tests.api.models.test_versions import MODELS, register
from tests.api.people import Caller, People, secured

GATES = "/api/v1/gates"
PRODUCTION = f"{GATES}/production?name=digits"


def set_gate(http: FlaskClient, **rules: Any) -> Any:
    answer = http.put(PRODUCTION, json=rules)
    assert answer.status_code == 200, answer.text
    return answer.json


def checked(http: FlaskClient, model_id: str, alias: str = "production") -> dict[str, Any]:
    """The conditions of the gate by name, and whether all passed."""
    answer: Any = http.get(f"{MODELS}/{model_id}/gates/{alias}").json
    return {"passed": answer["passed"]} | {one["condition"]: one for one in answer["conditions"]}


def move(http: FlaskClient, model_id: str, **query: str) -> Any:
    return http.put(f"{MODELS}/{model_id}/aliases/production", query_string=query)


def dataset(http: FlaskClient) -> Any:
    made: Any = http.post("/api/v1/datasets", json={"name": "test-set", "format": "npz"}).json
    http.post(f"/api/v1/datasets/{made['id']}/upload", data=b"rows", headers={"X-Filename": "rows.npz"})
    return http.get(f"/api/v1/datasets/{made['id']}").json


def evaluate(
    database: Database,
    http: FlaskClient,
    model_id: str,
    data: Any,
    results: dict[str, float],
    export_job_id: str | None = None,
    samples: int | None = None,
) -> None:
    """Store an evaluation as a worker completes it."""
    stored = database.models.find_one({"_id": object_id(model_id)})
    assert stored is not None
    assert stored["file_metadata"] is not None
    evaluation: Any = {
        "_id": f"evaluation {database.evaluations.estimated_document_count()}",
        "model_id": stored["_id"],
        "export_job_id": export_job_id,
        "dataset_id": object_id(data["id"]),
        "samples": samples,
        "source_config": {},
        "datasets": [
            {
                "checksum": data["file_metadata"]["checksum"],
                **{name: data[name] for name in ("format", "schema", "task_type")},
            }
        ],
        "source_checksum": stored["file_metadata"]["checksum"],
        "status": EvaluationStatus.COMPLETED,
        "completed_at": now() + timedelta(seconds=database.evaluations.estimated_document_count()),
        "results": {name: {"value": value, "interval": None} for name, value in results.items()},
    }
    database.evaluations.insert_one(evaluation)


def test_an_alias_with_a_gate_moves_only_to_a_version_that_passes(
    http: FlaskClient, database: Database
) -> None:
    first = register(http)
    move(http, first)
    gate = set_gate(http, verified_export={"format": "onnx"})
    assert (gate["name"], gate["alias"]) == ("digits", "production")
    assert aliases(http) == {"production": "v1.0"}, "the version that has the alias keeps it"

    second = register(http)
    refused = move(http, second)
    assert (refused.status_code, refused.json["error"]["code"]) == (409, "gate_refused")
    missing = refused.json["error"]["details"]["missing"]
    assert [one["condition"] for one in missing] == ["verified_export"]
    assert "export it to onnx" in refused.json["error"]["message"]
    assert aliases(http) == {"production": "v1.0"}
    batch: Any = http.post(
        f"{MODELS}/batch", json={"operations": [{"op": "alias", "id": second, "alias": "production"}]}
    )
    assert batch.json["results"][0]["error"]["code"] == "gate_refused"

    third: Any = http.get(f"/api/v1/export/jobs/{exported(http, database)}").json
    assert checked(http, third["model_id"])["passed"]
    assert move(http, third["model_id"]).status_code == 200
    assert aliases(http) == {"production": third["model_version"]}
    assert move(http, third["model_id"]).status_code == 200, "it has the alias already"
    assert http.put(f"{MODELS}/{second}/aliases/candidate").status_code == 200, "another alias has no gate"


@pytest.mark.parametrize(
    ("results", "why"),
    [
        ({"verdict": "converted_not_executed"}, "none of the version's present files"),
        ({"verdict": "failed"}, "none of the version's present files"),
    ],
)
def test_an_export_that_was_not_verified_does_not_count(
    http: FlaskClient, database: Database, results: dict[str, Any], why: str
) -> None:
    set_gate(http, verified_export={})
    job: Any = http.get(f"/api/v1/export/jobs/{exported(http, database, **results)}").json
    found = checked(http, job["model_id"])["verified_export"]
    assert not found["passed"]
    assert why in found["found"]


THRESHOLD = {"enabled": True, "fail_threshold": {"accuracy_drop_max": 0.01}, "samples": None}


@pytest.mark.parametrize(
    ("metrics", "config", "missing"),
    [
        ({"passed": True}, THRESHOLD, None),
        ({"passed": True}, THRESHOLD | {"fail_threshold": None}, "no fail_threshold"),
        ({"passed": True}, THRESHOLD | {"samples": 5}, "only some rows"),
        ({"passed": False}, THRESHOLD, "did not pass"),
        ({"passed": None, "reason": "it cannot run here"}, THRESHOLD, "it cannot run here"),
        (None, None, "not validated"),
    ],
)
def test_a_validation_that_proves_nothing_is_missing(
    http: FlaskClient, database: Database, metrics: Any, config: Any, missing: str | None
) -> None:
    set_gate(http, verified_export={"format": "onnx", "validated": True})
    done = exported(http, database, validation_metrics=metrics, validation_config=config)
    job: Any = http.get(f"/api/v1/export/jobs/{done}").json
    found = checked(http, job["model_id"])
    assert found["verified_export"]["passed"]
    assert found["validated_export"]["passed"] is (missing is None)
    assert missing is None or missing in found["validated_export"]["found"]
    assert move(http, job["model_id"]).status_code == (409 if missing else 200)


def test_a_pruned_export_counts_only_with_a_validation(http: FlaskClient, database: Database) -> None:
    set_gate(http, verified_export={})
    pruned = {"optimization_config": {"pruning": {"method": "structured", "sparsity": 0.9}}}
    job: Any = http.get(f"/api/v1/export/jobs/{exported(http, database, **pruned)}").json
    assert not checked(http, job["model_id"])["passed"], "it was compared with the pruned network"
    proof = {"validation_metrics": {"passed": True}, "validation_config": THRESHOLD}
    proven: Any = http.get(f"/api/v1/export/jobs/{exported(http, database, **pruned, **proof)}").json
    assert checked(http, proven["model_id"])["passed"]


def test_a_distilled_export_counts_only_with_a_metric(http: FlaskClient, database: Database) -> None:
    """Its validation compares it with the student before the training, which any network can beat."""
    distilled = {"optimization_config": {"distillation": {"teacher_model_id": "f" * 24}}}
    proof = {"validation_metrics": {"passed": True}, "validation_config": THRESHOLD}
    job_id = exported(http, database, **distilled, **proof)
    job: Any = http.get(f"/api/v1/export/jobs/{job_id}").json
    set_gate(http, verified_export={"validated": True})
    assert not checked(http, job["model_id"])["passed"]
    data = dataset(http)
    set_gate(
        http,
        verified_export={},
        metrics=[{"dataset_id": data["id"], "metric": "accuracy", "min": 0.9, "of": "export"}],
    )
    assert checked(http, job["model_id"])["verified_export"]["passed"], "now its accuracy decides"
    assert not checked(http, job["model_id"])["passed"]


def test_the_p99_latency_of_the_export_is_bounded(http: FlaskClient, database: Database) -> None:
    set_gate(http, max_p99_ms=5)
    for performance, passed in (({"p99_ms": 4.9}, True), ({"p99_ms": 5.1}, False), ({}, False)):
        job: Any = http.get(f"/api/v1/export/jobs/{exported(http, database, performance=performance)}").json
        assert checked(http, job["model_id"])["p99"]["passed"] is passed


def test_a_metric_counts_only_from_the_present_files_and_the_present_data(
    http: FlaskClient, database: Database
) -> None:
    data = dataset(http)
    set_gate(http, metrics=[{"dataset_id": data["id"], "metric": "accuracy", "min": 0.9}])
    model_id = register(http)
    http.post(f"{MODELS}/{model_id}/upload", data=b"weights")
    assert "was not evaluated" in checked(http, model_id)["metric"]["found"]
    evaluate(database, http, model_id, data, {"f1": 1.0})
    assert "without accuracy" in checked(http, model_id)["metric"]["found"]
    evaluate(database, http, model_id, data, {"accuracy": 1.0}, samples=1)
    assert not checked(http, model_id)["passed"], "one row proves nothing"
    evaluate(database, http, model_id, data, {"accuracy": 0.95})
    assert checked(http, model_id)["passed"]
    evaluate(database, http, model_id, data, {"accuracy": 0.85})
    assert not checked(http, model_id)["passed"], "the newest evaluation counts"
    evaluate(database, http, model_id, data, {"accuracy": float("nan")})
    assert not checked(http, model_id)["passed"]
    evaluate(database, http, model_id, data, {"accuracy": 0.9})
    assert checked(http, model_id)["passed"]

    http.post(f"{MODELS}/{model_id}/upload?replace=true", data=b"other weights")
    assert "changed" in checked(http, model_id)["metric"]["found"]
    evaluate(database, http, model_id, data, {"accuracy": 0.9})
    assert checked(http, model_id)["passed"]
    http.post(
        f"/api/v1/datasets/{data['id']}/upload?replace=true",
        data=b"other rows",
        headers={"X-Filename": "rows.npz"},
    )
    assert "changed" in checked(http, model_id)["metric"]["found"]

    data = http.get(f"/api/v1/datasets/{data['id']}").json
    evaluate(database, http, model_id, data, {"accuracy": 0.9})
    assert checked(http, model_id)["passed"]
    http.patch(f"/api/v1/datasets/{data['id']}", json={"schema": {"label": "another column"}})
    assert "changed" in checked(http, model_id)["metric"]["found"]


def test_one_export_must_meet_all_conditions_on_an_export(http: FlaskClient, database: Database) -> None:
    data = dataset(http)
    set_gate(
        http,
        metrics=[{"dataset_id": data["id"], "metric": "mse", "max": 0.1, "of": "export"}],
        max_p99_ms=5,
    )
    job_id = exported(http, database, performance={"p99_ms": 9})
    model_id = http.get(f"/api/v1/export/jobs/{job_id}").json["model_id"]
    evaluate(database, http, model_id, data, {"mse": 0.05}, job_id)
    found = checked(http, model_id)
    assert (found["metric"]["passed"], found["p99"]["passed"]) == (True, False)
    # A second export is fast, and was not evaluated.
    copy = database.export_jobs.find_one({"_id": job_id})
    assert copy is not None
    fast: Any = copy | {"_id": "fast", "version": 99, "performance": {"p99_ms": 1}}
    database.export_jobs.insert_one(fast)
    assert not checked(http, model_id)["passed"]
    evaluate(database, http, model_id, data, {"mse": 0.05}, "fast")
    assert checked(http, model_id)["passed"]


def test_a_version_with_a_gated_alias_keeps_its_files(http: FlaskClient, database: Database) -> None:
    set_gate(http, verified_export={})
    model_id = http.get(f"/api/v1/export/jobs/{exported(http, database)}").json["model_id"]
    assert move(http, model_id).status_code == 200
    confirmed = "replace=true&confirm=production"
    replaced = http.post(f"{MODELS}/{model_id}/upload?{confirmed}", data=b"worse weights")
    assert replaced.status_code == 409
    assert "new version" in replaced.json["error"]["message"]
    added = http.put(f"{MODELS}/{model_id}/files/extra.txt", data=b"more")
    assert added.status_code == 409
    http.delete(f"{MODELS}/{model_id}/aliases/production")
    assert http.put(f"{MODELS}/{model_id}/files/extra.txt?confirm=all", data=b"more").status_code != 409


def test_the_trash_gives_no_gated_alias_back(http: FlaskClient) -> None:
    model_id = register(http)
    move(http, model_id)
    http.put(f"{MODELS}/{model_id}/aliases/candidate")
    http.delete(f"{MODELS}/{model_id}")
    set_gate(http, verified_export={})
    assert http.post(f"{MODELS}/{model_id}/restore").json["aliases"] == ["candidate"]


def test_gates_are_listed_replaced_and_removed(http: FlaskClient) -> None:
    assert http.get(f"{GATES}?name=digits").json == {"name": "digits", "gates": []}
    set_gate(http, verified_export={"format": "onnx"})
    set_gate(http, max_p99_ms=20)
    (gate,) = http.get(f"{GATES}?name=digits").json["gates"]
    assert gate["rules"] == {"verified_export": None, "metrics": [], "max_p99_ms": 20.0, "approvals": 0}
    assert http.get(f"{GATES}?name=other").json["gates"] == []
    model_id = register(http)
    assert http.get(f"{MODELS}/{model_id}/gates/candidate").json["gated"] is False
    assert http.delete(PRODUCTION).status_code == 200
    assert http.delete(PRODUCTION).status_code == 404
    assert move(http, model_id).status_code == 200


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"approvals": 0},
        {"approvals": 11},
        {"max_p99_ms": 0},
        {"verified_export": {"format": "onxx"}},
        {"metrics": [{"dataset_id": "DATASET", "metric": "accuracy"}]},
        {"metrics": [{"dataset_id": "DATASET", "metric": "acuracy", "min": 0.9}]},
        {"metrics": [{"dataset_id": "DATASET", "metric": "accuracy", "min": 0.1, "max": 0.2}]},
        {"metrics": [{"dataset_id": "DATASET", "metric": "accuracy", "min": 0.1, "of": "package"}]},
    ],
)
def test_wrong_rules_are_rejected(http: FlaskClient, rules: dict[str, Any]) -> None:
    for rule in rules.get("metrics", []):
        rule["dataset_id"] = dataset(http)["id"]
    answer = http.put(PRODUCTION, json=rules)
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "invalid_field")
    assert http.get(f"{GATES}?name=digits").json["gates"] == []


def test_a_dataset_of_a_rule_must_exist(http: FlaskClient) -> None:
    rule = {"dataset_id": "0" * 24, "metric": "accuracy", "min": 0.9}
    assert http.put(PRODUCTION, json={"metrics": [rule]}).status_code == 404


def test_approvals_need_authentication(http: FlaskClient) -> None:
    refused = http.put(PRODUCTION, json={"approvals": 2})
    assert refused.status_code == 409
    assert "ENABLE_AUTH" in refused.json["error"]["message"]
    approved = http.post(f"{MODELS}/{register(http)}/approvals", json={"alias": "production"})
    assert approved.status_code == 409


@pytest.fixture
def people(settings: Settings) -> People:
    return People(create_app(secured(settings)))


class Team:
    """A gate that needs two approvals, and the people around it."""

    def __init__(self, people: People) -> None:
        self.people = people
        people.root("PUT", PRODUCTION, json={"approvals": 2}, status=200)
        self.mover = people.user("mover", ["writer"])
        self.anna = people.user("anna", ["writer"])
        self.ben = people.user("ben", ["deployer"])
        made: Any = self.mover("POST", MODELS, json={"name": "digits", "algorithm": "cnn"}, status=201).json
        self.model_id = made["model_id"]
        self.mover("POST", f"{MODELS}/{self.model_id}/upload", data=b"weights", status=201)

    def approve(self, who: Caller, comment: str | None = None, status: int = 201) -> None:
        body = {"alias": "production", **({"comment": comment} if comment else {})}
        who("POST", f"{MODELS}/{self.model_id}/approvals", json=body, status=status)

    def move(self, who: Caller, status: int, **query: str) -> Any:
        url = f"{MODELS}/{self.model_id}/aliases/production"
        return who("PUT", url, query_string=query, status=status).json

    def approved(self, who: Caller) -> str:
        answer: Any = who("GET", f"{MODELS}/{self.model_id}/gates/production", status=200).json
        return str(answer["conditions"][0]["found"])


@pytest.fixture
def team(people: People) -> Team:
    return Team(people)


def test_two_others_must_approve_and_the_history_says_who_and_why(team: Team) -> None:
    team.move(team.mover, 409)
    team.approve(team.anna, "the confusion is fine")
    team.approve(team.anna, "really")  # again: still one person
    team.move(team.mover, 409)
    team.approve(team.mover)
    refused = team.move(team.mover, 409)
    (missing,) = refused["error"]["details"]["missing"]
    assert missing["condition"] == "approvals"
    assert missing["found"] == "1: anna"
    team.approve(team.ben)
    assert team.move(team.mover, 200, comment="the release of May")["version"] == "v1.0"

    events: Any = team.mover("GET", "/api/v1/aliases/history?name=digits&alias=production", status=200).json
    found = [(event["actor"], event["action"], event["comment"]) for event in events["events"]]
    assert found == [
        ("mover", "alias_set", "the release of May"),
        ("ben", "approved", None),
        ("mover", "approved", None),
        ("anna", "approved", "really"),
        ("anna", "approved", "the confusion is fine"),
        ("administrator", "gate_set", None),
    ]
    (allowed_by,) = events["events"][0]["details"]["gate"]
    assert allowed_by["found"] == "2: anna, ben"


def test_an_approval_is_withdrawn(team: Team) -> None:
    team.approve(team.anna)
    team.approve(team.ben)
    withdrawn = f"{MODELS}/{team.model_id}/approvals/production"
    team.ben("DELETE", withdrawn, status=200)
    team.ben("DELETE", withdrawn, status=404)
    team.move(team.mover, 409)
    listed: Any = team.mover("GET", f"{MODELS}/{team.model_id}/approvals", status=200).json
    assert [approval["approved_by"] for approval in listed["approvals"]] == ["anna"]


def test_an_approval_does_not_hold_for_other_files(team: Team) -> None:
    team.approve(team.anna)
    team.approve(team.ben)
    team.mover("POST", f"{MODELS}/{team.model_id}/upload?replace=true", data=b"other weights")
    team.move(team.mover, 409)
    assert team.approved(team.mover) == "none; others approved before its files changed"
    team.approve(team.anna)
    team.approve(team.ben)
    team.move(team.mover, 200)


def test_a_user_who_left_has_not_approved(team: Team) -> None:
    team.approve(team.anna)
    team.approve(team.ben)
    team.people.root("DELETE", "/api/v1/users/ben", status=200)
    team.move(team.mover, 409)
    team.people.user("ben", ["deployer"])  # another person with this name
    team.move(team.mover, 409)
    team.people.root("PATCH", "/api/v1/users/anna", json={"disabled": True}, status=200)
    assert team.approved(team.mover) == "none"


def test_who_may_not_approve(team: Team) -> None:
    team.approve(team.people.user("reader", ["reader"]), status=403)
    team.approve(team.people.user("stranger"), status=403)
    team.approve(team.people.root, status=409)  # API_KEY is nobody in particular
    team.approve(team.people.nobody, status=401)


def test_only_administrators_set_gates(team: Team) -> None:
    for who in (team.mover, team.anna, team.ben):
        who("PUT", PRODUCTION, json={"max_p99_ms": 9}, status=403)
        who("DELETE", PRODUCTION, status=403)
    of_namespace = team.people.user("of-vision", namespaces={"vision": ["admin"]})
    of_namespace("PUT", PRODUCTION, json={"max_p99_ms": 9}, status=403)
    of_namespace("PUT", f"{GATES}/production?name=vision/yolo", json={"max_p99_ms": 9}, status=200)
    listed: Any = of_namespace("GET", f"{GATES}?name=digits", status=200).json
    assert listed["gates"] == [], "what may not be read is not there"
    history: Any = of_namespace(
        "GET", "/api/v1/aliases/history?name=digits&alias=production", status=200
    ).json
    assert history["events"] == []
