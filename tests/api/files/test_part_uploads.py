"""Uploads in parts: what arrives is published whole and verified, or not at all."""

import hashlib
import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr

from model_service.app import create_app
from model_service.config import Settings
from model_service.storage.blobs.blobs import CHUNK_BYTES
from model_service.storage.common.db import Database, now
from model_service.storage.stores import build_stores
from tests.factories import new_model

PART = 2 * CHUNK_BYTES
CONTENT = os.urandom(2 * PART + 1_234_567)  # three parts, the last one smaller
PARTS = [CONTENT[start : start + PART] for start in range(0, len(CONTENT), PART)]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def begin(http: FlaskClient, model_id: str, **fields: Any) -> Any:
    body = {"path": "weights.bin", "size_bytes": len(CONTENT), "part_size_bytes": PART} | fields
    return http.post(f"/api/v1/models/{model_id}/uploads", json=body)


@pytest.fixture
def upload_id(http: FlaskClient, model_id: str) -> str:
    return str(begin(http, model_id).json["upload_id"])


def send(http: FlaskClient, upload_id: str, n: int, content: bytes | None = None, **headers: str) -> Any:
    content = PARTS[n] if content is None else content
    announced = {"X-Content-SHA256": sha256(content)} | headers
    return http.put(f"/api/v1/uploads/{upload_id}/parts/{n}", data=content, headers=announced)


def state(http: FlaskClient, upload_id: str) -> Any:
    return http.get(f"/api/v1/uploads/{upload_id}").json


def complete(http: FlaskClient, upload_id: str, **body: str) -> Any:
    return http.post(f"/api/v1/uploads/{upload_id}/complete", json=body)


def stored_chunks(database: Database) -> int:
    return database.chunks.count_documents({})


def test_parts_come_in_any_order_and_are_the_file(
    http: FlaskClient, model_id: str, database: Database
) -> None:
    begun = begin(http, model_id, sha256=sha256(CONTENT))
    assert begun.status_code == 201
    upload_id = begun.json["upload_id"]
    assert (begun.json["parts"], begun.json["part_size_bytes"], begun.json["state"]) == (3, PART, "open")
    for n in (2, 0):
        answer = send(http, upload_id, n)
        assert (answer.status_code, answer.json["checksum"]) == (200, f"sha256:{sha256(PARTS[n])}")
    seen = state(http, upload_id)
    assert [part["n"] for part in seen["received"]] == [0, 2]
    assert [(part["n"], part["size_bytes"]) for part in seen["missing"]] == [(1, PART)]
    early = complete(http, upload_id)
    assert (early.status_code, early.json["error"]["details"]["missing"]) == (409, [1])
    assert http.get(f"/api/v1/models/{model_id}/files").json["files"] == []
    send(http, upload_id, 1)
    done = complete(http, upload_id)
    assert (done.status_code, done.json["state"]) == (200, "completed")
    assert done.json["file"]["checksum"] == f"sha256:{sha256(CONTENT)}"
    assert http.get(f"/api/v1/models/{model_id}/files/weights.bin").data == CONTENT
    assert http.get(f"/api/v1/models/{model_id}").json["size_bytes"] == len(CONTENT)
    # Nothing was copied, and nothing is left over.
    assert stored_chunks(database) == -(-len(CONTENT) // CHUNK_BYTES)
    assert database.uploads.count_documents({}) == 0
    assert database.files.find_one({})["metadata"]["references"] == 1  # type: ignore[index]


def test_completing_twice_is_completing_once(http: FlaskClient, upload_id: str, database: Database) -> None:
    for n in range(3):
        send(http, upload_id, n)
    first, second = complete(http, upload_id), complete(http, upload_id)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json == second.json
    assert database.files.find_one({})["metadata"]["references"] == 1  # type: ignore[index]
    assert send(http, upload_id, 0).status_code == 200  # the same bytes change nothing
    other = send(http, upload_id, 0, os.urandom(PART))
    assert (other.status_code, other.json["error"]["details"]["state"]) == (409, "completed")
    assert http.delete(f"/api/v1/uploads/{upload_id}").status_code == 409


def test_a_small_upload_may_be_the_models_own_file(http: FlaskClient, model_id: str) -> None:
    content = b"small"
    upload_id = begin(http, model_id, path=None, filename="net.pt2", size_bytes=5).json["upload_id"]
    assert send(http, upload_id, 0, content).status_code == 200
    complete(http, upload_id, sha256=sha256(content))
    info = http.get(f"/api/v1/models/{model_id}/info").json["file_metadata"]
    assert (info["filename"], info["format"]) == ("net.pt2", "torch_export")
    assert http.get(f"/api/v1/models/{model_id}/download").data == content


def test_equal_bytes_are_stored_once(http: FlaskClient, model_id: str, database: Database) -> None:
    http.put(f"/api/v1/models/{model_id}/files/first.bin", data=CONTENT)
    upload_id = begin(http, model_id).json["upload_id"]
    for n in range(3):
        send(http, upload_id, n)
    assert complete(http, upload_id).status_code == 200
    assert stored_chunks(database) == -(-len(CONTENT) // CHUNK_BYTES)
    assert database.files.find_one({})["metadata"]["references"] == 2  # type: ignore[index]
    assert http.get(f"/api/v1/models/{model_id}/files/weights.bin").data == CONTENT
    build_stores(database).blobs.sweep(safety_s=-1)
    assert http.get(f"/api/v1/models/{model_id}/files/weights.bin").data == CONTENT
    assert complete(http, upload_id).status_code == 200


def test_a_part_that_is_not_what_was_announced_is_not_kept(
    http: FlaskClient, upload_id: str, database: Database
) -> None:
    wrong = send(http, upload_id, 0, **{"X-Content-SHA256": "0" * 64})
    assert (wrong.status_code, wrong.json["error"]["code"]) == (400, "incomplete_upload")
    assert stored_chunks(database) == 0
    url = f"/api/v1/uploads/{upload_id}/parts/0"
    assert http.put(url, data=PARTS[0]).status_code == 422
    broken = http.put(
        url,
        input_stream=io.BytesIO(PARTS[0][:-1]),
        headers={"X-Content-SHA256": sha256(PARTS[0])},
        environ_overrides={"CONTENT_LENGTH": str(PART)},
    )
    assert (broken.status_code, broken.json["error"]["code"]) == (400, "incomplete_upload")
    assert stored_chunks(database) == 0
    assert [part["n"] for part in state(http, upload_id)["missing"]] == [0, 1, 2]


@pytest.mark.parametrize(("n", "size"), [(0, PART - 1), (0, PART + 1), (2, PART), (2, 1)])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_part_has_its_own_size(
    http: FlaskClient, upload_id: str, database: Database, n: int, size: int, chunked: bool
) -> None:
    content = os.urandom(size)
    if chunked:  # only reading it tells
        answer = http.put(
            f"/api/v1/uploads/{upload_id}/parts/{n}",
            input_stream=io.BytesIO(content),
            headers={"X-Content-SHA256": sha256(content), "Transfer-Encoding": "chunked"},
        )
    else:
        answer = send(http, upload_id, n, content)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "incomplete_upload")
    assert stored_chunks(database) == 0
    assert state(http, upload_id)["received"] == []


def test_there_is_no_other_part(http: FlaskClient, upload_id: str) -> None:
    assert send(http, upload_id, 3, PARTS[0]).status_code == 404
    assert http.put(f"/api/v1/uploads/{upload_id}/parts/x", data=b"x").status_code == 422
    assert send(http, "f" * 24, 0).status_code == 404
    assert send(http, "nonsense", 0).status_code == 400


def test_a_part_may_be_sent_again_and_its_last_bytes_count(http: FlaskClient, upload_id: str) -> None:
    send(http, upload_id, 0, os.urandom(PART))
    for n in (0, 1, 2):
        assert send(http, upload_id, n).status_code == 200
    assert send(http, upload_id, 1).status_code == 200
    assert complete(http, upload_id, sha256=sha256(CONTENT)).status_code == 200


def test_the_whole_is_compared_with_what_was_announced(http: FlaskClient, model_id: str) -> None:
    for announced_at_once in (True, False):
        wrong = {"sha256": "0" * 64}
        upload_id = begin(http, model_id, **(wrong if announced_at_once else {})).json["upload_id"]
        for n in range(3):
            send(http, upload_id, n)
        refused = complete(http, upload_id, **({} if announced_at_once else wrong))
        assert (refused.status_code, refused.json["error"]["code"]) == (400, "incomplete_upload")
        assert refused.json["error"]["details"]["actual"] == sha256(CONTENT)
        assert http.get(f"/api/v1/models/{model_id}/files").json["files"] == []
        assert state(http, upload_id)["state"] == "open"
        assert len(state(http, upload_id)["received"]) == 3


@pytest.mark.parametrize("damage", ["missing", "short", "other"])
def test_stored_bytes_are_verified_before_they_are_published(
    http: FlaskClient, upload_id: str, database: Database, damage: str
) -> None:
    for n in range(3):
        send(http, upload_id, n)
    chunk = {"n": 2}  # of the second part
    if damage == "missing":
        database.chunks.delete_one(chunk)
    else:
        data = b"short" if damage == "short" else os.urandom(CHUNK_BYTES)
        database.chunks.update_one(chunk, {"$set": {"data": data}})
    refused = complete(http, upload_id)
    assert (refused.status_code, refused.json["error"]["details"]["missing"]) == (409, [1])
    assert [part["n"] for part in state(http, upload_id)["missing"]] == [1]
    send(http, upload_id, 1)
    assert complete(http, upload_id, sha256=sha256(CONTENT)).status_code == 200


class Slow(io.BytesIO):
    """A body that stops in its middle until it is told to go on."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.half_way, self.go_on = threading.Event(), threading.Event()

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= PART // 2:
            self.half_way.set()
            assert self.go_on.wait(30)
        return super().read(size)


def send_slowly(app: Flask, upload_id: str, n: int, content: bytes, body: Slow) -> Any:
    return app.test_client().put(
        f"/api/v1/uploads/{upload_id}/parts/{n}",
        input_stream=body,
        headers={"X-Content-SHA256": sha256(content)},
        environ_overrides={"CONTENT_LENGTH": str(len(content))},
    )


def test_two_writers_of_a_part_do_not_mix(
    app: Flask, http: FlaskClient, upload_id: str, database: Database
) -> None:
    """The slow one began first: whatever it still writes, the one that began last is what counts."""
    other = os.urandom(PART)
    body = Slow(other)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(send_slowly, app, upload_id, 0, other, body)
        assert body.half_way.wait(30)
        assert send(http, upload_id, 0).status_code == 200
        body.go_on.set()
        answer = slow.result(30)
    assert (answer.status_code, answer.json["error"]["code"]) == (409, "conflict")
    for n in (1, 2):
        send(http, upload_id, n)
    assert complete(http, upload_id, sha256=sha256(CONTENT)).status_code == 200


def test_a_part_that_is_being_written_is_not_completed(app: Flask, http: FlaskClient, upload_id: str) -> None:
    for n in range(3):
        send(http, upload_id, n)
    other = os.urandom(PART)
    body = Slow(other)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(send_slowly, app, upload_id, 0, other, body)
        assert body.half_way.wait(30)
        refused = complete(http, upload_id)
        body.go_on.set()
        assert slow.result(30).status_code == 200
    assert (refused.status_code, refused.json["error"]["details"]["missing"]) == (409, [0])
    assert complete(http, upload_id, sha256=sha256(other + CONTENT[PART:])).status_code == 200


def test_many_complete_at_once_and_one_publishes(
    app: Flask, http: FlaskClient, upload_id: str, model_id: str, database: Database
) -> None:
    for n in range(3):
        send(http, upload_id, n)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: complete(app.test_client(), upload_id), range(6)))
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert complete(http, upload_id).status_code == 200
    assert database.files.find_one({})["metadata"]["references"] == 1  # type: ignore[index]
    assert http.get(f"/api/v1/models/{model_id}/files/weights.bin").data == CONTENT
    assert database.audit.count_documents({"action": "file_stored"}) == 1


def test_an_upload_whose_completer_was_killed_is_completed_by_the_next(
    http: FlaskClient, upload_id: str, model_id: str, database: Database
) -> None:
    for n in range(3):
        send(http, upload_id, n)
    lease = {"token": "of a process that is no more", "until": now() + timedelta(seconds=30)}
    database.part_uploads.update_one({}, {"$set": {"state": "completing", "completing": lease}})
    waiting = complete(http, upload_id)
    assert (waiting.status_code, waiting.json["state"]) == (202, "completing")
    assert http.delete(f"/api/v1/uploads/{upload_id}").status_code == 409
    database.part_uploads.update_one({}, {"$set": {"completing.until": now() - timedelta(seconds=1)}})
    assert complete(http, upload_id).json["state"] == "completed"
    assert http.get(f"/api/v1/models/{model_id}/files/weights.bin").data == CONTENT


def test_an_aborted_upload_leaves_nothing(http: FlaskClient, upload_id: str, database: Database) -> None:
    send(http, upload_id, 0)
    for _ in range(2):
        assert http.delete(f"/api/v1/uploads/{upload_id}").status_code == 200
    assert stored_chunks(database) == 0
    assert state(http, upload_id)["state"] == "aborted"
    for refused in (send(http, upload_id, 1), complete(http, upload_id)):
        assert (refused.status_code, refused.json["error"]["details"]["state"]) == (409, "aborted")
    assert stored_chunks(database) == 0
    build_stores(database).blobs.sweep(safety_s=-1)
    assert database.uploads.count_documents({}) == 0


def test_an_upload_aborted_while_a_part_comes_in_leaves_nothing(
    app: Flask, http: FlaskClient, upload_id: str, database: Database
) -> None:
    body = Slow(PARTS[0])
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(send_slowly, app, upload_id, 0, PARTS[0], body)
        assert body.half_way.wait(30)
        assert http.delete(f"/api/v1/uploads/{upload_id}").status_code == 200
        body.go_on.set()
        answer = slow.result(30)
    assert (answer.status_code, answer.json["error"]["details"]["state"]) == (409, "aborted")
    assert stored_chunks(database) == 0


def test_the_sweep_leaves_an_upload_its_time_and_takes_what_is_left_after(
    http: FlaskClient, upload_id: str, database: Database
) -> None:
    send(http, upload_id, 0)
    assert build_stores(database).blobs.sweep(safety_s=-1) == 0
    assert stored_chunks(database) == 2
    past = {"$set": {"expires_at": now() - timedelta(seconds=1)}}
    database.part_uploads.update_one({}, past)
    database.uploads.update_one({}, past)
    # Whoever writes at this moment has the window.
    assert build_stores(database).blobs.sweep(safety_s=3600) == 0
    assert http.get(f"/api/v1/uploads/{upload_id}").status_code == 404
    assert send(http, upload_id, 1).status_code == 404
    assert complete(http, upload_id).status_code == 404
    assert build_stores(database).blobs.sweep(safety_s=-1) == 1
    assert stored_chunks(database) == 0


def test_an_upload_waits_for_a_model_that_does_not_take_it_now(
    http: FlaskClient, upload_id: str, model_id: str
) -> None:
    for n in range(3):
        send(http, upload_id, n)
    http.put(f"/api/v1/models/{model_id}", json={"status": "archived"})
    assert complete(http, upload_id).status_code == 409
    http.put(f"/api/v1/models/{model_id}", json={"status": "active"})
    assert complete(http, upload_id, sha256=sha256(CONTENT)).status_code == 200


def test_a_model_deleted_meanwhile_takes_no_file(http: FlaskClient, upload_id: str, model_id: str) -> None:
    for n in range(3):
        send(http, upload_id, n)
    http.delete(f"/api/v1/models/{model_id}")
    assert complete(http, upload_id).status_code == 404
    assert http.delete(f"/api/v1/uploads/{upload_id}").status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"part_size_bytes": CHUNK_BYTES + 1},
        {"part_size_bytes": 2**40},
        {"part_size_bytes": CHUNK_BYTES, "size_bytes": 400_000_000_000},
        {"size_bytes": 0},
        {"path": "../x"},
        {"sha256": "abc"},
        {"format": "unknown"},
    ],
)
def test_uploads_that_are_not_possible(settings: Settings, fields: dict[str, Any]) -> None:
    http = create_app(settings.model_copy(update={"max_file_size": 10**12})).test_client()
    model_id = http.post("/api/v1/models", json=new_model()).json["model_id"]
    answer = begin(http, model_id, **fields)
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "invalid_field")


def test_a_large_upload_gets_parts_of_a_size_that_is_enough(settings: Settings) -> None:
    http = create_app(settings.model_copy(update={"max_file_size": 10**13})).test_client()
    model_id = http.post("/api/v1/models", json=new_model()).json["model_id"]
    opened = begin(http, model_id, size_bytes=10**12, part_size_bytes=None).json
    assert opened["parts"] <= 10_000
    assert opened["parts"] == -(-(10**12) // opened["part_size_bytes"])


def test_a_file_past_the_limit_is_refused_at_once(http: FlaskClient, model_id: str) -> None:
    assert begin(http, model_id, size_bytes=10**10).json["error"]["code"] == "file_too_large"


def test_an_upload_is_opened_once_however_often_it_is_asked_for(http: FlaskClient, model_id: str) -> None:
    body = {"path": "a.bin", "size_bytes": 5}
    url, key = f"/api/v1/models/{model_id}/uploads", {"Idempotency-Key": "k1"}
    answers = [http.post(url, json=body, headers=key) for _ in range(2)]
    assert answers[0].json["upload_id"] == answers[1].json["upload_id"]
    assert answers[1].headers["Idempotency-Replayed"] == "true"


def test_a_signed_url_takes_one_part_without_a_credential(settings: Settings) -> None:
    key = "a-key-of-sixteen-characters"
    guarded = settings.model_copy(update={"enable_auth": True, "api_key": SecretStr(key)})
    http = create_app(guarded).test_client()
    with_key = {"X-API-Key": key}
    model_id = http.post("/api/v1/models", json=new_model(), headers=with_key).json["model_id"]
    body = {"path": "w", "size_bytes": len(CONTENT), "part_size_bytes": PART, "with_urls": True}
    opened = http.post(f"/api/v1/models/{model_id}/uploads", json=body, headers=with_key).json
    urls = [part["url"] for part in opened["missing"]]

    def put(url: str, content: bytes) -> int:
        announced = {"X-Content-SHA256": sha256(content)}
        return http.put(url, data=content, headers=announced).status_code

    assert put(urls[0].partition("?")[0], PARTS[0]) == 401
    assert put(urls[1].replace("/parts/1", "/parts/0"), PARTS[0]) == 403
    assert put(urls[0].replace("/parts/0", "/parts/x"), PARTS[0]) == 403
    assert [put(url, content) for url, content in zip(urls, PARTS, strict=True)] == [200, 200, 200]
    complete_url = f"/api/v1/uploads/{opened['upload_id']}/complete"
    query = urls[0].partition("?")[2]
    assert http.post(f"{complete_url}?{query}", json={}).status_code == 401
    assert http.post(complete_url, json={}, headers=with_key).json["state"] == "completed"
    rest = http.get(f"/api/v1/uploads/{opened['upload_id']}?with_urls=true", headers=with_key).json
    assert (rest["missing"], len(rest["received"])) == ([], 3)
