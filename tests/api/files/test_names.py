"""Names that are not ASCII, in by every way of uploading and out by every way of downloading."""

import hashlib
import io
import zipfile
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest
from flask.testing import FlaskClient
from werkzeug.http import parse_options_header

NAMES = ["модель.onnx", "モデル.pt", "modèle v2.safetensors"]
FORMATS = {"onnx": "onnx", "pt": "pytorch", "safetensors": "safetensors"}
CONTENT = b"weights" * 100
Upload = Callable[[FlaskClient, str, str], Any]


def in_the_header(http: FlaskClient, holder: str, name: str) -> Any:
    headers = {"X-Filename": f"UTF-8''{quote(name, safe='')}"}
    return http.post(f"{holder}/upload", data=CONTENT, headers=headers)


def in_the_query(http: FlaskClient, holder: str, name: str) -> Any:
    return http.post(f"{holder}/upload", data=CONTENT, query_string={"filename": name})


def in_a_form(http: FlaskClient, holder: str, name: str) -> Any:
    return http.post(f"{holder}/upload", data={"file": (io.BytesIO(CONTENT), name)})


def in_an_extended_form(http: FlaskClient, holder: str, name: str) -> Any:
    head = f"Content-Disposition: form-data; name=\"file\"; filename*=UTF-8''{quote(name)}"
    body = b"--x\r\n" + head.encode() + b"\r\n\r\n" + CONTENT + b"\r\n--x--\r\n"
    return http.post(f"{holder}/upload", data=body, content_type="multipart/form-data; boundary=x")


def in_parts(http: FlaskClient, holder: str, name: str) -> Any:
    opened = http.post(f"{holder}/uploads", json={"filename": name, "size_bytes": len(CONTENT)}).get_json()
    upload = f"/api/v1/uploads/{opened['upload_id']}"
    headers = {"X-Content-SHA256": hashlib.sha256(CONTENT).hexdigest()}
    assert http.put(f"{upload}/parts/0", data=CONTENT, headers=headers).status_code == 200
    return http.post(f"{upload}/complete", json={})


def holders(http: FlaskClient, model_id: str) -> list[str]:
    dataset = http.post("/api/v1/datasets", json={"name": "digits", "purpose": "training"}).get_json()
    return [f"/api/v1/models/{model_id}", f"/api/v1/datasets/{dataset['id']}"]


def named(answer: Any) -> str | None:
    return parse_options_header(answer.headers["Content-Disposition"])[1].get("filename")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "upload",
    [in_the_header, in_the_query, in_a_form, in_an_extended_form, in_parts],
    ids=lambda each: each.__name__,
)
def test_a_name_comes_back_as_it_was_sent(
    http: FlaskClient, model_id: str, upload: Upload, name: str
) -> None:
    for holder in holders(http, model_id)[: 1 if upload is in_parts else 2]:
        assert upload(http, holder, name).status_code in {200, 201}
        metadata = http.get(f"{holder}/info").get_json()["file_metadata"]
        assert metadata["filename"] == metadata["path"] == name
        assert metadata["format"] == FORMATS[name.rpartition(".")[2]]
        downloaded = http.get(f"{holder}/download")
        assert (downloaded.data, named(downloaded)) == (CONTENT, name)
        assert downloaded.headers["Content-Disposition"].isascii()
        assert named(http.get(f"{holder}/files/{quote(name)}")) == name
        with zipfile.ZipFile(io.BytesIO(http.get(f"{holder}/files.zip").data)) as archive:
            assert archive.namelist() == [name]


@pytest.mark.parametrize("name", NAMES)
def test_a_signed_url_leads_to_the_file_under_its_name(http: FlaskClient, model_id: str, name: str) -> None:
    path = f"{quote('веса')}/{quote(name)}"
    assert http.put(f"/api/v1/models/{model_id}/files/{path}", data=CONTENT).status_code == 201
    signed = http.post(f"/api/v1/models/{model_id}/files/{path}/presign", json={}).get_json()["url"]
    assert signed.isascii()
    parts = urlsplit(signed)
    assert unquote(parts.path).endswith(f"/веса/{name}")
    answer = http.get(f"{parts.path}?{parts.query}")
    assert (answer.data, named(answer)) == (CONTENT, name)


@pytest.mark.parametrize("value", ["", "UTF-8''%FF.onnx", "UTF-8''"])
def test_a_header_that_names_nothing_says_how_to_send_a_name(
    http: FlaskClient, model_id: str, value: str
) -> None:
    """The HTTP server hands a header on as empty where its bytes are not ASCII."""
    answer = http.post(f"/api/v1/models/{model_id}/upload", data=CONTENT, headers={"X-Filename": value})
    error = answer.get_json()["error"]
    assert (answer.status_code, error["code"]) == (422, "invalid_field")
    assert "UTF-8''" in error["message"]
    assert "?filename=" in error["message"]


def test_a_form_in_another_encoding_is_no_broken_upload(http: FlaskClient, model_id: str) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="mod\xe8le.pt"\r\n\r\nx\r\n--x--\r\n'
    )
    answer = http.post(
        f"/api/v1/models/{model_id}/upload", data=body, content_type="multipart/form-data; boundary=x"
    )
    error = answer.get_json()["error"]
    assert (answer.status_code, error["code"]) == (400, "invalid_request")
    assert "UTF-8" in error["message"]


def test_a_new_path_does_not_turn_the_text_around(http: FlaskClient, model_id: str) -> None:
    turned = quote("gnp.\u202exnno")
    answer = http.put(f"/api/v1/models/{model_id}/files/{turned}", data=CONTENT)
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (422, "invalid_field")
