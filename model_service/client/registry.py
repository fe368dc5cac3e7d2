"""Calls on the whole registry: export and import of archives."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

from urllib3.exceptions import HTTPError

from model_service.client.calls import Calls
from model_service.client.errors import NoSuchFile, TransferFailed
from model_service.client.transport.progress import Bar, MakeBar
from model_service.client.transport.source import CHUNK_BYTES
from model_service.client.transport.transfer import written_aside

REGISTRY = "/api/v1/registry"
# The service reads all documents before an export's first byte, and writes all after an import's last byte.
_PATIENCE_S = 1800.0
# The archive's last member, including tar's padding.
_END, _END_BYTES = b"end.json\0", 64 * 1024


class RegistryCalls(Calls):
    def export_registry(
        self, output_path: str | os.PathLike[str], *, progress: bool | MakeBar | None = None
    ) -> Path:
        """Write an archive of all models, datasets and training jobs with files. It appears when complete.

        Raises:
            NotPermitted: only administrators may do this.
            TransferFailed: the connection broke; nothing is left. An export cannot be resumed.
            OSError: the file cannot be written.
        """
        output = Path(output_path)
        with (
            written_aside(output) as file,
            closing(self._bar_for(progress)(output.name, 0, "bytes")) as bar,
        ):
            self._fetch(file, bar)
        return output

    def _fetch(self, file: BinaryIO, bar: Bar) -> None:
        url = f"{REGISTRY}/export"
        response = self._transport.send("GET", url, stream=True, timeout_s=_PATIENCE_S)
        last = b""
        try:
            for chunk in response.stream(CHUNK_BYTES, decode_content=False):
                file.write(chunk)
                last = (last + chunk)[-_END_BYTES:]
                bar.update(file.tell())
        except HTTPError as exc:
            raise TransferFailed(
                f"The connection broke after {file.tell():,} bytes of the export: start it again."
            ) from exc
        finally:
            response.close()
        if _END not in last:
            raise TransferFailed(f"The export ended early, after {file.tell():,} bytes: start it again.")

    def import_registry(
        self,
        path: str | os.PathLike[str],
        *,
        on_conflict: str = "skip",
        progress: bool | MakeBar | None = None,
    ) -> dict[str, Any]:
        """Add the content of an archive; existing objects are not changed. Return the service's response.

        Importing an archive twice is the same as once, so a failed import can simply be repeated.

        Args:
            on_conflict: ``skip`` or ``fail``, if the service has another model with a name and version.

        Raises:
            NotPermitted: only administrators may do this.
            InvalidRequest: the archive is truncated or changed; nothing of it is visible.
            NoSuchFile: there is no such file.
            OSError: the file cannot be read.
        """
        source = Path(path)
        if not source.exists():
            raise NoSuchFile(f"There is no file {source}.")
        size_bytes = source.stat().st_size
        headers = {"Content-Type": "application/x-tar", "Content-Length": str(size_bytes)}
        url = f"{REGISTRY}/import?on_conflict={on_conflict}"
        with closing(self._bar_for(progress)(source.name, size_bytes, "bytes")) as bar:
            response = self._transport.send(
                "POST", url, headers=headers, body=lambda: _pieces(source, bar), timeout_s=_PATIENCE_S
            )
        return self._transport.decode(response)


def _pieces(source: Path, bar: Bar) -> Iterator[bytes]:
    with source.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            yield piece
            bar.update(file.tell())
