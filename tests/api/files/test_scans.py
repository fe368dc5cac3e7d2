"""What a scan found is shown wherever a model's files are, at once, and changes no revision."""

from typing import Any

from bson import ObjectId
from flask.testing import FlaskClient

from model_service.config import Settings
from model_service.storage.blobs.scans import Scans
from model_service.storage.common.db import Database
from model_service.storage.migrations.m0004_scan_verdicts import MIGRATION
from model_service.storage.stores import build_stores

FINDING = {"safe": False, "globals": ["os.system"], "scanners": {"picklescan": "1"}}


def test_a_finding_is_shown_wherever_the_file_is(
    http: FlaskClient, settings: Settings, database: Database, model_id: str
) -> None:
    url = f"/api/v1/models/{model_id}"
    http.post(f"{url}/upload", data=b"bytes", headers={"X-Filename": "m.pt"})

    def shown() -> list[Any]:
        one, files = http.get(url).json, http.get(f"{url}/files").json
        listed = http.get("/api/v1/models?limit=100").json["models"][0]
        return [found["files"][0]["scan"] for found in (one, files, listed)]

    etag = http.get(url).headers["ETag"]
    for _ in range(4):  # often enough to be answered from the caches
        assert shown() == [None, None, None]
    scans = Scans(database)
    note = scans.begin(model_id, 60)
    assert note is not None
    (file,) = scans.unscanned(note["_id"])
    with build_stores(database, settings).models.changing(note["_id"]):
        scans.record(note["_id"], file, FINDING)
    assert shown() == [FINDING, FINDING, FINDING]
    assert http.get(url).headers["ETag"] == etag


def test_a_copy_of_a_version_has_the_findings_too(
    http: FlaskClient, database: Database, model_id: str
) -> None:
    url = f"/api/v1/models/{model_id}"
    http.post(f"{url}/upload", data=b"bytes", headers={"X-Filename": "m.pt"})
    scans = Scans(database)
    note = scans.begin(model_id, 60)
    assert note is not None
    unscanned = http.post(f"{url}/versions", json={"copy_files": True}).json["model_id"]
    scans.record(note["_id"], scans.unscanned(note["_id"])[0], FINDING)
    scans.end(note)
    scanned = http.post(f"{url}/versions", json={"copy_files": True}).json["model_id"]
    assert http.get(f"/api/v1/models/{scanned}").json["files"][0]["scan"] == FINDING
    assert scans.waiting() == [unscanned]


def test_what_an_archive_says_of_a_scan_is_not_taken_for_one(
    http: FlaskClient, database: Database, model_id: str
) -> None:
    url = f"/api/v1/models/{model_id}"
    http.post(f"{url}/upload", data=b"bytes", headers={"X-Filename": "m.pt"})
    scans = Scans(database)
    note = scans.begin(model_id, 60)
    assert note is not None
    scans.record(note["_id"], scans.unscanned(note["_id"])[0], FINDING)
    scans.end(note)
    archive = http.get("/api/v1/registry/export").data
    http.delete(f"{url}?purge=true")
    imported = http.post("/api/v1/registry/import", data=archive, content_type="application/x-tar")
    assert imported.status_code == 200, imported.text
    assert http.get(url).json["files"][0]["scan"] is None
    assert scans.waiting() == [model_id]


def test_findings_without_a_verdict_are_made_again(
    http: FlaskClient, database: Database, model_id: str
) -> None:
    """Of a build that called everything safe in which it met no pickle; what has a verdict stays."""
    url = f"/api/v1/models/{model_id}"
    scans = Scans(database)
    for name, finding in (("old", FINDING), ("new", FINDING | {"verdict": "unsafe"})):
        http.put(f"{url}/files/{name}", data=name.encode())
        note = scans.begin(model_id, 60)
        assert note is not None
        scans.record(note["_id"], scans.unscanned(note["_id"])[0], finding)
        scans.end(note)
    assert scans.waiting() == []

    assert MIGRATION.derive is not None
    for _ in range(2):
        MIGRATION.derive(database)

    assert scans.waiting() == [model_id]
    files = {file["path"]: file for file in http.get(url).json["files"]}
    assert (files["old"]["scan"], files["new"]["scan"]["verdict"]) == (None, "unsafe")
    assert scans.finding(ObjectId(files["old"]["file_id"])) is None
