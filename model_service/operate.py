"""Commands for operators outside the running service: backup, restore, verification and cleanup.

They use MONGODB_URL directly, with every permission, which a holder of that URL has anyway. They need neither
the registry's server nor Redis, so they also work when those do not.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from model_service.config import SettingsError, read_secret, read_settings
from model_service.log import configure_logging
from model_service.services.archive.archive import ArchiveService, DatabaseNotEmpty, Scope
from model_service.services.operations.cleanup import CleanupService
from model_service.services.operations.integrity import IntegrityService
from model_service.storage.common.db import Database
from model_service.storage.migrations import DataTooNew, prepare
from model_service.storage.operations import set_up
from model_service.storage.stores import build_stores
from model_service.up_file import with_running_servers

# These commands do not listen, so they need no ENABLE_AUTH where the server would, as in an image.
_NOT_LISTENING = {"host": "127.0.0.1"}

__all__ = ["DataTooNew", "DatabaseNotEmpty", "Operator", "Scope", "operator", "set_up_database"]


@dataclass(frozen=True)
class Operator:
    archive: ArchiveService
    integrity: IntegrityService
    cleanup: CleanupService


@contextmanager
def operator(report: Callable[[str], None]) -> Iterator[Operator]:
    """Yield the services over their own connection, with the settings of the environment.

    If MONGODB_URL is not set, the servers of a ``model-service up`` on the same data folder are used. Data of
    an earlier version is migrated first; ``report`` receives the progress, a line at a time.

    Raises:
        DataTooNew.
        SettingsError: a setting is wrong, or MongoDB cannot be reached.
    """
    settings = with_running_servers(read_settings(**_NOT_LISTENING))
    configure_logging(settings.model_copy(update={"log_level": "WARNING", "log_format": "text"}))
    database = Database(settings)
    try:
        database.check()
        prepare(database, report)
        stores = build_stores(database, settings)
        yield Operator(
            ArchiveService(stores, settings.home / "work"), IntegrityService(stores), CleanupService(stores)
        )
    finally:
        database.close()


def set_up_database(wait_s: float) -> list[str]:
    """Initiate the replica set and create the user of MONGODB_URL, as the user of MONGODB_ADMIN_URL.

    Raises:
        SettingsError: as ``set_up.set_up_database``, or a variable is missing.
    """
    settings, admin_url = read_settings(**_NOT_LISTENING), read_secret("MONGODB_ADMIN_URL")
    if settings.mongodb_url is None or admin_url is None:
        missing = "MONGODB_URL" if settings.mongodb_url is None else "MONGODB_ADMIN_URL"
        raise SettingsError(f"{missing} is not set: set it, or {missing}_FILE to a file with it")
    url = settings.mongodb_url.get_secret_value()
    return set_up.set_up_database(url, admin_url, settings.mongodb_db, wait_s=wait_s)
