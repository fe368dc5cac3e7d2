"""Every query of the service has an index.

``tests.plans`` watches all tests for that; here is that it would notice, and that lists need no sort either.
"""

from typing import Any

import pytest
from pymongo import MongoClient

from model_service.config import Settings
from model_service.storage.common.db import Database
from model_service.storage.models.list_orders import Order, order_of
from model_service.storage.models.model_search import ModelSearch, Query, Threshold, query_of
from model_service.storage.models.search import derived_fields
from tests import plans
from tests.factories import Document
from tests.services.documents import model_document

BLOCKING = {"SORT", "COLLSCAN"}
ORDERS = ["created_at", "-created_at", "-updated_at", "-download_count", "size_bytes", "name", "-name"]
FILTERS: list[Document] = [
    {},
    {"algorithm": "convnet"},
    {"algorithm": "convnet", "status": "active"},
    {"tags": ["a"]},
    {"tags": ["a", "b"]},
    {"all_tags": ["a", "b"]},
    {"q": "convnet digits"},
    {"namespaces": ["", "vision"]},
    {"namespaces": ["", "vision"], "tags": ["a", "b"]},
]


@pytest.fixture
def models(database: Database) -> ModelSearch:
    for number in range(30):
        fields = {"name": f"digits{number}", "tags": ["a", "b"], "metrics": {"f1": number, "loss": 1}}
        document = model_document(**fields)
        database.models.insert_one(document | derived_fields(document))
    return ModelSearch(database)


def plan(settings: Settings, models: ModelSearch, query: Query, order: Order, after: Document | None) -> Any:
    position = order.position(after) if after else None
    assert settings.mongodb_url is not None
    plans.recorder.found = {}
    plans.recorder.seen = set()
    models.find(query, order, skip=0, limit=5, after=position, stubs=True)
    (command,) = (command for command in plans.recorder.found.values() if "find" in command)
    with MongoClient[Document](settings.mongodb_url.get_secret_value()) as client:
        return plans.explain(client, settings.mongodb_db, command)


@pytest.mark.parametrize("from_cursor", [False, True])
@pytest.mark.parametrize("sort", ORDERS)
def test_an_unfiltered_list_is_read_in_its_order(
    settings: Settings, database: Database, models: ModelSearch, sort: str, from_cursor: bool
) -> None:
    order, query = order_of(sort), query_of({}, [])
    assert order is not None
    assert query is not None
    after = database.models.find_one() if from_cursor else None
    stages = plans.stages(plan(settings, models, query, order, after))
    assert not BLOCKING & set(stages), stages
    assert "IXSCAN" in stages


@pytest.mark.parametrize("from_cursor", [False, True])
@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_a_filtered_list_is_read_newest_first(
    settings: Settings, database: Database, models: ModelSearch, filters: Document, from_cursor: bool
) -> None:
    query = query_of(filters, [])
    assert query is not None
    after = database.models.find_one(sort=[("created_at", -1)], skip=9) if from_cursor else None
    explained = plan(settings, models, query, Order("created_at", descending=True), after)
    stages = plans.stages(explained)
    assert not BLOCKING & set(stages), stages


@pytest.mark.parametrize("from_cursor", [False, True])
@pytest.mark.parametrize("least", [None, 3.0])
def test_a_metric_is_a_threshold_an_order_and_a_cursor_by_one_index(
    settings: Settings, database: Database, models: ModelSearch, least: float | None, from_cursor: bool
) -> None:
    order = Order("metrics.f1", descending=True)
    query = query_of({}, [Threshold("f1", least)])
    assert query is not None
    after = database.models.find_one({"metrics.f1": 20}) if from_cursor else None
    explained = plan(settings, models, query, order, after)
    stages = plans.stages(explained)
    assert not BLOCKING & set(stages), stages
    assert "metric_order.$**_1" in str(explained["queryPlanner"]["winningPlan"])


def test_a_query_without_an_index_fails_its_test(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What watches the tests would notice: a filter, an update and a look-up that no index answers."""
    monkeypatch.setattr(plans, "_from_service", lambda: True)
    monkeypatch.setattr(plans.recorder, "seen", set())
    assert settings.mongodb_url is not None
    url = settings.mongodb_url.get_secret_value()
    database.models.insert_one({"name": "m", "version_order": 1})
    lookup = {"from": "models", "localField": "x", "foreignField": "colour", "as": "found"}
    mistakes: list[Any] = [
        lambda: list(database.models.find({"colour": "red"})),
        lambda: database.models.update_many({"colour": "red"}, {"$set": {"x": 1}}),
        lambda: database.models.delete_one({"description": "x"}),
        lambda: list(database.models.aggregate([{"$match": {"name": "m"}}, {"$lookup": lookup}])),
        lambda: database.models.count_documents({}),
    ]
    for mistake in mistakes:
        with pytest.raises(plans.CollectionScan), plans.checked(url, settings.mongodb_db):
            mistake()
    with plans.checked(url, settings.mongodb_db):
        list(database.models.find({"name": "m"}))
        database.models.estimated_document_count()
    plans.recorder.database = settings.mongodb_db
