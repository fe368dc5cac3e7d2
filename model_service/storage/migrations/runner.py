"""Runs missing migrations: once, under a lease, before the first request of any process."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import structlog

from model_service.storage.common.db import Database
from model_service.storage.common.documents import Migrating
from model_service.storage.common.leases import HeldLease, Leases
from model_service.storage.migrations.base import DataTooNew, LeaseLost, Migration
from model_service.storage.migrations.pages import collection_of, upgrade_collection
from model_service.storage.migrations.schema import Progress, Schema

log = structlog.get_logger(__name__)

Report = Callable[[str], None]
LEASE = "migration"
LEASE_S = 10.0
_REPORT_S = 2.0
_LOOK_S = 0.25


class Runner:
    """Runs ``migrations`` in order; ``report`` receives a line of text every two seconds."""

    def __init__(
        self, database: Database, migrations: Sequence[Migration], report: Report, *, lease_s: float = LEASE_S
    ) -> None:
        self._db = database
        self._migrations = migrations
        self._latest = migrations[-1].version
        self._schema = Schema(database, self._latest, collection_versions(migrations))
        self._leases = Leases(database)
        self._lease_s = lease_s
        self._report = report
        self._reported = 0.0

    def run(self) -> None:
        """Return when the data has the latest version, whichever process migrated it.

        Raises:
            DataTooNew.
        """
        while not self._is_newest():
            lease = self._leases.acquire(LEASE, self._lease_s)
            if lease is None:
                self._tell_waiting()
                time.sleep(_LOOK_S)
                continue
            try:
                with self._kept(lease) as check:
                    self._migrate(check)
            except LeaseLost:
                log.warning("migration.lease_lost")

    def _is_newest(self) -> bool:
        stored = self._schema.read()
        if stored is None and self._schema.is_new_database():
            self._schema.reached(self._latest)
            return True
        return stored is not None and stored["schema_version"] == self._latest

    def _migrate(self, check: Callable[[], None]) -> None:
        stored = self._schema.read()  # again: another process may have migrated before this one has the lease
        if stored is None:
            self._schema.reached(0)
        version = stored["schema_version"] if stored else 0
        interrupted: Migrating = (stored["migration"] if stored else None) or {}
        for migration in self._migrations:
            if migration.version > version:
                self._step(migration, interrupted, check)
                check()
                self._schema.reached(migration.version)
                log.info("migration.done", version=migration.version, step=migration.name)

    def _step(self, migration: Migration, interrupted: Migrating, check: Callable[[], None]) -> None:
        log.info("migration.started", version=migration.version, step=migration.name)
        names = list(migration.documents)
        resumed = interrupted.get("version") == migration.version
        start = interrupted.get("collection") if resumed else None
        for name in names[names.index(start) :] if start in names else names:
            done, after = (interrupted["done"], interrupted["after"]) if name == start else (0, None)
            self._upgrade(migration, name, done, after, check)
        for name, indexes in migration.obsolete_indexes.items():
            collection = collection_of(self._db, name)
            for index in collection.index_information().keys() & set(indexes):
                collection.drop_index(index)
        if migration.derive is not None:
            self._tell(Progress(migration.version, self._latest, migration.name, "", 0, 0))
            migration.derive(self._db)

    def _upgrade(
        self, migration: Migration, name: str, done: int, after: object, check: Callable[[], None]
    ) -> None:
        total = collection_of(self._db, name).estimated_document_count()
        progress = Progress(migration.version, self._latest, migration.name, name, done, total)

        def page_done(count: int, last: object) -> None:
            nonlocal progress
            progress = progress._replace(done=progress.done + count)
            check()
            self._schema.note(progress, last)
            self._tell(progress)

        self._schema.note(progress, after)
        upgrade_collection(self._db, name, migration.documents[name], after=after, done=page_done)

    def _tell(self, progress: Progress) -> None:
        if time.monotonic() - self._reported >= _REPORT_S:
            self._reported = time.monotonic()
            self._report(str(progress))

    def _tell_waiting(self) -> None:
        if time.monotonic() - self._reported < _REPORT_S:
            return
        self._reported = time.monotonic()
        stored = self._schema.read()
        running = stored["migration"] if stored else None
        doing = str(Progress.of(running)) if running else "not begun"
        self._report(f"waiting for another process to migrate the data: {doing}")

    @contextmanager
    def _kept(self, lease: HeldLease) -> Iterator[Callable[[], None]]:
        """Renew the lease during the block. Yields a function that raises LeaseLost if the lease is lost."""
        ended, lost = threading.Event(), threading.Event()

        def renew() -> None:
            while not ended.wait(lease.ttl_s / 4):
                if not self._renewed(lease):
                    lost.set()
                    return

        def check() -> None:
            if lost.is_set():
                raise LeaseLost

        thread = threading.Thread(target=renew, name="migration-lease", daemon=True)
        thread.start()
        try:
            yield check
        finally:
            ended.set()
            thread.join()
            self._leases.release(lease)

    def _renewed(self, lease: HeldLease) -> bool:
        try:
            return self._leases.renew(lease)
        except Exception:
            # MongoDB is unreachable for a moment: the migration's own writes fail if it stays so.
            log.warning("migration.lease_not_renewed", exc_info=True)
            return True


def stored_version(database: Database, migrations: Sequence[Migration]) -> int | None:
    """Return the schema version of the stored data without changing it; None: there is no data.

    Raises:
        DataTooNew.
    """
    schema = Schema(database, migrations[-1].version, collection_versions(migrations))
    stored = schema.read()
    if stored is not None:
        return stored["schema_version"]
    return None if schema.is_new_database() else 0


def collection_versions(migrations: Sequence[Migration]) -> dict[str, int]:
    """Return for each collection the version of the last step that changes its documents."""
    return {name: each.version for each in migrations for name in each.documents}


__all__ = ["LEASE_S", "DataTooNew", "Report", "Runner", "collection_versions", "stored_version"]
