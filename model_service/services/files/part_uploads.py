"""Uploads in parts. Parts can be sent in any order, in parallel and repeatedly, and from any client."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from model_service.actor import Permission, may_read, require
from model_service.errors import (
    Conflict,
    FileTooLarge,
    IncompleteUpload,
    InvalidField,
    MalformedId,
    NotFound,
)
from model_service.services.common.idempotency import Idempotency, Note, Once
from model_service.services.files.edits import file_at
from model_service.services.files.files import NewFile, require_announced
from model_service.services.files.held import HeldFiles
from model_service.services.files.part_verification import DamagedParts, read_back, require_sha256
from model_service.services.models.replacement import NOTHING, Consent
from model_service.states import UploadState
from model_service.storage.blobs.blobs import CHUNK_BYTES, Blob, SizeLimitExceeded
from model_service.storage.blobs.documents import PartUpload as Upload
from model_service.storage.blobs.documents import StoredPart, new_part_upload
from model_service.storage.blobs.part_uploads import COMPLETING_LEASE_S, Superseded
from model_service.storage.common.db import Session, now, object_id
from model_service.storage.common.documents import StoredId, new_file
from model_service.storage.models.documents import Model
from model_service.storage.stores import Stores

MAX_PARTS = 10_000
DEFAULT_PART_BYTES = 8 * CHUNK_BYTES
MAX_PART_BYTES = 512 * CHUNK_BYTES


@dataclass(frozen=True)
class PartUpload:
    """The state of one upload in parts. Parts are numbered from 0."""

    document: Upload

    @property
    def id(self) -> StoredId:
        return self.document["_id"]

    @property
    def state(self) -> UploadState:
        return UploadState(self.document["state"])

    @property
    def parts(self) -> int:
        return int(self.document["part_count"])

    @property
    def expires_at(self) -> datetime:
        return self.document["expires_at"]

    def part_size(self, n: int) -> int:
        size, part = self.document["size_bytes"], self.document["part_size_bytes"]
        return int(min(part, size - n * part))

    def received(self) -> dict[int, StoredPart]:
        return {int(n): part for n, part in self.document["parts"].items()}

    def missing(self) -> list[int]:
        if self.state is UploadState.COMPLETED:
            return []
        received = self.received()
        return [n for n in range(self.parts) if n not in received]


class PartUploadService:
    def __init__(
        self, stores: Stores, files: HeldFiles[Model], idempotency: Idempotency, *, expires_s: float
    ) -> None:
        self._database = stores.database
        self._uploads = stores.part_uploads
        self._blobs = stores.blobs
        self._files = files
        self._idempotency = idempotency
        self._expires_s = expires_s

    def create(
        self,
        model: Model,
        new: NewFile,
        *,
        size_bytes: int,
        sha256: str | None,
        part_size_bytes: int | None,
        consent: Consent = NOTHING,
        once: Once | None = None,
    ) -> PartUpload:
        """Open an upload of a file of ``size_bytes`` to a ``writable`` model.

        Raises:
            FileTooLarge: more than MAX_FILE_SIZE.
            InvalidField: the part size is not possible.
            WouldReplace, ConfirmationRequired: a file with the announced ``sha256`` would be rejected.
        """
        if size_bytes > self._files.max_file_size:
            raise FileTooLarge(self._files.max_file_size)
        if sha256 is not None:
            self._files.announced(model, new, sha256, consent)
        part = part_size(size_bytes, part_size_bytes)
        at = now()
        document = new_part_upload(
            self._uploads.new_id(),
            model["_id"],
            model["name"],
            new.planned(),
            {"replace": consent.replace, "confirmed": sorted(consent.confirmed)},
            size_bytes=size_bytes,
            sha256=sha256.lower() if sha256 else None,
            part_size_bytes=part,
            at=at,
            expires_at=at + timedelta(seconds=self._expires_s),
        )

        def store(note: Note) -> PartUpload:
            def work(session: Session) -> None:
                note(document["_id"], session)
                self._uploads.insert(document, session)

            self._database.transaction(work)
            return PartUpload(document)

        return self._idempotency.run(once, store, self.get)

    def get(self, upload_id: str) -> PartUpload:
        """Return an upload. Raises: MalformedId, NotPermitted. NotFound: none, or it has expired."""
        parsed = object_id(upload_id)
        if parsed is None:
            raise MalformedId("upload", upload_id)
        found = self._uploads.get(parsed)
        if found is None or found["expires_at"] <= now() or not may_read(found["model_name"]):
            raise NotFound("upload", upload_id)
        require(Permission.WRITE, found["model_name"])
        return PartUpload(found)

    def put_part(
        self, upload_id: str, n: int, pieces: Iterable[bytes], *, sha256: str, length: int | None
    ) -> StoredPart:
        """Store a part. A part that is sent again replaces the stored one; equal bytes change nothing.

        Args:
            sha256: 64 hexadecimal digits of the part.
            length: the number of bytes in ``pieces``, if it is known beforehand.

        Raises:
            MalformedId, NotFound: there is no such upload, or it has no such part.
            IncompleteUpload: the bytes differ from the announced ones, or the part has another size.
            Conflict: the upload accepts no more parts, or another request sends the same part now.
        """
        upload = self.get(upload_id)
        if not 0 <= n < upload.parts:
            raise NotFound("part", str(n))
        expected = upload.part_size(n)
        if length is not None and length != expected:
            raise _wrong_size(n, length, expected)
        present = upload.received().get(n)
        if present is not None and present["sha256"] == sha256.lower():
            require_sha256(n, pieces, sha256)
            return present
        attempt = self._uploads.claim(upload.id, n)
        if attempt is None:
            raise self._closed(upload_id)
        first_chunk = n * (upload.document["part_size_bytes"] // CHUNK_BYTES)
        try:
            actual, size = self._uploads.write(upload.id, first_chunk, attempt, pieces, limit_bytes=expected)
        except SizeLimitExceeded:
            raise _wrong_size(n, None, expected) from None
        except Superseded:
            raise _twice(n) from None
        if size != expected or actual != sha256.lower():
            self._uploads.discard_attempt(upload.id, first_chunk, expected, attempt)
            if size != expected:
                raise _wrong_size(n, size, expected)
            require_announced(f"Part {n} arrived with", actual, sha256)
        if not self._uploads.note_part(upload.id, n, attempt, actual, size):
            self._uploads.discard_attempt(upload.id, first_chunk, expected, attempt)
            if self.get(upload_id).state is UploadState.OPEN:
                raise _twice(n)
            raise self._closed(upload_id)
        return {"sha256": actual, "size_bytes": size}

    def complete(self, upload_id: str, *, sha256: str | None, consent: Consent = NOTHING) -> PartUpload:
        """Read the stored parts, compare them with the announced checksums and publish them as a file.

        The call can be repeated, whatever its first result: a completed upload is returned unchanged.
        While another call completes the upload, its state is returned as ``completing``.

        Args:
            sha256: of the whole file, if it was not announced when the upload was created.
            consent: in addition to the consent given when the upload was created.

        Raises:
            Conflict: parts are missing or damaged and must be sent again (``details.missing``); the upload
                was aborted; the model is archived.
            WouldReplace, ConfirmationRequired: the parts are kept, for a call with the consent.
            IncompleteUpload: all parts are as they were sent, but the whole is not the announced file.
            MalformedId, NotFound, NotPermitted: the upload or its model cannot be found or written.
        """
        upload = self.get(upload_id)
        if upload.state is UploadState.COMPLETED:
            return upload
        if upload.state is UploadState.ABORTED:
            raise self._closed(upload_id)
        if missing := upload.missing():
            raise _incomplete(missing, "have not arrived")
        model = self._files.writable(str(upload.document["model_id"]))
        token = self._uploads.begin_completion(upload.id)
        if token is None:
            return self.get(upload_id)
        try:
            blob = self._verified(upload, token, sha256)
            self._publish(upload, model, blob, token, consent)
        except DamagedParts as found:
            self._uploads.reopen(upload.id, token, found.parts)
            raise _incomplete(found.parts, "are damaged") from None
        except BaseException:
            # No effect if the completion was committed after all, or if another call holds the lease now.
            self._uploads.reopen(upload.id, token)
            raise
        return self.get(upload_id)

    def _verified(self, upload: PartUpload, token: str, announced: str | None) -> Blob:
        """Return the blob of the stored chunks. Raises: DamagedParts, IncompleteUpload, Conflict."""
        blob = read_back(
            self._blobs.chunks,
            upload.document,
            keep=lambda: self._renew(upload, token),
            keep_every_s=COMPLETING_LEASE_S / 5,
        )
        for wanted in (upload.document["sha256"], announced):
            require_announced("The parts together have", blob.sha256, wanted)
        return blob

    def _renew(self, upload: PartUpload, token: str) -> None:
        if not self._uploads.renew_completion(upload.id, token):
            raise Conflict(
                "Another request is completing this upload: wait, then read its state.",
                state=UploadState.COMPLETING,
            )

    def _publish(self, upload: PartUpload, model: Model, written: Blob, token: str, consent: Consent) -> None:
        new = NewFile(**upload.document["new"])
        opened = upload.document.get("consent")  # missing in uploads of earlier versions of the service
        if opened is not None:
            consent |= Consent(opened.get("replace", False), frozenset(opened.get("confirmed", ())))

        def finish(stored: Blob, session: Session) -> None:
            file = new_file(new.path, stored.reference(), new.content_type)
            if not self._uploads.finish(upload.id, token, file, session):
                raise Conflict(
                    "Another request is completing this upload: wait, then read its state.",
                    state=UploadState.COMPLETING,
                )

        done = self._files.publish(model, written, new, consent=consent, also=finish, keep=True)
        present = file_at(done.document, new.path)
        if present is None or present["file_id"] != upload.id:
            # An equal blob existed: these chunks are deleted. The sweep removes chunks that late writers add.
            self._uploads.leave_to_sweep(upload.id)

    def abort(self, upload_id: str) -> None:
        """Abort the upload and remove its parts.

        Raises:
            MalformedId, NotFound, NotPermitted.
            Conflict: the upload is completed, or is being completed.
        """
        upload = self.get(upload_id)
        if not self._uploads.abort(upload.id):
            raise self._closed(upload_id)

    def _closed(self, upload_id: str) -> Conflict:
        state = self.get(upload_id).state
        return Conflict(f"The upload is {state.value}.", state=state.value)


def part_size(size_bytes: int, wanted: int | None) -> int:
    """Return the size in bytes of every part but the last. Raises: InvalidField."""
    if wanted is None:
        part = DEFAULT_PART_BYTES
        while part * MAX_PARTS < size_bytes:
            part *= 2
        return part
    if wanted % CHUNK_BYTES or wanted > MAX_PART_BYTES or wanted * MAX_PARTS < size_bytes:
        message = (
            f"a multiple of {CHUNK_BYTES:,}, up to {MAX_PART_BYTES:,}, and {MAX_PARTS:,} parts are enough"
        )
        raise InvalidField.of("part_size_bytes", message, wrong=f"part_size_bytes={wanted} is not possible")
    return wanted


def _incomplete(parts: list[int], what: str) -> Conflict:
    shown = ", ".join(map(str, parts[:10])) + (", …" if len(parts) > 10 else "")
    return Conflict(f"Parts of the upload {what}: {shown}.", missing=parts)


def _wrong_size(n: int, size: int | None, expected: int) -> IncompleteUpload:
    found = "more" if size is None else f"{size:,}"
    return IncompleteUpload(
        f"Part {n} must have {expected:,} bytes, but {found} arrived.", expected_bytes=expected
    )


def _twice(n: int) -> Conflict:
    return Conflict(f"Another request is sending part {n}.", part=n)
