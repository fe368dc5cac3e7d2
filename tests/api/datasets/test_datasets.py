"""Datasets: versions, files, and what was made with them."""

import hashlib
import io
import threading
import zipfile
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient

from model_service.actor import Actor, Permission, acting_as
from model_service.api.http.context import EXTENSION
from model_service.errors import Conflict, NotFound, NotPermitted
from model_service.services import Services
from model_service.storage.common.db import Database
from tests.factories import new_model

DATASETS = "/api/v1/datasets"
TRAINING = "/api/v1/training"
UNKNOWN = "507f1f77bcf86cd799439011"
DIGITS = {
    "name": "vision/digits",
    "purpose": "training",
    "format": "npz",
    "task_type": "image_classification",
    "num_samples": 1797,
    "schema": {"inputs": [{"name": "images", "dtype": "float32", "shape": ["n", 8, 8]}]},
    "statistics": {"mean": 4.88},
    "source": "https://archive.ics.uci.edu/dataset/80",
    "license": "CC-BY-4.0",
    "tags": ["small"],
    "created_by": "ada",
}


def registered(http: FlaskClient, **fields: Any) -> Any:
    answer = http.post(DATASETS, json=DIGITS | fields)
    assert answer.status_code == 201, answer.json
    return answer.json


def services_of(app: Flask) -> Services:
    found: Services = app.extensions[EXTENSION].services
    return found


def references(database: Database) -> dict[str, int]:
    found = [file["metadata"] for file in database.files.find()]
    return {blob["sha256"]: blob["references"] for blob in found}


def test_a_dataset_is_kept_as_it_was_told(http: FlaskClient) -> None:
    answer = http.post(DATASETS, json=DIGITS)
    dataset = answer.json
    assert {key: dataset[key] for key in DIGITS} == DIGITS
    assert (dataset["version"], dataset["namespace"], dataset["revision"]) == ("v1.0", "vision", 1)
    assert (dataset["files"], dataset["file_metadata"], dataset["size_bytes"]) == ([], None, 0)
    read = http.get(answer.headers["Location"])
    assert read.json == dataset
    assert http.get(f"{DATASETS}/{dataset['id']}", headers={"If-None-Match": '"r1"'}).status_code == 304


def test_a_name_gets_its_next_version_and_is_found_by_it(http: FlaskClient) -> None:
    assert [registered(http)["version"] for _ in range(3)] == ["v1.0", "v1.1", "v1.2"]
    second = registered(http, version="v2")
    assert http.post(DATASETS, json=DIGITS | {"version": "v1.1"}).status_code == 409
    assert http.post(DATASETS, json=DIGITS | {"version": "two"}).status_code == 422
    for reference in ("latest", "v2", "2", "2.0"):
        found = http.get(f"{DATASETS}/datasets:%2Fvision%2Fdigits%2F{reference}")
        assert found.json["id"] == second["id"], reference
    assert http.get(f"{DATASETS}/datasets:/vision/digits/v9").status_code == 404
    assert http.get(f"{DATASETS}/datasets:/digits/latest").status_code == 404
    assert http.get(f"{DATASETS}/nonsense").json["error"]["code"] == "malformed_id"
    wrong = http.post(TRAINING, json={"name": "run", "datasets": [{"dataset_id": "datasets:/digits"}]})
    assert wrong.status_code == 400


def test_versions_registered_at_once_are_all_different(app: Flask) -> None:
    service = services_of(app).datasets
    fields = DIGITS | {"version": None, "description": None}
    threads = [threading.Thread(target=service.register, args=(fields,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with app.test_client() as http:
        versions = {dataset["version"] for dataset in http.get(DATASETS).json["datasets"]}
    assert versions == {f"v1.{minor}" for minor in range(8)}


def test_only_what_is_sent_changes_and_a_stale_change_is_refused(http: FlaskClient) -> None:
    dataset = registered(http)
    url = f"{DATASETS}/{dataset['id']}"
    changed = http.patch(url, json={"schema": {}, "license": None}, headers={"If-Match": '"r1"'})
    assert changed.headers["ETag"] == '"r2"'
    expected = dataset | {"schema": {}, "license": None, "revision": 2}
    assert changed.json == expected | {"updated_at": changed.json["updated_at"]}
    assert http.put(url, json={"tags": ["x"]}, headers={"If-Match": '"r1"'}).status_code == 412
    assert http.put(url, json={"tags": ["x"]}).json["tags"] == ["x"]
    for wrong in (
        {"name": "other"},
        {"version": "v3.0"},
        {"purpose": "fun"},
        {"num_samples": -1},
        {"num_samples": 2**63},
        {"tags": None},
        {"dataset_schema": {}},
    ):
        assert http.patch(url, json=wrong).status_code == 422, wrong
    assert http.patch(f"{DATASETS}/{UNKNOWN}", json={"tags": []}).status_code == 404


def test_lists_are_paged_newest_first_and_filtered(http: FlaskClient) -> None:
    first = registered(http, purpose="calibration", tags=["a"])["id"]
    second = registered(http, name="words", format="jsonl", tags=["b"])["id"]
    third = registered(http, tags=["a", "c"])["id"]

    def ids(query: str) -> list[str]:
        return [dataset["id"] for dataset in http.get(f"{DATASETS}?{query}").json["datasets"]]

    assert ids("") == [third, second, first]
    assert ids("page=2&limit=2") == [first]
    assert ids("purpose=calibration") == [first]
    assert ids("format=jsonl&name=words") == [second]
    assert ids("tags=b,c") == [third, second]
    assert ids("name=vision/digits") == [third, first]
    assert http.get(f"{DATASETS}?purpose=fun").status_code == 422


def test_a_repeated_registration_makes_one_version(http: FlaskClient) -> None:
    headers = {"Idempotency-Key": "digits"}
    first = http.post(DATASETS, json=DIGITS, headers=headers)
    again = http.post(DATASETS, json=DIGITS, headers=headers)
    assert again.json == first.json
    assert again.headers["Idempotency-Replayed"] == "true"
    assert http.get(DATASETS).json["pagination"]["total"] == 1


def test_the_digits_come_back_as_they_went_up(http: FlaskClient) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    file = io.BytesIO()
    np.savez(file, images=digits.images.astype(np.float32), labels=digits.target)
    dataset = registered(http, num_samples=len(digits.target))
    url = f"{DATASETS}/{dataset['id']}"
    assert http.get(f"{url}/download").json["error"]["code"] == "no_file"

    headers = {"X-Filename": "digits.npz", "X-Content-SHA256": hashlib.sha256(file.getvalue()).hexdigest()}
    uploaded = http.post(f"{url}/upload", data=file.getvalue(), headers=headers)
    assert uploaded.status_code == 201
    assert uploaded.json["file_metadata"]["format"] == "npz"

    # By its reference, as a calibration would ask for it.
    back = http.get(f"{DATASETS}/datasets:%2Fvision%2Fdigits%2Flatest/download")
    assert back.headers["Content-Disposition"] == 'attachment; filename="digits.npz"'
    with np.load(io.BytesIO(back.data)) as arrays:
        np.testing.assert_array_equal(arrays["images"], digits.images.astype(np.float32))
        np.testing.assert_array_equal(arrays["labels"], digits.target)
    info = http.get(f"{url}/info").json
    assert (info["dataset_id"], info["file_metadata"]) == (dataset["id"], uploaded.json["file_metadata"])
    part = http.get(info["download_url"], headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.data) == (206, file.getvalue()[:4])


def test_a_dataset_holds_files_at_paths(http: FlaskClient, database: Database) -> None:
    dataset_id = registered(http, format="images")["id"]
    url = f"{DATASETS}/{dataset_id}"
    contents = {"train/0/a.png": b"zero", "train/1/b.png": b"one", "labels.csv": b"a,0\nb,1\n"}
    for path, content in contents.items():
        stored = http.put(f"{url}/files/{path}", data=content, headers={"If-None-Match": "*"})
        assert stored.status_code == 201
        assert stored.json["dataset_id"] == dataset_id
    assert http.put(f"{url}/files/labels.csv", data=b"x", headers={"If-None-Match": "*"}).status_code == 412
    assert http.put(f"{url}/files/../x", data=b"x").status_code in {404, 422}

    listed = http.get(f"{url}/files").json
    assert [file["path"] for file in listed["files"]] == sorted(contents)
    assert listed["size_bytes"] == sum(map(len, contents.values()))
    assert http.get(f"{url}/files/train/1/b.png").data == b"one"
    head = http.head(f"{url}/files/labels.csv")
    assert (head.content_length, head.data) == (len(contents["labels.csv"]), b"")
    assert http.get(f"{url}/files/none").status_code == 404

    archive = http.get(f"{url}/files.zip")
    assert archive.content_length == len(archive.data)
    with zipfile.ZipFile(io.BytesIO(archive.data)) as opened:
        assert {name: opened.read(name) for name in opened.namelist()} == contents
    assert http.get(f"{url}/files.zip", headers={"If-None-Match": archive.headers["ETag"]}).status_code == 304

    replaced = http.put(f"{url}/files/labels.csv", data=b"one", headers={"If-Match": stored.headers["ETag"]})
    assert replaced.status_code == 200
    assert references(database)[hashlib.sha256(b"one").hexdigest()] == 2
    deleted = http.delete(f"{url}/files/train/1/b.png").json
    assert (deleted["path"], deleted["revision"]) == ("train/1/b.png", 6)
    assert references(database)[hashlib.sha256(b"one").hexdigest()] == 2  # one of them is in the trash
    assert http.delete(f"{url}/files/train/1/b.png").status_code == 404


def test_deleting_a_dataset_lets_its_files_go(http: FlaskClient, database: Database) -> None:
    one, other = registered(http)["id"], registered(http)["id"]
    for dataset_id in (one, other):
        http.post(f"{DATASETS}/{dataset_id}/upload", data=b"shared", headers={"X-Filename": "x.npz"})
    http.put(f"{DATASETS}/{one}/files/more", data=b"own")
    shared, own = (hashlib.sha256(content).hexdigest() for content in (b"shared", b"own"))
    assert references(database) == {shared: 2, own: 1}
    assert http.delete(f"{DATASETS}/{one}").json["deleted_id"] == one
    assert references(database) == {shared: 1, own: 0}
    assert http.get(f"{DATASETS}/{one}").status_code == 404
    assert http.delete(f"{DATASETS}/{one}").status_code == 404
    assert http.put(f"{DATASETS}/{one}/files/more", data=b"own").status_code == 404


def test_what_was_made_with_a_dataset_is_found_and_keeps_it(http: FlaskClient) -> None:
    dataset, other = registered(http), registered(http, purpose="test")
    url = f"{DATASETS}/{dataset['id']}"
    job = http.post(
        TRAINING,
        json={
            "name": "run",
            "datasets": [
                {"dataset_id": "datasets:/vision/digits/v1.0"},
                {"dataset_id": dataset["id"], "role": "calibration"},
                {"dataset_id": other["id"], "role": "test"},
            ],
        },
    ).json
    assert job["datasets"] == [
        {"dataset_id": dataset["id"], "role": "training"},
        {"dataset_id": dataset["id"], "role": "calibration"},
        {"dataset_id": other["id"], "role": "test"},
    ]
    trained = http.post("/api/v1/models", json=new_model(training_job_id=job["id"])).json["model_id"]
    named = ["datasets:/vision/digits/1.0", dataset["id"]]
    direct = http.post("/api/v1/models", json=new_model(dataset_ids=named)).json["model_id"]
    assert http.get(f"/api/v1/models/{direct}").json["dataset_ids"] == [dataset["id"]]
    assert http.get(f"/api/v1/models/{trained}").json["dataset_ids"] == []

    lineage = http.get(f"/api/v1/models/{trained}/lineage").json
    assert (lineage["training_job_id"], lineage["training_job"]["name"]) == (job["id"], "run")
    assert [(used["dataset_id"], used["version"], used["role"]) for used in lineage["datasets"]] == [
        (dataset["id"], "v1.0", "training"),
        (dataset["id"], "v1.0", "calibration"),
        (other["id"], "v1.1", "test"),
    ]
    lineage = http.get(f"/api/v1/models/{direct}/lineage").json
    assert (lineage["training_job"], lineage["datasets"][0]["role"]) == (None, None)

    usage = http.get(f"{url}/usage").json
    assert [(used["id"], used["roles"]) for used in usage["training_jobs"]] == [
        (job["id"], ["training", "calibration"])
    ]
    assert [model["id"] for model in usage["models"]] == [direct, trained]
    assert usage["truncated"] is False
    first = http.get(f"{url}/usage?limit=1").json
    assert ([model["id"] for model in first["models"]], first["truncated"]) == ([direct], True)
    listed = http.get(f"{TRAINING}?dataset_id={other['id']}").json["training_jobs"]
    assert [each["id"] for each in listed] == [job["id"]]

    assert http.delete(url).status_code == 409
    http.delete(f"/api/v1/models/{trained}?purge=true")
    assert http.delete(f"{TRAINING}/{job['id']}").status_code == 200
    assert http.delete(url).status_code == 409  # the other model
    assert http.patch(f"/api/v1/models/{direct}", json={"dataset_ids": []}).json["dataset_ids"] == []
    assert http.delete(url).status_code == 200


@pytest.mark.parametrize(
    ("datasets", "status"),
    [
        ([{"dataset_id": UNKNOWN}], 404),
        ([{"dataset_id": "datasets:/none/latest"}], 404),
        ([{"dataset_id": "nonsense"}], 400),
        ([{"dataset_id": UNKNOWN, "role": "fun"}], 422),
        ([{"role": "training"}], 422),
        ([{"dataset_id": "ID"}, {"dataset_id": "ID"}], 422),
    ],
)
def test_a_run_names_datasets_that_exist_once_in_a_role(
    http: FlaskClient, datasets: list[dict[str, str]], status: int
) -> None:
    dataset_id = registered(http)["id"]
    for used in datasets:
        if used.get("dataset_id") == "ID":
            used["dataset_id"] = dataset_id
    assert http.post(TRAINING, json={"name": "run", "datasets": datasets}).status_code == status
    job = http.post(TRAINING, json={"name": "run"}).json
    assert http.patch(f"{TRAINING}/{job['id']}", json={"datasets": datasets}).status_code == status


def test_a_namespace_keeps_its_datasets_to_its_readers(app: Flask, http: FlaskClient) -> None:
    vision = registered(http)["id"]
    speech = registered(http, name="speech/words")["id"]
    http.post(f"{DATASETS}/{speech}/upload", data=b"secret", headers={"X-Filename": "w.jsonl"})
    services = services_of(app)
    with acting_as(Actor("ada", in_namespaces={"vision": frozenset({Permission.READ})})):
        page = services.datasets.page({}, 1, 10)
        assert ([str(dataset["_id"]) for dataset in page.items], page.total) == ([vision], 1)
        for attempt in (
            services.datasets.get,
            services.datasets.delete,
            services.dataset_files.get_with_file,
            services.dataset_files.writable,
        ):
            with pytest.raises(NotFound):
                attempt(speech)
        with pytest.raises(NotFound):
            services.training_jobs.page({"dataset_id": speech}, 1, 10)
        for refused in (services.datasets.delete, services.dataset_files.writable):
            with pytest.raises(NotPermitted):
                refused(vision)
        with pytest.raises(NotPermitted):
            services.datasets.update(vision, {"tags": []})
        with pytest.raises(NotPermitted):
            services.datasets.register(DIGITS | {"version": None})


def test_every_change_is_in_the_audit_log(http: FlaskClient, database: Database) -> None:
    dataset_id = registered(http)["id"]
    url = f"{DATASETS}/{dataset_id}"
    http.put(f"{url}/files/a.csv", data=b"1")
    http.patch(url, json={"tags": []})
    http.delete(f"{url}/files/a.csv")
    http.delete(url)
    entries = list(database.audit.find({"subject_id": dataset_id}, sort=[("at", 1), ("_id", 1)]))
    assert [entry["action"] for entry in entries] == [
        "created",
        "file_stored",
        "updated",
        "file_removed",
        "deleted",
    ]
    assert {(entry["kind"], entry["name"]) for entry in entries} == {("dataset", "vision/digits")}


def test_a_dataset_is_never_deleted_under_a_run_that_is_being_noted(
    app: Flask, http: FlaskClient, database: Database
) -> None:
    services = services_of(app)
    outcomes: list[str] = []

    def note(dataset_id: str) -> None:
        answer = app.test_client().post(
            TRAINING, json={"name": "run", "datasets": [{"dataset_id": dataset_id}]}
        )
        outcomes.append({201: "noted", 404: "not noted", 409: "not noted"}[answer.status_code])

    def delete(dataset_id: str) -> None:
        try:
            services.datasets.delete(dataset_id)
        except Conflict:
            outcomes.append("not deleted")
        else:
            outcomes.append("deleted")

    for _ in range(15):
        dataset_id = registered(http)["id"]
        outcomes.clear()
        threads = [threading.Thread(target=work, args=(dataset_id,)) for work in (note, delete)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(outcomes) in (["deleted", "not noted"], ["not deleted", "noted"]), outcomes
        still_there = http.get(f"{DATASETS}/{dataset_id}").status_code == 200
        assert still_there == ("noted" in outcomes)


def test_an_archive_of_the_registry_holds_datasets_with_files_and_runs(http: FlaskClient) -> None:
    dataset = registered(http)
    url = f"{DATASETS}/{dataset['id']}"
    http.put(f"{url}/files/a/b.npz", data=b"numbers")
    used = [{"dataset_id": dataset["id"], "role": "validation"}]
    run = f"{TRAINING}/{http.post(TRAINING, json={'name': 'run', 'datasets': used}).json['id']}"
    before = [http.get(each).json for each in (url, run)]
    archive = http.get("/api/v1/registry/export").data
    for each in (run, url):
        assert http.delete(each).status_code == 200

    answer = http.post("/api/v1/registry/import", data=archive)
    assert answer.status_code == 200, answer.json
    assert [http.get(each).json for each in (url, run)] == before
    assert http.get(f"{url}/files/a/b.npz").data == b"numbers"
    assert http.delete(url).status_code == 409
