"""Downloads that come from the disk cache: as from MongoDB, to the last header."""

import os
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from model_service.config import Settings, read_settings
from model_service.storage.blobs.chunks import CHUNK_BYTES
from model_service.storage.common.db import Database
from tests.exposition import samples
from tests.waiting import wait_for

CONTENT = os.urandom(CHUNK_BYTES + 1000)


@pytest.fixture
def url(http: FlaskClient, model_id: str, database: Database, settings: Settings) -> str:
    """Of a file that is in the cache, and whose chunks MongoDB has no more."""
    assert http.post(f"/api/v1/models/{model_id}/upload", data=CONTENT).status_code == 201
    url = f"/api/v1/models/{model_id}/download"
    plain = [http.get(url) for _ in range(2)]
    assert all(answer.data == CONTENT for answer in plain)
    digest = plain[0].headers["ETag"].strip('"')
    wait_for((settings.cache / "blobs" / digest).exists, "the cache to be filled")
    database.chunks.delete_many({})
    return url


def test_the_whole_file(http: FlaskClient, url: str) -> None:
    answer = http.get(url)
    assert answer.data == CONTENT
    assert answer.content_length == len(CONTENT)
    assert answer.headers["X-File-Checksum"].startswith("sha256:")


def test_a_range_of_it(http: FlaskClient, url: str) -> None:
    answer = http.get(url, headers={"Range": "bytes=-10"})
    assert (answer.status_code, answer.data) == (206, CONTENT[-10:])
    assert answer.headers["Content-Range"] == f"bytes {len(CONTENT) - 10}-{len(CONTENT) - 1}/{len(CONTENT)}"


def test_head_and_a_match_send_nothing(http: FlaskClient, url: str) -> None:
    head = http.head(url)
    assert (head.data, head.content_length) == (b"", len(CONTENT))
    answer = http.get(url, headers={"If-None-Match": head.headers["ETag"]})
    assert (answer.status_code, answer.data) == (304, b"")


def test_the_cache_is_counted(http: FlaskClient, url: str) -> None:
    def hits() -> float:
        series = 'model_service_file_cache_requests_total{outcome="hit"}'
        return samples(http.get("/metrics").text)[series]

    assert http.get(url).data == CONTENT
    before = hits()
    assert http.get(url).data == CONTENT
    assert hits() == before + 1


def test_cache_dir_is_where_it_lies(tmp_path: Path) -> None:
    assert read_settings(model_service_home=tmp_path).cache == tmp_path / "cache"
    elsewhere = read_settings(model_service_home=tmp_path, cache_dir=tmp_path / "elsewhere")
    assert elsewhere.cache == tmp_path / "elsewhere"
