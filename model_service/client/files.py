"""Calls on the files of a model."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import file_digest
from pathlib import Path
from typing import Any

from model_service.client.calls import Calls
from model_service.client.errors import UnexpectedAnswer
from model_service.client.models import model_url
from model_service.client.records import Page
from model_service.client.transport.http import segment
from model_service.client.transport.progress import MakeBar
from model_service.client.transport.source import Uploadable
from model_service.client.transport.transfer import download, download_zip
from model_service.client.types import DeletedFile, FileMetadata
from model_service.client.uploads import Uploads, consent_to, path_segments

_PARALLEL = 4


class FileCalls(Calls):
    def upload_model(
        self,
        model_id: str,
        path: Uploadable,
        *,
        filename: str | None = None,
        replace: bool = False,
        confirm: Sequence[str] = (),
        progress: bool | MakeBar | None = None,
    ) -> FileMetadata:
        """Upload a model's file as a stream, and compare checksums. A large file is sent in parts.

        A file that the model has already is not sent again. If an upload in parts was interrupted, the same
        call resumes it, also in another process.

        Args:
            replace: replace another file, which is moved to the trash.
            confirm: what depends on the version, as listed in the error's ``details["confirm"]``.

        Raises:
            Conflict: the model has another file (``would_replace``), or something depends on the version
                (``confirmation_required``); nothing was changed.
            ChecksumMismatch: the service stored other bytes than were sent.
            TransferFailed: the file became shorter while it was sent.
            NoSuchFile: there is no such file.
            InvalidArgument: the file is empty.
            OSError: the file cannot be read.
        """
        return self._to_model(model_id, replace, confirm, progress).own(path, filename)

    def upload_file(
        self,
        model_id: str,
        source: Uploadable,
        *,
        path: str | None = None,
        primary: bool = False,
        replace: bool = False,
        confirm: Sequence[str] = (),
        progress: bool | MakeBar | None = None,
    ) -> FileMetadata:
        """Upload a file to a path in the model, by default its own name; otherwise like ``upload_model``.

        ``primary`` makes it the file that ``download_model`` downloads.
        """
        return self._to_model(model_id, replace, confirm, progress).at(source, path, primary=primary)

    def upload_files(
        self,
        model_id: str,
        paths: Mapping[str, str | os.PathLike[str]],
        *,
        replace: bool = False,
        confirm: Sequence[str] = (),
        progress: bool | MakeBar | None = None,
    ) -> list[FileMetadata]:
        """Upload local files to paths in the model: ``{path: local file}``. Otherwise like ``upload_file``.

        One request reads the digests of all stored files, and stored files are not sent (``unchanged``).
        Small files are sent several at a time. After an interruption, the same call sends the rest.
        """
        return self._to_model(model_id, replace, confirm, progress).all_at(paths)

    def _to_model(
        self, model_id: str, replace: bool, confirm: Sequence[str], progress: bool | MakeBar | None
    ) -> Uploads:
        consent, bar = consent_to(replace, confirm), self._bar_for(progress)
        return Uploads(self._transport, model_url(model_id), consent, bar, in_parts=True)

    def list_files(self, model_id: str) -> list[FileMetadata]:
        return self._files(model_id)[1]

    def _files(self, model_id: str) -> tuple[str, list[FileMetadata]]:
        """Return the id of the version ``model_id`` (an alias may move at any time), and its files."""
        answer = self._transport.json("GET", f"{model_url(model_id)}/files")
        if not isinstance(answer.get("files"), list) or not isinstance(answer.get("model_id"), str):
            raise UnexpectedAnswer("The service's response is not a list of files.")
        return answer["model_id"], [FileMetadata.from_json(file) for file in answer["files"]]

    def delete_file(self, model_id: str, path: str, *, confirm: Sequence[str] = ()) -> dict[str, Any]:
        """Move a file to the trash. NotFound may mean that an earlier try, whose response was lost, moved it.

        Raises:
            Conflict: something depends on the version; ``confirm`` must name it, as for ``upload_model``.
        """
        query = consent_to(False, confirm)
        return self._transport.json("DELETE", _file_url(model_id, path), query=query)

    def list_deleted_files(
        self, model_id: str, *, page: int | None = None, limit: int | None = None
    ) -> Page[DeletedFile]:
        """Return the replaced and deleted files of a model that can be restored, the last one first."""
        url = f"{model_url(model_id)}/deleted-files"
        return self._page(url, "files", DeletedFile, {"page": page, "limit": limit})

    def restore_file(
        self, model_id: str, file_id: str, *, replace: bool = False, confirm: Sequence[str] = ()
    ) -> FileMetadata:
        """Restore a deleted file to its path; ``replace`` and ``confirm`` as for ``upload_model``."""
        url = f"{model_url(model_id)}/deleted-files/{segment(file_id)}/restore"
        answer = self._transport.json("POST", url, query=consent_to(replace, confirm))
        return FileMetadata.from_json(answer.get("file"))

    def purge_file(self, model_id: str, file_id: str) -> dict[str, Any]:
        """Remove a deleted file permanently."""
        url = f"{model_url(model_id)}/deleted-files/{segment(file_id)}"
        return self._transport.json("DELETE", url)

    def presign_file(self, model_id: str, path: str | None = None, *, expires_in_s: int = 3600) -> str:
        """Return a URL that allows downloading one file until it expires; by default the primary one."""
        url = f"{model_url(model_id)}/download" if path is None else _file_url(model_id, path)
        answer = self._transport.json("POST", f"{url}/presign", data={"expires_in_s": expires_in_s})
        if not isinstance(answer.get("url"), str):
            raise UnexpectedAnswer("The service's response has no signed URL.")
        return str(answer["url"])

    def download_model(
        self, model_id: str, output_path: str | os.PathLike[str], *, progress: bool | MakeBar | None = None
    ) -> Path:
        """Download a model's file. ``output_path`` is replaced in one step, after comparing the checksum.

        Raises:
            ChecksumMismatch: the bytes are damaged; no file is left.
            TransferFailed: the connection broke too often; no file is left.
            OSError: the file cannot be written.
        """
        url = f"{model_url(model_id)}/download"
        return download(self._transport, url, output_path, self._bar_for(progress))

    def download_file(
        self,
        model_id: str,
        path: str,
        output_path: str | os.PathLike[str],
        *,
        progress: bool | MakeBar | None = None,
    ) -> Path:
        """Download the file at a path; otherwise like ``download_model``."""
        return download(self._transport, _file_url(model_id, path), output_path, self._bar_for(progress))

    def download_zip(
        self, model_id: str, output_path: str | os.PathLike[str], *, progress: bool | MakeBar | None = None
    ) -> Path:
        """Download all files of a model as one zip, and compare their checksums. It cannot be resumed.

        Raises:
            ChecksumMismatch: a file in it is damaged; no zip is left.
            TransferFailed: the connection broke; no zip is left.
            OSError: the zip cannot be written.
        """
        url = f"{model_url(model_id)}/files.zip"
        return download_zip(self._transport, url, output_path, self._bar_for(progress))

    def download_all(
        self, model_id: str, folder: str | os.PathLike[str], *, progress: bool | MakeBar | None = None
    ) -> list[Path]:
        """Download all files of a model to their paths in a folder; existing equal files are kept.

        Raises:
            UnexpectedAnswer: a path would leave the folder; nothing was downloaded.
            as ``download_model``: the files downloaded so far are kept.
        """
        root = Path(folder)
        model_id, files = self._files(model_id)
        wanted = [(file, root.joinpath(*_segments(file.path or ""))) for file in files]
        bar = self._bar_for(False if progress is None else progress)
        with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="download") as pool:
            fetching = [
                pool.submit(partial(self._fetch_file, model_id, file, output, bar)) for file, output in wanted
            ]
            try:
                return [each.result() for each in fetching]
            except BaseException:
                for each in fetching:
                    each.cancel()
                raise

    def _fetch_file(self, model_id: str, file: FileMetadata, output: Path, bar: MakeBar) -> Path:
        if output.is_file() and output.stat().st_size == file.size_bytes:
            with output.open("rb") as present:
                if f"sha256:{file_digest(present, 'sha256').hexdigest()}" == file.checksum:
                    return output
        output.parent.mkdir(parents=True, exist_ok=True)
        return download(self._transport, _file_url(model_id, file.path or ""), output, bar)


def _file_url(model_id: str, path: str) -> str:
    return f"{model_url(model_id)}/files/{path_segments(path)}"


def _segments(path: str) -> list[str]:
    """Split a path. Raises UnexpectedAnswer for an invalid path, which could leave the folder."""
    segments = path.split("/")
    if any(each in {"", ".", ".."} or "\\" in each or ":" in each[1:2] or "\0" in each for each in segments):
        raise UnexpectedAnswer(f"The service lists a file {path!r} that would be written outside the folder.")
    return segments
