"""What is published does not change under its readers, on any route that stores or removes a file."""

import hashlib
import io
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from model_service.config import Settings
from model_service.jobs.sweep import make_sweeper
from model_service.services import build_services
from model_service.storage.common.db import Database, now
from model_service.storage.stores import build_stores
from tests.api.deployed import deploy
from tests.api.finished import complete, wrong_references
from tests.factories import new_model

MODELS, DATASETS = "/api/v1/models", "/api/v1/datasets"
FIRST, OTHER = b"the published weights " * 40_000, b"oops"  # more than a chunk's worth is not needed


def checksum(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


Send = Callable[..., Any]


class Route:
    """One way to store a file: ``send(content, **consent)`` is its answer, ``base`` what holds it."""

    def __init__(self, http: FlaskClient, kind: str) -> None:
        self.http = http
        self.kind = kind
        if kind.startswith("dataset"):
            self.base = f"{DATASETS}/{http.post(DATASETS, json={'name': 'digits'}).json['id']}"  # type: ignore[index]
        else:
            self.base = f"{MODELS}/{http.post(MODELS, json=new_model()).json['model_id']}"  # type: ignore[index]

    def send(self, content: bytes, *, announce: bool = False, **consent: Any) -> Any:
        query = {name: ",".join(v) if isinstance(v, list) else v for name, v in consent.items()}
        headers = {"X-Filename": "m.onnx"}
        if announce:
            headers["X-Content-SHA256"] = hashlib.sha256(content).hexdigest()
        match self.kind.removeprefix("dataset "):
            case "upload":
                url = f"{self.base}/upload"
                return self.http.post(url, data=content, headers=headers, query_string=query)
            case "form":
                form = {"file": (io.BytesIO(content), "m.onnx"), **query}
                return self.http.post(f"{self.base}/upload", data=form)
            case "path":
                url = f"{self.base}/files/m.onnx"
                return self.http.put(url, data=content, headers=headers, query_string=query)
            case _:
                return self._in_parts(content, announce, consent)

    def _in_parts(self, content: bytes, announce: bool, consent: dict[str, Any]) -> Any:
        digest = hashlib.sha256(content).hexdigest()
        consent = {name: value == "true" if name == "replace" else value for name, value in consent.items()}
        body: dict[str, Any] = {"path": "m.onnx", "size_bytes": len(content)}
        at_the_end = consent if self.kind.endswith("at the end") else {}
        body |= {} if at_the_end else consent
        if announce and not at_the_end:  # what is announced is refused at once
            body["sha256"] = digest
        opened = self.http.post(f"{self.base}/uploads", json=body)
        if opened.status_code != 201:
            return opened
        url = f"/api/v1/uploads/{opened.json['upload_id']}"  # type: ignore[index]
        self.http.put(f"{url}/parts/0", data=content, headers={"X-Content-SHA256": digest})
        return self.http.post(f"{url}/complete", json=at_the_end)

    def stored(self) -> bytes:
        return bytes(self.http.get(f"{self.base}/files/m.onnx").data)

    def revision(self) -> int:
        return int(self.http.get(self.base).json["revision"])  # type: ignore[index]


ROUTES = (
    *("upload", "form", "path", "parts", "parts, agreed at the end"),
    *("dataset upload", "dataset form", "dataset path"),
)


@pytest.fixture(params=ROUTES)
def route(http: FlaskClient, request: pytest.FixtureRequest) -> Route:
    return Route(http, request.param)


@pytest.mark.parametrize("announce", [False, True])
def test_the_same_bytes_change_nothing_and_others_need_replace(
    route: Route, database: Database, announce: bool
) -> None:
    assert route.send(FIRST, announce=announce).status_code in {200, 201}
    revision = route.revision()
    again = route.send(FIRST, announce=announce)
    assert again.status_code == 200
    assert again.json.get("unchanged", True) is True
    assert route.revision() == revision
    refused = route.send(OTHER, announce=announce)
    assert (refused.status_code, refused.json["error"]["code"]) == (409, "would_replace")
    details = refused.json["error"]["details"]
    assert (details["checksum"], details["sent_checksum"]) == (checksum(FIRST), checksum(OTHER))
    assert (route.stored(), route.revision()) == (FIRST, revision)
    assert route.send(OTHER, announce=announce, replace="true").status_code in {200, 201}
    assert route.stored() == OTHER
    assert wrong_references(database) == []


def test_a_replaced_file_is_in_the_trash_and_comes_back(route: Route, database: Database) -> None:
    route.send(FIRST)
    route.send(OTHER, replace="true")
    (entry,) = route.http.get(f"{route.base}/deleted-files").json["files"]  # type: ignore[index]
    assert (entry["path"], entry["checksum"]) == ("m.onnx", checksum(FIRST))
    assert (entry["replaced_by"], entry["was_primary"]) == (checksum(OTHER), True)
    url = f"{route.base}/deleted-files/{entry['id']}/restore"
    assert route.http.post(url).json["error"]["code"] == "would_replace"  # type: ignore[index]
    restored: Any = route.http.post(f"{url}?replace=true")
    assert (restored.status_code, restored.json["file"]["checksum"]) == (200, checksum(FIRST))
    assert route.stored() == FIRST
    assert route.http.post(url).status_code == 404
    (entry,) = route.http.get(f"{route.base}/deleted-files").json["files"]  # type: ignore[index]
    assert entry["checksum"] == checksum(OTHER)
    assert route.http.delete(f"{route.base}/deleted-files/{entry['id']}").status_code == 200
    assert route.http.get(f"{route.base}/deleted-files").json["files"] == []  # type: ignore[index]
    assert wrong_references(database) == []


def test_the_audit_log_has_both_checksums(route: Route, database: Database) -> None:
    route.send(FIRST)
    route.send(OTHER, replace="true")
    route.http.delete(f"{route.base}/files/m.onnx")
    stored, replaced, removed = database.audit.find({"action": {"$regex": "^file_"}}).sort("_id", 1)
    assert stored["details"] == {"path": "m.onnx", "checksum": checksum(FIRST), "removed": []}
    assert (replaced["action"], replaced["details"]["checksum"]) == ("file_stored", checksum(OTHER))
    assert replaced["details"]["removed"] == [{"path": "m.onnx", "checksum": checksum(FIRST)}]
    assert (removed["action"], removed["details"]["checksum"]) == ("file_removed", None)
    assert removed["details"]["removed"] == [{"path": "m.onnx", "checksum": checksum(OTHER)}]


@pytest.mark.parametrize("kind", ["upload", "form", "path", "parts", "parts, agreed at the end"])
def test_a_version_with_an_alias_an_export_or_a_deployment_needs_each_confirmed(
    http: FlaskClient, database: Database, kind: str
) -> None:
    route = Route(http, kind)
    route.send(FIRST)
    http.put(f"{route.base}/aliases/production")
    model_id = route.base.rpartition("/")[2]
    body = {"model_id": model_id, "export_format": "onnx", "reuse": False}
    job_id = http.post("/api/v1/export/jobs", json=body).json["id"]  # type: ignore[index]
    complete(database, job_id)
    deployment_id = deploy(http, export_job_id=job_id)["id"]
    names = sorted(["production", job_id, deployment_id])
    without = route.send(OTHER)
    assert (without.status_code, without.json["error"]["code"]) == (409, "would_replace")
    assert without.json["error"]["details"]["confirm"] == names
    for confirmed in ([], names[:2], ["something else"]):
        refused = route.send(OTHER, replace="true", confirm=confirmed)
        assert (refused.status_code, refused.json["error"]["code"]) == (409, "confirmation_required")
        assert refused.json["error"]["details"]["confirm"] == names
        assert all(name in refused.json["error"]["message"] for name in names)
    assert route.send(FIRST).status_code == 200  # a retry needs nothing
    assert http.put(f"{route.base}/files/new.txt", data=b"x").status_code == 201  # nor does a new path
    removal = http.delete(f"{route.base}/files/m.onnx")
    assert removal.json["error"]["code"] == "confirmation_required"  # type: ignore[index]
    assert route.stored() == FIRST
    assert route.send(OTHER, replace="true", confirm=names).status_code in {200, 201}
    removed = http.delete(f"{route.base}/files/m.onnx?confirm={','.join(names)}")
    assert removed.status_code == 200
    assert wrong_references(database) == []


@pytest.mark.parametrize("confirm", [[{"a": []}], [1], "production", {}])
def test_a_confirmation_that_is_no_list_of_names_is_refused(http: FlaskClient, confirm: Any) -> None:
    route = Route(http, "parts")
    body = {"path": "m.onnx", "size_bytes": 4, "confirm": confirm}
    refused: Any = http.post(f"{route.base}/uploads", json=body)
    assert (refused.status_code, refused.json["error"]["code"]) == (422, "invalid_field")


def test_a_failed_export_keeps_nothing(http: FlaskClient, database: Database) -> None:
    route = Route(http, "path")
    route.send(FIRST)
    body = {"model_id": route.base.rpartition("/")[2], "export_format": "onnx", "reuse": False}
    job_id = http.post("/api/v1/export/jobs", json=body).json["id"]  # type: ignore[index]
    assert route.send(OTHER, replace="true").json["error"]["code"] == "confirmation_required"
    http.post(f"/api/v1/export/{job_id}/cancel", json={})
    assert route.send(OTHER, replace="true").status_code == 200


def test_a_dataset_in_use_needs_its_users_confirmed(http: FlaskClient) -> None:
    route = Route(http, "dataset path")
    route.send(FIRST)
    dataset_id = route.base.rpartition("/")[2]
    run: Any = http.post(
        "/api/v1/training", json={"name": "run", "datasets": [{"dataset_id": dataset_id}]}
    ).json
    model: Any = http.post(MODELS, json=new_model(dataset_ids=[dataset_id])).json
    names = sorted([run["id"], model["model_id"]])
    refused = route.send(OTHER, replace="true")
    assert refused.json["error"]["details"]["confirm"] == names
    assert http.delete(f"{route.base}/files/m.onnx").status_code == 409
    assert route.send(OTHER, replace="true", confirm=names).status_code == 200


def test_another_primary_file_changes_what_a_download_gives_to_those_that_depend_on_it(
    http: FlaskClient,
) -> None:
    route = Route(http, "upload")
    route.send(FIRST)
    assert http.put(f"{route.base}/files/new.onnx?primary=true", data=b"new path").status_code == 201
    http.put(f"{route.base}/aliases/production")
    elsewhere = f"{route.base}/files/other.onnx?primary=true"
    refused: Any = http.put(elsewhere, data=OTHER).json
    assert refused["error"]["code"] == "confirmation_required"
    assert http.get(f"{route.base}/download").data == b"new path"
    assert http.put(f"{elsewhere}&confirm=production", data=OTHER).status_code == 201
    assert (http.get(f"{route.base}/download").data, route.stored()) == (OTHER, FIRST)
    # Under another name the present file would be gone from its path, also with the same bytes.
    renamed = http.post(f"{route.base}/upload", data=OTHER, headers={"X-Filename": "third.onnx"})
    assert renamed.json["error"]["code"] == "would_replace"  # type: ignore[index]


def test_if_match_with_the_present_checksum_agrees_to_replace_that_file(http: FlaskClient) -> None:
    route = Route(http, "path")
    url = f"{route.base}/files/m.onnx"
    etag = http.put(url, data=FIRST).headers["ETag"]
    assert http.put(url, data=OTHER, headers={"If-Match": "*"}).json["error"]["code"] == "would_replace"  # type: ignore[index]
    assert http.put(url, data=OTHER, headers={"If-Match": etag}).status_code == 200
    http.put(f"{route.base}/aliases/production")
    present = {"If-Match": f'"{hashlib.sha256(OTHER).hexdigest()}"'}
    refused: Any = http.put(url, data=FIRST, headers=present).json
    assert refused["error"]["code"] == "confirmation_required"


def test_an_announced_refusal_stores_no_byte(http: FlaskClient, database: Database) -> None:
    route = Route(http, "path")
    route.send(FIRST)
    chunks = database.chunks.count_documents({})

    class Unread(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise AssertionError("the body was read")

    answer = http.put(
        f"{route.base}/files/m.onnx",
        input_stream=Unread(),
        headers={"X-Content-SHA256": hashlib.sha256(OTHER).hexdigest()},
        environ_overrides={"CONTENT_LENGTH": str(len(OTHER))},
    )
    assert answer.status_code == 409
    wrong = http.put(  # what is stored has to be sent all the same: knowing its digest proves nothing
        f"{route.base}/files/m.onnx",
        data=OTHER,
        headers={"X-Content-SHA256": hashlib.sha256(FIRST).hexdigest()},
    )
    assert wrong.json["error"]["code"] == "incomplete_upload"  # type: ignore[index]
    assert database.chunks.count_documents({}) == chunks


def test_the_sweep_empties_the_trash_of_files_after_its_time(
    http: FlaskClient, database: Database, settings: Settings
) -> None:
    route = Route(http, "path")
    for content in (FIRST, OTHER, b"third"):
        route.send(content, replace="true")
    newest = database.removed_files.find_one({"replaced_by": checksum(b"third")})
    assert newest is not None
    long_ago = now().replace(year=2020)
    database.removed_files.update_one({"_id": {"$ne": newest["_id"]}}, {"$set": {"removed_at": long_ago}})
    result = make_sweeper(settings, build_stores(database, settings)).sweep()
    assert result is not None
    assert (result["removed"]["removed_files"], result["errors"]) == (1, {})
    assert [entry["_id"] for entry in database.removed_files.find()] == [newest["_id"]]
    assert wrong_references(database) == []


@pytest.mark.parametrize("kind", ["path", "dataset path"])
def test_what_is_removed_for_good_takes_its_trash_with_it(
    http: FlaskClient, database: Database, kind: str
) -> None:
    route = Route(http, kind)
    route.send(FIRST)
    route.send(OTHER, replace="true")
    http.delete(f"{route.base}?purge=true" if kind == "path" else route.base)
    assert database.removed_files.count_documents({}) == 0
    assert wrong_references(database) == []


def test_the_trash_is_in_a_backup(http: FlaskClient, database: Database, settings: Settings) -> None:
    from model_service.services.archive.archive import Scope

    route = Route(http, "path")
    route.send(FIRST)
    route.send(OTHER, replace="true")
    archive = build_services(settings, build_stores(database, settings)).archive
    content = b"".join(archive.export(Scope.EVERYTHING))
    for name in database.collection_names():
        database.collection(name).delete_many({})
    archive.restore(io.BytesIO(content))
    (entry,) = http.get(f"{route.base}/deleted-files").json["files"]  # type: ignore[index]
    http.post(f"{route.base}/deleted-files/{entry['id']}/restore?replace=true")
    assert route.stored() == FIRST
    assert wrong_references(database) == []


def test_an_import_never_replaces_a_file(http: FlaskClient, database: Database, settings: Settings) -> None:
    from model_service.services.archive.archive import Scope
    from model_service.services.archive.reader import Conflicts

    route = Route(http, "path")
    route.send(FIRST)
    archive = build_services(settings, build_stores(database, settings)).archive
    content = b"".join(archive.export(Scope.REGISTRY))
    route.send(OTHER, replace="true")
    imported = archive.import_registry(io.BytesIO(content), Conflicts.SKIP)
    assert imported.existing == {"models": 1}
    assert route.stored() == OTHER
