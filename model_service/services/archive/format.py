"""The archive format: one tar stream, written and read in constant memory.

    manifest.json                       format, version, scope, time, counts
    documents/<collection>/000001.jsonl documents in MongoDB Extended JSON (canonical), one a line
    blobs/<sha256>                      the bytes of every file of the documents
    end.json                            the counts again, and the sha256 over all members before it

``end.json`` is last: an archive without it is truncated. Its ``sha256`` covers one line for each member,
``name size sha256``, which proves that no member is missing, changed or added. Only the names above are
accepted, so no name is used as a path on disk.
"""

import hashlib
import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Protocol, Self

FORMAT = "model-service-archive"
FORMAT_VERSION = 1
MANIFEST, END = "manifest.json", "end.json"
DOCUMENTS = re.compile(r"documents/([A-Za-z0-9_-]{1,64})/[0-9]{6,12}\.jsonl")
BLOB = re.compile(r"blobs/([0-9a-f]{64})")
_READ_BYTES = 1 << 20
# Limit for manifest.json, end.json and the headers of members, which are read into memory.
_MAX_JSON_BYTES = 1 << 20


class Stream(Protocol):
    """The source of an archive."""

    def read(self, size: int, /) -> bytes: ...


class ArchiveDamaged(Exception):
    """The archive is truncated, changed, or not an archive of this service."""


def document_name(collection: str, number: int) -> str:
    return f"documents/{collection}/{number:06d}.jsonl"


def blob_name(sha256: str) -> str:
    return f"blobs/{sha256}"


class Chain:
    """The running digest that ``end.json`` contains."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.members = 0

    def add(self, name: str, size_bytes: int, sha256: str) -> None:
        self._digest.update(f"{name} {size_bytes} {sha256}\n".encode())
        self.members += 1

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


class Writer:
    """Converts members to the bytes of the stream; the caller sends on the yielded pieces."""

    def __init__(self, *, mtime: int) -> None:
        self._chain = Chain()
        self._mtime = mtime

    def member(self, name: str, size_bytes: int, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield a member's bytes in the stream.

        Raises:
            ArchiveDamaged: the pieces are not ``size_bytes`` long; the caller must stop the stream.
        """
        yield self._header(name, size_bytes)
        digest, written = hashlib.sha256(), 0
        for piece in pieces:
            digest.update(piece)
            written += len(piece)
            yield piece
        if written != size_bytes:
            raise ArchiveDamaged(f"{name} has {written:,} bytes instead of {size_bytes:,}")
        yield bytes(-written % tarfile.BLOCKSIZE)
        self._chain.add(name, size_bytes, digest.hexdigest())

    def json(self, name: str, content: Mapping[str, object]) -> Iterator[bytes]:
        text = json.dumps(content, indent=1).encode()
        return self.member(name, len(text), [text])

    def end(self, content: Mapping[str, object]) -> Iterator[bytes]:
        yield from self.json(
            END, {**content, "members": self._chain.members, "sha256": self._chain.hexdigest()}
        )
        yield bytes(2 * tarfile.BLOCKSIZE)

    def _header(self, name: str, size_bytes: int) -> bytes:
        info = tarfile.TarInfo(name)
        info.size, info.mtime, info.mode = size_bytes, self._mtime, 0o600
        return info.tobuf(tarfile.PAX_FORMAT)


@dataclass
class Member:
    """One member of the stream. Its pieces can be read once, before the next member."""

    name: str
    size_bytes: int
    _file: IO[bytes]
    _digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def pieces(self) -> Iterator[bytes]:
        """Yield the member's bytes. Raises: ArchiveDamaged: the stream ends within the member."""
        try:
            while piece := self._file.read(_READ_BYTES):
                self._digest.update(piece)
                yield piece
        except (tarfile.TarError, EOFError) as exc:
            raise ArchiveDamaged(f"the archive ends in the middle of {self.name}") from exc

    def json(self) -> dict[str, object]:
        """Parse the member as JSON. Raises: ArchiveDamaged: it is not a JSON object."""
        if self.size_bytes > _MAX_JSON_BYTES:
            raise ArchiveDamaged(f"{self.name} is too large")
        try:
            content = json.loads(b"".join(self.pieces()))
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise ArchiveDamaged(f"{self.name} is not a JSON object")
        return content

    def finish(self) -> str:
        """Read the rest of the member and return the sha256 of the whole."""
        for _ in self.pieces():
            pass
        return str(self._digest.hexdigest())


class _Header(tarfile.TarInfo):
    """Header of a member. Extended headers are read into memory, so their size is limited."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Parse a header. Raises: ArchiveDamaged: an extended header is larger than 1 MiB."""
        header = super().frombuf(buf, encoding, errors)
        if header.type not in tarfile.REGULAR_TYPES and header.size > _MAX_JSON_BYTES:
            raise ArchiveDamaged(f"{header.name[:200]!r} is not a file")
        return header


def read_members(stream: Stream) -> Iterator[Member]:
    """Yield every member before ``end.json``, which is checked here.

    Raises:
        ArchiveDamaged: not a tar, an unknown member, truncated, or different from ``end.json``.
    """
    chain = Chain()
    try:
        with tarfile.open(  # type: ignore[call-overload]
            fileobj=stream, mode="r|", bufsize=_READ_BYTES, tarinfo=_Header
        ) as tar:
            for info in tar:
                # Otherwise tarfile keeps a list of all members, which may be a million blobs.
                tar.members = []
                # A sparse member could claim a petabyte of zeros.
                file = tar.extractfile(info) if info.isreg() and not info.issparse() else None
                if file is None:
                    raise ArchiveDamaged(f"{info.name!r} is not a file")
                member = Member(info.name, info.size, file)
                if info.name == END:
                    _check_end(member.json(), chain)
                    return
                yield member
                chain.add(member.name, member.size_bytes, member.finish())
    except (tarfile.TarError, EOFError) as exc:
        raise ArchiveDamaged(f"this is not a complete tar stream: {exc}") from exc
    raise ArchiveDamaged("the archive is truncated: it has no end.json")


def _check_end(end: Mapping[str, object], chain: Chain) -> None:
    if end.get("members") != chain.members or end.get("sha256") != chain.hexdigest():
        raise ArchiveDamaged("the members of the archive are not those that its end.json lists")
