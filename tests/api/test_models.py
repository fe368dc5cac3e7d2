import hashlib
import io
from typing import Any

import pytest
from flask.testing import FlaskClient

from model_service.api.schemas.models import Model
from model_service.app import create_app
from model_service.config import Settings
from tests.factories import new_model

UNKNOWN = "507f1f77bcf86cd799439011"
CONTENT = bytes(range(256)) * 20_000  # 5 MB: more than two chunks

CHUNKED = {"Transfer-Encoding": "chunked"}


def upload(http: FlaskClient, model_id: str, content: bytes = CONTENT, **headers: str) -> Any:
    return http.post(f"/api/v1/models/{model_id}/upload", data=content, headers=headers)


def test_a_registered_model_can_be_read(http: FlaskClient) -> None:
    sent = new_model(tags=["production"], hyperparameters={"depth": 3}, dataset_info={"name": "digits"})
    answer = http.post("/api/v1/models", json=sent)
    assert answer.status_code == 201
    assert answer.json["success"] is True
    assert answer.json["version"] == "v1.0"
    model_id = answer.json["model_id"]
    assert answer.json["download_url"] == f"/api/v1/models/{model_id}/download"
    read = http.get(f"/api/v1/models/{model_id}").json
    assert {key: read[key] for key in sent} == sent
    assert read["status"] == "active"
    assert read["file_metadata"] is None
    assert set(read) == set(Model.model_fields)


def test_a_name_gets_its_next_version_unless_one_is_given(http: FlaskClient) -> None:
    versions = [http.post("/api/v1/models", json=new_model()).json["version"] for _ in range(3)]
    assert versions == ["v1.0", "v1.1", "v1.2"]
    assert http.post("/api/v1/models", json=new_model(version="v3")).json["version"] == "v3"
    assert http.post("/api/v1/models", json=new_model()).json["version"] == "v3.1"
    assert http.post("/api/v1/models", json=new_model(version="v3.999999")).status_code == 201
    assert http.post("/api/v1/models", json=new_model()).json["version"] == "v4.0"
    assert http.post("/api/v1/models", json=new_model(version="v3.0")).status_code == 409
    taken = http.post("/api/v1/models", json=new_model(version="v1.1"))
    assert taken.status_code == 409
    assert taken.json["error"]["code"] == "conflict"


def test_lists_are_paged_newest_first_and_filtered(http: FlaskClient) -> None:
    for number in range(5):
        http.post("/api/v1/models", json=new_model(tags=[f"t{number}"], metrics={"accuracy": number / 10}))
    http.post("/api/v1/models", json=new_model(name="other", algorithm="svm"))
    page = http.get("/api/v1/models?page=2&limit=2&algorithm=convnet").json
    assert [model["version"] for model in page["models"]] == ["v1.2", "v1.1"]
    assert page["pagination"] == {"page": 2, "limit": 2, "total": 5, "pages": 3}
    assert http.get("/api/v1/models?name=other").json["pagination"]["total"] == 1
    assert http.get("/api/v1/models?tags=t1, t4").json["pagination"]["total"] == 2
    assert http.get("/api/v1/models?tags=,").json["pagination"]["total"] == 6
    assert (
        http.get("/api/v1/models?min_accuracy=0.3").json["pagination"]["total"] == 3
    )  # 0.3, 0.4, other's 0.9


def test_changes_leave_the_rest_alone(http: FlaskClient, model_id: str) -> None:
    changed = http.put(f"/api/v1/models/{model_id}", json={"status": "archived", "tags": ["old"]}).json
    assert (changed["status"], changed["tags"]) == ("archived", ["old"])
    assert changed["metrics"] == new_model()["metrics"]
    assert http.put(f"/api/v1/models/{UNKNOWN}", json={"tags": []}).status_code == 404
    for field in ("name", "version", "download_count"):
        assert http.put(f"/api/v1/models/{model_id}", json={field: "x"}).status_code == 422

    for field in ("algorithm", "hyperparameters", "metrics", "dataset_info", "tags", "status"):
        assert http.put(f"/api/v1/models/{model_id}", json={field: None}).status_code == 422, field
    for field in ("description", "framework", "task_type"):
        assert http.put(f"/api/v1/models/{model_id}", json={field: None}).status_code == 200, field
    assert http.get("/api/v1/models").status_code == 200


def test_a_deleted_model_is_gone(http: FlaskClient, model_id: str) -> None:
    assert http.delete(f"/api/v1/models/{model_id}").json["deleted_id"] == model_id
    assert http.get(f"/api/v1/models/{model_id}").status_code == 404
    assert http.delete(f"/api/v1/models/{model_id}").status_code == 404


def test_a_file_comes_back_as_it_was_sent(http: FlaskClient, model_id: str) -> None:
    sent = upload(http, model_id, **{"X-Filename": "../../digits.pkl"})
    assert sent.status_code == 201
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert sent.json["file_metadata"]["checksum"] == f"sha256:{digest}"
    answer = http.get(f"/api/v1/models/{model_id}/download")
    assert answer.data == CONTENT
    assert answer.headers["Content-Disposition"] == 'attachment; filename="digits.pkl"'
    assert answer.headers["X-Model-Algorithm"] == "convnet"
    assert answer.headers["X-Model-Version"] == "v1.0"
    assert answer.headers["X-File-Checksum"] == f"sha256:{digest}"
    assert answer.headers["ETag"] == f'"{digest}"'
    info = http.get(f"/api/v1/models/{model_id}/info").json
    assert info["file_metadata"]["format"] == "pickle"
    assert info["download_count"] == 1


def test_an_algorithm_of_any_characters_passes_through_a_header(http: FlaskClient) -> None:
    model = http.post("/api/v1/models", json=new_model(algorithm="Wald (тёмный)\nX-Evil: 1")).json
    upload(http, model["model_id"])
    answer = http.get(model["download_url"])
    assert answer.status_code == 200
    assert answer.headers["X-Model-Algorithm"].startswith("Wald (%D1%82")
    assert "X-Evil" not in answer.headers


def test_head_gives_the_headers_and_counts_nothing(http: FlaskClient, model_id: str) -> None:
    upload(http, model_id)
    answer = http.head(f"/api/v1/models/{model_id}/download")
    assert answer.headers["Content-Length"] == str(len(CONTENT))
    assert answer.data == b""
    assert http.get(f"/api/v1/models/{model_id}").json["download_count"] == 0


def test_a_form_is_as_good_as_a_raw_body(http: FlaskClient, model_id: str) -> None:
    form = {"note": "before", "file": (io.BytesIO(CONTENT), "digits.onnx"), "last": "after"}
    sent = http.post(f"/api/v1/models/{model_id}/upload", data=form)
    assert sent.status_code == 201
    assert sent.json["file_metadata"]["filename"] == "digits.onnx"
    assert http.get(f"/api/v1/models/{model_id}/download").data == CONTENT


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=2097150-2097160", 2097150, 2097161),
        ("bytes=5000000-", 5000000, None),
        ("bytes=-7", -7, None),
        (f"bytes=-{len(CONTENT) + 9}", 0, None),
        (f"bytes=7-{len(CONTENT) + 9}", 7, None),
    ],
)
def test_ranges(http: FlaskClient, model_id: str, wanted: str, start: int, stop: int | None) -> None:
    upload(http, model_id)
    answer = http.get(f"/api/v1/models/{model_id}/download", headers={"Range": wanted})
    assert answer.status_code == 206
    assert answer.data == CONTENT[start:stop]
    first = start % len(CONTENT)
    last = (stop or len(CONTENT)) - 1
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(CONTENT)}"


def test_conditional_downloads(http: FlaskClient, model_id: str) -> None:
    upload(http, model_id)
    url = f"/api/v1/models/{model_id}/download"
    etag = http.head(url).headers["ETag"]
    assert http.get(url, headers={"If-None-Match": etag}).status_code == 304
    past = http.get(url, headers={"Range": f"bytes={len(CONTENT)}-"})
    assert past.status_code == 416
    assert past.headers["Content-Range"] == f"bytes */{len(CONTENT)}"
    head = http.head(url, headers={"Range": "bytes=1-2"})
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(CONTENT)))
    assert http.get(url, headers={"If-Match": '"other"'}).status_code == 412
    assert http.get(url, headers={"If-Match": etag}).status_code == 200
    weak = http.get(url, headers={"Range": "bytes=1-2", "If-Range": f"W/{etag}"})
    assert weak.status_code == 200
    assert http.get(url, headers={"Range": "bytes=1-2", "If-Range": etag}).status_code == 206
    changed = http.get(url, headers={"Range": "bytes=1-2", "If-Range": '"other"'})
    assert (changed.status_code, changed.data) == (200, CONTENT)


def test_a_model_without_a_file_has_no_download(http: FlaskClient, model_id: str) -> None:
    assert http.get(f"/api/v1/models/{model_id}/download").status_code == 404
    assert http.get(f"/api/v1/models/{model_id}/info").status_code == 404


def test_an_announced_checksum_is_checked(http: FlaskClient, model_id: str) -> None:
    wrong = upload(http, model_id, **{"X-Content-SHA256": "0" * 64})
    assert (wrong.status_code, wrong.json["error"]["code"]) == (400, "incomplete_upload")
    assert http.get(f"/api/v1/models/{model_id}").json["files"] == []
    right = upload(http, model_id, **{"X-Content-SHA256": hashlib.sha256(CONTENT).hexdigest()})
    assert right.status_code == 201


@pytest.mark.parametrize("form", [False, True])
def test_a_file_past_the_limit_is_refused_and_nothing_is_kept(settings: Settings, form: bool) -> None:
    app = create_app(settings.model_copy(update={"max_file_size": 3_000_000}))
    http = app.test_client()
    model_id = http.post("/api/v1/models", json=new_model()).json["model_id"]
    data: Any = {"file": (io.BytesIO(CONTENT), "m.bin")} if form else CONTENT
    answer = http.post(f"/api/v1/models/{model_id}/upload", data=data)
    assert (answer.status_code, answer.json["error"]["code"]) == (413, "file_too_large")
    # Without an announced length the limit is met while the bytes come in.
    streamed = http.post(
        f"/api/v1/models/{model_id}/upload",
        input_stream=io.BytesIO(CONTENT),
        headers={**CHUNKED, "X-Content-SHA256": hashlib.sha256(CONTENT).hexdigest()},
    )
    assert streamed.status_code == 413
    assert http.get(f"/api/v1/models/{model_id}").json["files"] == []


def test_an_upload_that_breaks_off_leaves_nothing(http: FlaskClient, model_id: str) -> None:
    upload(http, model_id, b"before")
    broken = http.post(
        f"/api/v1/models/{model_id}/upload",
        input_stream=io.BytesIO(CONTENT),
        environ_overrides={"CONTENT_LENGTH": str(len(CONTENT) + 1)},
    )
    assert (broken.status_code, broken.json["error"]["code"]) == (400, "incomplete_upload")
    cut_form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhalf'
    form = http.post(
        f"/api/v1/models/{model_id}/upload", data=cut_form, content_type="multipart/form-data; boundary=x"
    )
    assert (form.status_code, form.json["error"]["code"]) == (400, "incomplete_upload")
    assert http.get(f"/api/v1/models/{model_id}/download").data == b"before"


def test_a_raw_upload_of_unknown_length_needs_its_checksum(http: FlaskClient, model_id: str) -> None:
    answer = http.post(
        f"/api/v1/models/{model_id}/upload",
        input_stream=io.BytesIO(b"abc"),
        headers=CHUNKED,
    )
    assert (answer.status_code, answer.json["error"]["code"]) == (411, "length_required")


def test_a_form_that_never_comes_to_its_file_is_not_held_in_memory(http: FlaskClient, model_id: str) -> None:
    answer = http.post(
        f"/api/v1/models/{model_id}/upload",
        data=b"x" * 20_000_000,
        content_type="multipart/form-data; boundary=b",
    )
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "invalid_request")


def test_slow_transfers_do_not_keep_everybody_else_out(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"api_threads": 6}))
    http = app.test_client()
    model_id = http.post("/api/v1/models", json=new_model()).json["model_id"]
    upload(http, model_id)
    url = f"/api/v1/models/{model_id}/download"
    slow = [http.get(url), http.get(url)]  # taken up, and not read to their ends
    refused = [http.get(url), upload(http, model_id)]
    assert [answer.status_code for answer in refused] == [503, 503]
    assert refused[0].headers["Retry-After"]
    assert http.get(f"/api/v1/models/{model_id}").status_code == 200
    for answer in slow:
        answer.close()
    assert http.get(url).status_code == 200


def test_uploads_that_are_no_file(http: FlaskClient, model_id: str) -> None:
    empty = http.post(f"/api/v1/models/{model_id}/upload", input_stream=io.BytesIO(), content_length=0)
    assert (empty.status_code, empty.json["error"]["code"]) == (400, "incomplete_upload")
    no_field = http.post(f"/api/v1/models/{model_id}/upload", data={"other": (io.BytesIO(b"x"), "x")})
    assert (no_field.status_code, no_field.json["error"]["code"]) == (400, "invalid_request")
    assert upload(http, UNKNOWN).status_code == 404
    assert upload(http, "nonsense").status_code == 400
