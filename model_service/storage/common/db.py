"""The connection to MongoDB, and its transactions. ``storage.common.collections`` has the collections."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from typing import TypeVar

import pymongo
from bson import ObjectId
from bson.codec_options import CodecOptions
from bson.errors import InvalidId
from prometheus_client import Counter
from pymongo import MongoClient, ReadPreference, WriteConcern
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database as PymongoDatabase
from pymongo.errors import (
    CollectionInvalid,
    ConnectionFailure,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)
from pymongo.read_concern import ReadConcern

from model_service.config import Settings, SettingsError, redact_url
from model_service.metrics import MONGODB_OPERATIONS
from model_service.storage.common import requirements
from model_service.storage.common.collections import BUCKET, DOCUMENT_TYPES, Collections
from model_service.storage.common.documents import AnyDocument
from model_service.storage.common.indexes import BLOB_INDEXES, CHUNK_INDEXES, INDEXES, UNCOMPRESSED

Session = ClientSession
MongoDatabase = PymongoDatabase[AnyDocument]
T = TypeVar("T")

# The driver's errors when MongoDB is unreachable: api/http/errors.py converts them to a response.
DATABASE_ERRORS = (PyMongoError,)
CONNECTION_ERRORS = (ConnectionFailure, NetworkTimeout, ExecutionTimeout, WTimeoutError)

_JOURNALED = WriteConcern(w="majority", wtimeout=30_000)


def deadline(seconds: float) -> AbstractContextManager[None]:
    """Limit the total time of a block's operations; exceeding it raises one of DATABASE_ERRORS.

    It overrides the connection's own timeouts in both directions: a probe fails sooner, an aggregation later.
    """
    return pymongo.timeout(seconds)


class _OperationCount(CommandListener):
    """Counts commands by name. The driver defines the names, so they are few."""

    def __init__(self) -> None:
        self._counters: dict[str, Counter] = {}

    def started(self, event: CommandStartedEvent) -> None:
        name = event.command_name
        counter = self._counters.get(name)
        if counter is None:
            counter = self._counters[name] = MONGODB_OPERATIONS.labels(operation=name)
        counter.inc()

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


class Database(Collections):
    """One connection pool to MongoDB. Acknowledged writes are journaled by a majority."""

    def __init__(self, settings: Settings, given: MongoDatabase | None = None) -> None:
        """Connect to MONGODB_URL, or use the client and the name of ``given``, which stays open.

        Raises:
            SettingsError: MONGODB_URL is missing or malformed.
        """
        self._is_given = given is not None
        self.client: requirements.Client
        self.client, self._address = _client(settings) if given is None else (given.client, _address(given))
        self._database = self.client.get_database(
            settings.mongodb_db if given is None else given.name,
            codec_options=CodecOptions(tz_aware=True, tzinfo=UTC),
            read_preference=ReadPreference.PRIMARY,
            write_concern=_JOURNALED,
        )
        for name in DOCUMENT_TYPES:
            stored_as = f"{settings.gridfs_bucket}.{name}" if name in BUCKET else name
            setattr(self, name, self._database[stored_as])

    @property
    def name(self) -> str:
        return self._database.name

    def collection(self, name: str) -> Collection[AnyDocument]:
        """Return a collection by name, for code that handles all collections alike, such as archives."""
        found: Collection[AnyDocument] = self._database[name]
        return found

    def collection_names(self) -> list[str]:
        return sorted(self._database.list_collection_names(filter={"type": "collection"}))

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """Open a session whose reads see all collections at one moment, for about five minutes.

        Raises: one of DATABASE_ERRORS at a read after that time.
        """
        with self.client.start_session(snapshot=True) as session:
            yield session

    def check(self) -> None:
        """Check the server. Raises: SettingsError: it is not usable. Unreachable: it does not respond now."""
        self.check_server()
        self.check_user()

    def check_server(self) -> None:
        """Check the version and the replica set. Raises: as ``check``."""
        requirements.check_server(self.client, self._address)

    def check_user(self) -> None:
        """Check the rights of our user in our database. Raises: as ``check``."""
        requirements.check_user(self.client, self._address, self.name)

    def ensure_indexes(self) -> None:
        """Create missing indexes. Safe to call from several processes at once."""
        for name, indexes in INDEXES.items():
            self._database[name].create_indexes(indexes)
        self.files.create_indexes(BLOB_INDEXES)
        # Weights do not compress. On an error the collection exists already, or is created below without it.
        with suppress(OperationFailure, CollectionInvalid):
            self._database.create_collection(self.chunks.name, storageEngine=UNCOMPRESSED)
        self.chunks.create_indexes(CHUNK_INDEXES)

    def ping(self) -> None:
        """Contact the server. Raises: one of CONNECTION_ERRORS."""
        self.client.admin.command("ping")

    def free_disk_bytes(self) -> int | None:
        """Return the free bytes for MongoDB's data, on its disk and inside its files; None: unknown.

        Deleted documents free space inside the files, which the journal cannot use. That space counts only up
        to the amount that is free on the disk.
        """
        try:
            stats = self._database.command("dbStats", freeStorage=1)
        except OperationFailure:  # the server does not know the option
            stats = self._database.command("dbStats")
        total, used = stats.get("fsTotalSize"), stats.get("fsUsedSize")
        if not total or used is None:  # 0: MongoDB does not look at the disk of an empty database
            return None
        free = int(total - used)
        return free + min(free, int(stats.get("totalFreeStorageSize", 0)))

    def transaction(self, work: Callable[[Session], T]) -> T:
        """Run ``work`` until it commits. It may run several times, so it must only write to the database."""
        with self.client.start_session() as session:
            # A transaction ignores its collections' settings: without these, the server's defaults apply.
            return session.with_transaction(
                work,
                read_concern=ReadConcern("snapshot"),
                write_concern=_JOURNALED,
                read_preference=ReadPreference.PRIMARY,
            )

    def close(self) -> None:
        """Close the connection, unless it was given."""
        if not self._is_given:
            self.client.close()


def _client(settings: Settings) -> tuple[requirements.Client, str]:
    """Return a client of MONGODB_URL, and its address without a password. Raises: SettingsError."""
    if settings.mongodb_url is None:
        raise SettingsError(
            "MONGODB_URL is not set: set it to a running server, or run 'model-service up', which starts one"
        )
    url = settings.mongodb_url.get_secret_value()
    try:
        client: requirements.Client = MongoClient(
            url,
            appname="model-service",
            event_listeners=[_OperationCount()],
            tz_aware=True,
            serverSelectionTimeoutMS=5_000,
            connectTimeoutMS=5_000,
            socketTimeoutMS=15_000,
        )
    except (PyMongoError, ValueError) as exc:
        raise SettingsError(f"MONGODB_URL is not the address of a MongoDB: {exc}") from None
    except OSError as exc:  # tlsCAFile or another file in the URL
        raise SettingsError(
            f"MONGODB_URL names {exc.filename}, which cannot be read: {exc.strerror}"
        ) from None
    return client, redact_url(url)


def _address(database: MongoDatabase) -> str:
    return ",".join(f"{host}:{port}" for host, port in sorted(database.client.nodes)) or "the given client"


def check_database(settings: Settings) -> None:
    """Check MongoDB. Raises: SettingsError: it is not usable. Unreachable: it does not respond now."""
    database = Database(settings)
    try:
        database.check()
    finally:
        database.close()


def object_id(value: str) -> ObjectId | None:
    """Return the id, or None if ``value`` is not a 24-digit hexadecimal id."""
    try:
        return ObjectId(value)
    except InvalidId:
        return None


def now() -> datetime:
    """Return the time in UTC, in milliseconds as MongoDB stores it, so that responses equal later reads."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
