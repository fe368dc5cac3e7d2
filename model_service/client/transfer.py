"""Bytes to and from the service: streamed, hashed on the way, never whole in memory."""

import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import SSLError

from model_service.client.errors import (
    ChecksumMismatch,
    InvalidArgument,
    NoSuchFile,
    TransferFailed,
    UnexpectedAnswer,
)
from model_service.client.http import ATTEMPTS, BROKEN, Transport, backoff_s
from model_service.client.progress import Bar, MakeBar

CHUNK_BYTES = 1 << 20


def upload(
    transport: Transport,
    url: str,
    source: str | os.PathLike[str] | BinaryIO,
    filename: str | None,
    bar: MakeBar,
) -> dict[str, Any]:
    """Sends a file, or what is left in a seekable binary file object; the service's answer.

    Raises:
        ChecksumMismatch: what the service stored is not what was read here.
        TransferFailed: the file was cut short while it was being sent.
        NoSuchFile: there is no such file.
        InvalidArgument: the file is empty, or no length can be told.
        OSError: the file cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        if not Path(source).exists():
            raise NoSuchFile(f"There is no file {Path(source)}.")
        with Path(source).open("rb") as file:
            return upload(transport, url, file, filename or Path(source).name, bar)
    if not source.seekable():
        raise InvalidArgument("Only a seekable file can be uploaded: its length is announced first.")
    start = source.tell()
    size_bytes = source.seek(0, os.SEEK_END) - start
    name = filename or Path(str(getattr(source, "name", "model.bin"))).name
    if size_bytes == 0:
        raise InvalidArgument(f"{name} is empty: nothing was sent.")
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(size_bytes),
        "X-Filename": re.sub(r"[^\x20-\x7e]", "_", name),
    }
    with closing(bar(name, size_bytes, "bytes")) as shown:
        body = _Body(source, start, size_bytes, shown)
        answer = transport.decode(transport.send("POST", url, headers=headers, body=body))
    stored = (answer.get("file_metadata") or {}).get("checksum")
    if stored != f"sha256:{body.digest.hexdigest()}":
        raise ChecksumMismatch(f"The service stored {name} with other bytes than were sent: upload it again.")
    return answer


class _Body:
    """The bytes of one upload; every call starts again, with a new digest."""

    def __init__(self, file: BinaryIO, start: int, size_bytes: int, bar: Bar) -> None:
        self._file, self._start, self._size, self._bar = file, start, size_bytes, bar
        self.digest = sha256()

    def __call__(self) -> Iterator[bytes]:
        self._file.seek(self._start)
        self.digest = sha256()
        sent = 0
        while sent < self._size:
            chunk = self._file.read(min(CHUNK_BYTES, self._size - sent))
            if not chunk:
                raise TransferFailed(
                    f"The file ended after {sent:,} of {self._size:,} bytes: is it still written?"
                )
            self.digest.update(chunk)
            yield chunk
            sent += len(chunk)
            self._bar.update(sent)


def download(transport: Transport, url: str, output_path: str | os.PathLike[str], bar: MakeBar) -> Path:
    """Fetches into ``output_path``, which changes in one step and only when the checksum is right.

    Raises:
        ChecksumMismatch: the bytes are not those that the service announced; nothing is left.
        TransferFailed: the transfer broke again and again; nothing is left.
        NoSuchFile: there is no folder to write into.
        OSError: the file cannot be written.
    """
    output = Path(output_path)
    if output.is_dir():
        raise InvalidArgument(f"{output} is a folder: name the file to write.")
    if not output.parent.is_dir():
        raise NoSuchFile(f"There is no folder {output.parent} to write {output.name} into.")
    partial = output.with_name(f".model-service-{secrets.token_hex(6)}.part")
    try:
        with partial.open("xb") as file:
            _Download(transport, url, file, output.name, bar).run()
            file.flush()
            os.fsync(file.fileno())
        partial.replace(output)
    except BaseException:  # Ctrl-C too
        partial.unlink(missing_ok=True)
        raise
    return output


class _Download:
    """One file, over as many connections as it takes, each going on where the last one broke."""

    def __init__(self, transport: Transport, url: str, file: BinaryIO, label: str, bar: MakeBar) -> None:
        self._transport, self._url, self._file = transport, url, file
        self._label, self._make_bar = label, bar
        self._etag = self._checksum = ""
        self._total = self._received = 0
        self._digest = sha256()

    def run(self) -> None:
        farthest = breaks = 0
        response = self._ask()
        self._begin(response)
        with closing(self._make_bar(self._label, self._total, "bytes")) as bar:
            while not self._read(response, bar):
                breaks = breaks + 1 if self._received <= farthest else 1
                farthest = max(farthest, self._received)
                if breaks == ATTEMPTS:
                    raise TransferFailed(
                        f"The download broke {breaks} times after {self._received:,} of {self._total:,} "
                        "bytes: nothing was kept, try again."
                    )
                time.sleep(backoff_s(breaks))
                response = self._ask()
                if not self._continues(response):
                    self._begin(response)
        if f"sha256:{self._digest.hexdigest()}" != self._checksum:
            raise ChecksumMismatch(f"{self._label} arrived damaged and was removed: download it again.")

    def _ask(self) -> BaseHTTPResponse:
        # A compressed answer would have another length and other bytes than the checksum's.
        headers = {"Accept-Encoding": "identity"}
        if self._received:
            headers |= {"Range": f"bytes={self._received}-", "If-Range": self._etag}
        return self._transport.send("GET", self._url, headers=headers, stream=True)

    def _continues(self, response: BaseHTTPResponse) -> bool:
        """Whether the answer is the rest of the same file; a 200 is a new whole one."""
        if response.status != 206:
            return False
        if response.headers.get("Content-Range", "").startswith(f"bytes {self._received}-"):
            return True
        response.close()
        raise UnexpectedAnswer("The server answered with another part of the file than was asked for.")

    def _begin(self, response: BaseHTTPResponse) -> None:
        """Raises UnexpectedAnswer without a length and a checksum: a cut file could pass for a whole one."""
        length = response.headers.get("Content-Length", "")
        self._etag = response.headers.get("ETag", "")
        self._checksum = response.headers.get("X-File-Checksum", "").lower()
        if not length.isdecimal() or not re.fullmatch(r"sha256:[0-9a-f]{64}", self._checksum):
            response.close()
            raise UnexpectedAnswer("The server sent no length or no checksum: the file cannot be verified.")
        self._total, self._received, self._digest = int(length), 0, sha256()
        self._file.seek(0)
        self._file.truncate()

    def _read(self, response: BaseHTTPResponse, bar: Bar) -> bool:
        """False when the connection broke before the end."""
        try:
            for chunk in response.stream(CHUNK_BYTES, decode_content=False):
                self._file.write(chunk)
                self._digest.update(chunk)
                self._received += len(chunk)
                bar.update(self._received)
        except (*BROKEN, SSLError):
            return False
        finally:
            response.close()
        return self._received >= self._total
