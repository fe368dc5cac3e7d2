"""The registry's stores and services over a database, built once for each."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model_service.config import Settings, SettingsError, read_settings
from model_service.services import Registry, build_registry
from model_service.storage.common.db import Database
from model_service.storage.migrations import prepare
from model_service.storage.stores import Stores, build_stores
from model_service.up_file import with_running_servers

if TYPE_CHECKING:
    from model_service.model_deployment_service.interfaces import Session


@dataclass(frozen=True)
class OpenRegistry:
    settings: Settings
    stores: Stores
    services: Registry


def settings_here() -> Settings:
    """Return the settings of the environment, with the servers of a running ``model-service up``.

    Raises:
        SettingsError: a setting is wrong.
    """
    settings = read_settings(host="127.0.0.1")  # nothing listens here, so ENABLE_AUTH does not matter
    try:
        return with_running_servers(settings)
    except SettingsError:  # a database may be given
        return settings


def export_dir_of(given: str | Path | None) -> Path:
    """Return the folder of exports: by default ``exported-models`` in MODEL_SERVICE_HOME."""
    return Path(given) if given is not None else settings_here().home / "exported-models"


class Registries:
    """Opens registries, each once.

    Args:
        db: the database of calls that name none; None: that of MONGODB_URL.
    """

    def __init__(self, db: Session | None) -> None:
        self._db = db
        self._lock = threading.Lock()
        self._open: dict[tuple[int, str] | None, OpenRegistry] = {}

    def of(self, db: Session | None) -> OpenRegistry:
        """Return the registry over the database, whose documents are migrated before the first use.

        Raises:
            SettingsError: no database is given or set, or MongoDB cannot be used.
            DataTooNew: a newer version of this software has written to it.
        """
        wanted = self._db if db is None else db
        with self._lock:
            # An open registry keeps its client, so no other one has the same ``id`` meanwhile.
            key = None if wanted is None else (id(wanted.client), wanted.name)
            if key not in self._open:
                self._open[key] = _open(wanted)
            return self._open[key]


def _open(db: Session | None) -> OpenRegistry:
    settings = settings_here()
    database = Database(settings, db)
    try:
        database.check()
        prepare(database)
    except BaseException:
        database.close()
        raise
    stores = build_stores(database, settings)
    return OpenRegistry(settings, stores, build_registry(settings, stores))
