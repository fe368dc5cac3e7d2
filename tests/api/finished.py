"""Jobs that ended as a worker ends them, without a conversion."""

from typing import Any

from model_service.storage.blobs.blobs import Blob
from model_service.storage.common.db import Database, Session
from model_service.storage.common.documents import blobs_of
from model_service.storage.stores import build_stores

TOOLS = "these tools"


def claim(database: Database, job_id: str) -> str:
    """The token of the worker that has the job now."""
    job = build_stores(database).exports.claim(job_id, worker="w", lease_s=60, max_attempts=3)
    assert job is not None
    return str(job["lease"]["token"])


def complete(database: Database, job_id: str, package: bytes = b"a package", toolchain: str = TOOLS) -> None:
    stores = build_stores(database)
    exports, blobs = stores.exports, stores.blobs
    token = claim(database, job_id)
    job = exports.get(job_id)
    assert job is not None
    results: dict[str, Any] = {"fidelity": {"verdict": "verified"}, "toolchain": toolchain}

    def refer(stored: Blob, session: Session) -> None:
        assert exports.complete(job_id, token, results | {"package": stored.reference()}, session)
        blobs.release_all(blobs_of(job), session)

    blobs.publish(blobs.write(iter([package]), limit_bytes=1 << 30), refer)


def fail(database: Database, job_id: str) -> None:
    stores = build_stores(database)
    exports, blobs = stores.exports, stores.blobs
    token = claim(database, job_id)
    job = exports.get(job_id)
    assert job is not None

    def work(session: Session) -> None:
        assert exports.fail(job_id, token, code="conversion_failed", message="why", session=session)
        blobs.release_all(blobs_of(job), session)

    database.transaction(work)


def wrong_references(database: Database) -> list[Any]:
    """Blobs that are counted otherwise than they are held."""
    from model_service.storage.operations.integrity import Integrity

    return list(Integrity(database).wrong_holdings())
