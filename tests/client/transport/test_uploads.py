"""What is there already is not sent; what is published is not replaced unasked; Ctrl-C loses nothing."""

import os
import signal
import subprocess
import sys
import threading
import time
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import pytest

from model_service.client import Conflict, ModelServiceClient
from model_service.client.transport.http import Transport
from model_service.client.transport.parts import PARALLEL
from tests.factories import new_model
from tests.processes import take_ctrl_c
from tests.waiting import wait_for

from ..cli.test_cli import COMMAND, result, run

CONTENT, OTHER = os.urandom(3_000_000), os.urandom(2_500_000)


def checksum(content: bytes) -> str:
    return f"sha256:{sha256(content).hexdigest()}"


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


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


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "model.bin"
    file.write_bytes(CONTENT)
    return file


@pytest.mark.parametrize("large", [False, True])
def test_a_file_that_is_there_is_not_sent_again(
    client: ModelServiceClient,
    model_id: str,
    file: Path,
    requests: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    large: bool,
) -> None:
    if large:
        monkeypatch.setattr("model_service.client.uploads.PARTS_FROM_BYTES", 1_000_000)
    dataset_id = client.register_dataset("digits").id
    calls = [
        lambda: client.upload_model(model_id, file),
        lambda: client.upload_file(model_id, file, path="copy/model.bin"),
        lambda: client.upload_file(model_id, file, primary=True),
        lambda: client.upload_files(model_id, {"third.bin": file})[0],
        lambda: client.upload_dataset(dataset_id, file),
        lambda: client.upload_dataset_file(dataset_id, file, path="x.bin"),
    ]
    first = [call() for call in calls]
    assert [stored.checksum for stored in first] == [checksum(CONTENT)] * 6
    assert [stored.unchanged for stored in first] == [False, False, True, False, False, False]
    requests.clear()
    again = [call() for call in calls]
    assert [stored.checksum for stored in again] == [checksum(CONTENT)] * 6
    assert all(stored.unchanged for stored in again)
    assert {method for method, _ in requests} == {"GET"}
    assert len(requests) == 6


def test_a_small_file_is_recognised_by_the_service(
    client: ModelServiceClient, model_id: str, tmp_path: Path
) -> None:
    small = tmp_path / "small.bin"
    small.write_bytes(b"small")
    assert client.upload_model(model_id, small).unchanged is False
    assert client.upload_model(model_id, small).unchanged is True


@pytest.mark.parametrize("parts_from_bytes", [1_000_000, 64_000_000])
def test_another_file_needs_replace_and_the_confirmation_of_what_depends_on_it(
    client: ModelServiceClient,
    model_id: str,
    file: Path,
    requests: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    parts_from_bytes: int,
) -> None:
    monkeypatch.setattr("model_service.client.uploads.PARTS_FROM_BYTES", parts_from_bytes)
    client.upload_model(model_id, file)
    client.set_alias(model_id, "production")
    file.write_bytes(OTHER)
    requests.clear()
    with pytest.raises(Conflict) as refused:
        client.upload_model(model_id, file)
    assert refused.value.code == "would_replace"
    assert refused.value.details["checksum"] == checksum(CONTENT)
    assert refused.value.details["sent_checksum"] == checksum(OTHER)
    with pytest.raises(Conflict) as refused:
        client.upload_model(model_id, file, replace=True)
    assert (refused.value.code, refused.value.details["confirm"]) == (
        "confirmation_required",
        ["production"],
    )
    assert not [url for _, url in requests if "/parts/" in url]  # refused before any byte
    stored = client.upload_model(model_id, file, replace=True, confirm=["production"])
    assert stored.checksum == checksum(OTHER)
    (removed,) = client.list_deleted_files(model_id)
    assert (removed.checksum, removed.replaced_by) == (checksum(CONTENT), checksum(OTHER))
    back = client.restore_file(model_id, removed.id, replace=True, confirm=["production"])
    assert back.checksum == checksum(CONTENT)
    client.delete_file(model_id, "model.bin", confirm=["production"])
    assert client.list_files(model_id) == []
    for removed in client.list_deleted_files(model_id):
        client.purge_file(model_id, removed.id)
    assert client.list_deleted_files(model_id).total == 0


def folder_of(tmp_path: Path, count: int) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    for n in range(count):
        (folder / f"{n:04}.bin").write_bytes(f"file {n}".encode())
    return folder


def test_a_folder_sends_what_differs_after_one_question(
    client: ModelServiceClient, model_id: str, tmp_path: Path, requests: list[tuple[str, str]]
) -> None:
    folder = folder_of(tmp_path, 20)
    paths = {path.name: path for path in sorted(folder.iterdir())}
    client.upload_files(model_id, paths)
    (folder / "0007.bin").write_bytes(b"another")
    (folder / "new.bin").write_bytes(b"new")
    paths["new.bin"] = folder / "new.bin"
    requests.clear()
    with pytest.raises(Conflict, match=r"0007\.bin"):
        client.upload_files(model_id, paths)
    assert len(client.list_files(model_id)) == 20  # refused before the new one was stored
    requests.clear()
    stored = client.upload_files(model_id, paths, replace=True)
    assert [method for method, _ in requests] == ["GET", "PUT", "PUT"]
    assert [file.path for file in stored if not file.unchanged] == ["0007.bin", "new.bin"]
    assert len(stored) == 21


def test_small_files_are_sent_at_the_same_time(
    client: ModelServiceClient, model_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together, send = threading.Barrier(PARALLEL, timeout=60), Transport.send

    def meeting(self: Transport, method: str, url: str, **more: Any) -> Any:
        if method == "PUT":
            together.wait()
        return send(self, method, url, **more)

    monkeypatch.setattr(Transport, "send", meeting)
    folder = folder_of(tmp_path, 2 * PARALLEL)
    stored = client.upload_files(model_id, {path.name: path for path in sorted(folder.iterdir())})
    assert [file.path for file in stored] == sorted(path.name for path in folder.iterdir())
    assert not together.broken


def test_the_command_says_what_to_do_and_does_it(service_url: str, tmp_path: Path) -> None:
    source = tmp_path / "model.bin"
    source.write_bytes(b"first")
    model = result("models", "register", "digits", "cnn", "--file", str(source), url=service_url)
    again = run("models", "upload", model["id"], str(source), url=service_url)
    assert (again.returncode, "already has this file" in again.stderr) == (0, True)
    source.write_bytes(b"other")
    refused = run("models", "upload", model["id"], str(source), url=service_url)
    assert (refused.returncode, refused.stderr.partition(":")[2][:15]) == (1, " would_replace:")
    assert checksum(b"first") in refused.stderr
    assert checksum(b"other") in refused.stderr
    assert "--replace" in refused.stderr
    run("models", "alias", "set", model["id"], "production", url=service_url)
    unconfirmed = run("models", "upload", model["id"], str(source), "--replace", url=service_url)
    assert "--confirm production" in unconfirmed.stderr
    words = ("--replace", "--confirm", "production")
    done = run("models", "upload", "digits@production", str(source), *words, url=service_url)
    assert done.returncode == 0, done.stderr
    (removed,) = result("models", "files", "deleted", model["id"], url=service_url)["files"]
    assert removed["checksum"] == checksum(b"first")
    restored = run(
        *("models", "files", "restore", model["id"], removed["id"], *words),
        url=service_url,
    )
    assert restored.stdout == "model.bin  5 B, restored\n"
    put = run("models", "files", "put", model["id"], str(source), url=service_url)
    assert put.returncode == 1
    deleted = run("models", "files", "delete", model["id"], "model.bin", url=service_url)
    assert "confirmation_required" in deleted.stderr


def test_a_datasets_command_too(service_url: str, tmp_path: Path) -> None:
    source = tmp_path / "data.csv"
    source.write_bytes(b"1,2")
    dataset = result("datasets", "register", "digits", "--file", str(source), url=service_url)
    source.write_bytes(b"3,4")
    refused = run("datasets", "upload", dataset["id"], str(source), url=service_url)
    assert "would_replace" in refused.stderr
    assert run("datasets", "upload", dataset["id"], str(source), "--replace", url=service_url).returncode == 0
    (removed,) = result("datasets", "deleted-files", dataset["id"], url=service_url)["files"]
    words = ("datasets", "restore-file", dataset["id"], removed["id"], "--replace")
    assert run(*words, url=service_url).stdout == "data.csv  3 B, restored\n"


def test_ctrl_c_in_a_large_upload_says_that_the_same_goes_on_and_it_does(
    client: ModelServiceClient,
    model_id: str,
    tmp_path: Path,
    requests: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("model_service.client.uploads.PARTS_FROM_BYTES", 1_000_000)
    part = 16 * 1024 * 1024  # what the service chooses
    file = tmp_path / "large.bin"
    file.write_bytes(os.urandom(5 * part))

    class Interrupting:
        """A bar that presses Ctrl-C once a part has arrived: four are sent at a time, and then the fifth."""

        pressed = False
        labels: ClassVar[list[str]] = []

        def __call__(self, label: str, total: float, unit: str) -> "Interrupting":
            self.labels.append(label)
            return self

        def update(self, done: float, label: str | None = None) -> None:
            if self.labels[-1] == "large.bin" and done > 4.2 * part and not self.pressed:
                self.pressed = True
                os.kill(os.getpid(), signal.SIGINT)  # to the process, as Ctrl-C
                time.sleep(1)  # all parts wait for the bar, and the main thread is interrupted meanwhile

        def close(self) -> None:
            pass

    before = signal.getsignal(signal.SIGINT)
    take_ctrl_c()
    try:
        with pytest.raises(KeyboardInterrupt) as stop:
            client.upload_file(model_id, file, progress=Interrupting())
    finally:
        signal.signal(signal.SIGINT, before)
    assert Interrupting.labels == ["hashing large.bin", "large.bin"]
    (note,) = stop.value.__notes__
    assert "repeat the call to send the rest" in note
    assert f"of {5 * part:,} bytes of large.bin" in note
    requests.clear()
    assert client.upload_file(model_id, file).size_bytes == 5 * part
    assert len([url for _, url in requests if "/parts/" in url]) < 5


def test_ctrl_c_in_the_upload_of_a_folder_says_that_the_same_goes_on_and_it_does(
    client: ModelServiceClient, service_url: str, model_id: str, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, 400)
    process = subprocess.Popen(
        [*COMMAND, "--url", service_url, "models", "files", "put", model_id, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=take_ctrl_c,
    )
    wait_for(lambda: len(client.list_files(model_id)) >= 3, "three files to arrive")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "repeat the call to send the other" in errors
    there = len(client.list_files(model_id))
    assert 3 <= there < 400
    done = run("models", "files", "put", model_id, str(folder), url=service_url)
    assert done.returncode == 0, done.stderr
    unchanged = [line for line in done.stdout.splitlines() if line.endswith("unchanged")]
    assert len(unchanged) == there
    assert len(client.list_files(model_id)) == 400


@pytest.mark.skipif(sys.platform != "linux", reason="a terminal of Linux")
def test_a_terminal_is_asked_before_something_that_depends_on_it_changes(
    client: ModelServiceClient, service_url: str, model_id: str, file: Path
) -> None:
    client.upload_model(model_id, file)
    client.set_alias(model_id, "production")
    file.write_bytes(OTHER)
    controller, terminal = os.openpty()
    command = [*COMMAND, "--url", service_url, "models", "upload", model_id, str(file), "--replace"]
    for reply, expected in ((b"n\n", CONTENT), (b"y\n", OTHER)):
        process = subprocess.Popen(
            command, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        os.write(controller, reply)
        _, errors = process.communicate(timeout=60)
        assert "production" in errors
        assert process.returncode == (0 if expected is OTHER else 1)
        assert client.list_files(model_id)[0].checksum == checksum(expected)
    os.close(controller)
    os.close(terminal)
