"""A full disk, shown on a small file system that has MongoDB, and on one that has a worker's workspace."""

import hashlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr

from model_service.api.http.disk import GOES_ON
from model_service.app import create_app
from model_service.config import Settings, read_settings
from model_service.embedded import servers as embedded_servers
from tests.exposition import samples
from tests.factories import new_model

MODELS = "/api/v1/models"
LEAST = 300_000_000
ROOT_KEY = "the administrator's own key"


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of 900 MB of its own; nothing is mounted where this may not be done."""
    folder = tmp_path_factory.mktemp("small-disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=900M", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"this user may not mount a file system: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def on_small_disk(small_disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Of a service whose MongoDB is on the small disk, and nothing else of it."""
    with embedded_servers(small_disk / "data") as addresses:
        yield read_settings(
            mongodb_url=SecretStr(addresses.mongodb_url),
            redis_url=SecretStr(addresses.redis_url),
            mongodb_db="small",
            model_service_home=tmp_path_factory.mktemp("home"),
            disk_min_free=LEAST,
            disk_warn_free=LEAST,
            enable_auth=True,
            api_key=SecretStr(ROOT_KEY),
            rate_limits="off",
        )


class Ballast:
    """A file that fills the disk up to what is left free."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "ballast"

    def leave(self, free_bytes: int) -> None:
        self._path.unlink(missing_ok=True)
        status = os.statvfs(self._folder)
        with self._path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - free_bytes)

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


@pytest.fixture
def ballast(small_disk: Path) -> Iterator[Ballast]:
    ballast = Ballast(small_disk)
    yield ballast
    ballast.remove()


@pytest.fixture
def small(on_small_disk: Settings) -> Iterator[FlaskClient]:
    with create_app(on_small_disk).test_client() as client:
        client.environ_base["HTTP_X_API_KEY"] = ROOT_KEY
        yield client


def registered(http: FlaskClient, content: bytes | None = None) -> str:
    answer = http.post(MODELS, json=new_model())
    assert answer.status_code == 201, answer.text
    model_id = str(answer.get_json()["model_id"])
    if content is not None:
        assert http.post(f"{MODELS}/{model_id}/upload", data=content).status_code == 201
    return model_id


def refusal(answer: Any) -> str:
    error = answer.get_json()["error"]
    assert (answer.status_code, error["code"]) == (507, "disk_full"), answer.text
    assert "DISK_MIN_FREE" in error["message"]
    assert "cleanup" in error["message"]
    return str(error["message"])


def test_writes_are_refused_and_everything_else_goes_on(small: FlaskClient, ballast: Ballast) -> None:
    model_id = registered(small, b"weights")
    other_id = registered(small)
    person = {"name": "ann", "password": "a password of some length", "roles": ["reader"]}
    assert small.post("/api/v1/users", json=person).status_code == 201
    upload = {"filename": "big.bin", "size_bytes": 5}
    upload_id = small.post(f"{MODELS}/{model_id}/uploads", json=upload).get_json()["upload_id"]

    ballast.leave(LEAST * 2 // 3)
    assert small.get("/health").get_json()["accepts_writes"] is False
    assert "MongoDB" in refusal(small.post(MODELS, json=new_model()))
    refusal(small.post(f"{MODELS}/{model_id}/upload", data=b"more"))
    refusal(small.put(f"{MODELS}/{model_id}/files/a.bin", data=b"more"))
    refusal(small.put(f"/api/v1/uploads/{upload_id}/parts/0", data=b"12345"))
    refusal(small.patch(f"{MODELS}/{model_id}", json={"description": "x"}))
    refusal(small.post("/api/v1/datasets", json={"name": "d"}))
    tag = {"op": "tag", "id": model_id, "tags": ["x"]}
    refusal(small.post(f"{MODELS}/batch", json={"operations": [tag]}))

    assert small.get(f"{MODELS}/{model_id}/download").data == b"weights"
    assert small.get(MODELS).status_code == 200
    assert small.get("/health").status_code == small.get("/health/ready").status_code == 200
    assert "507" in small.get("/health/detailed").get_json()["checks"]["disk_space"]
    metrics = small.get("/metrics").text
    assert "\nmodel_service_accepts_writes 0.0" in metrics
    assert "\nmodel_service_mongodb_disk_free_bytes" in metrics

    session = small.post("/api/v1/sessions", json={"user": "ann", "password": person["password"]})
    assert session.status_code == 201, session.text
    assert small.post(f"{MODELS}/{model_id}/download/presign").status_code == 200
    assert small.delete(f"/api/v1/uploads/{upload_id}").status_code == 200
    delete = {"op": "delete", "id": other_id, "purge": True}
    assert small.post(f"{MODELS}/batch", json={"operations": [delete]}).get_json()["success"] is True
    assert small.delete(f"{MODELS}/{model_id}?purge=true").status_code == 200

    ballast.remove()
    registered(small, b"weights")
    assert small.get("/health").get_json()["accepts_writes"] is True
    assert "\nmodel_service_accepts_writes 1.0" in small.get("/metrics").text


def test_a_file_that_would_not_leave_enough_room_is_refused_before_its_first_byte(
    small: FlaskClient, ballast: Ballast
) -> None:
    model_id = registered(small)
    ballast.leave(LEAST + 100_000_000)
    assert small.get("/health").get_json()["accepts_writes"] is True
    upload = {"filename": "a.bin", "size_bytes": 40_000_000, "part_size_bytes": 40 << 20}
    upload_id = small.post(f"{MODELS}/{model_id}/uploads", json=upload).get_json()["upload_id"]
    digest = {"X-Content-SHA256": hashlib.sha256(bytes(40_000_000)).hexdigest()}
    refusal(small.put(f"/api/v1/uploads/{upload_id}/parts/0", data=bytes(40_000_000), headers=digest))
    refusal(small.post(f"{MODELS}/{model_id}/upload", data=bytes(40_000_000)))
    assert small.post(f"{MODELS}/{model_id}/upload", data=b"little").status_code == 201


def test_an_upload_ends_when_the_disk_fills_while_it_arrives(small: FlaskClient, ballast: Ballast) -> None:
    model_id = registered(small)

    class Body:
        """10 MB of a slow client; another program fills the disk after the first ones."""

        sent = 0

        def read(self, size: int) -> bytes:
            self.sent += 1
            if self.sent == 3:
                ballast.leave(LEAST * 2 // 3)
                time.sleep(0.3)
            return bytes(1 << 20) if self.sent <= 10 else b""

    answer = small.post(
        f"{MODELS}/{model_id}/upload",
        headers={"X-Content-SHA256": "0" * 64, "Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input": Body(), "CONTENT_LENGTH": None},
    )
    refusal(answer)
    assert small.get(f"{MODELS}/{model_id}").get_json()["files"] == []


def test_what_goes_on_is_there(app: Flask) -> None:
    assert app.view_functions.keys() >= GOES_ON


def test_a_disk_that_is_full_all_the_same_is_507(app: Flask) -> None:
    def write() -> None:
        with Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"x")

    app.add_url_rule("/write", view_func=write)
    answer = app.test_client().get("/write")
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (507, "disk_full")


def test_looking_at_the_disks_costs_requests_nothing(small: FlaskClient) -> None:
    """What is known is renewed every few seconds, not by each request."""
    registered(small)
    before = small.get("/metrics").text
    for _ in range(20):
        registered(small)
    after = small.get("/metrics").text

    def looks(text: str) -> float:
        return next(value for series, value in samples(text).items() if 'operation="dbStats"' in series)

    assert looks(after) - looks(before) <= 15
