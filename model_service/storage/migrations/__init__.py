"""Migrations: ordered steps that bring stored data to the schema of this version.

A database has its schema version in ``schema``, an archive in its manifest. Data without one is older than
migrations and has version 0. To change the form of stored documents, add a module ``mNNNN_name.py`` with a
``MIGRATION`` and list it here. See ``base.Migration`` for the requirements of a step.
"""

from collections.abc import Sequence

import structlog

from model_service.config import Settings
from model_service.storage.common.db import Database
from model_service.storage.common.documents import AnyDocument
from model_service.storage.migrations import (
    m0001_first_builds,
    m0002_exports_of_training_jobs,
    m0003_version_numbers,
    m0004_scan_verdicts,
    m0005_dataset_summaries,
)
from model_service.storage.migrations.base import DataTooNew, Migration
from model_service.storage.migrations.runner import LEASE_S, Report, Runner, collection_versions
from model_service.storage.migrations.schema import too_new
from model_service.storage.statistics.counters import Counters
from model_service.storage.statistics.downloads import Downloads

__all__ = [
    "COLLECTIONS",
    "LATEST",
    "MIGRATIONS",
    "DataTooNew",
    "derive",
    "prepare",
    "prepare_database",
    "too_new",
    "upgrade",
]

MIGRATIONS: tuple[Migration, ...] = (
    m0001_first_builds.MIGRATION,
    m0002_exports_of_training_jobs.MIGRATION,
    m0003_version_numbers.MIGRATION,
    m0004_scan_verdicts.MIGRATION,
    m0005_dataset_summaries.MIGRATION,
)
LATEST = MIGRATIONS[-1].version
# The schema version of each collection whose documents ever changed; for others it is 0.
COLLECTIONS = collection_versions(MIGRATIONS)

log = structlog.get_logger(__name__)


def prepare(database: Database, report: Report | None = None, *, lease_s: float = LEASE_S) -> None:
    """Prepare the database for this version: migrate documents, create indexes and counters.

    Every process calls it before anything else. The first one migrates; the others wait for it.

    Args:
        report: receives a line of text every two seconds while a migration runs. None: the log.

    Raises:
        DataTooNew.
    """
    Runner(database, MIGRATIONS, report or _log, lease_s=lease_s).run()
    database.ensure_indexes()
    Counters(database, Downloads(database)).ensure()


def prepare_database(settings: Settings) -> None:
    """As ``prepare``, with its own connection.

    Raises:
        SettingsError: MongoDB is unreachable, or does not meet the requirements.
        DataTooNew.
    """
    database = Database(settings)
    try:
        database.check()
        prepare(database)
    finally:
        database.close()


def upgrade(
    database: Database, collection: str, documents: Sequence[AnyDocument], version: int
) -> list[AnyDocument]:
    """Return documents of an archive of this schema version in the present form."""
    upgraded = list(documents)
    for migration in MIGRATIONS:
        if migration.version > version and collection in migration.documents:
            upgraded = list(migration.documents[collection](database, upgraded))
    return upgraded


def derive(database: Database, version: int) -> None:
    """Fill derived collections after the restore of an archive of this schema version."""
    for migration in MIGRATIONS:
        if migration.version > version and migration.derive is not None:
            migration.derive(database)


def _log(line: str) -> None:
    log.info("migration.running", progress=line)
