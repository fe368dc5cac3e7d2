"""Large files go in parts, and go on where they broke; every file of a model comes back at its path."""

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from model_service.client import (
    ChecksumMismatch,
    InvalidArgument,
    ModelServiceClient,
    TransferFailed,
    UnexpectedAnswer,
)
from model_service.client.transport.http import Transport
from tests.factories import new_model

from ..conftest import Service
from ..scripted import Scripted, answers

PART = 16 * 1024 * 1024  # what the service chooses
CONTENT = os.urandom(2 * PART + 1_000_000)
DIGEST = f"sha256:{sha256(CONTENT).hexdigest()}"


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Three parts are enough to be many."""
    monkeypatch.setattr("model_service.client.uploads.PARTS_FROM_BYTES", 1_000_000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "model.bin"
    file.write_bytes(CONTENT)
    return file


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The method and path of everything that is sent."""
    sent: list[tuple[str, str]] = []
    send = Transport.send

    def recording(self: Transport, method: str, url: str, **more: Any) -> Any:
        sent.append((method, url))
        return send(self, method, url, **more)

    monkeypatch.setattr(Transport, "send", recording)
    return sent


@pytest.fixture
def model_id(client: ModelServiceClient) -> str:
    return client.register_model(new_model())


def parts_in(requests: list[tuple[str, str]]) -> list[int]:
    return sorted(int(url.rpartition("/")[2]) for method, url in requests if "/parts/" in url)


def remembered(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache").rglob("*.json"))


class Watching:
    """A bar that sees how far it is, and may do something about it."""

    def __init__(self, act: Any = None) -> None:
        self.seen: list[float] = []
        self._act = act

    def __call__(self, label: str, total: float, unit: str) -> "Watching":
        assert (label, total, unit) == ("model.bin", len(CONTENT), "bytes")
        return self

    def update(self, done: float, label: str | None = None) -> None:
        self.seen.append(done)
        if self._act is not None:
            self._act(done)

    def close(self) -> None:
        pass


def test_a_large_file_goes_in_parts(
    client: ModelServiceClient, model_id: str, file: Path, tmp_path: Path, requests: list[tuple[str, str]]
) -> None:
    bar = Watching()
    stored = client.upload_model(model_id, file, progress=bar)
    assert (stored.checksum, stored.filename) == (DIGEST, "model.bin")
    assert parts_in(requests) == [0, 1, 2]
    assert max(bar.seen) == len(CONTENT)
    assert remembered(tmp_path) == []
    assert client.download_model(model_id, tmp_path / "back.bin").read_bytes() == CONTENT
    with file.open("rb") as opened:  # from where it stands
        opened.seek(PART)
        stored = client.upload_file(model_id, opened, path="weights/tail.bin")
    assert stored.checksum == f"sha256:{sha256(CONTENT[PART:]).hexdigest()}"


class Broken(Exception):
    pass


def break_off(client: ModelServiceClient, model_id: str, file: Path, tmp_path: Path) -> list[int]:
    """Uploads until the service has a part, and no further; the parts that it has."""

    def received() -> list[int]:
        (memory,) = remembered(tmp_path)
        upload_id = json.loads(memory.read_text())["upload_id"]
        answer = client._transport.json("GET", f"/api/v1/uploads/{upload_id}")
        return [part["n"] for part in answer["received"]]

    def act(done: float) -> None:
        if received():
            raise Broken

    with pytest.raises(Broken):
        client.upload_file(model_id, file, progress=Watching(act))
    return received()


def test_another_process_goes_on_where_the_first_one_broke_off(
    client: ModelServiceClient, model_id: str, file: Path, tmp_path: Path, requests: list[tuple[str, str]]
) -> None:
    there = break_off(client, model_id, file, tmp_path)
    requests.clear()
    with ModelServiceClient(client._transport.base_url) as other:
        stored = other.upload_file(model_id, file)
    assert stored.checksum == DIGEST
    assert parts_in(requests) == [n for n in range(3) if n not in there]
    assert not [url for method, url in requests if method == "POST" and url.endswith("/uploads")]
    assert remembered(tmp_path) == []


def test_a_service_that_is_killed_and_comes_back_has_the_parts_it_acknowledged(
    client: ModelServiceClient, service: Service, model_id: str, file: Path, tmp_path: Path
) -> None:
    killed: list[bool] = []

    def act(done: float) -> None:
        if done > 1.5 * PART and not killed:
            killed.append(True)
            service.kill()
            service.start()

    assert client.upload_file(model_id, file, progress=Watching(act)).checksum == DIGEST
    assert killed
    back = client.download_file(model_id, "model.bin", tmp_path / "back.bin")
    assert back.read_bytes() == CONTENT


def test_a_file_that_changed_in_secret_is_not_mixed_with_what_it_was(
    client: ModelServiceClient, model_id: str, file: Path, tmp_path: Path
) -> None:
    break_off(client, model_id, file, tmp_path)
    status = file.stat()
    other = os.urandom(len(CONTENT))
    with file.open("r+b") as opened:
        opened.write(other)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert client.upload_file(model_id, file).checksum == f"sha256:{sha256(other).hexdigest()}"


def test_a_file_that_changes_while_it_is_sent_is_an_error_and_nothing_is_stored(
    client: ModelServiceClient, model_id: str, file: Path, tmp_path: Path
) -> None:
    def act(done: float) -> None:
        with file.open("r+b") as opened:
            for offset in range(0, len(CONTENT), 1 << 20):
                opened.seek(offset)
                opened.write(os.urandom(16))

    with pytest.raises(ChecksumMismatch, match="changed"):
        client.upload_model(model_id, file, progress=Watching(act))
    assert client.list_files(model_id) == []
    assert remembered(tmp_path) == []


def test_a_file_cut_short_while_it_is_sent_is_an_error(
    client: ModelServiceClient, model_id: str, file: Path
) -> None:
    with pytest.raises(TransferFailed, match="ended after"):
        client.upload_model(model_id, file, progress=Watching(lambda done: os.truncate(file, 10)))
    assert client.list_files(model_id) == []


def test_the_files_of_a_model(client: ModelServiceClient, model_id: str, tmp_path: Path) -> None:
    files = {
        "config.json": b"{}",
        "weights/part 1%.bin": b"one",
        "weights/ünï/2.bin": b"",
        "net.onnx": b"net",
    }
    for path, content in files.items():
        source = tmp_path / "source"
        source.write_bytes(content)
        stored = client.upload_file(model_id, source, path=path, primary=path == "net.onnx")
        assert (stored.path, stored.size_bytes) == (path, len(content))
    assert [file.path for file in client.list_files(model_id)] == sorted(files)
    assert client.download_model(model_id, tmp_path / "net").read_bytes() == b"net"
    out = tmp_path / "out"
    assert {path.relative_to(out).as_posix() for path in client.download_all(model_id, out)} == set(files)
    assert {path: (out / path).read_bytes() for path in files} == files
    client.delete_file(model_id, "config.json")
    assert len(client.list_files(model_id)) == 3
    for wrong in ("", "../x", "a//b", "a/"):
        with pytest.raises(InvalidArgument):
            client.download_file(model_id, wrong, tmp_path / "x")
    signed = client.presign_file(model_id, "net.onnx")
    with urlopen(signed) as answer:
        assert answer.read() == b"net"


def test_what_is_there_already_is_not_fetched_again(
    client: ModelServiceClient, model_id: str, tmp_path: Path, requests: list[tuple[str, str]]
) -> None:
    for name in ("a", "b"):
        source = tmp_path / name
        source.write_bytes(name.encode())
        client.upload_file(model_id, source)
    client.download_all(model_id, tmp_path / "out")
    (tmp_path / "out" / "b").write_bytes(b"x")
    requests.clear()
    client.download_all(model_id, tmp_path / "out")
    assert [url.rpartition("/")[2] for method, url in requests] == ["files", "b"]
    assert (tmp_path / "out" / "b").read_bytes() == b"b"


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "a/../../evil", "a\\..\\evil", "C:/evil", ""])
def test_a_path_that_leads_out_of_the_folder_is_refused(script: Scripted, tmp_path: Path, path: str) -> None:
    file = {"path": path, "file_id": "f", "size_bytes": 1, "checksum": "sha256:0"}
    script.steps = [answers(200, json.dumps({"model_id": "m1", "files": [file]}).encode())]
    with pytest.raises(UnexpectedAnswer, match="outside the folder"):
        ModelServiceClient(script.url).download_all("m1", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    assert len(script.requests) == 1


def test_a_part_that_was_damaged_on_the_way_is_sent_again(script: Scripted, file: Path) -> None:
    opened = {
        "upload_id": "u1",
        "state": "open",
        "size_bytes": len(CONTENT),
        "part_size_bytes": len(CONTENT),
        "parts": 1,
        "received": [],
    }
    damaged = {"error": {"code": "incomplete_upload", "message": "other bytes", "details": {}}}
    lost = {"error": {"code": "conflict", "message": "missing", "details": {"missing": [0]}}}
    stored = {"path": "model.bin", "file_id": "f", "size_bytes": len(CONTENT), "checksum": DIGEST}
    script.steps = [
        answers(404),
        answers(201, json.dumps(opened).encode()),
        answers(400, json.dumps(damaged).encode()),
        answers(200),
        answers(409, json.dumps(lost).encode()),
        answers(200),
        answers(202, b'{"state": "completing"}'),
        answers(200, json.dumps({"state": "completed", "file": stored}).encode()),
    ]
    assert ModelServiceClient(script.url).upload_model("m1", file).checksum == DIGEST
    assert [request.method for request in script.requests] == [
        "GET",
        "POST",
        *["PUT"] * 2,
        "POST",
        "PUT",
        "POST",
        "POST",
    ]
    assert all(request.body == CONTENT for request in script.requests if request.method == "PUT")
