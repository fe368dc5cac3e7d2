import io
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest

from model_service.services.files.zip_archive import FileArchive, zip_size

PIECE = bytes(4 * 1024 * 1024)


def zeros(blob_id: Any, start: int, stop: int) -> Iterator[bytes]:
    while start < stop:
        piece = PIECE[: stop - start]
        start += len(piece)
        yield piece


def archive(sizes: dict[str, int]) -> FileArchive:
    files = [
        {"path": path, "file_id": path, "size_bytes": size, "checksum": "sha256:0"}
        for path, size in sizes.items()
    ]
    return FileArchive("a.zip", zip_size(list(sizes.items())), "etag", files, zeros)


@pytest.mark.parametrize(
    "sizes", [{}, {"empty": 0}, {"a": 1, "ünï/∑": 5_000_000}, {f"dir/{n:05}": n % 3 for n in range(70_000)}]
)
def test_the_length_that_is_said_first_is_the_length(sizes: dict[str, int]) -> None:
    sent = b"".join(archive(sizes).pieces())
    assert len(sent) == archive(sizes).size_bytes
    with zipfile.ZipFile(io.BytesIO(sent)) as read:
        assert {info.filename: info.file_size for info in read.infolist()} == sizes
        assert all(info.date_time == (1980, 1, 1, 0, 0, 0) for info in read.infolist())


@pytest.mark.large
def test_so_it_is_with_files_and_offsets_past_two_gigabytes() -> None:
    """One is written in the wide form for being near the limit, the next for being past it."""
    sizes = {"near": 2_100_000_000, "past": 2_200_000_000, "after": 7}
    assert sum(map(len, archive(sizes).pieces())) == archive(sizes).size_bytes
