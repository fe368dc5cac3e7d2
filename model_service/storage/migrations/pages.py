"""Upgrade of a collection's documents, in pages and bulk writes."""

from collections.abc import Callable, Iterator, Sequence
from typing import cast

from bson import encode
from pymongo import DeleteOne, UpdateOne
from pymongo.collection import Collection

from model_service.storage.common.db import Database
from model_service.storage.common.documents import AnyDocument, Fields
from model_service.storage.migrations.base import BLOBS, Upgrade

PAGE = 500
Write = UpdateOne | DeleteOne


def collection_of(database: Database, name: str) -> Collection[AnyDocument]:
    return database.collection(database.files.name if name == BLOBS else name)


def upgrade_collection(
    database: Database, name: str, upgrade: Upgrade, *, after: object, done: Callable[[int, object], None]
) -> None:
    """Upgrade every document after the id ``after`` (None: all), in the order of ``_id``.

    ``done`` is called after each page with its number of documents and its last id.
    """
    collection = collection_of(database, name)
    for page in pages(collection, after):
        upgraded = upgrade(database, page)
        writes = [write for old, new in zip(page, upgraded, strict=True) for write in changes(old, new)]
        if writes:
            collection.bulk_write(writes)
        done(len(page), page[-1]["_id"])


def changes(old: Fields, new: Fields) -> Iterator[Write]:
    """Yield the writes that turn the stored ``old`` into ``new``.

    An update matches only the values that it replaces: if another process has changed them since they were
    read, it changes nothing.
    """
    if old is new:
        return
    if old["_id"] != new["_id"]:
        yield UpdateOne({"_id": new["_id"]}, {"$setOnInsert": new}, upsert=True)
        yield DeleteOne({"_id": old["_id"]})
        return
    stored = {field: value for field, value in new.items() if not _same(old, new, field)}
    removed = [field for field in old if field not in new]
    if not stored and not removed:
        return
    unchanged = {
        field: {"$eq": old[field]} if field in old else {"$exists": False} for field in (*stored, *removed)
    }
    update: dict[str, Fields] = {}
    if stored:
        update["$set"] = stored
    if removed:
        update["$unset"] = dict.fromkeys(removed, "")
    yield UpdateOne({"_id": old["_id"], **unchanged}, update)


def _same(old: Fields, new: Fields, field: str) -> bool:
    """Compare by stored form, since 1, 1.0 and True are equal in Python."""
    return field in old and encode({"": old[field]}) == encode({"": new[field]})


def pages(collection: Collection[AnyDocument], after: object = None) -> Iterator[Sequence[AnyDocument]]:
    """Yield every document after the id ``after`` (None: all), in the order of ``_id``."""
    while True:
        found = collection.find({}, sort=[("_id", 1)], hint=[("_id", 1)], limit=PAGE + 1)
        if after is not None:
            # Unlike $gt, this bound also compares ids of different types. It includes the id itself.
            found = found.min([("_id", cast(str, after))])  # the driver takes any value
        page = [document for document in found if after is None or document["_id"] != after]
        if not page:
            return
        yield page
        after = page[-1]["_id"]
