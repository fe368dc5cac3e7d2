from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.api.models.test_versions import MODELS, UNKNOWN, register, url


def aliases(http: FlaskClient, name: str = "digits") -> dict[str, str]:
    found = http.get(f"/api/v1/aliases?name={name}").json["aliases"]
    return {entry["alias"]: entry["version"] for entry in found}


def test_an_alias_moves_from_version_to_version(http: FlaskClient) -> None:
    first, second = register(http), register(http)
    put = http.put(f"{MODELS}/{first}/aliases/production")
    assert put.status_code == 200
    assert (put.json["version"], put.json["reference"]) == ("v1.0", "models:/digits@production")
    assert put.headers["ETag"] == '"r2"'
    assert http.put(f"{MODELS}/{first}/aliases/production").headers["ETag"] == '"r2"'
    http.put(f"{MODELS}/{second}/aliases/candidate")
    assert aliases(http) == {"candidate": "v1.1", "production": "v1.0"}
    moved = http.put(f"{url('models:/digits@candidate')}/aliases/production")
    assert moved.json["model_id"] == second
    assert aliases(http) == {"candidate": "v1.1", "production": "v1.1"}
    left = http.get(f"{MODELS}/{first}").json
    assert (left["aliases"], left["revision"]) == ([], 3)
    of_version = http.get(f"{MODELS}/{second}/aliases").json["aliases"]
    assert [entry["alias"] for entry in of_version] == ["candidate", "production"]


def test_aliases_come_with_every_answer(http: FlaskClient) -> None:
    model_id = register(http)
    http.put(f"{MODELS}/{model_id}/aliases/production")
    assert http.get(f"{MODELS}/{model_id}").json["aliases"] == ["production"]
    assert http.get(MODELS).json["models"][0]["aliases"] == ["production"]
    assert http.get(f"{MODELS}/search?q=digits").json["models"][0]["aliases"] == ["production"]
    other = register(http, name="other")
    assert http.get(f"{MODELS}/{other}").json["aliases"] == []


def test_the_same_alias_is_another_one_of_another_name(http: FlaskClient) -> None:
    http.put(f"{MODELS}/{register(http)}/aliases/production")
    http.put(f"{MODELS}/{register(http, name='vision/digits')}/aliases/production")
    assert aliases(http) == {"production": "v1.0"}
    assert aliases(http, "vision/digits") == {"production": "v1.0"}
    assert aliases(http, "nobody") == {}


def test_an_alias_is_removed(http: FlaskClient) -> None:
    first, second = register(http), register(http)
    http.put(f"{MODELS}/{first}/aliases/production")
    assert http.delete(f"{MODELS}/{second}/aliases/production").status_code == 404
    removed = http.delete(f"{url('models:/digits@production')}/aliases/production")
    assert removed.json["model_id"] == first
    assert aliases(http) == {}
    assert http.get(url("models:/digits@production")).status_code == 404
    assert http.delete(f"{MODELS}/{first}/aliases/production").status_code == 404


@pytest.mark.parametrize("alias", ["latest", "v1", "1.2", "V3", "7", "a" * 65, "a b", "ä", "@x"])
def test_what_could_be_a_version_is_no_alias(http: FlaskClient, alias: str) -> None:
    answer = http.put(f"{MODELS}/{register(http)}/aliases/{alias}")
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "invalid_field")


def test_an_archived_version_takes_no_alias_but_gives_it_away(http: FlaskClient) -> None:
    first, second = register(http), register(http)
    http.put(f"{MODELS}/{first}/aliases/production")
    http.patch(f"{MODELS}/{first}", json={"status": "archived"})
    assert http.put(f"{MODELS}/{first}/aliases/other").status_code == 409
    assert http.put(f"{MODELS}/{second}/aliases/production").status_code == 200
    assert aliases(http) == {"production": "v1.1"}
    assert http.put(f"{MODELS}/{UNKNOWN}/aliases/production").status_code == 404


def test_of_all_who_move_it_at_once_each_succeeds_and_one_has_it(app: Flask, http: FlaskClient) -> None:
    versions = [register(http) for _ in range(6)]

    def move(model_id: str) -> int:
        return app.test_client().put(f"{MODELS}/{model_id}/aliases/production").status_code

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(move, versions * 3))
    assert set(answers) == {200}
    holders = [model for model in http.get(MODELS).json["models"] if model["aliases"]]
    assert len(holders) == 1
    # Every change counts: each version was created, and what it gained it lost again, except for one.
    gained = sum(model["revision"] - 1 for model in http.get(MODELS).json["models"])
    assert gained % 2 == 1
