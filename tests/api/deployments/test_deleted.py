"""What outlives a deployment, and who is told of it."""

import uuid
from typing import Any

from model_service.app import create_app
from model_service.config import Settings
from model_service.storage.common.db import Database, now
from model_service.storage.deployments.usage import Batch, Counts, UsageCounts, UsageKey
from tests.api.deployed import URL, deploy, exported
from tests.api.deployments.test_usage import deployed
from tests.api.people import People, secured


def test_it_is_told_to_those_who_could_see_the_deployment(settings: Settings, database: Database) -> None:
    people = People(create_app(secured(settings)))
    with people.app.test_client() as http:
        http.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {people.root.credential}"
        job_id = exported(http, database, name="vision/digits")
        made = {name: deploy(http, name=name, export_job_id=job_id)["id"] for name in ("new", "old")}
        for deployment_id in made.values():
            http.delete(f"{URL}/{deployment_id}")
    old = {"deployment_target_id": made["old"], "event_type": "deleted"}
    database.deployment_history.update_one(old, {"$set": {"event_data": {}}})  # of an older version
    seeing = people.user("anna", namespaces={"vision": ["reader"]})
    others = people.user("bert", namespaces={"audio": ["admin"], "": ["admin"]})
    admin = people.user("carl", ["admin"])
    for part in ("history", "logs", "usage"):
        assert seeing("GET", f"{URL}/{made['new']}/{part}").status_code == 200
        hidden = others("GET", f"{URL}/{made['new']}/{part}")
        never = others("GET", f"{URL}/{uuid.uuid4()}/{part}")
        assert (hidden.status_code, hidden.json["error"]["code"]) == (404, "not_found")  # type: ignore[index]
        assert hidden.json["error"]["details"].keys() == never.json["error"]["details"].keys()  # type: ignore[index]
        assert seeing("GET", f"{URL}/{made['old']}/{part}").status_code == 404
        for deployment_id in made.values():
            admin("GET", f"{URL}/{deployment_id}/{part}", status=200)


def test_the_usage_stays_what_it_was(settings: Settings, database: Database) -> None:
    people = People(create_app(secured(settings)))
    anna = people.user("anna", ["writer", "deployer"], tier="pro")
    reader = people.user("rita", ["reader"])
    stranger = people.user("sam", namespaces={"vision": ["admin"]})
    deployment_id, at = deployed(anna, database), now()
    hour = at.replace(minute=0, second=0, microsecond=0)
    UsageCounts(database).add(
        {UsageKey(hour, deployment_id, "a", "v1.0"): Counts(at, requests=3000)}, Batch("p", 1)
    )
    path = f"{URL}/{deployment_id}/usage"
    before = {who: who("GET", path, status=200).json for who in (anna, reader, people.root)}
    anna("DELETE", f"{URL}/{deployment_id}", status=200)
    for who, told in before.items():
        after: Any = who("GET", path, status=200).json
        assert {**after, "to": None} == {**told, "to": None}  # type: ignore[dict-item]
    stranger("GET", path, status=404)
    people.nobody("GET", path, status=401)
