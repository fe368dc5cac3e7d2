"""Version 5: the files of datasets are inspected. Stored ones wait for a worker."""

from collections.abc import Sequence
from typing import cast

from model_service.storage.common.db import Database
from model_service.storage.common.documents import AnyDocument
from model_service.storage.datasets.documents import Dataset, waiting_inspection
from model_service.storage.migrations.base import Migration


def _inspect(database: Database, documents: Sequence[AnyDocument]) -> list[AnyDocument]:
    return [
        document if "summary" in document else {**document, **waiting_inspection(cast(Dataset, document))}
        for document in documents
    ]


MIGRATION = Migration(version=5, name="summaries of datasets", documents={"datasets": _inspect})
