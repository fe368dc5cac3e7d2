from datetime import datetime, timedelta

import pytest
from flask.testing import FlaskClient

from model_service.storage.common.db import Database
from tests.api.models.test_versions import MODELS, UNKNOWN, register, url


def deleted(http: FlaskClient) -> list[str]:
    return [model["id"] for model in http.get(f"{MODELS}/deleted").json["models"]]


def test_a_deleted_version_comes_back_as_it_was(http: FlaskClient) -> None:
    model_id = register(http, tags=["a"])
    http.post(f"{MODELS}/{model_id}/upload", data=b"weights")
    http.put(f"{MODELS}/{model_id}/aliases/production")
    before = http.get(f"{MODELS}/{model_id}").json
    assert http.delete(f"{MODELS}/{model_id}").status_code == 200
    for path in ("", "/download", "/aliases", "/lineage"):
        assert http.get(f"{MODELS}/{model_id}{path}").status_code == 404
    assert http.get(MODELS).json["models"] == []
    assert http.get(f"{MODELS}/search?q=digits").json["models"] == []
    assert deleted(http) == [model_id]
    restored = http.post(f"{MODELS}/{model_id}/restore")
    assert restored.status_code == 200
    volatile = {"revision", "updated_at"}
    assert {k: v for k, v in restored.json.items() if k not in volatile} == {
        k: v for k, v in before.items() if k not in volatile
    }
    assert restored.json["revision"] == before["revision"] + 1
    assert http.get(url("models:/digits@production")).json["id"] == model_id
    assert http.get(f"{MODELS}/{model_id}/download").data == b"weights"
    assert http.get(f"{MODELS}/search?q=digits").json["pagination"]["total"] == 1
    assert deleted(http) == []
    assert http.post(f"{MODELS}/{model_id}/restore").status_code == 404


def test_the_trash_says_who_and_until_when(http: FlaskClient) -> None:
    ids = [register(http) for _ in range(3)]
    for model_id in ids:
        http.delete(f"{MODELS}/{model_id}")
    page = http.get(f"{MODELS}/deleted?limit=2").json
    assert [model["id"] for model in page["models"]] == ids[:0:-1]
    assert page["pagination"] == {"page": 1, "limit": 2, "total": 3, "pages": 2}
    entry = page["models"][0]
    at, until = (datetime.fromisoformat(entry[field]) for field in ("deleted_at", "purged_after"))
    assert until - at == timedelta(days=30)
    assert entry["deleted_by"]
    assert [model["id"] for model in http.get(f"{MODELS}/deleted?limit=2&page=2").json["models"]] == ids[:1]


def test_a_version_does_not_come_back_over_another(http: FlaskClient, database: Database) -> None:
    first = register(http)
    http.put(f"{MODELS}/{first}/aliases/production")
    http.delete(f"{MODELS}/{first}")
    database.version_numbers.delete_many({})  # as in data from before numbers were noted
    again = register(http, version="v1.0")
    conflict = http.post(f"{MODELS}/{first}/restore")
    assert (conflict.status_code, conflict.json["error"]["code"]) == (409, "conflict")
    assert deleted(http) == [first]
    http.delete(f"{MODELS}/{again}?purge=true")
    refused = http.post(f"{MODELS}/{first}/restore")  # its number was given to another one since
    assert (refused.status_code, deleted(http)) == (409, [first])


def test_aliases_come_back_where_they_are_free(http: FlaskClient) -> None:
    first, second = register(http), register(http)
    for alias in ("production", "stable"):
        http.put(f"{MODELS}/{first}/aliases/{alias}")
    http.delete(f"{MODELS}/{first}")
    assert http.get(url("models:/digits@production")).status_code == 404
    http.put(f"{MODELS}/{second}/aliases/production")
    assert http.post(f"{MODELS}/{first}/restore").json["aliases"] == ["stable"]
    assert http.get(url("models:/digits@production")).json["id"] == second


@pytest.mark.parametrize("from_the_trash", [False, True])
def test_purged_is_gone_for_good_and_lets_go_of_its_files(
    http: FlaskClient, database: Database, from_the_trash: bool
) -> None:
    model_id = register(http)
    http.post(f"{MODELS}/{model_id}/upload", data=b"weights")
    if from_the_trash:
        http.delete(f"{MODELS}/{model_id}")
        assert database.files.find_one()["metadata"]["references"] == 1  # type: ignore[index]
    assert http.delete(f"{MODELS}/{model_id}?purge=true").status_code == 200
    assert database.files.find_one()["metadata"]["references"] == 0  # type: ignore[index]
    assert deleted(http) == []
    assert http.post(f"{MODELS}/{model_id}/restore").status_code == 404
    assert http.delete(f"{MODELS}/{model_id}?purge=true").status_code == 404


def test_only_what_is_in_the_trash_is_restored(http: FlaskClient) -> None:
    assert http.post(f"{MODELS}/{UNKNOWN}/restore").status_code == 404
    assert http.post(f"{url('models:/digits/v1.0')}/restore").status_code == 404
    alive = register(http)
    assert http.post(f"{MODELS}/{alive}/restore").status_code == 404
