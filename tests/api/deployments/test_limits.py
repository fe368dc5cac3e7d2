"""How many active deployments a user may have, by tier."""

import threading
from typing import Any

import pytest
from flask import Flask

from model_service.app import create_app
from model_service.config import Settings
from model_service.states import DeploymentStatus
from model_service.storage.common.db import Database
from model_service.storage.stores import build_stores
from tests.api.deployed import URL, exported
from tests.api.people import Caller, People, secured

TIERS = "[free]\ndeployments = 1\n[pro]\ndeployments = 2\n[enterprise]\n"


@pytest.fixture
def app(settings: Settings) -> Flask:
    assert settings.home is not None
    file = settings.home / "tiers.toml"
    file.write_text(TIERS)
    return create_app(secured(settings, tiers_file=file))


@pytest.fixture
def people(app: Flask) -> People:
    return People(app)


@pytest.fixture
def body(app: Flask, people: People, database: Database) -> dict[str, Any]:
    """What asks for a deployment."""
    with app.test_client() as http:
        http.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {people.root.credential}"
        return {"name": "digits", "export_job_id": exported(http, database)}


def deploy(somebody: Caller, body: dict[str, Any]) -> str:
    return str(somebody("POST", URL, json=body, status=202).json["id"])  # type: ignore[index]


def refused(answer: Any, **details: Any) -> None:
    assert (answer.status_code, answer.json["error"]["code"]) == (403, "deployment_limit_reached")
    assert answer.json["error"]["details"] == details
    assert "deactivate or delete one" in answer.json["error"]["message"]


FULL = {"tier": "free", "allowed": 1, "used": 1}


def test_a_tier_bounds_what_is_active(people: People, body: dict[str, Any]) -> None:
    anna = people.user("anna", ["deployer"], tier="free")
    first = deploy(anna, body)
    refused(anna("POST", URL, json=body), **FULL)
    assert len(anna("GET", URL).json["deployments"]) == 1  # type: ignore[index]
    people.root("PATCH", "/api/v1/users/anna", json={"tier": "pro"}, status=200)
    deploy(anna, body)
    refused(anna("POST", URL, json=body), tier="pro", allowed=2, used=2)
    anna("DELETE", f"{URL}/{first}", status=200)
    deploy(anna, body)


def test_what_is_switched_on_again_counts_for_its_owner(people: People, body: dict[str, Any]) -> None:
    anna = people.user("anna", ["deployer"], tier="free")
    first = deploy(anna, body)
    anna("POST", f"{URL}/{first}/deactivate", status=200)
    second = deploy(anna, body)
    for somebody in (anna, people.root):
        refused(somebody("POST", f"{URL}/{first}/activate"), **FULL)
    anna("POST", f"{URL}/{second}/activate", status=200)  # it is
    anna("POST", f"{URL}/{second}/deactivate", status=200)
    anna("POST", f"{URL}/{first}/activate", status=200)


def test_what_failed_does_not_count_until_it_is_tried_again(
    people: People, body: dict[str, Any], database: Database
) -> None:
    anna, reports = people.user("anna", ["deployer"], tier="free"), build_stores(database).serving_reports
    failed = deploy(anna, body)
    assert reports.update_failed(failed, 1, "corrupt")
    other = deploy(anna, body)
    batching = {"config": {"batching": {"max_batch_size": 2}}}
    refused(anna("PATCH", f"{URL}/{failed}", json=batching), **FULL)
    refused(anna("POST", f"{URL}/{failed}/activate"), **FULL)
    anna("PATCH", f"{URL}/{other}", json=batching, status=200)
    reports.update_failed(other, 2, "corrupt")
    changed: Any = anna("PATCH", f"{URL}/{failed}", json=batching, status=200).json
    assert changed["status"] == DeploymentStatus.DEPLOYING
    refused(anna("POST", f"{URL}/{other}/rollback", json={"revision": 1}), **FULL)


def test_nobody_bounds_who_has_no_tier_or_a_boundless_one(people: People, body: dict[str, Any]) -> None:
    for somebody in (
        people.root,
        people.user("boss", ["deployer"]),
        people.user("b", ["deployer"], tier="enterprise"),
    ):
        assert len({deploy(somebody, body) for _ in range(3)}) == 3


def test_of_many_requests_at_once_no_more_than_allowed_are_taken(
    people: People, body: dict[str, Any], database: Database
) -> None:
    """New ones, and one that is switched on beside them."""
    callers = [people.user("anna", ["deployer"], tier="free"), *(people.signed_in("anna") for _ in range(5))]
    inactive = deploy(callers[0], body)
    callers[0]("POST", f"{URL}/{inactive}/deactivate", status=200)
    statuses: list[int] = []

    def work(somebody: Caller, number: int) -> None:
        asked = somebody("POST", URL, json=body) if number else somebody("POST", f"{URL}/{inactive}/activate")
        statuses.append(200 if asked.status_code == 202 else asked.status_code)

    threads = [threading.Thread(target=work, args=each[::-1]) for each in enumerate(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, 403, 403, 403, 403, 403]
    assert len(build_stores(database).served_deployments.read()) == 1
