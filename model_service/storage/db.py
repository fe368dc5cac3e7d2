"""The connection, the collections and their indexes.

models             one document per model version, unique on (name, version)
    └─ files[].file_id, file_metadata.file_id ──┐
export_jobs        one conversion and its truth │     unique on (model_id, version)
    ├─ model_id → models                        │
    └─ source.file_id, package.file_id ─────────┤
deployments        where a package is served    │
    └─ export_job_id → export_jobs              │
deployment_history what happened to it          │
api_keys           sha256 of each endpoint key → deployments
                                                ▼
BUCKET.files       one document per blob: GridFS's own fields, and metadata
                   {sha256 (unique), references, unreferenced_at}
BUCKET.chunks      its bytes, 2 MiB each; shard key files_id
uploads            blob writes under way, and what an interrupted one left for the sweep
audit              who changed what, in the transaction of the change
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from bson import ObjectId
from bson.codec_options import CodecOptions
from bson.errors import InvalidId
from pymongo import ASCENDING, DESCENDING, IndexModel, MongoClient, ReadPreference, WriteConcern
from pymongo.client_session import ClientSession
from pymongo.errors import (
    ConnectionFailure,
    ExecutionTimeout,
    NetworkTimeout,
    PyMongoError,
    WTimeoutError,
)
from pymongo.read_concern import ReadConcern

from model_service.config import Settings, SettingsError, redact_url

Document = dict[str, Any]
Session = ClientSession
T = TypeVar("T")

# What the driver raises when MongoDB is away: the one place that turns it into an answer is api/errors.py.
DATABASE_ERRORS = (PyMongoError,)
CONNECTION_ERRORS = (ConnectionFailure, NetworkTimeout, ExecutionTimeout, WTimeoutError)

_JOURNALED = WriteConcern(w="majority", wtimeout=30_000)

INDEXES: dict[str, list[IndexModel]] = {
    "models": [
        IndexModel([("name", ASCENDING), ("version", ASCENDING)], unique=True),
        IndexModel([("name", ASCENDING), ("version_order", DESCENDING)], unique=True),
        IndexModel([("created_at", DESCENDING), ("_id", DESCENDING)]),
        *(
            IndexModel([(field, ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)])
            for field in ("algorithm", "framework", "task_type", "status", "tags", "created_by")
        ),
    ],
    "export_jobs": [
        IndexModel([("model_id", ASCENDING), ("version", DESCENDING)], unique=True),
        IndexModel([("created_at", DESCENDING), ("_id", DESCENDING)]),
        IndexModel([("status", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)]),
    ],
    "deployments": [
        IndexModel([("created_at", DESCENDING), ("_id", DESCENDING)]),
        IndexModel([("status", ASCENDING), ("deployment_type", ASCENDING)]),
        IndexModel([("export_job_id", ASCENDING)]),
    ],
    "deployment_history": [IndexModel([("deployment_target_id", ASCENDING), ("created_at", DESCENDING)])],
    "api_keys": [IndexModel([("deployment_id", ASCENDING)])],
    "uploads": [IndexModel([("started_at", ASCENDING)])],
    "audit": [
        IndexModel([("at", DESCENDING), ("_id", DESCENDING)]),
        *(
            IndexModel([(field, ASCENDING), ("at", DESCENDING), ("_id", DESCENDING)])
            for field in ("subject_id", "actor", "name")
        ),
    ],
}


class Database:
    """One connection pool to MongoDB. Acknowledged means journaled by a majority."""

    def __init__(self, settings: Settings) -> None:
        if settings.mongodb_url is None:
            raise SettingsError(
                "MONGODB_URL is not set: name a server, or run 'model-service up', which starts one"
            )
        self._url = settings.mongodb_url.get_secret_value()
        try:
            self.client: MongoClient[Document] = MongoClient(
                self._url,
                appname="model-service",
                tz_aware=True,
                serverSelectionTimeoutMS=5_000,
                connectTimeoutMS=5_000,
                socketTimeoutMS=15_000,
            )
        except (PyMongoError, ValueError) as exc:
            raise SettingsError(f"MONGODB_URL is no address of a MongoDB: {exc}") from None
        self._database = self.client.get_database(
            settings.mongodb_db,
            codec_options=CodecOptions(tz_aware=True, tzinfo=UTC),
            read_preference=ReadPreference.PRIMARY,
            write_concern=_JOURNALED,
        )
        self.models = self._database["models"]
        self.export_jobs = self._database["export_jobs"]
        self.deployments = self._database["deployments"]
        self.deployment_history = self._database["deployment_history"]
        self.api_keys = self._database["api_keys"]
        self.uploads = self._database["uploads"]
        self.audit = self._database["audit"]
        self.files = self._database[f"{settings.gridfs_bucket}.files"]
        self.chunks = self._database[f"{settings.gridfs_bucket}.chunks"]

    def check(self) -> None:
        """Raises: SettingsError: the server cannot be reached, or has no transactions."""
        address = redact_url(self._url)
        try:
            hello = self.client.admin.command("hello")
        except PyMongoError as exc:
            raise SettingsError(f"MONGODB_URL: {address} cannot be used: {_reason(exc)}") from None
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise SettingsError(
                f"MONGODB_URL: {address} is a standalone server, which has no transactions. "
                "Start it with --replSet and run rs.initiate() once."
            )

    def ensure_indexes(self) -> None:
        """Make what is missing. Safe to call from several processes at once."""
        for name, indexes in INDEXES.items():
            self._database[name].create_indexes(indexes)
        self.files.create_indexes(
            [
                IndexModel([("metadata.sha256", ASCENDING)], unique=True),
                IndexModel([("metadata.unreferenced_at", ASCENDING)], sparse=True),
            ]
        )
        self.chunks.create_index([("files_id", ASCENDING), ("n", ASCENDING)], unique=True)

    def ping(self) -> None:
        """Raises: one of CONNECTION_ERRORS."""
        self.client.admin.command("ping")

    def transaction(self, work: Callable[[Session], T]) -> T:
        """Run ``work`` until it commits; it may run again, so it does nothing but database writes."""
        with self.client.start_session() as session:
            # A transaction asks nothing of its collections: without this its commit has the server's default.
            return session.with_transaction(
                work,
                read_concern=ReadConcern("snapshot"),
                write_concern=_JOURNALED,
                read_preference=ReadPreference.PRIMARY,
            )

    def close(self) -> None:
        self.client.close()


def _reason(exc: PyMongoError) -> str:
    """The driver's words without the topology it appends, which repeats the address many times."""
    return str(exc).partition(", Timeout:")[0][:300]


def check_database(settings: Settings) -> None:
    """Raises: SettingsError: MongoDB cannot be reached, or is not what the service needs."""
    database = Database(settings)
    try:
        database.check()
    finally:
        database.close()


def object_id(value: str) -> ObjectId | None:
    """The id, or None when ``value`` is no 24-digit hexadecimal id."""
    try:
        return ObjectId(value)
    except InvalidId:
        return None


def now() -> datetime:
    """UTC, to the millisecond, as MongoDB keeps it: what is answered now is what is read later."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
