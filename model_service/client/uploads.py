"""Upload files to one version of a model or dataset.

A file is hashed before it is sent. A file that the service has at the same path is not sent again. With the
announced sha256, the service can refuse a different file before its bytes arrive.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from model_service.client.errors import ChecksumMismatch, InvalidArgument, NotFound, UnexpectedAnswer
from model_service.client.transport.http import Transport
from model_service.client.transport.parts import PARALLEL, upload_in_parts
from model_service.client.transport.progress import Bar, MakeBar, bars
from model_service.client.transport.source import Source, Uploadable, opened
from model_service.client.transport.transfer import header_value, upload
from model_service.client.types import FileMetadata

PARTS_FROM_BYTES = 64 * 1024 * 1024
# A smaller file is sent without a check: requesting its digest takes as long.
COMPARE_FIRST_BYTES = 256 * 1024
# The time of a smaller file is that of its request, not of its bytes: several are sent at a time.
_PARALLEL_BELOW_BYTES = 1024 * 1024
# Hashing less takes too little time for a progress bar.
_SHOWN_FROM_BYTES = 64 * 1024 * 1024


def consent_to(replace: bool, confirm: Sequence[str]) -> dict[str, Any]:
    """Return the fields of a request that allow replacing a file."""
    return {
        **({"replace": True} if replace else {}),
        **({"confirm": list(confirm)} if confirm else {}),
    }


@dataclass(frozen=True)
class _File:
    place: str
    path: str | os.PathLike[str]
    digest: str
    size_bytes: int


@dataclass(frozen=True)
class Uploads:
    """``base`` is the version's URL; ``in_parts``: whether it accepts large files in parts."""

    transport: Transport
    base: str
    consent: Mapping[str, Any]
    bar: MakeBar
    in_parts: bool

    def own(self, path: Uploadable, filename: str | None) -> FileMetadata:
        """Upload the version's own file."""
        with opened(path, filename) as source:
            if source.size_bytes == 0:
                raise InvalidArgument(f"{source.name} is empty: nothing was sent.")
            digest = hashed(source, self.bar)
            present = self._own_file() if source.size_bytes >= COMPARE_FIRST_BYTES else None
            if present is not None and present.filename == source.name and _same(present, digest):
                return present
            if self.in_parts and source.size_bytes > PARTS_FROM_BYTES:
                file = self._send_parts(source, digest, {"filename": source.name})
                return FileMetadata.from_json({**file, "filename": file.get("path")})
            headers = {"X-Filename": header_value(source.name)}
            url = f"{self.base}/upload"
            answer = upload(
                self.transport, "POST", url, source, self.bar, headers, sha256=digest, query=self.consent
            )
        return _verified(answer, "file_metadata", digest, source.name)

    def at(self, source: Uploadable, path: str | None, *, primary: bool = False) -> FileMetadata:
        """Upload a file to a path, by default its own name."""
        with opened(source, None) as opened_source:
            place = path or opened_source.name
            digest = hashed(opened_source, self.bar)
            if opened_source.size_bytes >= COMPARE_FIRST_BYTES:
                present = self._own_file() if primary else self.files().get(place)
                if present is not None and present.path == place and _same(present, digest):
                    return present
            return self._send(opened_source, place, digest, primary, self.bar)

    def all_at(self, paths: Mapping[str, str | os.PathLike[str]]) -> list[FileMetadata]:
        """Upload each file to its path, after one request for the digests of stored files.

        Files that replace others are sent first, so that a refusal comes before other bytes are sent. Small
        files are sent several at a time.
        """
        there = self.files()
        digests = self._hash_all(paths)
        stored = {
            place: there[place]
            for place, digest in digests.items()
            if place in there and _same(there[place], digest)
        }
        kept = len(stored)
        files = [
            _File(place, paths[place], digests[place], Path(paths[place]).stat().st_size)
            for place in sorted(paths.keys() - stored.keys())
        ]
        try:
            self._send_all([file for file in files if file.place in there], stored)
            self._send_all([file for file in files if file.place not in there], stored)
        except KeyboardInterrupt as stop:
            stop.add_note(
                f"{len(stored) - kept} files were stored, {kept} were already there: repeat the "
                f"call to send the other {len(paths) - len(stored)}."
            )
            raise
        return [stored[place] for place in paths]

    def _send_all(self, files: Sequence["_File"], stored: dict[str, FileMetadata]) -> None:
        """Send files and add them to ``stored``. After a failure no other file is begun."""

        def send(file: _File, bar: MakeBar) -> int:
            with opened(file.path, None) as source:
                stored[file.place] = self._send(source, file.place, file.digest, False, bar)
                return source.size_bytes

        small = [file for file in files if file.size_bytes < _PARALLEL_BELOW_BYTES]
        if small:
            label = small[0].place if len(small) == 1 else f"{len(small)} files"
            total, done = sum(file.size_bytes for file in small), 0
            with (
                closing(self.bar(label, total, "bytes")) as shown,
                ThreadPoolExecutor(PARALLEL, thread_name_prefix="upload") as pool,
            ):
                sending = [pool.submit(send, file, bars(False)) for file in small]
                try:
                    for each in as_completed(sending):
                        done += each.result()
                        shown.update(done)
                finally:
                    pool.shutdown(cancel_futures=True)
        for file in files:
            if file.size_bytes >= _PARALLEL_BELOW_BYTES:
                send(file, self.bar)

    def files(self) -> dict[str, FileMetadata]:
        """Return the files of the version, by path."""
        answer = self.transport.json("GET", f"{self.base}/files")
        if not isinstance(answer.get("files"), list):
            raise UnexpectedAnswer("The service's response is not a list of files.")
        files = [FileMetadata.from_json({**file, "unchanged": True}) for file in answer["files"]]
        return {file.path: file for file in files if file.path is not None}

    def _own_file(self) -> FileMetadata | None:
        try:
            answer = self.transport.json("GET", f"{self.base}/info")
        except NotFound:  # neither its file nor, possibly, the version exists; the upload reports the latter
            return None
        return FileMetadata.from_json({**(answer.get("file_metadata") or {}), "unchanged": True})

    def _hash_all(self, paths: Mapping[str, str | os.PathLike[str]]) -> dict[str, str]:
        digests: dict[str, str] = {}
        total = sum(Path(path).stat().st_size for path in paths.values())
        with closing(_hash_bar(self.bar, f"{len(paths)} files", total)) as shown:
            done = 0
            for place, path in paths.items():
                with opened(path, None) as source:
                    digests[place] = _digest(source, shown, done)
                    done += source.size_bytes
        return digests

    def _send(self, source: Source, place: str, digest: str, primary: bool, bar: MakeBar) -> FileMetadata:
        if self.in_parts and source.size_bytes > PARTS_FROM_BYTES:
            target = {"path": place, "primary": primary}
            return FileMetadata.from_json(self._send_parts(source, digest, target))
        query = {**self.consent, **({"primary": True} if primary else {})}
        url = f"{self.base}/files/{path_segments(place)}"
        answer = upload(self.transport, "PUT", url, source, bar, {}, sha256=digest, query=query)
        return _verified(answer, "file", digest, source.name)

    def _send_parts(self, source: Source, digest: str, target: Mapping[str, Any]) -> dict[str, Any]:
        url = f"{self.base}/uploads"
        return upload_in_parts(self.transport, url, source, target, self.bar, digest, self.consent)


def hashed(source: Source, bar: MakeBar) -> str:
    """Return the sha256 of a source, 64 hexadecimal digits, with a progress bar for a large one."""
    with closing(_hash_bar(bar, source.name, source.size_bytes)) as shown:
        return _digest(source, shown, 0)


def _hash_bar(bar: MakeBar, label: str, size_bytes: int) -> Bar:
    make = bar if size_bytes >= _SHOWN_FROM_BYTES else bars(False)
    return make(f"hashing {label}", size_bytes, "bytes")


def _digest(source: Source, shown: Bar, done: int) -> str:
    digest = sha256()
    for piece in source.pieces():
        digest.update(piece)
        done += len(piece)
        shown.update(done)
    return digest.hexdigest()


def _same(present: FileMetadata, digest: str) -> bool:
    return present.checksum == f"sha256:{digest}"


def path_segments(path: str) -> str:
    """Return a file's path as segments of a URL. Raises InvalidArgument for segments that URLs remove."""
    given = path.split("/")
    if not path or any(each in {"", ".", ".."} for each in given):
        raise InvalidArgument(f"{path!r} is not a valid path of a file.")
    return "/".join(quote(each, safe="") for each in given)


def _verified(answer: Mapping[str, Any], field: str, digest: str, name: str) -> FileMetadata:
    stored = answer.get(field)
    unchanged = bool(answer.get("unchanged"))
    metadata = FileMetadata.from_json(
        {**stored, "unchanged": unchanged} if isinstance(stored, dict) else stored
    )
    if metadata.checksum != f"sha256:{digest}":
        raise ChecksumMismatch(
            f"The bytes of {name} that the service stored differ from those sent: upload it again."
        )
    return metadata
