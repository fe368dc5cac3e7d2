"""Uploads and downloads: streamed, hashed on the way, never completely in memory."""

import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote
from zipfile import BadZipFile, ZipFile

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import SSLError

from model_service.client.errors import (
    ChecksumMismatch,
    InvalidArgument,
    InvalidRequest,
    NoSuchFile,
    TransferFailed,
    UnexpectedAnswer,
)
from model_service.client.transport.http import BROKEN, Transport, encode_query
from model_service.client.transport.progress import Bar, MakeBar
from model_service.client.transport.retries import ATTEMPTS, backoff_s
from model_service.client.transport.source import CHUNK_BYTES, Source

# RFC 6266: any name, percent-encoded, and an ASCII form for clients that do not support that.
_ANY_NAME = re.compile(r"filename\*=UTF-8''([^;\s]+)", re.IGNORECASE)
_PLAIN_NAME = re.compile(r'filename="([^"]*)"', re.IGNORECASE)


def upload(
    transport: Transport,
    method: str,
    url: str,
    source: Source,
    bar: MakeBar,
    headers: Mapping[str, str],
    *,
    sha256: str,
    query: Mapping[str, Any],
) -> dict[str, Any]:
    """Send a source as one body. Return the service's response.

    Raises:
        ChecksumMismatch: the file changed since it was hashed.
        TransferFailed: the file was truncated while it was sent.
        OSError: the file cannot be read.
    """
    sent = {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(source.size_bytes),
        "X-Content-SHA256": sha256,
        **headers,
    }
    if query:
        url = f"{url}?{encode_query(query)}"
    with closing(bar(source.name, source.size_bytes, "bytes")) as shown:
        try:
            return transport.decode(
                transport.send(method, url, headers=sent, body=lambda: _body(source, shown))
            )
        except InvalidRequest as refusal:
            if refusal.code != "incomplete_upload":
                raise
            raise changed(source) from refusal
        except KeyboardInterrupt as stop:
            stop.add_note(
                f"No bytes of {source.name} were stored: repeat the call to send it from the start."
            )
            raise


def changed(source: Source) -> ChecksumMismatch:
    return ChecksumMismatch(
        f"{source.name} changed while it was sent, or was damaged in transit: upload it again."
    )


def header_value(name: str) -> str:
    """Encode a file's name for ``X-Filename``: plain ASCII unchanged, any other in the form of RFC 8187."""
    if re.fullmatch(r"[\x20-\x7e]+", name) and "'" not in name:
        return name
    return f"UTF-8''{quote(name, safe='', errors='replace')}"


def _body(source: Source, bar: Bar) -> Iterator[bytes]:
    sent = 0
    for piece in source.pieces():
        yield piece
        sent += len(piece)
        bar.update(sent)


def download(transport: Transport, url: str, output_path: str | os.PathLike[str], bar: MakeBar) -> Path:
    """Download to ``output_path``, which is replaced in one step, and only if the checksum is right.

    In a folder, the file gets the service's name for it.

    Raises:
        ChecksumMismatch: the bytes are not those that the service announced; nothing is left.
        TransferFailed: the transfer broke too often; nothing is left.
        NoSuchFile: the folder to write into does not exist.
        OSError: the file cannot be written.
    """
    output = named_output(transport, url, Path(output_path))
    with written_aside(output) as file:
        _Download(transport, url, file, output.name, bar).run()
    return output


def download_zip(transport: Transport, url: str, output_path: str | os.PathLike[str], bar: MakeBar) -> Path:
    """Download a zip that is created while it is sent: its length is known, and its checksums are inside.

    In a folder, the file gets the service's name for it.

    Raises:
        ChecksumMismatch: a file in it is damaged; nothing is left.
        TransferFailed: the connection broke; nothing is left, and the download cannot be resumed.
        NoSuchFile: the folder to write into does not exist.
        OSError: the file cannot be written.
    """
    output = named_output(transport, url, Path(output_path))
    with written_aside(output) as file:
        response = transport.send("GET", url, stream=True)
        total = int(response.headers.get("Content-Length", 0))
        with closing(bar(output.name, total, "bytes")) as shown, closing(response):
            try:
                for chunk in response.stream(CHUNK_BYTES, decode_content=False):
                    file.write(chunk)
                    shown.update(file.tell())
            except (*BROKEN, SSLError) as exc:
                raise TransferFailed(
                    f"The connection broke after {file.tell():,} bytes of the download: try again."
                ) from exc
        try:
            damaged = ZipFile(file).testzip()
        except BadZipFile as exc:
            raise TransferFailed(f"{output.name} ended early and was removed: download it again.") from exc
        if damaged is not None:
            raise ChecksumMismatch(f"{damaged} was damaged in transit: download it again.")
    return output


def named_output(transport: Transport, url: str, output: Path) -> Path:
    """Return the file to write: ``output``, or the name from the download's headers in that folder.

    Raises:
        UnexpectedAnswer: the service sends no name, or one that could be outside the folder.
    """
    if not output.is_dir():
        return output
    disposition = transport.send("HEAD", url).headers.get("Content-Disposition", "")
    found = _ANY_NAME.search(disposition) or _PLAIN_NAME.search(disposition)
    name = unquote(found[1]) if found else ""
    if name in {"", ".", ".."} or any(char in "/\\:" or ord(char) < ord(" ") for char in name):
        raise UnexpectedAnswer(
            f"The service gives no name for a file in {output}: give the path of the file to write."
        )
    return output / name


@contextmanager
def written_aside(output: Path) -> Iterator[BinaryIO]:
    """Open a temporary file, which replaces ``output`` if the block succeeds, and is otherwise removed.

    Raises:
        InvalidArgument: ``output`` is a folder.
        NoSuchFile: the folder to write into does not exist.
        OSError: the file cannot be written.
    """
    if output.is_dir():
        raise InvalidArgument(f"{output} is a folder: give the path of the file to write.")
    if not output.parent.is_dir():
        raise NoSuchFile(f"There is no folder {output.parent} to write {output.name} into.")
    partial = output.with_name(f".model-service-{secrets.token_hex(6)}.part")
    try:
        with partial.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(output)
    except BaseException:  # Ctrl-C too
        partial.unlink(missing_ok=True)
        raise


class _Download:
    """One download, over as many connections as necessary; each resumes where the last one broke."""

    def __init__(self, transport: Transport, url: str, file: BinaryIO, label: str, bar: MakeBar) -> None:
        self._transport, self._url, self._file = transport, url, file
        self._label, self._make_bar = label, bar
        self._etag = self._checksum = ""
        self._total = self._received = 0
        self._digest = sha256()

    def run(self) -> None:
        farthest = breaks = 0
        response = self._request()
        self._begin(response)
        with closing(self._make_bar(self._label, self._total, "bytes")) as bar:
            while not self._read(response, bar):
                breaks = breaks + 1 if self._received <= farthest else 1
                farthest = max(farthest, self._received)
                if breaks == ATTEMPTS:
                    raise TransferFailed(
                        f"The download broke {breaks} times, last after {self._received:,} of "
                        f"{self._total:,} bytes: nothing was kept, try again."
                    )
                time.sleep(backoff_s(breaks))
                response = self._request()
                if not self._continues(response):
                    self._begin(response)
        if f"sha256:{self._digest.hexdigest()}" != self._checksum:
            raise ChecksumMismatch(
                f"{self._label} was damaged in transit and was removed: download it again."
            )

    def _request(self) -> BaseHTTPResponse:
        # A compressed response would have another length and other bytes than those of the checksum.
        headers = {"Accept-Encoding": "identity"}
        if self._received:
            headers |= {"Range": f"bytes={self._received}-", "If-Range": self._etag}
        return self._transport.send("GET", self._url, headers=headers, stream=True)

    def _continues(self, response: BaseHTTPResponse) -> bool:
        """Return whether the response is the rest of the same file; a 200 is a complete new one."""
        if response.status != 206:
            return False
        if response.headers.get("Content-Range", "").startswith(f"bytes {self._received}-"):
            return True
        response.close()
        raise UnexpectedAnswer(
            "The server sent a different range of the file than requested: start the download again."
        )

    def _begin(self, response: BaseHTTPResponse) -> None:
        """Start a file. Raises UnexpectedAnswer without length and checksum: truncation must be detected."""
        length = response.headers.get("Content-Length", "")
        self._etag = response.headers.get("ETag", "")
        self._checksum = response.headers.get("X-File-Checksum", "").lower()
        if not length.isdecimal() or not re.fullmatch(r"sha256:[0-9a-f]{64}", self._checksum):
            response.close()
            raise UnexpectedAnswer(
                "The response has no length or no checksum, so the file cannot be verified."
            )
        self._total, self._received, self._digest = int(length), 0, sha256()
        self._file.seek(0)
        self._file.truncate()

    def _read(self, response: BaseHTTPResponse, bar: Bar) -> bool:
        """Read the response. Return False if the connection broke before the end."""
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
