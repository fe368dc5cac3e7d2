"""Calls on the files of a model."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import file_digest
from pathlib import Path
from typing import Any
from urllib.parse import quote

from model_service.client.calls import Calls
from model_service.client.errors import ChecksumMismatch, InvalidArgument, UnexpectedAnswer
from model_service.client.models import model_url
from model_service.client.parts import PARTS_FROM_BYTES, upload_in_parts
from model_service.client.progress import MakeBar
from model_service.client.source import Source, Uploadable, opened
from model_service.client.transfer import download, download_zip, header_value, upload
from model_service.client.types import FileMetadata

_PARALLEL = 4


class FileCalls(Calls):
    def upload_model(
        self,
        model_id: str,
        path: Uploadable,
        *,
        filename: str | None = None,
        progress: bool | MakeBar | None = None,
    ) -> FileMetadata:
        """Sends a model's file, streamed, and compares checksums. A large one goes in parts.

        Where the parts of a large one broke off, the same call goes on, in another process too.

        Raises:
            ChecksumMismatch: the service holds other bytes than were sent.
            TransferFailed: the file became shorter while it was sent.
            NoSuchFile: there is no such file.
            InvalidArgument: the file is empty.
            OSError: the file cannot be read.
        """
        bar = self._bar_for(progress)
        model = model_url(model_id)
        with opened(path, filename) as source:
            if source.size_bytes == 0:
                raise InvalidArgument(f"{source.name} is empty: nothing was sent.")
            if source.size_bytes > PARTS_FROM_BYTES:
                target = {"filename": source.name}
                file = upload_in_parts(self._transport, f"{model}/uploads", source, target, bar)
                return FileMetadata.from_json({**file, "filename": file.get("path")})
            headers = {"X-Filename": header_value(source.name)}
            answer, sent = upload(self._transport, "POST", f"{model}/upload", source, bar, headers)
        return verified(answer.get("file_metadata"), sent, source)

    def upload_file(
        self,
        model_id: str,
        source: Uploadable,
        *,
        path: str | None = None,
        primary: bool = False,
        progress: bool | MakeBar | None = None,
    ) -> FileMetadata:
        """Sends a file to a path in the model, by default its own name; otherwise as ``upload_model``.

        ``primary`` makes it the one that ``download_model`` gives.
        """
        bar = self._bar_for(progress)
        with opened(source, None) as opened_source:
            place = path or opened_source.name
            if opened_source.size_bytes > PARTS_FROM_BYTES:
                target = {"path": place, "primary": primary}
                url = f"{model_url(model_id)}/uploads"
                return FileMetadata.from_json(
                    upload_in_parts(self._transport, url, opened_source, target, bar)
                )
            url = f"{_file_url(model_id, place)}?primary={'true' if primary else 'false'}"
            answer, sent = upload(self._transport, "PUT", url, opened_source, bar, {})
        return verified(answer.get("file"), sent, opened_source)

    def list_files(self, model_id: str) -> list[FileMetadata]:
        return self._files(model_id)[1]

    def _files(self, model_id: str) -> tuple[str, list[FileMetadata]]:
        """The id of the version that ``model_id`` names, and its files: an alias may move at any time."""
        answer = self._transport.json("GET", f"{model_url(model_id)}/files")
        if not isinstance(answer.get("files"), list) or not isinstance(answer.get("model_id"), str):
            raise UnexpectedAnswer("The service's answer is no list of files.")
        return answer["model_id"], [FileMetadata.from_json(file) for file in answer["files"]]

    def delete_file(self, model_id: str, path: str) -> dict[str, Any]:
        """The service's answer; NotFound may mean that a first, lost answer already was the deletion."""
        return self._transport.json("DELETE", _file_url(model_id, path))

    def presign_file(self, model_id: str, path: str | None = None, *, expires_in_s: int = 3600) -> str:
        """A URL that gives this one file to whoever has it, until it expires; by default the model's."""
        url = f"{model_url(model_id)}/download" if path is None else _file_url(model_id, path)
        answer = self._transport.json("POST", f"{url}/presign", data={"expires_in_s": expires_in_s})
        if not isinstance(answer.get("url"), str):
            raise UnexpectedAnswer("The service signed a URL and did not say it.")
        return str(answer["url"])

    def download_model(
        self, model_id: str, output_path: str | os.PathLike[str], *, progress: bool | MakeBar | None = None
    ) -> Path:
        """Fetches a model's file. ``output_path`` is replaced in one step, after the checksum was compared.

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
        """Fetches the file at a path; otherwise as ``download_model``."""
        return download(self._transport, _file_url(model_id, path), output_path, self._bar_for(progress))

    def download_zip(
        self, model_id: str, output_path: str | os.PathLike[str], *, progress: bool | MakeBar | None = None
    ) -> Path:
        """Fetches every file of a model as one zip, whose checksums are compared. It cannot be resumed.

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
        """Fetches every file of a model into a folder, at its path; those that are there already stay.

        Raises:
            UnexpectedAnswer: a path would lead out of the folder; nothing was fetched.
            as ``download_model``: the files that were fetched until then stay.
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


def path_segments(path: str) -> str:
    """A file's path as segments of a URL's. Raises InvalidArgument: one that URLs fold away."""
    given = path.split("/")
    if not path or any(each in {"", ".", ".."} for each in given):
        raise InvalidArgument(f"{path!r} is no path of a file.")
    return "/".join(quote(each, safe="") for each in given)


def _segments(path: str) -> list[str]:
    """Raises UnexpectedAnswer: a path that a service never stores, and that could leave the folder."""
    segments = path.split("/")
    if any(each in {"", ".", ".."} or "\\" in each or ":" in each[1:2] or "\0" in each for each in segments):
        raise UnexpectedAnswer(f"The service names a file {path!r}, which could lead out of the folder.")
    return segments


def verified(stored: Any, sent_sha256: str, source: Source) -> FileMetadata:
    metadata = FileMetadata.from_json(stored)
    if metadata.checksum != f"sha256:{sent_sha256}":
        raise ChecksumMismatch(
            f"The service stored {source.name} with other bytes than were sent: upload it again."
        )
    return metadata
