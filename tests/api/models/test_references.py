"""Every form that names a model, a dataset or a deployment, in every path, query and body that names one."""

from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient

from model_service.actor import ROLE_PERMISSIONS, Actor, Role, acting_as
from model_service.api.http.context import EXTENSION
from model_service.storage.common.db import Database
from tests.api.deployed import deploy, exported
from tests.factories import new_model

API = "/api/v1"
# Bodies that a route needs; where it takes none, or what is not here, an empty object is sent.
BODIES: dict[str, dict[str, Any]] = {
    "deployments.replace_deployment": {"name": "shop", "export_job_id": "EXPORT"},
    "deployment_actions.scale_deployment": {"replicas": 1},
    "deployment_actions.promote_member": {"member": "v1.0"},
    "deployment_keys.create_deployment_key": {"name": "k"},
    "part_uploads.create_upload": {"size_bytes": 4, "sha256": "0" * 64, "path": "b.bin"},
}
# What the rest of a path names.
PARTS = {"path": "latest", "alias": "candidate", "other_id": "MODEL"}
DESTRUCTIVE = ("DELETE", "restore", "rollback", "rotate", "activate")
FOR_USERS = "POST /api/v1/models/<model_ref:model_id>/approvals"  # the application asks nobody who they are


def forms(kind: str, thing_id: str, name: str) -> list[str]:
    bare = {
        "model": [f"{name}@production", f"{name}/latest", f"{name}/v1.0", f"{name}/1.0"],
        "dataset": [f"{name}/latest", f"{name}/v1.0", f"{name}/1.0"],
        "deployment": [name],
    }[kind]
    return [*(form for each in (thing_id, *bare) for form in (each, f"{kind}s:/{each}"))]


@pytest.fixture
def model(http: FlaskClient) -> str:
    model_id = str(http.post(f"{API}/models", json=new_model(name="vision/digits")).json["model_id"])  # type: ignore[index]
    http.post(f"{API}/models/{model_id}/upload?filename=a.bin", data=b"data")
    http.put(f"{API}/models/{model_id}/files/latest", data=b"data")
    http.put(f"{API}/models/{model_id}/aliases/production")
    return model_id


@pytest.fixture
def dataset(http: FlaskClient) -> str:
    dataset_id = str(http.post(f"{API}/datasets", json={"name": "vision/scans"}).json["id"])  # type: ignore[index]
    http.post(f"{API}/datasets/{dataset_id}/upload?filename=a.bin", data=b"data")
    http.put(f"{API}/datasets/{dataset_id}/files/latest", data=b"data")
    return dataset_id


def routes(app: Flask, argument: str) -> list[tuple[str, str, str]]:
    """Rule, method and endpoint of every route that names such a thing and leaves it there."""
    found = [
        (rule.rule, method, rule.endpoint)
        for rule in app.url_map.iter_rules()
        if argument in rule.arguments
        for method in sorted((rule.methods or set()) - {"OPTIONS", "HEAD"})
    ]
    assert len(found) > 8
    return [
        each
        for each in found
        if not any(word in f"{each[1]} {each[0]}" for word in (*DESTRUCTIVE, FOR_USERS))
    ]


def answers(
    http: FlaskClient, app: Flask, argument: str, given: list[str], **ids: str
) -> dict[tuple[str, str, str], int]:
    """The status of each route with each form, and with the id alone as the form ``""``."""
    found = {}
    for rule, method, endpoint in routes(app, argument):
        path = rule
        for part, value in PARTS.items():
            for converter in ("path:", "model_ref:", ""):
                path = path.replace(f"<{converter}{part}>", quote(ids.get(value, value), safe=""))
        body: Any = {
            name: ids.get(value, value) if isinstance(value, str) else value
            for name, value in BODIES.get(endpoint, {}).items()
        }
        for form in given:
            url = path.replace(f"<{argument.removesuffix('_id')}_ref:{argument}>", quote(form, safe=""))
            assert "<" not in url, url
            is_raw = rule.endswith("/upload") or (method == "PUT" and "/files/" in rule)
            sent: Any = {"data": b"data"} if is_raw else {"json": body}
            if rule.endswith("/upload"):
                sent["query_string"] = {"filename": "a.bin"}
            answer = http.open(url, method=method, **({} if method == "GET" else sent))
            found[rule, method, form] = answer.status_code
            answer.close()
    return found


def test_every_route_of_models_takes_every_form(http: FlaskClient, app: Flask, model: str) -> None:
    given = forms("model", model, "vision/digits")
    found = answers(http, app, "model_id", [form for form in given if "latest" not in form], MODEL=model)
    assert {key: status for key, status in found.items() if status >= 400} == {}


@pytest.mark.parametrize("form", forms("model", "ID", "vision/digits"))
def test_what_the_second_model_of_a_comparison_is(http: FlaskClient, model: str, form: str) -> None:
    other = quote(form.replace("ID", model), safe="")
    compared: Any = http.get(f"{API}/models/{model}/compare/{other}").json
    assert compared["to"]["id"] == model


def test_every_route_of_datasets_takes_every_form(http: FlaskClient, app: Flask, dataset: str) -> None:
    found = answers(http, app, "dataset_id", forms("dataset", dataset, "vision/scans"))
    assert {key: status for key, status in found.items() if status >= 400} == {}


def test_every_route_of_deployments_takes_every_form(
    http: FlaskClient, app: Flask, database: Database
) -> None:
    job_id = exported(http, database)
    deployment = deploy(http, name="shop", export_job_id=job_id)
    found = answers(http, app, "deployment_id", forms("deployment", deployment["id"], "shop"), EXPORT=job_id)
    of_packages = {key: status for key, status in found.items() if key[0].endswith(("/download", "/renew"))}
    assert set(of_packages.values()) == {409}
    assert {key: status for key, status in found.items() if status >= 400} == of_packages
    offered = {"name": "app", "deployment_type": "download", "export_job_id": job_id}
    package: Any = http.post(f"{API}/deployments", json=offered).json
    for form in forms("deployment", package["id"], "app"):
        url = f"{API}/deployments/{quote(form, safe='')}"
        assert (http.post(f"{url}/renew").status_code, http.get(f"{url}/download").status_code) == (200, 200)


@pytest.mark.parametrize("form", forms("model", "ID", "vision/digits"))
def test_a_model_is_deleted_restored_and_purged_by_any_form(http: FlaskClient, model: str, form: str) -> None:
    url = f"{API}/models/{quote(form.replace('ID', model), safe='')}"
    assert http.delete(url).json["deleted_id"] == model  # type: ignore[index]
    assert http.post(f"{url}/restore").json["id"] == model  # type: ignore[index]
    assert http.delete(url).status_code == 200
    assert http.delete(f"{url}?purge=true").json["deleted_id"] == model  # type: ignore[index]
    assert http.delete(f"{url}?purge=true").status_code == 404


def test_a_purge_by_reference_prefers_the_version_that_is_not_deleted(http: FlaskClient, model: str) -> None:
    newer = http.post(f"{API}/models", json=new_model(name="vision/digits")).json["model_id"]  # type: ignore[index]
    http.delete(f"{API}/models/{newer}")
    purged: Any = http.delete(f"{API}/models/{quote('vision/digits/latest', safe='')}?purge=true").json
    assert purged["deleted_id"] == model


@pytest.mark.parametrize("form", forms("model", "ID", "vision/digits"))
def test_every_field_that_names_a_model(http: FlaskClient, model: str, form: str) -> None:
    form = form.replace("ID", model)
    made: Any = http.post(f"{API}/models", json=new_model(name="other", parent_model_id=form)).json
    child: Any = http.get(f"{API}/models/{made['model_id']}").json
    assert child["parent_model_id"] == model
    listed: Any = http.get(f"{API}/models", query_string={"parent_model_id": form}).json
    assert [each["id"] for each in listed["models"]] == [made["model_id"]]

    job: Any = http.post(f"{API}/export/jobs", json={"model_id": form, "export_format": "onnx"}).json
    assert job["model_id"] == model
    jobs: Any = http.get(f"{API}/export/jobs", query_string={"model_id": form}).json
    assert [each["id"] for each in jobs["jobs"]] == [job["id"]]

    done: Any = http.post(
        f"{API}/models/batch", json={"operations": [{"op": "tag", "id": form, "tags": ["x"]}]}
    ).json
    assert done["results"][0]["ok"], done


@pytest.mark.parametrize("form", forms("dataset", "ID", "vision/scans"))
def test_every_field_that_names_a_dataset(http: FlaskClient, dataset: str, form: str) -> None:
    form = form.replace("ID", dataset)
    made: Any = http.post(f"{API}/models", json=new_model(dataset_ids=[form])).json
    model: Any = http.get(f"{API}/models/{made['model_id']}").json
    assert model["dataset_ids"] == [dataset]
    run: Any = http.post(f"{API}/training", json={"name": "run", "datasets": [{"dataset_id": form}]}).json
    assert run["datasets"][0]["dataset_id"] == dataset
    runs: Any = http.get(f"{API}/training", query_string={"dataset_id": form}).json
    assert [each["id"] for each in runs["training_jobs"]] == [run["id"]]


def test_a_file_called_as_a_version_is_reached(http: FlaskClient, model: str) -> None:
    for path in ("latest", "v1", "v1.0"):
        content = b"data" if path == "latest" else path.encode()  # that one is there already
        http.put(f"{API}/models/{model}/files/{path}", data=content)
        for named in (model, quote("vision/digits@production", safe="")):
            assert http.get(f"{API}/models/{named}/files/{path}").data == content


def test_a_name_that_two_deployments_have_is_a_conflict(http: FlaskClient, database: Database) -> None:
    job_id = exported(http, database)
    ids = {deploy(http, name="shop", export_job_id=job_id)["id"] for _ in range(2)}
    refused: Any = http.get(f"{API}/deployments/shop").json
    assert refused["error"]["code"] == "conflict"
    assert set(refused["error"]["details"]["ids"]) == ids


def suggested(http: FlaskClient, kind: str, reference: str) -> list[str]:
    refused = http.get(f"{API}/{kind}/{quote(reference, safe='')}")
    assert refused.status_code == 404, refused.text
    error: Any = refused.json["error"]  # type: ignore[index]
    found: list[str] = error["details"].get("did_you_mean", [])
    assert all(repr(each) in error["message"] for each in found)
    return found


def test_a_near_miss_is_told_what_it_is_near_to(
    http: FlaskClient, database: Database, model: str, dataset: str
) -> None:
    assert suggested(http, "models", "vision/digts@production") == ["vision/digits@production"]
    assert suggested(http, "models", "models:/Vision/Digits/v1.0") == ["vision/digits/v1.0"]
    assert suggested(http, "models", "digits@production") == ["vision/digits@production"]
    assert suggested(http, "models", "vision/digits@prodution") == ["vision/digits@production"]
    assert suggested(http, "models", "vision/digits/v3") == ["vision/digits/v1.0"]
    assert suggested(http, "models", "vision/digts@other") == ["vision/digits/latest"]
    assert suggested(http, "models", "speech/whisper@production") == []
    assert suggested(http, "datasets", "vision/scan/latest") == ["vision/scans/latest"]
    deploy(http, name="digits-api", export_job_id=exported(http, database))
    assert suggested(http, "deployments", "digit-api") == ["digits-api"]


def test_nothing_is_suggested_that_may_not_be_read(app: Flask, http: FlaskClient, model: str) -> None:
    reader = Actor("r", in_namespaces={"speech": ROLE_PERMISSIONS[Role.READER]})
    models = app.extensions[EXTENSION].services.models
    messages = []
    with acting_as(reader):
        for name in ("vision/digts", "vision/digits"):  # neither the one that is not there nor the hidden one
            messages.append(models.missing(f"{name}@production").message.replace(name, "NAME"))
    assert messages[0] == messages[1] == "There is no model 'NAME@production'."


def test_a_dataset_has_no_aliases(http: FlaskClient, dataset: str) -> None:
    refused: Any = http.get(f"{API}/datasets/{quote('vision/scans@production', safe='')}").json
    assert "Datasets have no aliases" in refused["error"]["message"]
