"""Uploads of large files in parts: several at a time, with retries, and resumable by another process.

The service knows which parts it has. A small file in the user's cache folder stores the upload's id under a
key of the file's digest, the service and the target. An uploaded part is compared with the file by its
checksum.
"""

import json
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from model_service.client.errors import (
    ChecksumMismatch,
    ClientError,
    Conflict,
    ConnectionFailed,
    InvalidRequest,
    NotFound,
    ServiceUnavailable,
    TransferFailed,
    UnexpectedAnswer,
)
from model_service.client.transport.http import Transport, segment
from model_service.client.transport.progress import Bar, MakeBar
from model_service.client.transport.retries import ATTEMPTS, backoff_s
from model_service.client.transport.source import Source
from model_service.client.transport.transfer import changed

PARALLEL = 4
_UPLOADS = "/api/v1/uploads"
_LONGEST_POLL_S = 5.0


def upload_in_parts(
    transport: Transport,
    url: str,
    source: Source,
    target: Mapping[str, Any],
    bar: MakeBar,
    digest: str,
    consent: Mapping[str, Any],
) -> dict[str, Any]:
    """Upload a source in parts and return the stored file.

    If the upload still fails after all retries, the service keeps the parts that it has, and the same call
    resumes the upload.

    Args:
        target: the fields of the request that say where the file belongs.
        digest: the sha256 of the source.
        consent: the fields of the request that allow it to replace an existing file.

    Raises:
        ChecksumMismatch: the file changed while it was sent; the upload is deleted.
        TransferFailed: the file became shorter.
        ClientError: the service cannot be reached, or refuses the upload.
        OSError: the file cannot be read.
    """
    memory = _Memory.of(transport.base_url, url, digest, target)
    upload = _resumed(transport, memory, source)
    if upload is None:
        announced = {"size_bytes": source.size_bytes, "sha256": digest}
        upload = transport.create(url, {**target, **announced, **consent})
    memory.keep(upload["upload_id"])
    with closing(bar(source.name, source.size_bytes, "bytes")) as shown:
        sending = _Upload(transport, source, upload, shown, digest, consent)
        try:
            file = sending.run()
        except KeyboardInterrupt as stop:
            stop.add_note(
                f"The service has {sending.stored_bytes:,} of {source.size_bytes:,} bytes of "
                f"{source.name}: repeat the call to send the rest."
            )
            raise
        except ChecksumMismatch:
            with suppress(ClientError):
                transport.send("DELETE", _url(upload))
            memory.forget()
            raise
    memory.forget()
    return file


def _resumed(transport: Transport, memory: "_Memory", source: Source) -> dict[str, Any] | None:
    """Return the upload that an earlier process started, if it still accepts parts."""
    upload_id = memory.upload_id()
    if upload_id is None:
        return None
    try:
        upload = transport.json("GET", f"{_UPLOADS}/{segment(upload_id)}")
    except (NotFound, InvalidRequest):
        return None
    going_on = upload["state"] in {"open", "completing"} and upload["size_bytes"] == source.size_bytes
    return upload if going_on else None


def _url(upload: Mapping[str, Any]) -> str:
    return f"{_UPLOADS}/{segment(upload['upload_id'])}"


class _Upload:
    def __init__(
        self,
        transport: Transport,
        source: Source,
        upload: Mapping[str, Any],
        bar: Bar,
        digest: str,
        consent: Mapping[str, Any],
    ) -> None:
        self._transport, self._source, self._bar = transport, source, bar
        self._digest, self._consent = digest, consent
        self._done: dict[int, int] = {}
        self._url = _url(upload)
        try:
            self._part_bytes, self._parts = int(upload["part_size_bytes"]), int(upload["parts"])
            self._received = {part["n"]: part["checksum"] for part in upload["received"]}
        except (KeyError, TypeError, ValueError) as exc:
            raise UnexpectedAnswer(f"The service's response is not an upload: {exc!r}.") from exc
        self._lock = threading.Lock()
        self._sent: dict[int, int] = {}
        self._file: Any = None
        self._stopped = threading.Event()

    @property
    def stored_bytes(self) -> int:
        """Return the bytes of the parts that the service has acknowledged."""
        return sum(self._done.values())

    def run(self) -> dict[str, Any]:
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="upload") as pool:
            try:
                self._send(pool, range(self._parts))
                while (missing := self._complete()) is not None:
                    for n in missing:
                        self._received.pop(n, None)
                    self._send(pool, missing)
            except BaseException:  # Ctrl-C too: no thread continues to send
                self._stopped.set()
                raise
        return self._stored()

    def _send(self, pool: ThreadPoolExecutor, parts: Any) -> None:
        slots = threading.Semaphore(PARALLEL)
        sending: list[Future[Any]] = []
        for n in parts:
            slots.acquire()
            if any(each.done() and each.exception() for each in sending):
                break
            sending = [each for each in sending if not each.done()]
            future = pool.submit(self._send_part, n)
            future.add_done_callback(lambda _: slots.release())
            sending.append(future)
        done, _ = wait(sending, return_when=FIRST_EXCEPTION)
        for each in done:
            each.result()

    def _send_part(self, n: int) -> None:
        """Send a part, unless the service has it, with retries as long as they may help."""
        offset = n * self._part_bytes
        length = min(self._part_bytes, self._source.size_bytes - offset)
        attempt = 0
        while True:
            attempt += 1
            digest = self._digest_of(offset, length)
            try:
                if self._received.get(n) != f"sha256:{digest}":
                    self._put(n, offset, length, digest)
                self._show(n, length)
                with self._lock:
                    self._done[n] = length
                return
            except (ConnectionFailed, ServiceUnavailable):
                if attempt == ATTEMPTS:
                    raise
            except Conflict as refusal:  # the service may still be reading an earlier try
                if attempt == ATTEMPTS or refusal.details.get("part") != n:
                    raise
            except InvalidRequest as refusal:
                if refusal.code != "incomplete_upload":
                    raise
                if attempt == ATTEMPTS:
                    raise changed(self._source) from refusal
            time.sleep(backoff_s(attempt))

    def _put(self, n: int, offset: int, length: int, digest: str) -> None:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(length),
            "X-Content-SHA256": digest,
        }

        def body() -> Iterator[bytes]:
            sent = 0
            for piece in self._source.pieces(offset, length):
                self._unless_stopped()
                yield piece
                sent += len(piece)
                self._show(n, sent)

        self._transport.send("PUT", f"{self._url}/parts/{n}", headers=headers, body=body)

    def _digest_of(self, offset: int, length: int) -> str:
        digest = sha256()
        for piece in self._source.pieces(offset, length):
            self._unless_stopped()
            digest.update(piece)
        return digest.hexdigest()

    def _complete(self) -> list[int] | None:
        """Complete the upload. Return None, or the parts that the service requests again."""
        attempt, pause_s = 0, backoff_s(1)
        completion = {"sha256": self._digest, **self._consent}
        while True:
            try:
                answer = self._transport.json("POST", f"{self._url}/complete", data=completion)
            except Conflict as refusal:
                missing = refusal.details.get("missing")
                if not isinstance(missing, list) or not missing:
                    raise
                return missing
            except InvalidRequest as refusal:
                if refusal.code != "incomplete_upload":
                    raise
                raise changed(self._source) from refusal
            except ConnectionFailed:
                # The service may be completing it all the same; a retry then reports its progress.
                attempt += 1
                if attempt == ATTEMPTS:
                    raise
            else:
                if answer.get("state") == "completed":
                    self._file = answer.get("file")
                    return None
                attempt = 0
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_POLL_S)

    def _stored(self) -> dict[str, Any]:
        if not isinstance(self._file, dict) or self._file.get("checksum") != f"sha256:{self._digest}":
            raise ChecksumMismatch(
                f"The bytes of {self._source.name} that the service stored differ from those sent: "
                "upload it again."
            )
        return self._file

    def _show(self, n: int, sent: int) -> None:
        with self._lock:
            self._sent[n] = sent
            self._bar.update(sum(self._sent.values()))

    def _unless_stopped(self) -> None:
        if self._stopped.is_set():
            raise TransferFailed("The upload was stopped.")


class _Memory:
    """The id of an unfinished upload, on disk. If it cannot be written, the upload cannot be resumed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def of(cls, base_url: str, url: str, digest: str, target: Mapping[str, Any]) -> "_Memory":
        key = sha256(json.dumps([base_url, url, dict(target), digest]).encode()).hexdigest()
        return cls(cache_folder() / "uploads" / f"{key}.json")

    def upload_id(self) -> str | None:
        try:
            return str(json.loads(self._path.read_text())["upload_id"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, upload_id: str) -> None:
        aside = self._path.with_suffix(f".{secrets.token_hex(4)}")
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            aside.write_text(json.dumps({"upload_id": upload_id}))
            aside.replace(self._path)

    def forget(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Return ``XDG_CACHE_HOME`` (XDG Base Directory Specification), or ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "model-service"
