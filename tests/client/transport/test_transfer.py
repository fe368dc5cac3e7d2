"""A download is whole and verified, or it is not there; an upload is what was read."""

import io
import json
import os
from hashlib import sha256
from pathlib import Path

import pytest

from model_service.client import (
    ChecksumMismatch,
    InvalidArgument,
    ModelServiceClient,
    NotFound,
    TransferFailed,
    UnexpectedAnswer,
)

from ..scripted import Request, Scripted, answers, serves

CONTENT = os.urandom(3_000_000)
# The answer to the question which file there is, before a large one is sent.
NO_FILE = answers(404)


def stores(content: bytes) -> bytes:
    metadata = {
        "file_id": "f1",
        "size_bytes": len(content),
        "checksum": f"sha256:{sha256(content).hexdigest()}",
    }
    return json.dumps({"file_metadata": metadata}).encode()


def test_a_download_goes_on_where_it_broke(script: Scripted, tmp_path: Path) -> None:
    script.steps = [serves(CONTENT, cut_at=1_000_000), serves(CONTENT, cut_at=2_500_000), serves(CONTENT)]
    ModelServiceClient(script.url).download_model("m1", tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT
    assert [request.headers.get("range") for request in script.requests[1:]] == [
        "bytes=1000000-",
        "bytes=2500000-",
    ]


def test_a_file_that_changed_between_two_tries_is_fetched_anew(script: Scripted, tmp_path: Path) -> None:
    newer = os.urandom(2_000_000)
    script.steps = [serves(CONTENT, cut_at=1_000_000), serves(newer)]
    ModelServiceClient(script.url).download_model("m1", tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == newer


def test_a_download_that_stays_truncated_leaves_nothing(script: Scripted, tmp_path: Path) -> None:
    script.steps = [serves(CONTENT, cut_at=1_000_000, ranges=False)]
    with pytest.raises(TransferFailed, match="1,000,000 of 3,000,000"):
        ModelServiceClient(script.url).download_model("m1", tmp_path / "model.bin")
    assert list(tmp_path.iterdir()) == []


def test_a_corrupt_download_leaves_the_file_that_was_there(script: Scripted, tmp_path: Path) -> None:
    output = tmp_path / "model.bin"
    output.write_bytes(b"the good one of yesterday")
    damaged = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    script.steps = [serves(damaged, announced=CONTENT)]
    with pytest.raises(ChecksumMismatch):
        ModelServiceClient(script.url).download_model("m1", output)
    assert output.read_bytes() == b"the good one of yesterday"
    assert list(tmp_path.iterdir()) == [output]


def test_a_download_that_cannot_be_verified_is_refused(script: Scripted, tmp_path: Path) -> None:
    script.steps = [answers(200, CONTENT)]
    with pytest.raises(UnexpectedAnswer, match="checksum"):
        ModelServiceClient(script.url).download_model("m1", tmp_path / "model.bin")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_leaves_nothing(script: Scripted, tmp_path: Path) -> None:
    script.steps = [answers(404)]
    with pytest.raises(NotFound):
        ModelServiceClient(script.url).download_model("m1", tmp_path / "model.bin")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_a_file(script: Scripted, tmp_path: Path) -> None:
    script.steps = [serves(b"")]
    ModelServiceClient(script.url).download_model("m1", tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == b""


def test_an_upload_is_sent_again_from_its_start_when_the_service_was_busy(
    script: Scripted, tmp_path: Path
) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(CONTENT)
    script.steps = [NO_FILE, answers(503), answers(201, stores(CONTENT))]
    metadata = ModelServiceClient(script.url).upload_model("m1", file)
    assert metadata.checksum == f"sha256:{sha256(CONTENT).hexdigest()}"
    assert [request.body == CONTENT for request in script.requests] == [False, True, True]


def test_bytes_damaged_on_the_way_up_are_noticed(script: Scripted, tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(CONTENT)
    script.steps = [NO_FILE, answers(201, stores(CONTENT[::-1]))]
    with pytest.raises(ChecksumMismatch, match=r"model\.bin"):
        ModelServiceClient(script.url).upload_model("m1", file)


def test_a_file_object_is_sent_from_where_it_stands(script: Scripted) -> None:
    file = io.BytesIO(b"header" + CONTENT)
    file.seek(6)
    script.steps = [NO_FILE, answers(201, stores(CONTENT))]
    ModelServiceClient(script.url).upload_model("m1", file, filename="digits\r\nX-Admin: 1.pt2")
    sent = script.requests[1]
    assert sent.body == CONTENT
    assert sent.headers["x-filename"] == "UTF-8''digits%0D%0AX-Admin%3A%201.pt2"


def test_a_pipe_has_no_length_to_announce(script: Scripted) -> None:
    reading, writing = os.pipe()
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe, pytest.raises(InvalidArgument, match="seekable"):
        ModelServiceClient(script.url).upload_model("m1", pipe)


def test_a_file_cut_short_while_it_is_sent_is_an_error(script: Scripted, tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(CONTENT)

    class Truncating:
        """A bar, and so called between two pieces: the writer of the file starts again just then."""

        def update(self, done: float, label: str | None = None) -> None:
            os.truncate(file, 10)

        def close(self) -> None:
            pass

    def bar(label: str, total: float, unit: str) -> Truncating:
        return Truncating()

    script.steps = [NO_FILE, answers(201, stores(CONTENT))]
    with pytest.raises(TransferFailed, match="ended after"):
        ModelServiceClient(script.url).upload_model("m1", file, progress=bar)


def test_a_bar_sees_every_byte(script: Scripted, tmp_path: Path) -> None:
    seen: list[float] = []
    closed: list[bool] = []

    class Recording:
        def update(self, done: float, label: str | None = None) -> None:
            seen.append(done)

        def close(self) -> None:
            closed.append(True)

    def bar(label: str, total: float, unit: str) -> Recording:
        assert (label, total, unit) == ("model.bin", len(CONTENT), "bytes")
        return Recording()

    script.steps = [serves(CONTENT)]
    ModelServiceClient(script.url, progress=bar).download_model("m1", tmp_path / "model.bin")
    assert seen == sorted(seen)
    assert seen[-1] == len(CONTENT)
    assert closed == [True]


def test_the_request_of_a_download_asks_for_the_bytes_as_they_are(script: Scripted, tmp_path: Path) -> None:
    script.steps = [serves(CONTENT)]
    ModelServiceClient(script.url).download_export("j1", tmp_path / "package.zip")
    request: Request = script.requests[0]
    assert request.path == "/api/v1/export/jobs/j1/download"
    assert request.headers["accept-encoding"] == "identity"
