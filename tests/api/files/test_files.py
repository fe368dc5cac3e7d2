"""The files of a model version: the model's own, files at paths, one zip of all, signed URLs."""

import hashlib
import io
import time
import zipfile
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from model_service.app import create_app
from model_service.config import Settings
from model_service.storage.common.db import Database
from tests.factories import new_model

UNKNOWN = "507f1f77bcf86cd799439011"
CONTENT = bytes(range(256)) * 20_000  # 5 MB: more than two chunks
OTHER = b"weights" * 1000

CHUNKED = {"Transfer-Encoding": "chunked"}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def upload(http: FlaskClient, model_id: str, content: bytes = CONTENT, **headers: str) -> Any:
    return http.post(f"/api/v1/models/{model_id}/upload", data=content, headers=headers)


def url_of(model_id: str, path: str) -> str:
    return f"/api/v1/models/{model_id}/files/{quote(path)}"


def put(
    http: FlaskClient,
    model_id: str,
    path: str,
    content: bytes = CONTENT,
    *,
    replace: bool = False,
    **headers: str,
) -> Any:
    length = {"CONTENT_LENGTH": str(len(content))}  # which the test client leaves out for no bytes
    url = url_of(model_id, path) + ("?replace=true" if replace else "")
    return http.put(url, data=content, headers=headers, environ_overrides=length)


def references(database: Database) -> dict[str, int]:
    """Of every published blob, by its sha256."""
    return {file["metadata"]["sha256"]: file["metadata"]["references"] for file in database.files.find({})}


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


def test_files_lie_at_paths(http: FlaskClient, model_id: str) -> None:
    stored = put(http, model_id, "weights/part-1.bin", **{"Content-Type": "application/x-weights"})
    assert stored.status_code == 201
    assert stored.headers["ETag"] == f'"{sha256(CONTENT)}"'
    put(http, model_id, "config.json", OTHER)
    put(http, model_id, "leer/ünïcode ∑.txt", b"")
    listed = http.get(f"/api/v1/models/{model_id}/files").json
    assert [(file["path"], file["size_bytes"], file["checksum"]) for file in listed["files"]] == [
        ("config.json", len(OTHER), f"sha256:{sha256(OTHER)}"),
        ("leer/ünïcode ∑.txt", 0, f"sha256:{sha256(b'')}"),
        ("weights/part-1.bin", len(CONTENT), f"sha256:{sha256(CONTENT)}"),
    ]
    assert listed["size_bytes"] == len(CONTENT) + len(OTHER)
    got = http.get(url_of(model_id, "weights/part-1.bin"))
    assert got.data == CONTENT
    assert got.headers["Content-Disposition"] == 'attachment; filename="part-1.bin"'
    assert got.headers["Content-Type"] == "application/x-weights"
    assert got.headers["X-Model-Version"] == "v1.0"
    named = http.head(url_of(model_id, "leer/ünïcode ∑.txt"))
    assert named.headers["Content-Disposition"].endswith("filename*=UTF-8''%C3%BCn%C3%AFcode%20%E2%88%91.txt")
    part = http.get(url_of(model_id, "config.json"), headers={"Range": "bytes=7-13"})
    assert (part.status_code, part.data) == (206, b"weights")
    assert http.get(url_of(model_id, "nothing")).status_code == 404


def test_one_spelling_of_a_path_and_both_of_a_letters_cases(http: FlaskClient, model_id: str) -> None:
    put(http, model_id, "e\u0301t\u00e9.bin", b"composed")
    put(http, model_id, "README", b"large")
    put(http, model_id, "readme", b"small")
    assert http.get(url_of(model_id, "\u00e9te\u0301.bin")).data == b"composed"
    assert http.get(url_of(model_id, "README")).data == b"large"
    assert http.get(url_of(model_id, "readme")).data == b"small"


@pytest.mark.parametrize(
    "path",
    ["..", "a/../b", "a/./b", "a\\b", "a\x00b", "a\tb", "..\\..\\etc", "x" * 1025, "%2e%2e", "a/.."],
)
def test_paths_that_are_none(http: FlaskClient, model_id: str, path: str) -> None:
    raw = path if "%" in path else quote(path)
    answer = http.put(f"/api/v1/models/{model_id}/files/{raw}", data=b"x")
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "invalid_field")
    assert http.get(f"/api/v1/models/{model_id}/files").json["files"] == []


def test_a_slash_at_the_end_of_a_path_makes_no_difference(http: FlaskClient, model_id: str) -> None:
    stored = http.put(f"/api/v1/models/{model_id}/files/a/", data=b"x")
    assert (stored.status_code, stored.json["file"]["path"]) == (201, "a")
    assert http.get(f"/api/v1/models/{model_id}/files/a").data == b"x"


def test_the_primary_file_is_the_models_own_or_the_only_one_or_the_one_that_was_asked_for(
    http: FlaskClient, model_id: str
) -> None:
    def primary() -> Any:
        metadata = http.get(f"/api/v1/models/{model_id}").json["file_metadata"]
        return metadata and metadata["path"]

    put(http, model_id, "a.onnx", b"a")
    assert primary() == "a.onnx"
    put(http, model_id, "b.pkl", b"b")
    assert primary() == "a.onnx"
    http.put(url_of(model_id, "c.bin") + "?primary=true&format=safetensors", data=b"c")
    assert primary() == "c.bin"
    assert http.get(f"/api/v1/models/{model_id}/info").json["file_metadata"]["format"] == "safetensors"
    own = {"X-Filename": "own.pt2"}
    http.post(f"/api/v1/models/{model_id}/upload?replace=true", data=b"own", headers=own)
    assert primary() == "own.pt2"
    assert http.get(f"/api/v1/models/{model_id}/download").data == b"own"
    paths = [file["path"] for file in http.get(f"/api/v1/models/{model_id}/files").json["files"]]
    assert paths == ["a.onnx", "b.pkl", "own.pt2"]  # the upload took the place of the file before it
    http.delete(url_of(model_id, "own.pt2"))
    assert primary() is None
    assert http.get(f"/api/v1/models/{model_id}/download").json["error"]["code"] == "no_file"
    http.delete(url_of(model_id, "a.onnx"))
    assert primary() == "b.pkl"


def test_a_file_sent_without_a_name_is_called_after_its_model_and_format(
    http: FlaskClient, model_id: str
) -> None:
    sent = http.post(f"/api/v1/models/{model_id}/upload?format=pickle", data=OTHER)
    assert sent.json["file_metadata"]["format"] == "pickle"
    named = http.head(f"/api/v1/models/{model_id}/download").headers["Content-Disposition"]
    assert named == 'attachment; filename="digits.pkl"'
    assert http.post(f"/api/v1/models/{model_id}/upload?format=what", data=OTHER).status_code == 422


def test_every_change_of_a_file_is_a_change_of_its_model_and_equal_bytes_are_none(
    http: FlaskClient, model_id: str, database: Database
) -> None:
    def revision() -> int:
        return int(http.get(f"/api/v1/models/{model_id}").json["revision"])

    first = revision()
    assert put(http, model_id, "a.bin").status_code == 201
    assert revision() == first + 1
    again = put(http, model_id, "a.bin")
    assert (again.status_code, again.json["revision"]) == (200, first + 1)
    assert references(database) == {sha256(CONTENT): 1}
    put(http, model_id, "copy.bin")
    assert references(database) == {sha256(CONTENT): 2}
    put(http, model_id, "a.bin", OTHER, replace=True)
    assert references(database) == {sha256(CONTENT): 2, sha256(OTHER): 1}  # one of them by the trash
    deleted = http.delete(url_of(model_id, "copy.bin"))
    assert deleted.json["path"] == "copy.bin"
    assert references(database) == {sha256(CONTENT): 2, sha256(OTHER): 1}
    assert revision() == first + 4
    assert http.delete(url_of(model_id, "copy.bin")).status_code == 404
    actions = [entry["action"] for entry in database.audit.find({"subject_id": model_id}).sort("_id", 1)]
    assert actions == ["created", *["file_stored"] * 3, "file_removed"]
    assert database.models.find_one({})["size_bytes"] == len(OTHER)  # type: ignore[index]


def test_a_file_changes_only_where_it_is_the_one_that_was_meant(http: FlaskClient, model_id: str) -> None:
    etag = put(http, model_id, "a.bin").headers["ETag"]
    lost = put(http, model_id, "a.bin", OTHER, **{"If-Match": '"other"'})
    assert (lost.status_code, lost.json["error"]["details"]["etag"]) == (412, sha256(CONTENT))
    assert put(http, model_id, "a.bin", OTHER, **{"If-None-Match": "*"}).status_code == 412
    assert put(http, model_id, "b.bin", OTHER, **{"If-Match": "*"}).status_code == 412
    assert put(http, model_id, "b.bin", OTHER, **{"If-None-Match": "*"}).status_code == 201
    assert put(http, model_id, "a.bin", OTHER, **{"If-Match": etag}).status_code == 200
    assert http.delete(url_of(model_id, "a.bin"), headers={"If-Match": etag}).status_code == 412
    assert http.get(url_of(model_id, "a.bin")).data == OTHER
    present = f'"{sha256(OTHER)}"'
    assert http.delete(url_of(model_id, "a.bin"), headers={"If-Match": present}).status_code == 200


def test_an_announced_checksum_of_a_file_at_a_path_is_checked(
    http: FlaskClient, model_id: str, database: Database
) -> None:
    wrong = put(http, model_id, "a.bin", **{"X-Content-SHA256": "0" * 64})
    assert (wrong.status_code, wrong.json["error"]["code"]) == (400, "incomplete_upload")
    assert http.get(f"/api/v1/models/{model_id}/files").json["files"] == []
    assert database.chunks.count_documents({}) == 0
    assert put(http, model_id, "a.bin", **{"X-Content-SHA256": sha256(CONTENT)}).status_code == 201


def test_an_archived_version_keeps_its_files(http: FlaskClient, model_id: str) -> None:
    put(http, model_id, "a.bin")
    http.put(f"/api/v1/models/{model_id}", json={"status": "archived"})
    refused = [put(http, model_id, "b.bin"), upload(http, model_id), http.delete(url_of(model_id, "a.bin"))]
    assert [answer.status_code for answer in refused] == [409, 409, 409]
    assert http.get(url_of(model_id, "a.bin")).data == CONTENT


def test_a_model_can_be_named_by_a_reference(http: FlaskClient, model_id: str) -> None:
    reference = quote("models:/digits/latest", safe="")
    assert put(http, reference, "a.bin").json["model_id"] == model_id
    assert http.get(f"/api/v1/models/{reference}/files/a.bin").data == CONTENT
    assert http.get(f"/api/v1/models/{reference}/download").data == CONTENT


def test_a_zip_holds_all_files_and_says_its_length_first(http: FlaskClient, model_id: str) -> None:
    files = {"weights/1.bin": CONTENT, "config.json": OTHER, "leer": b"", "ünï": b"code"}
    for path, content in files.items():
        put(http, model_id, path, content)
    url = f"/api/v1/models/{model_id}/files.zip"
    answer = http.get(url)
    assert answer.headers["Content-Length"] == str(len(answer.data))
    assert answer.headers["Content-Disposition"] == 'attachment; filename="digits-v1.0.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == files
        assert archive.namelist() == sorted(files)
    assert http.get(url).data == answer.data
    head = http.head(url)
    assert (head.headers["Content-Length"], head.data) == (str(len(answer.data)), b"")
    etag = answer.headers["ETag"]
    assert http.get(url, headers={"If-None-Match": etag}).status_code == 304
    put(http, model_id, "config.json", b"{}", replace=True)
    assert http.get(url, headers={"If-None-Match": etag}).status_code == 200


def test_a_model_without_files_has_no_zip(http: FlaskClient, model_id: str) -> None:
    assert http.get(f"/api/v1/models/{model_id}/files.zip").json["error"]["code"] == "no_file"


def presign(http: FlaskClient, model_id: str, path: str = "a.bin", **body: int) -> Any:
    return http.post(f"{url_of(model_id, path)}/presign", json=body, headers={"X-API-Key": KEY})


KEY = "a-key-of-sixteen-characters"


@pytest.fixture
def guarded(settings: Settings) -> FlaskClient:
    """A service that asks for its key."""
    return create_app(
        settings.model_copy(update={"enable_auth": True, "api_key": SecretStr(KEY)})
    ).test_client()


def test_a_signed_url_needs_no_credential_and_gives_one_file(guarded: FlaskClient) -> None:
    with_key = {"X-API-Key": KEY}
    model_id = guarded.post("/api/v1/models", json=new_model(), headers=with_key).json["model_id"]
    for path in ("a.bin", "b.bin"):
        assert put(guarded, model_id, path, **with_key).status_code == 201
    url = presign(guarded, model_id, expires_in_s=60).json["url"]
    assert guarded.get(url_of(model_id, "a.bin")).status_code == 401
    assert guarded.get(url).data == CONTENT
    assert guarded.get(url, headers={"Range": "bytes=0-1"}).status_code == 206
    assert guarded.head(url).headers["Content-Length"] == str(len(CONTENT))
    for forged in (
        url.replace("a.bin", "b.bin"),
        url.replace("expires=", "expires=9"),
        url.replace(sha256(CONTENT), sha256(OTHER)),
        url[:-1] + ("A" if url[-1] != "A" else "B"),
        url.replace("expires=", "expires=x"),
    ):
        refused = guarded.get(forged)
        assert (refused.status_code, refused.json["error"]["code"]) == (403, "signature_invalid"), forged
    # The signature is of this one request.
    query = url.partition("?")[2]
    assert guarded.get(f"/api/v1/models/{model_id}?{query}").status_code == 401
    assert guarded.delete(url).status_code in {401, 403}
    assert guarded.put(url, data=b"x").status_code in {401, 403}
    # And of these bytes.
    put(guarded, model_id, "a.bin", OTHER, replace=True, **with_key)
    assert guarded.get(url).json["error"]["code"] == "signature_invalid"


def test_a_signed_url_expires(guarded: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with_key = {"X-API-Key": KEY}
    model_id = guarded.post("/api/v1/models", json=new_model(), headers=with_key).json["model_id"]
    put(guarded, model_id, "a.bin", **with_key)
    signed = presign(guarded, model_id, expires_in_s=60).json
    assert guarded.get(signed["url"]).status_code == 200
    later = time.time() + 61
    monkeypatch.setattr("model_service.services.common.signing.time.time", lambda: later)
    refused = guarded.get(signed["url"])
    assert (refused.status_code, refused.json["error"]["code"]) == (403, "signature_invalid")
    assert presign(guarded, model_id, expires_in_s=0).status_code == 422
    assert presign(guarded, model_id, expires_in_s=8 * 24 * 3600).status_code == 422


def test_every_process_signs_alike_and_each_purpose_apart(settings: Settings, database: Database) -> None:
    one, other = (create_app(settings) for _ in range(2))
    keys = {app.extensions["model_service"].services.signing.key("download") for app in (one, other)}
    assert len(keys) == 1
    assert one.extensions["model_service"].services.signing.key("session") not in keys
    assert database.secrets.count_documents({}) == 1
    configured = create_app(settings.model_copy(update={"signing_secret": SecretStr("s" * 32)}))
    assert configured.extensions["model_service"].services.signing.key("download") not in keys


def test_a_version_holds_so_many_files_and_no_more(
    http: FlaskClient, model_id: str, monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    monkeypatch.setattr("model_service.services.files.edits.MAX_FILES", 2)
    put(http, model_id, "a", b"a")
    put(http, model_id, "b", b"b")
    full = put(http, model_id, "c", b"c")
    assert (full.status_code, full.json["error"]["code"]) == (409, "conflict")
    assert put(http, model_id, "b", b"another b", replace=True).status_code == 200
    assert database.chunks.count_documents({}) == 3  # b's first bytes are in the trash; c's are gone


def test_a_deleted_models_file_cannot_be_published(http: FlaskClient, model_id: str, app: Any) -> None:
    """The model goes while the bytes come in: nothing of them stays."""
    database = Database(app.extensions["model_service"].settings)

    class Body(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            http_of_another = app.test_client()
            http_of_another.delete(f"/api/v1/models/{model_id}")
            return super().read(size)

    answer = http.put(
        url_of(model_id, "a.bin"),
        input_stream=Body(CONTENT),
        environ_overrides={"CONTENT_LENGTH": str(len(CONTENT))},
    )
    assert answer.status_code == 404
    assert database.chunks.count_documents({}) == database.uploads.count_documents({}) == 0
    database.close()
