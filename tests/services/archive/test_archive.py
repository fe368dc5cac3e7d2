"""Archives there and back, over two databases of one MongoDB."""

import hashlib
import io
import json
import os
import tarfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from model_service.actor import Actor, acting_as
from model_service.api.schemas.training_jobs import NewTrainingJob
from model_service.config import Settings
from model_service.errors import Conflict, DamagedBlob, InvalidArchive, NotPermitted
from model_service.services import build_services
from model_service.services.archive.archive import ArchiveService, DatabaseNotEmpty, Scope
from model_service.services.archive.format import Writer
from model_service.services.archive.reader import Conflicts, Imported
from model_service.storage.blobs.blobs import Blob, Blobs
from model_service.storage.blobs.references import held_blobs
from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.leases import Leases
from model_service.storage.operations.archive import UnknownHolder
from model_service.storage.stores import build_stores
from tests.services.documents import model_document

BIG = os.urandom(5_000_000)
MADE_ANEW = ("file_id", "terms", "metric_order")
Change = Callable[[str, bytes], tuple[str, bytes] | None]


@dataclass
class Instance:
    """A registry's database and what makes archives of it."""

    database: Database
    blobs: Blobs
    archive: ArchiveService

    @classmethod
    def over(cls, database: Database, work: Path) -> "Instance":
        stores = build_stores(database)
        return cls(database, stores.blobs, ArchiveService(stores, work))

    def register(self, name: str, content: bytes | None = None) -> ObjectId:
        model = model_document(name=name)

        def insert(session: Session) -> None:
            self.database.models.insert_one(model, session=session)
            build_stores(self.database).counters.change(None, model, session)

        def refer(stored: Blob, session: Session) -> None:
            entry = stored.reference()
            model["files"] = [{"path": "m.bin", **entry}]
            model["file_metadata"] = {**entry, "format": "binary", "filename": "m.bin"}
            model["size_bytes"] = entry["size_bytes"]
            insert(session)

        if content is None:
            self.database.transaction(insert)
        else:
            self.blobs.publish(self.blobs.write([content], limit_bytes=1 << 40), refer)
        return model["_id"]

    def export(self, scope: Scope = Scope.REGISTRY) -> bytes:
        return b"".join(self.archive.export(scope))

    def take(self, content: bytes, conflicts: Conflicts = Conflicts.SKIP) -> Imported:
        return self.archive.import_registry(io.BytesIO(content), conflicts)

    def models(self) -> dict[ObjectId, dict[str, Any]]:
        return {model["_id"]: model for model in self.database.models.find()}

    def counts_are_right(self) -> bool:
        """Every blob's count is what a recount gives, and the statistics are too."""
        held = {found["_id"]: found["count"] for found in held_blobs(self.database, None)}
        stored = {file["_id"]: file["metadata"]["references"] for file in self.database.files.find()}
        right = all(count == held.get(blob, 0) for blob, count in stored.items())
        return right and build_stores(self.database).counters.rebuild() == 0


@pytest.fixture
def here(database: Database, tmp_path: Path) -> Instance:
    return Instance.over(database, tmp_path)


@pytest.fixture
def there(settings: Settings, tmp_path: Path) -> Iterator[Instance]:
    """Another instance, emptied after the test: its indexes stay."""
    database = Database(settings.model_copy(update={"mongodb_db": f"{settings.mongodb_db}-there"}))
    database.ensure_indexes()
    yield Instance.over(database, tmp_path)
    for name in database.collection_names():
        database.collection(name).delete_many({})
    database.close()


def rebuilt(content: bytes, change: Change) -> bytes:
    """The archive with other members, and an end that agrees with them."""
    writer = Writer(mtime=0)
    pieces: list[bytes] = []
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for info in tar:
            if info.name == "end.json":
                continue
            file = tar.extractfile(info)
            assert file is not None
            if (changed := change(info.name, file.read())) is not None:
                pieces += writer.member(changed[0], len(changed[1]), [changed[1]])
    return b"".join([*pieces, *writer.end({})])


def comparable(model: dict[str, Any]) -> Any:
    """Blobs keep their digests and get new ids; what the search stores is made anew."""

    def hook(found: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in found.items() if key not in MADE_ANEW}

    return json.loads(json.dumps(model, default=str), object_hook=hook)


def test_what_went_out_comes_in(here: Instance, there: Instance) -> None:
    ids = [here.register(f"m{n}", BIG if n % 2 else b"small") for n in range(6)]
    here.register("without-file")
    imported = there.take(here.export())
    assert imported.inserted["models"] == 7
    assert (imported.blobs_stored, imported.blobs_existing) == (2, 0)
    sent, received = here.models(), there.models()
    assert {key: comparable(model) for key, model in sent.items()} == {
        key: comparable(model) for key, model in received.items()
    }
    file = received[ids[1]]["files"][0]
    assert received[ids[1]]["file_metadata"]["file_id"] == file["file_id"]
    assert b"".join(there.blobs.read(file["file_id"], 0, len(BIG))) == BIG
    assert there.counts_are_right()


def test_twice_is_once(here: Instance, there: Instance) -> None:
    here.register("m", BIG)
    content = here.export()
    there.take(content)
    again = there.take(content)
    assert (again.inserted["models"], again.existing["models"], again.blobs_existing) == (0, 1, 1)
    assert there.database.files.count_documents({}) == 1
    assert there.counts_are_right()


def test_many_documents_are_many_members(here: Instance, there: Instance) -> None:
    documents = [model_document(name=f"m{n}", description="x" * 9_000) for n in range(1_000)]
    here.database.models.insert_many(documents)
    content = here.export()
    assert content.count(b"documents/models/") >= 3
    assert there.take(content).inserted["models"] == 1_000
    assert there.models().keys() == here.models().keys()


def test_the_same_bytes_here_are_used(here: Instance, there: Instance) -> None:
    here.register("m", BIG)
    there.register("own", BIG)
    assert there.take(here.export()).blobs_stored == 0
    assert there.database.files.find_one({})["metadata"]["references"] == 2  # type: ignore[index]
    assert there.counts_are_right()


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99, 1.0])
def test_a_cut_archive_leaves_nothing_visible(here: Instance, there: Instance, part: float) -> None:
    here.register("m", BIG)
    content = here.export()
    with pytest.raises(InvalidArchive):
        there.take(content[: int(content.index(b"end.json") * part)])
    assert there.database.models.count_documents({}) == 0
    assert there.database.files.find_one({"metadata.references": {"$ne": 0}}) is None


def test_what_a_broken_import_left_is_swept(here: Instance, there: Instance) -> None:
    here.register("m", BIG)
    content = here.export()
    with pytest.raises(InvalidArchive, match="truncated"):
        there.take(content[: content.index(b"end.json")])
    assert there.database.files.count_documents({}) == 1
    there.blobs.sweep(-1)
    assert there.database.files.count_documents({}) == there.database.chunks.count_documents({}) == 0


def test_changed_bytes_are_refused(here: Instance, there: Instance) -> None:
    here.register("m", b"these bytes")
    with pytest.raises(InvalidArchive, match="sha256"):
        there.take(here.export().replace(b"these bytes", b"those bytes"))
    assert there.database.models.count_documents({}) == there.database.chunks.count_documents({}) == 0


@pytest.mark.parametrize("lost", ["documents", "blobs"])
def test_a_missing_member_is_noticed(here: Instance, there: Instance, lost: str) -> None:
    here.register("m", b"bytes")
    content = here.export()
    without = rebuilt(content, lambda name, data: None if lost in name else (name, data))
    old_end = without[: without.index(b"end.json")] + content[content.index(b"end.json") :]
    with pytest.raises(InvalidArchive, match=r"end\.json lists"):
        there.take(old_end)
    if lost == "blobs":  # an end that agrees does not help
        with pytest.raises(InvalidArchive, match="not in the archive"):
            there.take(without)
    assert there.database.models.count_documents({}) == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda name, data: ("../../etc/passwd", data) if name.startswith("blobs/") else (name, data),
        lambda name, data: ("documents/users/000001.jsonl", data) if "models" in name else (name, data),
        lambda name, data: (name, data.replace(b'"download_count"', b'"downloads"')),
        lambda name, data: (name, data.replace(b'"active"', b'"nonsense"')),
        lambda name, data: (name, b"{]\n") if "models" in name else (name, data),
        lambda name, data: (name, data.replace(b'"format_version": 1', b'"format_version": 9')),
        lambda name, data: None if "manifest" in name else (name, data),
    ],
    ids=["path", "users", "field", "status", "json", "version", "manifest"],
)
def test_a_crafted_archive_is_refused(here: Instance, there: Instance, change: Change) -> None:
    here.register("m", b"bytes")
    with pytest.raises(InvalidArchive):
        there.take(rebuilt(here.export(), change))
    assert there.database.models.count_documents({}) == 0


def edited(content: bytes, collection: str, edit: Callable[[dict[str, Any]], object]) -> bytes:
    """The archive with other documents."""

    def change(name: str, data: bytes) -> tuple[str, bytes]:
        if not name.startswith(f"documents/{collection}/"):
            return name, data
        documents = [json.loads(line) for line in data.splitlines()]
        for document in documents:
            edit(document)
        return name, b"".join(json.dumps(document).encode() + b"\n" for document in documents)

    return rebuilt(content, change)


def nested(depth: int) -> dict[str, Any]:
    return {"in": nested(depth - 1)} if depth else {}


@pytest.mark.parametrize(
    "edit",
    [
        lambda model: model.update(name="a/b/c"),
        lambda model: model.update(name="../a"),
        lambda model: model.update(version="v2.0"),
        lambda model: model.update(_id="507f1f77bcf86cd799439011"),
        lambda model: model.update(_id={"$oid": "short"}),
        lambda model: model.update(aliases=["latest"]),
        lambda model: model.update(tags="production"),
        lambda model: model.pop("revision"),
        lambda model: model.update(created_at="yesterday"),
        lambda model: model.update(created_at={"$date": {"$numberLong": "9" * 20}}),
        lambda model: model["files"][0].update(path="../../.bashrc"),
        lambda model: model["files"][0].update(path="/etc/passwd"),
        lambda model: model["files"][0].update(content_type="text/html\r\nX-Injected: yes"),
        lambda model: model["files"][0].update(size_bytes={"$numberInt": "-5"}),
        lambda model: model["files"][0].update(size_bytes={"$numberInt": "6"}),
        lambda model: model["files"][0].pop("checksum"),
        lambda model: model["files"].append(model["files"][0]),
        lambda model: model["file_metadata"].update(checksum="sha256:" + 64 * "0"),
        lambda model: model["metrics"].update(loss={"$code": "while (true) {}"}),
        lambda model: model["metrics"].update(loss={"$code": "f()", "$scope": {}}),
        lambda model: model["metrics"].update(loss={"$regularExpression": {"pattern": "a", "options": ""}}),
        lambda model: model["metrics"].update(loss={"$ref": "users", "$id": "ada"}),
        lambda model: model["metrics"].update(loss={"$numberDecimal": "x"}),
        lambda model: model["metrics"].update(loss={"$minKey": 1}),
        lambda model: model["metrics"].update(loss=2**64),
        lambda model: model["metrics"].update({"$where": "1"}),
        lambda model: model["metrics"].update({"a\0b": 1}),
        lambda model: model.update(hyperparameters=nested(80)),
        lambda model: model.update(hyperparameters=nested(900)),
        lambda model: model.update(description="x" * (17 << 20)),
        lambda model: model.update(description="\ud800"),
    ],
)  # fmt: skip
def test_a_document_that_the_service_would_not_have_stored_is_refused(
    here: Instance, there: Instance, edit: Callable[[dict[str, Any]], object]
) -> None:
    here.register("m", b"bytes")
    content = here.export()
    with pytest.raises(InvalidArchive):
        there.take(edited(content, "models", edit))
    assert there.database.models.count_documents({}) == 0
    assert there.take(edited(content, "models", lambda model: None)).inserted == {"models": 1}


def test_what_follows_from_other_fields_is_not_taken_from_an_archive(here: Instance, there: Instance) -> None:
    here.register("secret/m", b"bytes")

    def lie(model: dict[str, Any]) -> None:
        model |= {"namespace": "public", "size_bytes": {"$numberInt": "7"}, "terms": ["public"]}

    there.take(edited(here.export(), "models", lie))
    (model,) = there.models().values()
    assert (model["namespace"], model["size_bytes"]) == ("secret", 5)
    assert "public" not in model["terms"]


def test_what_a_client_calls_a_blob_is_none(here: Instance, there: Instance) -> None:
    """Nobody who may write keeps an administrator from making or reading an archive."""
    claim = {"file_id": "6a0000000000000000000000", "checksum": "sha256:" + 64 * "0"}
    here.register("m", b"bytes")
    here.database.models.update_one({}, {"$set": {"hyperparameters": claim}})
    here.database.training_jobs.insert_one({**training_job(), "config": claim})
    assert here.export(Scope.EVERYTHING)
    assert there.take(here.export()).inserted == {"models": 1, "training_jobs": 1}


def training_job(**fields: Any) -> dict[str, Any]:
    sent = NewTrainingJob(name="vision/run").model_dump()
    at = now()
    return sent | {"_id": str(uuid.uuid4()), "created_at": at, "updated_at": at, "revision": 1} | fields


@pytest.mark.parametrize(
    "wrong", [{"_id": "../../x"}, {"status": "nonsense"}, {"datasets": [{"role": "training"}]}, {"name": 1}]
)
def test_training_jobs_are_looked_at_too(here: Instance, there: Instance, wrong: dict[str, Any]) -> None:
    here.database.training_jobs.insert_one(training_job(**wrong))
    with pytest.raises(InvalidArchive, match="training_jobs"):
        there.take(here.export())
    assert there.database.training_jobs.count_documents({}) == 0


class Endless(io.RawIOBase):
    """A header, and then zeros for as long as anybody reads. Counts what was read."""

    def __init__(self, header: tarfile.TarInfo) -> None:
        self._header = io.BytesIO(header.tobuf(tarfile.PAX_FORMAT))
        self.given = 0

    def read(self, size: int = -1, /) -> bytes:
        assert self.given < 64 << 20, "it is read on and on"
        piece = self._header.read(size) or bytes(size)
        self.given += len(piece)
        return piece


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE])
def test_a_header_that_announces_gigabytes_is_refused_at_once(there: Instance, kind: bytes) -> None:
    header = tarfile.TarInfo("manifest.json")
    header.type, header.size = kind, 8 << 30
    with pytest.raises(InvalidArchive):
        there.archive.import_registry(Endless(header), Conflicts.SKIP)


def test_a_taken_version_is_skipped_or_fails(here: Instance, there: Instance) -> None:
    for name in ("a", "b"):
        here.register(name, name.encode())
    there.register("b")
    content = here.export()
    with pytest.raises(Conflict):
        there.take(content, Conflicts.FAIL)
    assert there.database.models.count_documents({}) == 1
    imported = there.take(content)
    assert (imported.inserted["models"], imported.conflicts) == (1, ["models b v1.0"])
    assert there.counts_are_right()


def test_what_lies_in_the_trash_is_restored_from_there_and_not_imported_beside_it(
    settings: Settings, here: Instance
) -> None:
    models = build_services(settings, build_stores(here.database, settings))
    model_id = str(here.register("m", b"bytes"))
    content = here.export()
    models.models.delete(model_id)
    with pytest.raises(Conflict):
        here.take(content, Conflicts.FAIL)
    imported = here.take(content)
    assert (imported.inserted["models"], imported.conflicts) == (0, ["models m v1.0"])
    models.trash.restore(model_id)
    assert here.take(content, Conflicts.FAIL).existing == {"models": 1}
    models.models.delete(model_id)
    assert here.counts_are_right()


def test_an_archive_is_of_one_moment(here: Instance, there: Instance) -> None:
    before = here.register("before", BIG)
    pieces = here.archive.export(Scope.REGISTRY)
    here.register("after", b"other")
    gone = here.database.models.find_one_and_delete({"_id": before})
    assert gone is not None
    here.database.transaction(lambda session: here.blobs.release(gone["files"][0]["file_id"], session))
    assert there.take(b"".join(pieces)).inserted == {"models": 1}
    assert [model["name"] for model in there.database.models.find()] == ["before"]


def test_pieces_are_small(here: Instance) -> None:
    here.register("m", os.urandom(40_000_000))
    assert max(map(len, here.archive.export(Scope.REGISTRY))) <= 4 << 20


def test_a_damaged_blob_leaves_the_archive_without_an_end(here: Instance, there: Instance) -> None:
    here.register("m", BIG)
    here.database.chunks.delete_one({"n": 1})
    received = io.BytesIO()
    with pytest.raises(DamagedBlob):
        received.writelines(here.archive.export(Scope.REGISTRY))
    with pytest.raises(InvalidArchive):
        there.take(received.getvalue())
    here.database.files.delete_many({})
    with pytest.raises(DamagedBlob, match="models"):
        here.archive.export(Scope.REGISTRY)


def test_a_backup_is_everything(here: Instance, there: Instance) -> None:
    here.register("m", BIG)
    user = {"_id": "ada", "password": {"hash": b"\x00\xff"}}
    here.database.collection("users").insert_one(user)
    job = {"_id": "j1", "model_id": 1, "version": 1, "status": "completed"}
    here.blobs.publish(
        here.blobs.write([b"package"], limit_bytes=1 << 40),
        lambda stored, session: here.database.export_jobs.insert_one(
            {**job, "package": stored.reference()}, session=session
        ),
    )
    content = here.export(Scope.EVERYTHING)
    with pytest.raises(InvalidArchive, match="restore"):
        there.take(content)
    restored = there.archive.restore(io.BytesIO(content))
    assert restored.inserted["users"] == restored.inserted["export_jobs"] == 1
    assert there.database.collection("users").find_one() == user
    assert there.counts_are_right()
    with pytest.raises(DatabaseNotEmpty):
        there.archive.restore(io.BytesIO(content))
    assert there.archive.restore(io.BytesIO(content), force=True).inserted.total() == 0


def test_a_backup_holds_the_packages_of_every_revision_of_a_deployment(
    here: Instance, there: Instance
) -> None:
    def publish(content: bytes) -> dict[str, Any]:
        written = here.blobs.write([content], limit_bytes=1 << 40)
        return here.blobs.publish(written, lambda stored, session: None).reference()

    def routing(package: dict[str, Any], shadow: dict[str, Any] | None) -> dict[str, Any]:
        return {"members": [{"package": package}], "shadow": shadow and {"package": shadow}}

    former, present, shadow = publish(b"former"), publish(b"present"), publish(b"shadow")
    routings = [routing(former, None), routing(present, shadow)]
    here.database.deployments.insert_one(
        {"_id": "d1", "routing": routings[1], "revisions": [{"routing": each} for each in routings]}
    )
    assert here.counts_are_right()
    there.archive.restore(io.BytesIO(here.export(Scope.EVERYTHING)))
    assert there.database.files.count_documents({"metadata.references": 1}) == 3
    assert there.counts_are_right()


def test_a_collection_that_would_lose_its_blobs_is_not_archived(here: Instance) -> None:
    reference = {"file_id": ObjectId(), "checksum": "sha256:00"}
    here.database.collection("novelties").insert_one({"file": reference})
    with pytest.raises(UnknownHolder):
        here.archive.export(Scope.EVERYTHING)


def test_the_sweep_waits_for_an_archive(here: Instance) -> None:
    leases = Leases(here.database)
    pieces = here.archive.export(Scope.REGISTRY)
    assert leases.archiving()
    for _ in pieces:
        pass
    assert not leases.archiving()


def test_only_an_administrator_may(here: Instance) -> None:
    with acting_as(Actor("ada")):
        for attempt in (here.export, lambda: here.take(b"")):
            with pytest.raises(NotPermitted):
                attempt()


def test_it_is_a_plain_tar(here: Instance) -> None:
    here.register("m", BIG)
    with tarfile.open(fileobj=io.BytesIO(here.export())) as tar:
        names = tar.getnames()
        manifest = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
    digest = hashlib.sha256(BIG).hexdigest()
    models = [name for name in names if name.startswith("documents/")]
    assert models == ["documents/models/000001.jsonl"]
    assert (names[0], names[-2], names[-1]) == ("manifest.json", f"blobs/{digest}", "end.json")
    assert manifest["blobs"] == {"count": 1, "size_bytes": len(BIG)}
