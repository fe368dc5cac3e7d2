"""Webhooks: who gets which events, in what form, and what is known of each delivery."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from standardwebhooks import Webhook as Signature

from model_service.api.schemas.webhooks import TYPES
from model_service.app import create_app
from model_service.config import Settings
from model_service.storage.common.db import Database, now
from model_service.storage.stores import build_stores
from tests.api.deployed import deploy, exported
from tests.api.finished import claim, fail
from tests.api.models.test_versions import MODELS, register
from tests.api.people import People, secured
from tests.factories import new_model
from tests.receiver import Received, Receiver, delivering
from tests.waiting import wait_for

WEBHOOKS = "/api/v1/webhooks"


def changed(settings: Settings, **changes: Any) -> Settings:
    return settings.model_validate(settings.model_dump() | changes)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    changes = {"webhook_allowed_networks": "127.0.0.0/8", "webhook_retry_s": 0.05, "webhook_timeout_s": 2}
    return changed(settings, **changes)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def create(http: FlaskClient, receiver: Receiver, **fields: Any) -> dict[str, Any]:
    answer = http.post(WEBHOOKS, json={"url": receiver.url, **fields})
    assert answer.status_code == 201, answer.text
    assert answer.json is not None
    return dict(answer.json)


def deliveries(http: FlaskClient, webhook: dict[str, Any], **query: str) -> list[dict[str, Any]]:
    """Oldest first."""
    answer: Any = http.get(
        f"{WEBHOOKS}/{webhook['id']}/deliveries", query_string={"limit": 100, **query}
    ).json
    return list(reversed(answer["deliveries"]))


def arrived(receiver: Receiver, count: int) -> list[dict[str, Any]]:
    wait_for(lambda: len(receiver.received) >= count, f"{count} events")
    return [received.event for received in receiver.received]


def delivered(settings: Settings, database: Database, receiver: Receiver) -> list[str]:
    """The names in the events that arrive, once every event is distributed and delivered."""
    with delivering(settings):
        wait_for(lambda: database.webhook_events.count_documents({}) == 0, "the events to be distributed")
        pending = {"status": "pending"}
        wait_for(lambda: database.webhook_deliveries.count_documents(pending) == 0, "all to be delivered")
    return sorted(received.event["data"]["name"] for received in receiver.received)


def transition_all(http: FlaskClient, database: Database) -> None:
    """Make a transition of each kind of object."""
    first, second = register(http), register(http)
    http.put(f"{MODELS}/{first}/aliases/best")
    http.put(f"{MODELS}/{second}/aliases/best")
    http.delete(f"{MODELS}/{second}/aliases/best")
    http.patch(f"{MODELS}/{first}", json={"status": "deprecated"})
    http.patch(f"{MODELS}/{first}", json={"description": "no transition"})
    http.delete(f"{MODELS}/{first}")
    http.post(f"{MODELS}/{first}/restore")
    http.delete(f"{MODELS}/{first}?purge=true")


def test_every_transition_becomes_one_event(
    http: FlaskClient, database: Database, settings: Settings, receiver: Receiver
) -> None:
    webhook = create(http, receiver)
    transition_all(http, database)
    with delivering(settings):
        events = arrived(receiver, 10)
        wait_for(lambda: not deliveries(http, webhook, status="pending"), "no pending delivery")
    assert sorted(event["type"] for event in events) == sorted(
        ["version.created"] * 2
        + ["alias.set", "alias.set", "alias.removed"]
        + ["version.deprecated", "version.deleted", "version.restored", "version.deleted", "version.purged"]
    )
    moved = [event["data"] for event in events if event["type"] == "alias.set"]
    assert [(data["state_before"], data["state"]) for data in moved] == [(None, "v1.0"), ("v1.0", "v1.1")]


def test_a_failed_deployment_that_is_changed_makes_an_event(
    http: FlaskClient, database: Database, receiver: Receiver
) -> None:
    create(http, receiver, events=["deployment.*"])
    deployment = deploy(http, export_job_id=exported(http, database))
    build_stores(database).serving_reports.update_failed(deployment["id"], 1, "why")
    export_id = exported(http, database)
    changed = http.patch(f"/api/v1/deployments/{deployment['id']}", json={"export_job_id": export_id})
    assert changed.status_code < 300, changed.text
    stored = database.webhook_events.find({}, sort=[("order", 1)])
    assert [event["type"].partition(".")[2] for event in stored] == ["created", "failed", "deploying"]


def test_jobs_and_deployments_make_events(
    http: FlaskClient, database: Database, settings: Settings, receiver: Receiver
) -> None:
    webhook = create(http, receiver, events=["export.*", "deployment.*"])
    export_id = exported(http, database)
    deployment = deploy(http, export_job_id=export_id)
    http.post(f"/api/v1/deployments/{deployment['id']}/deactivate")
    http.delete(f"/api/v1/deployments/{deployment['id']}")
    model_id = register(http)
    http.post(f"{MODELS}/{model_id}/upload", data=b"other bytes")
    job = http.post("/api/v1/export/jobs", json={"model_id": model_id, "export_format": "onnx"}).json
    assert job is not None
    fail(database, job["id"])
    with delivering(settings):
        arrived(receiver, 9)
        wait_for(lambda: not deliveries(http, webhook, status="pending"), "no pending delivery")
    by_object: dict[str, list[str]] = {}
    for received in receiver.received:
        by_object.setdefault(received.event["data"]["id"], []).append(received.event["type"])
    assert by_object == {
        export_id: ["export.pending", "export.running", "export.completed"],
        job["id"]: ["export.pending", "export.running", "export.failed"],
        deployment["id"]: ["deployment.created", "deployment.inactive", "deployment.deleted"],
    }
    last = receiver.received[-1].event["data"]
    assert (last["url"], last["error_code"]) == (f"/api/v1/export/jobs/{job['id']}", "conversion_failed")


def test_a_job_whose_worker_stops_or_is_lost_or_that_is_cancelled_makes_events(
    http: FlaskClient, database: Database, receiver: Receiver
) -> None:
    create(http, receiver, events=["export.*"])
    stores = build_stores(database)
    model_id = register(http)
    http.post(f"{MODELS}/{model_id}/upload", data=b"some bytes")
    job: Any = http.post("/api/v1/export/jobs", json={"model_id": model_id, "export_format": "onnx"}).json
    stores.exports.hand_back(job["id"], claim(database, job["id"]))
    token = claim(database, job["id"])
    stores.exports.renew(job["id"], token, -10)
    stores.export_turns.take_from_lost_workers(3, spared="other", grace_s=0)
    http.post(f"/api/v1/export/jobs/{job['id']}/cancel")
    stored = database.webhook_events.find({}, sort=[("order", 1)])
    assert [event["type"].partition(".")[2] for event in stored] == [
        *("pending", "running", "pending", "running", "pending", "cancelled")
    ]


def test_the_message_follows_standard_webhooks(
    http: FlaskClient, settings: Settings, receiver: Receiver
) -> None:
    webhook = create(http, receiver, events=["version.created"])
    model_id = register(http)
    with delivering(changed(settings, public_url="https://models.example.com")):
        (event,) = arrived(receiver, 1)
    (received,) = receiver.received
    verified = Signature(webhook["secret"]).verify(received.body, received.headers)
    assert verified == event
    assert received.headers["content-type"] == "application/json"
    at = event.pop("timestamp")
    assert at.endswith("Z")
    assert event == {
        "type": "version.created",
        "data": {
            "id": model_id,
            "state_before": None,
            "state": "active",
            "actor": "anonymous",
            "name": "digits",
            "version": "v1.0",
            "url": f"https://models.example.com/api/v1/models/{model_id}",
        },
    }
    (delivery,) = deliveries(http, webhook)
    assert delivery["id"] == received.id
    assert (delivery["status"], delivery["attempts"]) == ("delivered", 1)
    assert delivery["last_attempt"]["status_code"] == 204


def test_without_a_webhook_nothing_is_written(http: FlaskClient, database: Database) -> None:
    register(http)
    assert database.webhook_events.count_documents({}) == 0


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, ["a/one", "b/two", "three"]),
        ({"namespace": "a"}, ["a/one"]),
        ({"namespace": ""}, ["three"]),
        ({"model": "b/two"}, ["b/two"]),
        ({"events": ["alias.*", "export.failed"]}, []),
        ({"active": False}, []),
    ],
)
def test_filters(
    http: FlaskClient,
    database: Database,
    settings: Settings,
    receiver: Receiver,
    fields: dict[str, Any],
    names: list[str],
) -> None:
    create(http, receiver, **fields)
    for name in ("a/one", "b/two", "three"):
        register(http, name=name)
    assert delivered(settings, database, receiver) == names


def test_a_failing_event_only_delays_later_events_of_its_object(
    http: FlaskClient, settings: Settings, receiver: Receiver
) -> None:
    stuck = register(http, name="stuck")
    other = register(http, name="other")
    fails = [True]
    receiver.status_of = lambda received: 500 if received.event["data"]["id"] == stuck and fails else 200
    webhook = create(http, receiver)
    for status in ("deprecated", "active"):
        for model_id in (stuck, other):
            http.patch(f"{MODELS}/{model_id}", json={"status": status})
    with delivering(settings):
        done: Callable[[], int] = lambda: len(deliveries(http, webhook, status="delivered"))  # noqa: E731
        wait_for(lambda: done() == 2, "the events of the other model")
        tried = wait_for(
            lambda: [each for each in deliveries(http, webhook, status="pending") if each["attempts"] > 1],
            "a second try",
        )
        assert [each["type"] for each in tried] == ["version.deprecated"]
        assert tried[0]["last_attempt"]["error"] == "answered 500"
        fails.clear()
        wait_for(lambda: done() == 4, "the other events")
    answered = [received.event for received in receiver.received if received.event["data"]["id"] == stuck]
    assert [event["type"] for event in answered[-2:]] == ["version.deprecated", "version.active"]


def test_an_event_is_given_up_so_that_later_ones_go_on_and_can_be_sent_again(
    http: FlaskClient, database: Database, settings: Settings, receiver: Receiver
) -> None:
    model_id = register(http)
    refused = ["version.deprecated"]
    receiver.status_of = lambda received: 400 if received.event["type"] in refused else 200
    webhook = create(http, receiver)
    for status in ("deprecated", "active"):
        http.patch(f"{MODELS}/{model_id}", json={"status": status})
    with delivering(changed(settings, webhook_give_up_s=0.5)):
        wait_for(lambda: deliveries(http, webhook, status="delivered"), "the later event")
        (dead,) = deliveries(http, webhook, status="dead_lettered")
        assert dead["type"] == "version.deprecated"
        assert dead["attempts"] >= 1
        refused.clear()
        again = http.post(f"{WEBHOOKS}/{webhook['id']}/deliveries/{dead['id']}/resend")
        assert again.status_code == 202, again.text
        wait_for(lambda: not deliveries(http, webhook, status="pending"), "the event that is sent again")
    assert receiver.received[-1].id == dead["id"]
    assert len(deliveries(http, webhook, status="delivered")) == 2
    kept = database.webhook_deliveries.find_one({"_id": dead["id"]})
    assert kept is not None
    assert kept["expires_at"] > now() + timedelta(days=29)


def test_the_events_of_an_unreachable_receiver_are_given_up_together(
    http: FlaskClient, settings: Settings, receiver: Receiver
) -> None:
    webhook = create(http, receiver)
    for number in range(20):
        register(http, name=f"model-{number}")
    receiver.stop()
    with delivering(changed(settings, webhook_give_up_s=0)):
        wait_for(lambda: len(deliveries(http, webhook, status="dead_lettered")) == 20, "all to be given up")
    shown: Any = http.get(f"{WEBHOOKS}/{webhook['id']}").json
    assert shown["failures"] == 1
    assert shown["paused_until"] is not None


def test_one_slow_receiver_does_not_delay_the_others(
    http: FlaskClient, settings: Settings, receiver: Receiver
) -> None:
    answered: list[Received] = []

    def slow(received: Received) -> int:
        wait_for(lambda: len(receiver.received) >= 10, "the others")
        answered.append(received)
        return 200

    with Receiver(slow) as slow_receiver:
        create(http, slow_receiver)
        create(http, receiver)
        for number in range(10):
            register(http, name=f"model-{number}")
        with delivering(changed(settings, webhook_timeout_s=60)):
            arrived(receiver, 10)
            wait_for(lambda: len(answered) >= 1, "the slow one")


def test_an_address_that_is_not_allowed_any_more_gets_nothing(
    http: FlaskClient, settings: Settings, receiver: Receiver
) -> None:
    """The worker checks each delivery; a name can resolve to an inner address after the creation."""
    webhook = create(http, receiver)
    register(http)
    with delivering(changed(settings, webhook_allowed_networks="")):
        (pending,) = wait_for(
            lambda: [each for each in deliveries(http, webhook) if each["attempts"]], "an attempt"
        )
    assert "internal address" in pending["last_attempt"]["error"]
    assert receiver.received == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"url": "https://10.0.0.1/"}, "url"),
        ({"url": "http://localhost.example/../#x"}, "url"),
        ({"url": "gopher://example.com"}, "url"),
        ({"url": "https://fec0--1.example@10.0.0.1/"}, "url"),
        ({"url": "http://93.184.216.34/"}, "url"),
        ({"events": ["export.exploded"]}, "events"),
        ({"events": []}, "events"),
        ({"namespace": "a", "model": "b/m"}, "model"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_wrong_requests(http: FlaskClient, receiver: Receiver, fields: dict[str, Any], field: str) -> None:
    answer: Any = http.post(WEBHOOKS, json={"url": receiver.url, **fields})
    assert answer.status_code == 422, answer.text
    assert answer.json["error"]["details"]["fields"][0]["field"].startswith(field)
    webhook = create(http, receiver)
    refused = http.patch(f"{WEBHOOKS}/{webhook['id']}", json=fields)
    assert refused.status_code == 422, refused.text


def test_names_that_cannot_be_resolved_now_are_accepted(http: FlaskClient) -> None:
    for host in ("a..example", "x" * 64 + ".example"):
        answer = http.post(WEBHOOKS, json={"url": f"https://{host}/"})
        assert answer.status_code == 201, answer.text


def test_an_inactive_webhook_sends_nothing(
    http: FlaskClient, database: Database, settings: Settings, receiver: Receiver
) -> None:
    """Its pending events are given up in time, so that they do not wait for ever."""
    webhook = create(http, receiver)
    sent: Any = http.post(f"{WEBHOOKS}/{webhook['id']}/test").json
    http.patch(f"{WEBHOOKS}/{webhook['id']}", json={"active": False})
    for path in ("/test", f"/deliveries/{sent['id']}/resend"):
        refused: Any = http.post(f"{WEBHOOKS}/{webhook['id']}{path}")
        assert refused.status_code == 409
        assert "inactive" in refused.json["error"]["message"]
    with delivering(changed(settings, webhook_give_up_s=0)):
        wait_for(lambda: deliveries(http, webhook, status="dead_lettered"), "it to be given up")
    assert receiver.received == []


def test_a_test_does_not_wait_for_an_earlier_one(
    http: FlaskClient, settings: Settings, receiver: Receiver
) -> None:
    receiver.stop()
    webhook = create(http, receiver)
    http.post(f"{WEBHOOKS}/{webhook['id']}/test")
    slow = changed(settings, webhook_retry_s=3600)
    with delivering(slow):
        wait_for(lambda: deliveries(http, webhook)[0]["attempts"], "the first to fail")
        receiver.start()
        http.post(f"{WEBHOOKS}/{webhook['id']}/test")
        wait_for(lambda: len(deliveries(http, webhook, status="delivered")) == 2, "both")


def test_changes(http: FlaskClient, settings: Settings, receiver: Receiver) -> None:
    webhook = create(http, receiver, events=["alias.*"], description="for tests")
    changed: Any = http.patch(
        f"{WEBHOOKS}/{webhook['id']}", json={"events": ["version.*"], "model": "m"}
    ).json
    assert changed["events"] == ["version.*"]
    assert changed["model"] == "m"
    assert changed["description"] == "for tests"
    register(http, name="m")
    with delivering(settings):
        arrived(receiver, 1)
    deleted = http.delete(f"{WEBHOOKS}/{webhook['id']}")
    assert deleted.status_code == 200
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/deliveries"), ("POST", "/test")):
        assert http.open(f"{WEBHOOKS}/{webhook['id']}{path}", method=method).status_code == 404


def test_a_rotated_secret_overlaps(http: FlaskClient, settings: Settings, receiver: Receiver) -> None:
    webhook = create(http, receiver)
    rotated: Any = http.post(f"{WEBHOOKS}/{webhook['id']}/rotate", json={"grace_s": 60}).json
    assert rotated["secret"] != webhook["secret"]
    sent: Any = http.post(f"{WEBHOOKS}/{webhook['id']}/test")
    assert sent.status_code == 202
    with delivering(settings):
        (event,) = arrived(receiver, 1)
        assert event["type"] == "webhook.test"
        for secret in (webhook["secret"], rotated["secret"]):
            Signature(secret).verify(receiver.received[0].body, receiver.received[0].headers)
        http.post(f"{WEBHOOKS}/{webhook['id']}/rotate", json={"grace_s": 0})
        http.post(f"{WEBHOOKS}/{webhook['id']}/test")
        arrived(receiver, 2)
    with pytest.raises(Exception, match="No matching signature"):
        Signature(rotated["secret"]).verify(receiver.received[1].body, receiver.received[1].headers)


def test_the_secret_is_shown_once_and_stored_nowhere(
    http: FlaskClient, database: Database, receiver: Receiver
) -> None:
    key = {"Idempotency-Key": "once"}
    first = http.post(WEBHOOKS, json={"url": receiver.url}, headers=key)
    again = http.post(WEBHOOKS, json={"url": receiver.url}, headers=key)
    assert first.json == again.json
    assert first.json is not None
    secret = first.json["secret"]
    assert secret.startswith("whsec_")
    for path in ("", f"/{first.json['id']}"):
        shown = http.get(f"{WEBHOOKS}{path}").text
        assert "secret" not in shown
    raw = http.get("/api/v1/registry/export").data
    everything = str(list(database.webhooks.find({}))) + str(list(database.audit.find({})))
    assert secret not in everything
    assert secret.removeprefix("whsec_").encode() not in raw
    assert "events?from=models" not in str(list(database.audit.find({})))


def test_a_user_has_a_limited_number(settings: Settings, receiver: Receiver) -> None:
    http = create_app(changed(settings, webhooks_per_user=1)).test_client()
    create(http, receiver)
    refused: Any = http.post(WEBHOOKS, json={"url": receiver.url})
    assert refused.status_code == 409
    assert "WEBHOOKS_PER_USER" in refused.json["error"]["message"]


def test_a_webhook_gets_only_what_its_owner_may_read(
    settings: Settings, database: Database, receiver: Receiver
) -> None:
    settings = secured(settings)
    people = People(create_app(settings))
    ada = people.user("ada", namespaces={"vision": ["writer"]})
    eve = people.user("eve", namespaces={"audio": ["reader"]})
    webhook: Any = ada("POST", WEBHOOKS, json={"url": receiver.url}, status=201).json
    ada("POST", WEBHOOKS, json={"url": receiver.url, "namespace": "audio"}, status=422)
    for method, path in (
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("GET", "/deliveries"),
        ("POST", "/test"),
    ):
        body = {"json": {}} if method == "PATCH" else {}
        eve(method, f"{WEBHOOKS}/{webhook['id']}{path}", status=404, **body)
    assert eve("GET", WEBHOOKS).json["webhooks"] == []  # type: ignore[index]
    assert len(people.root("GET", WEBHOOKS).json["webhooks"]) == 1  # type: ignore[index]

    def registered(name: str) -> None:
        people.root("POST", MODELS, json=new_model(name=name), status=201)

    for name in ("audio/secret", "vision/mine", "plain"):
        registered(name)
    assert delivered(settings, database, receiver) == ["vision/mine"]

    tested: Any = ada("POST", f"{WEBHOOKS}/{webhook['id']}/test", status=202).json
    with delivering(settings):
        arrived(receiver, 2)
    shown: Any = ada("GET", f"{WEBHOOKS}/{webhook['id']}/deliveries/{tested['id']}", status=200).json
    assert shown["type"] == "webhook.test"

    # The right is taken away between the distribution and the delivery.
    receiver.status_of = lambda received: 503
    registered("vision/later")
    with delivering(settings):
        wait_for(lambda: len(receiver.received) > 2, "an attempt")
    receiver.received.clear()
    receiver.status_of = lambda received: 204
    people.root("PATCH", "/api/v1/users/ada", json={"namespaces": {"audio": ["reader"]}}, status=200)
    with delivering(settings):
        wait_for(
            lambda: database.webhook_deliveries.count_documents({"status": "withheld"}) == 1,
            "it to be withheld",
        )
    assert receiver.received == []
    ada = people.signed_in("ada")
    listed: Any = ada("GET", f"{WEBHOOKS}/{webhook['id']}/deliveries", status=200).json
    # The others are about objects that she may not read any more.
    assert [each["type"] for each in listed["deliveries"]] == ["webhook.test"]
    people.root("DELETE", "/api/v1/users/ada", status=200)
    assert database.webhooks.count_documents({}) == 0


def test_a_user_who_is_deleted_meanwhile_gets_no_webhook(
    settings: Settings, database: Database, receiver: Receiver
) -> None:
    """A process knows a credential for a second after its end."""
    people = People(create_app(secured(settings)))
    ada = people.user("ada", roles=["reader"])
    ada("GET", WEBHOOKS, status=200)
    database.users.delete_one({"_id": "ada"})
    ada("POST", WEBHOOKS, json={"url": receiver.url}, status=404)
    assert database.webhooks.count_documents({}) == 0


def test_a_key_has_webhooks_of_its_own(settings: Settings, database: Database, receiver: Receiver) -> None:
    settings = secured(settings)
    people = People(create_app(settings))
    ada = people.user("ada", roles=["writer"])
    mine: Any = ada("POST", WEBHOOKS, json={"url": receiver.url}, status=201).json
    key_id, key = people.key(["read"], namespaces=["vision"], owner="ada")
    other: Any = key("POST", WEBHOOKS, json={"url": receiver.url}, status=201).json
    key("PATCH", f"{WEBHOOKS}/{mine['id']}", json={"active": False}, status=404)
    listed: Any = key("GET", WEBHOOKS).json
    assert [each["id"] for each in listed["webhooks"]] == [other["id"]]
    ada("PATCH", f"{WEBHOOKS}/{mine['id']}", json={"active": False}, status=200)
    for name in ("vision/m", "audio/m"):
        people.root("POST", MODELS, json=new_model(name=name), status=201)
    assert delivered(settings, database, receiver) == ["vision/m"]
    people.root("DELETE", f"/api/v1/keys/{key_id}", status=200)
    people.root("POST", MODELS, json=new_model(name="vision/n"), status=201)
    assert delivered(settings, database, receiver) == ["vision/m"]  # no event of vision/n
    receiver.received.clear()
    ada("PATCH", f"{WEBHOOKS}/{mine['id']}", json={"active": True}, status=200)
    people.root("POST", MODELS, json=new_model(name="vision/o"), status=201)
    assert delivered(settings, database, receiver) == ["vision/o"]


def test_every_type_of_event_can_be_filtered(http: FlaskClient, receiver: Receiver) -> None:
    assert create(http, receiver, events=TYPES)["events"] == TYPES


def test_the_age_of_the_oldest_event_is_a_gauge(
    http: FlaskClient, database: Database, settings: Settings, receiver: Receiver
) -> None:
    create(http, receiver)
    register(http)
    earlier = now() - timedelta(seconds=500)
    database.webhook_events.update_many({}, {"$set": {"at": earlier}})
    name = "model_service_webhook_oldest_age_seconds"
    metrics = create_app(settings).test_client().get("/metrics").text
    (line,) = (line for line in metrics.splitlines() if line.startswith(f"{name} "))
    assert float(line.split()[1]) > 490
