"""What somebody who looks into the GridFS bucket sees, with PyMongo's own ``gridfs``."""

from typing import Any

from flask.testing import FlaskClient
from gridfs import GridFSBucket
from pymongo import MongoClient

from model_service.config import Settings
from model_service.storage.blobs.descriptions import describe_all
from model_service.storage.common.db import Database
from tests.api.deployed import exported


def test_stored_files_have_names_types_and_what_they_are_of(
    http: FlaskClient, settings: Settings, database: Database
) -> None:
    sent = {"name": "fraud_detection_xgboost_v2", "algorithm": "xgboost"}
    model: Any = http.post("/api/v1/models", json=sent).json
    for name, content in (("model.pkl", b"a model"), ("again.pkl", b"a model"), ("notes.txt", b"notes")):
        http.put(f"/api/v1/models/{model['model_id']}/files/{name}", data=content)
    data: Any = http.post("/api/v1/datasets", json={"name": "transactions"}).json
    http.put(
        f"/api/v1/datasets/{data['id']}/files/rows.csv", data=b"1,2", headers={"Content-Type": "text/csv"}
    )
    assert settings.mongodb_url is not None
    with MongoClient[dict[str, Any]](settings.mongodb_url.get_secret_value()) as client:
        bucket = GridFSBucket(client[settings.mongodb_db], settings.gridfs_bucket)
        files = {file.filename: file for file in bucket.find({})}
        assert files.keys() == {"model.pkl", "notes.txt", "rows.csv"}  # equal bytes are stored once
        assert files["model.pkl"].read() == b"a model"
    documents = {file["filename"]: file for file in database.files.find({})}
    assert documents["rows.csv"]["contentType"] == "text/csv"
    assert documents["model.pkl"]["contentType"] == "application/octet-stream"
    told = documents["model.pkl"]["metadata"]
    assert told["model_name"] == "fraud_detection_xgboost_v2"
    assert (told["algorithm"], told["version"]) == ("xgboost", "v1.0")
    assert told["content_type"] == "application/octet-stream"
    assert told["created_at"] == told["upload_date"]


def test_blobs_of_an_earlier_version_are_described_by_the_oldest_document_that_has_them(
    http: FlaskClient, database: Database
) -> None:
    job_id = exported(http, database)
    model: Any = http.get("/api/v1/models/models:/digits/v1.0").json
    http.post("/api/v1/models", json={"name": "later", "algorithm": "x"})
    http.post("/api/v1/models/models:/later/latest/upload", data=b"some bytes")
    told = ("metadata.model_name", "metadata.algorithm", "metadata.version", "metadata.created_at")
    unset = dict.fromkeys(("contentType", "metadata.upload_date", "metadata.content_type", *told), "")
    database.files.update_many({}, [{"$set": {"filename": "$metadata.sha256"}}])
    database.files.update_many({}, {"$unset": unset})
    counted = {file["_id"]: file["metadata"]["references"] for file in database.files.find({})}
    for _ in range(2):
        describe_all(database)
        files = {file["filename"]: file for file in database.files.find({})}
        assert {file["_id"]: file["metadata"]["references"] for file in files.values()} == counted
        mine = files[model["file_metadata"]["filename"]]
        assert (mine["metadata"]["model_name"], mine["metadata"]["algorithm"]) == ("digits", "convnet")
        package = files["digits-v1.0-onnx.zip"]
        assert (package["contentType"], package["metadata"]["export_format"]) == ("application/zip", "onnx")
    assert http.get(f"/api/v1/export/jobs/{job_id}/download").status_code == 200
