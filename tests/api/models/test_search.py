"""Lists: filters, words, metrics, orders, cursors, totals, and who sees what."""

import base64
import itertools
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from model_service.actor import Actor, Permission, acting_as
from model_service.api.http.context import EXTENSION
from model_service.api.models import presentation
from model_service.api.models.presentation import model_json, to_json
from model_service.api.schemas.models import Model
from model_service.services.models import search as search_rules
from model_service.services.models.search import Search, SearchService
from model_service.storage.common.db import Database
from model_service.storage.models import model_search
from model_service.storage.models import sample as model_sample
from model_service.storage.models.model_search import Threshold, query_of
from tests.factories import new_model

URL = "/api/v1/models"
REGISTRY: list[dict[str, Any]] = [
    {
        "name": "fraud_detection_v2",
        "algorithm": "xgboost",
        "framework": "xgboost",
        "task_type": "classification",
        "description": "Detects fraudulent card payments.",
        "tags": ["production", "fraud-detection"],
        "metrics": {"accuracy": 0.97, "f1_score": 0.9, "val": {"loss": 0.25}},
        "created_by": "ada",
    },
    {
        "name": "fraud_detection_v2",
        "algorithm": "xgboost",
        "tags": ["fraud-detection"],
        "metrics": {"test_accuracy": 0.8, "f1_score": 0.7, "val": {"loss": 0.5}},
        "status": "deprecated",
        "created_by": "grace",
    },
    {"name": "vision/yolo", "algorithm": "convnet", "tags": ["production"], "metrics": {"map": 0.5}},
    {"name": "vision/yolo", "algorithm": "convnet", "tags": [], "metrics": {"map": 0.5, "f1_score": -1}},
    {"name": "speech/whisper", "algorithm": "transformer", "metrics": {}},
]
JOB = "6f0d5f0e-7f3c-4a35-9d1c-0d8f5a3a6c11"
LABELS = ("fraud v1.0", "fraud v1.1", "yolo v1.0", "yolo v1.1", "whisper v1.0")


def label(model: dict[str, Any]) -> str:
    return f"{model['name'].split('/')[-1].split('_')[0]} {model['version']}"


def labels(rules: SearchService, stubs: list[dict[str, Any]]) -> list[str]:
    loaded = {model["_id"]: model for model in rules.load([stub["_id"] for stub in stubs])}
    return [label(loaded[stub["_id"]]) for stub in stubs]


def ask(http: FlaskClient, **query: Any) -> Any:
    return http.get(f"{URL}?{urlencode(query)}")


def found(http: FlaskClient, **query: Any) -> list[str]:
    answer = ask(http, **query)
    assert answer.status_code == 200, answer.json
    return [label(model) for model in answer.json["models"]]


def walk(http: FlaskClient, **query: Any) -> Iterator[dict[str, Any]]:
    """Every model of a list, a page after the other by its cursor."""
    page = ask(http, **query).json
    yield from page["models"]
    while cursor := page["pagination"]["next_cursor"]:
        page = ask(http, **query, cursor=cursor).json
        assert page["pagination"]["total"] is None
        yield from page["models"]


@pytest.fixture
def registry(http: FlaskClient, database: Database) -> list[str]:
    """The ids of REGISTRY, in its order; the last came from JOB."""
    answers = [http.post(URL, json=new_model(**{"metrics": {}} | fields)) for fields in REGISTRY]
    assert [answer.status_code for answer in answers] == [201] * len(REGISTRY)
    database.models.update_one({"name": "speech/whisper"}, {"$set": {"training_job_id": JOB}})
    return [answer.json["model_id"] for answer in answers]


@pytest.fixture
def rules(app: Flask) -> SearchService:
    service: SearchService = app.extensions[EXTENSION].services.search
    return service


FILTERS: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [0, 1, 2, 3, 4]),
    ({"name": "vision/yolo"}, [2, 3]),
    ({"namespace": "vision"}, [2, 3]),
    ({"algorithm": "xgboost"}, [0, 1]),
    ({"framework": "xgboost"}, [0]),
    ({"task_type": "classification"}, [0]),
    ({"status": "deprecated"}, [1]),
    ({"created_by": "ada"}, [0]),
    ({"training_job_id": JOB}, [4]),
    ({"tags": "production"}, [0, 2]),
    ({"tags": "production, fraud-detection"}, [0, 1, 2]),
    ({"tags": " , "}, [0, 1, 2, 3, 4]),
    ({"all_tags": "production,fraud-detection"}, [0]),
    ({"all_tags": "fraud-detection", "tags": "production,other"}, [0]),
    ({"algorithm": "xgboost", "status": "active"}, [0]),
    ({"q": "fraud"}, [0, 1]),
    ({"q": "FRAUDS detecting"}, [0, 1]),
    ({"q": "fraud-detection"}, [0, 1]),
    ({"q": "payment"}, [0]),
    ({"q": "yolo vision"}, [2, 3]),
    ({"q": "ada"}, [0]),
    ({"q": "fraud yolo"}, []),
    ({"q": "the"}, []),
    ({"q": ".*"}, []),
    ({"q": '{"$gt": ""}'}, []),
    ({"min_accuracy": 0.8}, [0, 1]),
    ({"min_accuracy": 0.81}, [0]),
    ({"max_accuracy": 0.8}, [1]),
    ({"min_f1_score": 0.7, "max_f1_score": 0.7}, [1]),
    ({"min_metrics.f1_score": 0.7}, [0, 1]),
    ({"max_metrics.f1_score": -1}, [3]),
    ({"max_val.loss": 0.3}, [0]),
    ({"max_metrics.val.loss": 0.5}, [0, 1]),
    ({"min_absent": 0}, []),
    ({"min_accuracy": 0.5, "min_map": 0.1}, []),
    ({"tags": "production", "min_map": 0.1, "q": "yolo"}, [2]),
]


def test_filters(http: FlaskClient, registry: list[str]) -> None:
    for query, expected in FILTERS:
        newest_first = [LABELS[index] for index in reversed(expected)]
        assert found(http, **query) == newest_first, query
        assert ask(http, **query).json["pagination"]["total"] == len(expected), query
        assert [label(model) for model in walk(http, **query, limit=1)] == newest_first, query


def test_both_names_answer_the_same(http: FlaskClient, registry: list[str]) -> None:
    query = "q=fraud&tags=production&min_accuracy=0.9&limit=1"
    search, models = http.get(f"{URL}/search?{query}"), http.get(f"{URL}?{query}")
    assert search.json == models.json
    assert len(search.json["models"]) == 1


def test_times_bound_a_list(http: FlaskClient, registry: list[str]) -> None:
    created = [http.get(f"{URL}/{model_id}").json["created_at"] for model_id in registry]
    assert found(http, created_after=created[3]) == [LABELS[4], LABELS[3]]
    assert found(http, created_before=created[1]) == [LABELS[0]]
    assert found(http, created_after=created[1], created_before=created[3]) == [LABELS[2], LABELS[1]]
    before = http.get(f"{URL}/{registry[0]}").json["updated_at"]
    updated = http.put(f"{URL}/{registry[0]}", json={"tags": ["new"]}).json["updated_at"]
    assert found(http, updated_after=updated, created_before=created[2])[-1] == LABELS[0]
    assert LABELS[0] not in found(http, updated_before=before)


def test_a_parent_is_named_by_id_or_reference(http: FlaskClient, registry: list[str]) -> None:
    parent = registry[0]
    http.post(URL, json=new_model(name="child", parent_model_id=parent))
    assert found(http, parent_model_id=parent) == ["child v1.0"]
    assert found(http, parent_model_id="models:/fraud_detection_v2/v1.0") == ["child v1.0"]
    assert found(http, parent_model_id=registry[1]) == []
    assert ask(http, parent_model_id="models:/nobody/latest").status_code == 404


def test_aliases_come_with_every_list_and_find_their_version(http: FlaskClient, registry: list[str]) -> None:
    assert http.put(f"{URL}/{registry[0]}/aliases/production").status_code == 200
    assert found(http, alias="production") == [LABELS[0]]
    assert [model["aliases"] for model in ask(http, name="fraud_detection_v2").json["models"]] == [
        [],
        ["production"],
    ]


def test_a_list_shows_each_model_as_it_is(http: FlaskClient, registry: list[str], database: Database) -> None:
    """However often it was listed before: after a change, a download and a deletion."""
    for _ in range(2):
        assert len(found(http)) == len(REGISTRY)
    http.put(f"{URL}/{registry[0]}", json={"tags": ["changed"]})
    database.models.update_one({"name": "speech/whisper"}, {"$inc": {"download_count": 3}})
    http.delete(f"{URL}/{registry[2]}")
    listed = {model["id"]: model for model in ask(http).json["models"]}
    assert list(listed) == [registry[4], registry[3], registry[1], registry[0]]
    for model_id, model in listed.items():
        assert model == http.get(f"{URL}/{model_id}").json
    assert (listed[registry[0]]["tags"], listed[registry[4]]["download_count"]) == (["changed"], 3)


def test_presented_models_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presentation, "model_bytes", lambda document: b"%d" % document["_id"] * 10)
    monkeypatch.setattr(presentation, "PRESENTED_BYTES", 35)
    presented = presentation.PresentedModels()
    asked: list[int] = []

    def stub(number: int, revision: int = 1) -> dict[str, Any]:
        return {"_id": number, "revision": revision, "download_count": 0, "updated_at": None}

    def load(numbers: list[int]) -> list[dict[str, Any]]:
        asked.extend(numbers)
        return [stub(number, revision=2 if number == 5 else 1) for number in numbers if number != 7]

    assert presented.of([stub(1), stub(2), stub(7)], load) == [b"1" * 10, b"2" * 10]
    assert presented.of([stub(2), stub(3)], load) == [b"2" * 10, b"3" * 10]
    assert asked == [1, 2, 7, 3]
    presented.of([stub(4)], load)  # the oldest makes room
    presented.of([stub(1), stub(5)], load)
    presented.of([stub(5, revision=2)], load)  # as it was when it was read, not when it was found
    assert asked == [1, 2, 7, 3, 4, 1, 5]


def test_a_change_is_found_at_once(http: FlaskClient, registry: list[str]) -> None:
    changes = {"description": "segments tumours", "metrics": {"dice": 0.8}, "tags": ["medical"]}
    http.put(f"{URL}/{registry[2]}", json=changes)
    for query in ({"q": "tumour"}, {"min_dice": 0.8}, {"tags": "medical"}):
        assert found(http, **query) == [LABELS[2]], query
    assert LABELS[2] not in found(http, min_map=0)


SORT_KEYS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "created_at": lambda model: datetime.fromisoformat(model["created_at"]),
    "updated_at": lambda model: datetime.fromisoformat(model["updated_at"]),
    "download_count": lambda model: model["download_count"],
    "size_bytes": lambda model: model["size_bytes"],
    "name": lambda model: model["name"],
    "metrics.score": lambda model: model["metrics"]["score"],
}


@pytest.fixture
def crowd(http: FlaskClient, database: Database) -> list[str]:
    """Fourteen versions with many ties. Of two of them nobody measured the score."""
    for number in range(14):
        metrics = {"score": (number * 5) % 4 - 1.5} if number not in (3, 8) else {}
        http.post(
            URL, json=new_model(name=f"m{number % 3}", metrics=metrics, tags=["a", "b", "c"][number % 4 :])
        )
    ids = []
    for number, model in enumerate(database.models.find({}, {"_id": True})):
        ids.append(str(model["_id"]))
        values = {"download_count": number % 2, "size_bytes": (number * 7) % 5}
        database.models.update_one(model, {"$set": values})
    return ids


@pytest.mark.parametrize("sort", SORT_KEYS)
def test_a_cursor_gives_every_model_once_in_order(http: FlaskClient, crowd: list[str], sort: str) -> None:
    filters: list[dict[str, str]] = [{}, {"tags": "a,b"}, {"q": "convnet", "status": "active"}]
    for descending, filtered in itertools.product((False, True), filters):
        query = filtered | {"sort": f"-{sort}" if descending else sort}
        whole = ask(http, **query, limit=100).json["models"]
        keys = [SORT_KEYS[sort](model) for model in whole]
        assert keys == sorted(keys, reverse=descending), query
        assert whole
        for limit in (1, 3):
            assert list(walk(http, **query, limit=limit)) == whole, query
        pages = [ask(http, **query, limit=4, page=page).json["models"] for page in (1, 2, 3, 4)]
        assert [model for page in pages for model in page] == whole, query


def test_a_metric_orders_what_has_it(http: FlaskClient, crowd: list[str]) -> None:
    models = ask(http, sort="-metrics.score").json["models"]
    assert len(models) == len(crowd) - 2
    best = [model["metrics"]["score"] for model in models]
    assert best == sorted(best, reverse=True)
    assert [m["metrics"]["score"] for m in walk(http, sort="metrics.score", min_score=0.5, limit=2)] == [
        score for score in reversed(best) if score >= 0.5
    ]


def test_versions_are_ordered_as_numbers_within_a_name(http: FlaskClient) -> None:
    for version in ("v2.9", "v2.10", "v1.0"):
        http.post(URL, json=new_model(version=version))
    assert found(http, name="digits", sort="version") == ["digits v1.0", "digits v2.9", "digits v2.10"]
    assert [label(m) for m in walk(http, name="digits", sort="-version", limit=1)] == [
        "digits v2.10",
        "digits v2.9",
        "digits v1.0",
    ]
    assert ask(http, sort="version").status_code == 422


def test_a_cursor_stays_where_it_is_while_models_come(http: FlaskClient, registry: list[str]) -> None:
    first = ask(http, limit=2).json
    http.post(URL, json=new_model(name="newer"))
    rest = ask(http, limit=10, cursor=first["pagination"]["next_cursor"]).json
    assert [label(m) for m in first["models"] + rest["models"]] == list(reversed(LABELS))


def test_a_cursor_belongs_to_its_list(http: FlaskClient, registry: list[str]) -> None:
    cursor = ask(http, limit=1).json["pagination"]["next_cursor"]
    others: list[dict[str, Any]] = [
        {"sort": "created_at"},
        {"algorithm": "xgboost"},
        {"q": "yolo"},
        {"min_f1_score": 0.1},
        {"tags": "production"},
    ]
    for query in others:
        answer = ask(http, **query, cursor=cursor)
        assert (answer.status_code, answer.json["error"]["code"]) == (422, "invalid_field"), query
        assert answer.json["error"]["details"]["fields"][0]["field"] == "cursor"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)


@given(position=JSON, sort=st.sampled_from([*SORT_KEYS, "version"]))
@hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_forged_cursor_is_refused_or_a_page(http: FlaskClient, position: Any, sort: str) -> None:
    """With the right digest, whatever lies in it: never a 500, and never an operator for the database."""
    digest = search_rules._digest(Search({"name": "digits"}, sort=sort))
    cursor = base64.urlsafe_b64encode(json.dumps([digest, position]).encode()).decode()
    assert ask(http, name="digits", sort=sort, cursor=cursor).status_code in (200, 422)


@given(cursor=st.text(min_size=1, max_size=60))
@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_garbled_cursor_is_refused(http: FlaskClient, cursor: str) -> None:
    assert http.get(URL, query_string={"cursor": cursor.encode("utf-8", "replace")}).status_code == 422


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"colour": "red"}, "colour", "min_METRIC"),
    ({"sort": "colour"}, "sort", "download_count"),
    ({"sort": "metrics."}, "sort", "metrics.NAME"),
    ({"min_f1_score": "high"}, "min_f1_score", "number"),
    ({"min_f1_score": "nan"}, "min_f1_score", "number"),
    ({"min_accuracy": "inf"}, "min_accuracy", "finite"),
    ({"min_": "1"}, "min_", "no such parameter"),
    ({"page": 5002}, "page", "next_cursor"),
    ({"created_after": "2026-01-01T00:00:00"}, "created_after", "timezone"),
    ({"q": ""}, "q", "must not be empty"),
]


def test_a_wrong_parameter_is_named(http: FlaskClient) -> None:
    for query, field, said in WRONG:
        answer = ask(http, **query)
        assert (answer.status_code, answer.json["error"]["code"]) == (422, "invalid_field"), query
        (problem,) = answer.json["error"]["details"]["fields"]
        assert problem["field"] == field, query
        assert said in problem["message"], query


def test_a_total_is_exact_until_it_would_be_dear(
    http: FlaskClient, crowd: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = ask(http, limit=4, tags="b").json["pagination"]
    assert (exact["total"], exact["pages"], exact["total_is_estimate"]) == (8, 2, False)
    last = ask(http, limit=4, page=2, tags="b").json["pagination"]
    assert (last["total"], last["next_cursor"]) == (8, None)
    assert ask(http, page=9, tags="b").json["pagination"]["total"] == 8

    # As if fourteen were a great many: now the sample decides, which here is of all of them.
    monkeypatch.setattr(model_sample, "SAMPLED_PART", 1)
    for limit in ("COUNTED", "ESTIMATED_FROM", "SURE_SAMPLED"):
        monkeypatch.setattr(model_search, limit, 3)
    for query, expected in (({}, 14), ({"tags": "b"}, 8), ({"tags": "b", "min_score": -9}, 7)):
        estimate = ask(http, limit=2, **query).json["pagination"]
        assert (estimate["total"], estimate["total_is_estimate"]) == (expected, True), query
    # What the sample has too little of is counted, as far as that goes.
    monkeypatch.setattr(model_search, "SURE_SAMPLED", 10)
    monkeypatch.setattr(model_search, "COUNTED", 8)
    counted = ask(http, limit=2, tags="b").json["pagination"]
    assert (counted["total"], counted["total_is_estimate"]) == (8, False)


def test_of_what_several_predicates_match_some_is_read(
    http: FlaskClient, crowd: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    query = {"tags": "b", "status": "active", "limit": 4}
    monkeypatch.setattr(model_sample, "SAMPLED_PART", 1)
    monkeypatch.setattr(model_search, "COUNTED", 3)
    monkeypatch.setattr(model_search, "READ", 9)  # the rarest, the tag, matches eight: all are read
    exact = ask(http, **query).json["pagination"]
    assert (exact["total"], exact["total_is_estimate"]) == (8, False)
    monkeypatch.setattr(model_search, "READ", 6)
    monkeypatch.setattr(model_search, "SETTLED_S", 3600)  # nothing counted before is trusted
    estimate = ask(http, **query).json["pagination"]
    assert estimate["total_is_estimate"] is True
    assert 6 <= estimate["total"] <= 14


def test_what_was_counted_holds_until_a_model_changes(
    http: FlaskClient, crowd: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_search, "COUNTED", 13)  # one fewer than there are
    monkeypatch.setattr(model_search, "SETTLED_S", 0)
    counts: list[int] = []
    count = model_search.ModelSearch._count

    def counting(search: model_search.ModelSearch, *args: Any, **options: Any) -> int:
        counts.append(count(search, *args, **options))
        return counts[-1]

    monkeypatch.setattr(model_search.ModelSearch, "_count", counting)

    def total() -> int:
        return int(ask(http, limit=4, tags="b").json["pagination"]["total"])

    assert (total(), total(), len(counts)) == (8, 8, 1)
    model_id = http.post("/api/v1/models", json=new_model(name="late", tags=["b"])).json["model_id"]
    assert (total(), total(), len(counts)) == (9, 9, 2)
    http.patch(f"/api/v1/models/{model_id}", json={"tags": []})
    assert (total(), len(counts)) == (8, 3)


SAMPLED: list[tuple[dict[str, Any], list[Threshold]]] = [
    ({"algorithm": "convnet"}, []),
    ({"name": "m1"}, []),
    ({"q": "convnet m2"}, []),
    ({"tags": ["a", "c"]}, []),
    ({"all_tags": ["a", "b"], "namespaces": [""]}, []),
    ({"namespaces": ["other"]}, []),
    ({"alias": "none"}, []),
    (
        {
            "created_after": datetime(2020, 1, 1, tzinfo=UTC),
            "updated_before": datetime(2020, 1, 1, tzinfo=UTC),
        },
        [],
    ),
    ({"created_after": datetime(2020, 1, 1, tzinfo=UTC)}, [Threshold("score", least=0.5)]),
    ({}, [Threshold("score", most=-0.5)]),
    ({}, [Threshold("absent")]),
]


def test_the_sample_matches_as_mongodb_does(
    crowd: list[str], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_sample, "SAMPLED_PART", 1)
    sample = model_sample.ModelSample(database.models)
    for filters, thresholds in SAMPLED:
        query = query_of(filters, thresholds)
        assert query is not None
        matching = database.models.count_documents(query.document())
        assert sample.matching(query.parts()) == (matching, matching / len(crowd)), filters


def test_totals_are_counted_when_asked(http: FlaskClient, crowd: list[str]) -> None:
    page = ask(http, limit=4, total="false").json["pagination"]
    assert (page["total"], page["pages"]) == (None, None)
    assert ask(http, limit=4, total="true", cursor=page["next_cursor"]).json["pagination"]["total"] == 14


def test_a_list_shows_only_what_may_be_read(
    http: FlaskClient, rules: SearchService, registry: list[str]
) -> None:
    read = frozenset({Permission.READ})
    write = frozenset({Permission.WRITE})
    searches = [
        Search(),
        Search(sort="-metrics.map"),
        Search({"q": "yolo"}),
        Search({"tags": ["production"]}),
    ]

    def seen(who: Actor, search: Search) -> list[str]:
        with acting_as(who):
            answer = rules.search(search)
        assert answer.total is not None
        assert answer.total.count == len(answer.stubs)
        return labels(rules, answer.stubs)

    vision = Actor("ann", in_namespaces={"vision": read, "speech": write})
    assert [seen(vision, search) for search in searches] == [
        ["yolo v1.1", "yolo v1.0"],
        ["yolo v1.1", "yolo v1.0"],
        ["yolo v1.1", "yolo v1.0"],
        ["yolo v1.0"],
    ]
    assert seen(Actor("ben", in_namespaces={"": read, "speech": read}), Search()) == [
        "whisper v1.0",
        "fraud v1.1",
        "fraud v1.0",
    ]
    assert seen(Actor("eve"), Search()) == []
    with acting_as(Actor("ben", in_namespaces={"": read, "speech": read})):
        first = rules.search(Search(limit=2))
        second = rules.search(Search(limit=2, cursor=first.next_cursor))
    assert labels(rules, second.stubs) == ["fraud v1.0"]


def test_an_answer_is_what_its_schema_says(
    http: FlaskClient, registry: list[str], database: Database
) -> None:
    http.post(f"{URL}/{registry[0]}/upload", data=b"bytes", headers={"X-Filename": "model.pkl"})
    for document in database.models.find():
        shown = orjson.loads(to_json(model_json(document)))
        assert shown == orjson.loads(
            Model.model_validate(document | {"model_size": shown["model_size"]}).model_dump_json()
        )
    listed = {model["id"]: model for model in ask(http).json["models"]}
    for model_id in registry:
        assert http.get(f"{URL}/{model_id}").json == listed[model_id]
