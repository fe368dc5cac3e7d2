"""Packages on this machine's disk: fetched once, kept by content, never seen half-written."""

import shutil
import tempfile
from pathlib import Path

from exporters import package as packages
from model_service.storage.blobs import Blobs, blob_of
from model_service.storage.db import Document


class PackageStore:
    def __init__(self, blobs: Blobs, folder: Path) -> None:
        self._blobs = blobs
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def fetch(self, reference: Document) -> Path:
        """The unpacked package.

        Raises:
            BlobDamaged, PackageCorrupt: what is stored is not a whole package.
        """
        blob = blob_of(reference)
        final = self.folder / blob.sha256
        if final.is_dir():
            return final
        aside = Path(tempfile.mkdtemp(prefix=".fetch-", dir=self.folder))
        try:
            archive = aside / "package.zip"
            with archive.open("wb") as file:
                for piece in self._blobs.read(blob.id, 0, blob.size_bytes):
                    file.write(piece)
            unpacked = aside / "package"
            packages.unpack(archive, unpacked)
            try:
                unpacked.rename(final)
            except OSError:
                if not final.is_dir():  # else another process was first
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return final

    def keep_only(self, references: list[Document]) -> None:
        """Remove what no deployment uses any more, and what a killed process left half-fetched."""
        wanted = {blob_of(reference).sha256 for reference in references}
        for folder in self.folder.iterdir():
            if folder.name not in wanted:
                shutil.rmtree(folder, ignore_errors=True)
