"""Migrations: ordered steps that bring stored data to the form that this version reads.

The database states its version in ``schema``, an archive in its manifest; data without a statement is of a
version before there were migrations and has version 0. To change the form of stored documents, add a module
``mNNNN_name.py`` with a ``MIGRATION`` and list it here. See ``base.Migration`` for what a step must be.
"""

from collections.abc import Sequence

import structlog

from model_service.config import Settings
from model_service.storage.common.db import Database, Document
from model_service.storage.migrations import (
    m0001_first_builds,
    m0002_exports_of_training_jobs,
    m0003_version_numbers,
    m0004_scan_verdicts,
)
from model_service.storage.migrations.base import DataTooNew, Migration
from model_service.storage.migrations.runner import LEASE_S, Report, Runner, collection_versions
from model_service.storage.migrations.schema import too_new
from model_service.storage.statistics.counters import Counters

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
)
LATEST = MIGRATIONS[-1].version
# The schema version of each collection whose documents ever changed their form; of any other it is 0.
COLLECTIONS = collection_versions(MIGRATIONS)

log = structlog.get_logger(__name__)


def prepare(database: Database, report: Report | None = None, *, lease_s: float = LEASE_S) -> None:
    """Make the database usable for this version: first its documents, then its indexes and counters.

    Every process calls it before anything else. The first one migrates; the others wait for it.

    Args:
        report: gets a line for a person every two seconds while a migration runs. None: the log.

    Raises:
        DataTooNew.
    """
    Runner(database, MIGRATIONS, report or _log, lease_s=lease_s).run()
    database.ensure_indexes()
    Counters(database).ensure()


def prepare_database(settings: Settings) -> None:
    """As ``prepare``, over a connection of its own.

    Raises:
        SettingsError: MongoDB cannot be reached, or is not what the service needs.
        DataTooNew.
    """
    database = Database(settings)
    try:
        database.check()
        prepare(database)
    finally:
        database.close()


def upgrade(
    database: Database, collection: str, documents: Sequence[Document], version: int
) -> list[Document]:
    """Documents of an archive of this schema version, in the form of today."""
    upgraded = list(documents)
    for migration in MIGRATIONS:
        if migration.version > version and collection in migration.documents:
            upgraded = list(migration.documents[collection](database, upgraded))
    return upgraded


def derive(database: Database, version: int) -> None:
    """Fill the collections that follow from others, after a restore of an archive of this schema version."""
    for migration in MIGRATIONS:
        if migration.version > version and migration.derive is not None:
            migration.derive(database)


def _log(line: str) -> None:
    log.info("migration.running", progress=line)
