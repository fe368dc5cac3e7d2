"""Who may do what: every route of the application, for every kind of caller.

A route that is not in the table fails the test, so that nobody adds one without saying whom it is for.
"""

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from hashlib import sha256
from typing import Any

import pytest
from flask import Flask

from exporters.base import VERIFIED
from model_service.app import create_app
from model_service.config import Settings
from model_service.services import Services
from model_service.states import ExportStatus
from model_service.storage.common.db import Database, now
from model_service.storage.evaluations.documents import new_evaluation
from tests.api.people import PASSWORD, Caller, People, secured
from tests.factories import new_model


class Need(Enum):
    NOTHING = "nothing"  # nobody is asked
    KNOWN = "to be somebody"
    READ = "read"
    READ_ALL = "read everywhere"
    WRITE = "write"
    DEPLOY = "deploy"
    APPROVE = "write or deploy"
    ADMIN_THERE = "administer the namespace"
    ADMIN = "admin"
    TOKEN = "the thing's own token"  # no credential of the API helps


@dataclass(frozen=True)
class Route:
    """``body``: what is sent, made for the namespace of the test's things; ``raw``: a file, not JSON."""

    need: Need
    body: Callable[["Things"], dict[str, Any]] = field(default=lambda things: {})
    raw: bool = False
    # Whose permission is asked for in the namespace of what the body names, rather than in the path.
    names_in_body: bool = False


def by_method(need_to_write: Need, *paths: str) -> dict[tuple[str, str], Route]:
    """``GET /a`` reads; anything else writes."""
    routes = {}
    for path in paths:
        methods, rule = path.split(" ")
        for method in methods.split("|"):
            routes[method, rule] = Route(Need.READ if method == "GET" else need_to_write)
    return routes


UNKNOWN = "507f1f77bcf86cd799439011"
MODEL, DATASET = "/api/v1/models/<model_id>", "/api/v1/datasets/<dataset_id>"
DEPLOYMENT = "/api/v1/deployments/<deployment_id>"
NEW_DATASET = {"format": "npz", "purpose": "training"}
TABLE: dict[tuple[str, str], Route] = {
    **{
        ("GET", rule): Route(Need.NOTHING)
        for rule in (
            "/",
            "/health",
            "/health/live",
            "/health/ready",
            "/metrics",
            "/openapi.json",
            "/docs/",
            "/docs/openapi.json",
            "/docs/scalar",
            "/docs/scalar/<filename>",
            "/docs/static/<filename>",
        )
    },
    ("GET", "/health/detailed"): Route(Need.READ_ALL),
    ("POST", "/api/v1/sessions"): Route(Need.NOTHING, lambda things: {"user": "all", "password": PASSWORD}),
    ("DELETE", "/api/v1/sessions/current"): Route(Need.KNOWN),
    ("GET", "/api/v1/users/me"): Route(Need.KNOWN),
    ("POST", "/api/v1/users/me/password"): Route(Need.KNOWN),
    ("GET", "/api/v1/namespaces"): Route(Need.KNOWN),
    ("POST", "/api/v1/keys"): Route(Need.KNOWN),
    ("GET", "/api/v1/keys"): Route(Need.KNOWN),
    ("GET", "/api/v1/keys/<key_id>"): Route(Need.KNOWN),
    ("POST", "/api/v1/keys/<key_id>/rotate"): Route(Need.KNOWN),
    ("DELETE", "/api/v1/keys/<key_id>"): Route(Need.KNOWN),
    **{
        (method, f"/api/v1/webhooks{rule}"): Route(Need.KNOWN)
        for method, rule in (
            *(
                ("GET", ""),
                ("POST", ""),
                ("GET", "/<webhook_id>"),
                ("PATCH", "/<webhook_id>"),
                ("DELETE", "/<webhook_id>"),
            ),
            *(("POST", "/<webhook_id>/rotate"), ("POST", "/<webhook_id>/test")),
            *(("GET", "/<webhook_id>/deliveries"), ("GET", "/<webhook_id>/deliveries/<delivery_id>")),
            ("POST", "/<webhook_id>/deliveries/<delivery_id>/resend"),
        )
    },
    ("POST", "/api/v1/users"): Route(Need.ADMIN, lambda things: {"name": f"u{uuid.uuid4().hex}"}),
    ("GET", "/api/v1/users"): Route(Need.ADMIN),
    ("GET", "/api/v1/users/<name>"): Route(Need.ADMIN),
    ("PATCH", "/api/v1/users/<name>"): Route(Need.ADMIN),
    ("DELETE", "/api/v1/users/<name>"): Route(Need.ADMIN),
    ("GET", "/api/v1/audit"): Route(Need.ADMIN),
    ("GET", "/api/v1/registry/export"): Route(Need.ADMIN),
    ("POST", "/api/v1/registry/import"): Route(Need.ADMIN, raw=True),
    **by_method(
        Need.WRITE,
        "GET /api/v1/models",
        "GET /api/v1/models/search",
        "GET /api/v1/models/statistics",
        "GET /api/v1/models/popular",
        "GET /api/v1/models/recent",
        "GET /api/v1/models/deleted",
        "GET /api/v1/statistics",
        "GET /api/v1/statistics/downloads",
        "GET /api/v1/aliases",
        "GET /api/v1/aliases/history",
        "GET /api/v1/gates",
        f"GET {MODEL}/gates/<alias>",
        f"GET {MODEL}/approvals",
        f"GET|PUT|PATCH|DELETE {MODEL}",
        f"GET {MODEL}/aliases",
        f"PUT|DELETE {MODEL}/aliases/<alias>",
        f"GET {MODEL}/compare/<other_id>",
        f"GET {MODEL}/lineage",
        f"GET {MODEL}/download",
        f"GET {MODEL}/info",
        f"GET {MODEL}/files",
        f"GET {MODEL}/files.zip",
        f"GET|DELETE {MODEL}/files/<path>",
        f"GET {MODEL}/deleted-files",
        f"DELETE {MODEL}/deleted-files/<file_id>",
        f"POST {MODEL}/deleted-files/<file_id>/restore",
        f"POST {MODEL}/versions",
        f"POST {MODEL}/restore",
        "GET /api/v1/export/jobs",
        "GET /api/v1/export/jobs/<job_id>",
        "GET /api/v1/export/jobs/<job_id>/download",
        "GET /api/v1/export/jobs/<job_id>/events",
        "GET /api/v1/export/capabilities",
        *(
            f"POST /api/v1/export/{where}<job_id>/{action}"
            for where in ("", "jobs/")
            for action in ("cancel", "retry", "set-default")
        ),
        f"GET {MODEL}/exports",
        "GET /api/v1/evaluations",
        "GET|DELETE /api/v1/evaluations/<evaluation_id>",
        "POST /api/v1/evaluations/<evaluation_id>/cancel",
        "GET /api/v1/training/<training_id>/exports",
        "GET /api/v1/datasets",
        f"GET|PUT|PATCH|DELETE {DATASET}",
        f"GET {DATASET}/usage",
        f"GET {DATASET}/download",
        f"GET {DATASET}/info",
        f"GET {DATASET}/files",
        f"GET {DATASET}/files.zip",
        f"GET|DELETE {DATASET}/files/<path>",
        f"GET {DATASET}/deleted-files",
        f"DELETE {DATASET}/deleted-files/<file_id>",
        f"POST {DATASET}/deleted-files/<file_id>/restore",
        "GET /api/v1/training",
        "GET|PATCH|DELETE /api/v1/training/<training_id>",
        "DELETE /api/v1/uploads/<upload_id>",
        "POST /api/v1/uploads/<upload_id>/complete",
    ),
    # Its answer holds URLs that write.
    ("GET", "/api/v1/uploads/<upload_id>"): Route(Need.WRITE),
    ("PUT", "/api/v1/gates/<alias>"): Route(
        Need.ADMIN_THERE, lambda things: {"max_p99_ms": 5}, names_in_body=True
    ),
    ("DELETE", "/api/v1/gates/<alias>"): Route(Need.ADMIN_THERE, names_in_body=True),
    ("POST", f"{MODEL}/approvals"): Route(Need.APPROVE, lambda things: {"alias": "best"}),
    ("DELETE", f"{MODEL}/approvals/<alias>"): Route(Need.READ),
    ("POST", f"{MODEL}/download/presign"): Route(Need.READ),
    ("POST", f"{MODEL}/files/<path>/presign"): Route(Need.READ),
    ("POST", f"{MODEL}/upload"): Route(Need.WRITE, raw=True),
    ("PUT", f"{MODEL}/files/<path>"): Route(Need.WRITE, raw=True),
    ("POST", f"{MODEL}/uploads"): Route(Need.WRITE, lambda things: {"path": "x.bin", "size_bytes": 4}),
    ("PUT", "/api/v1/uploads/<upload_id>/parts/<n>"): Route(Need.WRITE, raw=True),
    ("POST", f"{DATASET}/upload"): Route(Need.WRITE, raw=True),
    ("PUT", f"{DATASET}/files/<path>"): Route(Need.WRITE, raw=True),
    ("POST", "/api/v1/models"): Route(
        Need.WRITE, lambda things: new_model(name=things.new_name()), names_in_body=True
    ),
    ("POST", "/api/v1/datasets"): Route(
        Need.WRITE, lambda things: NEW_DATASET | {"name": things.new_name()}, names_in_body=True
    ),
    ("POST", "/api/v1/training"): Route(
        Need.WRITE, lambda things: {"name": things.new_name(), "algorithm": "cnn"}, names_in_body=True
    ),
    # An answer for every operation, each of which asks for itself: the request as a whole is no thing's.
    ("POST", "/api/v1/models/batch"): Route(
        Need.WRITE, lambda things: {"operations": [{"op": "tag", "id": things.model_id, "tags": ["x"]}]}
    ),
    **{
        ("POST", f"/api/v1/export/{where}<job_id>/callback"): Route(
            Need.TOKEN, lambda things: {"status": "failed"}
        )
        for where in ("", "jobs/")
    },
    ("PUT", "/api/v1/export/jobs/<job_id>/package"): Route(Need.TOKEN, raw=True),
    ("POST", "/api/v1/export/jobs"): Route(
        Need.WRITE, lambda things: {"model_id": things.model_id, "export_format": "onnx"}
    ),
    ("POST", "/api/v1/evaluations"): Route(
        Need.WRITE, lambda things: {"model_id": things.model_id, "dataset_id": UNKNOWN}
    ),
    **by_method(
        Need.DEPLOY,
        "GET /api/v1/deployments",
        f"GET|DELETE {DEPLOYMENT}",
        f"GET {DEPLOYMENT}/history",
        f"GET {DEPLOYMENT}/logs",
        f"GET {DEPLOYMENT}/usage",
        f"GET {DEPLOYMENT}/keys",
        f"GET {DEPLOYMENT}/download",
        f"POST {DEPLOYMENT}/renew",
        f"POST {DEPLOYMENT}/activate",
        f"POST {DEPLOYMENT}/deactivate",
        f"POST {DEPLOYMENT}/rollback",
        f"POST {DEPLOYMENT}/keys/<key_id>/rotate",
        f"DELETE {DEPLOYMENT}/keys/<key_id>",
    ),
    ("PUT", DEPLOYMENT): Route(Need.DEPLOY, lambda things: {"export_job_id": things.exported(), "name": "d"}),
    ("PATCH", DEPLOYMENT): Route(Need.DEPLOY, lambda things: {"description": "x"}),
    ("POST", f"{DEPLOYMENT}/scale"): Route(Need.DEPLOY, lambda things: {"replicas": 2}),
    ("POST", f"{DEPLOYMENT}/promote"): Route(Need.DEPLOY, lambda things: {"member": "v1.0"}),
    ("POST", f"{DEPLOYMENT}/keys"): Route(Need.DEPLOY, lambda things: {"name": "k"}),
    ("POST", "/api/v1/deployments"): Route(
        Need.DEPLOY, lambda things: {"export_job_id": things.exported(), "name": "d"}
    ),
}
# What the path or the body names is looked for, and what may not be read is not found.
OF_A_THING = re.compile(
    r"<(model_id|other_id|dataset_id|training_id|job_id|deployment_id|upload_id|evaluation_id)>"
)
IN_THE_BODY = {("POST", f"/api/v1/{of}") for of in ("export/jobs", "evaluations", "deployments")}


class Things:
    """One of everything, in a namespace; made when it is asked for."""

    def __init__(self, services: Services, database: Database, namespace: str) -> None:
        self.services, self.database, self.namespace = services, database, namespace
        self.model = self.new_model()
        self.model_id = str(self.model["_id"])

    def new_name(self) -> str:
        return f"{self.namespace}/{uuid.uuid4().hex[:8]}"

    def new_model(self) -> dict[str, Any]:
        from model_service.api.schemas.models import NewModel
        from model_service.services.files.files import NewFile

        model = self.services.models.register(NewModel(**new_model(name=self.new_name())).model_dump())
        new = NewFile.of_holder("m", "m.pt2", None)
        return self.services.files.store(model, iter([b"1234"]), new, sha256=None).document

    def exported(self) -> str:
        """A completed, verified export of the model."""
        file = self.model["file_metadata"]
        job_id, at = str(uuid.uuid4()), now()
        job = {
            "_id": job_id,
            "trace_id": job_id,
            "model_id": self.model["_id"],
            "model_name": self.model["name"],
            "namespace": self.namespace,
            "model_version": self.model["version"],
            "training_job_id": None,
            "version_tag": None,
            "is_default": False,
            "export_format": "onnx",
            "framework": None,
            "task_type": None,
            "export_config": {},
            "optimization_config": None,
            "validation_config": None,
            "version": uuid.uuid4().int % 10**9,
            "status": ExportStatus.COMPLETED,
            "fidelity": {"verdict": VERIFIED},
            "package": {key: file[key] for key in ("file_id", "size_bytes", "checksum")},
            "progress_percent": 100.0,
            "progress_message": "completed",
            "attempts": 1,
            "log": [],
            "created_at": at,
            "updated_at": at,
        }
        self.database.export_jobs.insert_one(job)
        return job_id

    def evaluated(self) -> str:
        """A completed evaluation of the model."""
        evaluation_id, file = str(uuid.uuid4()), self.model["file_metadata"]
        request: Any = {
            "namespace": self.namespace,
            "source": file,
            "model_id": self.model["_id"],
            "model_name": self.model["name"],
            "model_version": self.model["version"],
            "export_job_id": None,
            "source_config": {},
            "dataset_id": self.model["_id"],
            "dataset_name": "data",
            "dataset_version": "v1.0",
            "dataset_checksum": file["checksum"],
            "source_checksum": file["checksum"],
            "metrics": None,
            "samples": None,
            "seed": 0,
        }
        document: Any = new_evaluation(request, "all", now())
        ended = {
            "_id": evaluation_id,
            "status": ExportStatus.COMPLETED,
            "completed_at": now(),
            "results": {"accuracy": {"value": 0.9, "interval": None}},
            "evaluated_samples": 10,
        }
        self.database.evaluations.insert_one({**document, **ended})
        return evaluation_id

    def deployed(self) -> str:
        deployment, _ = self.services.deployments.create({"name": "d", "export_job_id": self.exported()})
        return str(deployment["_id"])

    def values(self, root: Caller) -> dict[str, Callable[[], str]]:
        """What stands for each part of a path, made by the administrator."""

        def made(path: str, body: dict[str, Any], field: str) -> Callable[[], str]:
            def make() -> str:
                answer: Any = root("POST", path, json=body).json
                return str(answer[field])

            return make

        uploads = f"/api/v1/models/{self.model_id}/uploads"
        return {
            "model_id": lambda: self.model_id,
            "other_id": lambda: self.model_id,
            "path": lambda: self.model["file_metadata"].get("path", "m.pt2"),
            "alias": lambda: "best",
            "filename": lambda: "x.js",
            "file_id": lambda: "f" * 24,
            "n": lambda: "1",
            "name": made("/api/v1/users", {"name": f"u{uuid.uuid4().hex}"}, "name"),
            "key_id": made("/api/v1/keys", {"name": "k", "scopes": ["read"]}, "id"),
            "webhook_id": made("/api/v1/webhooks", {"url": "https://1.1.1.1/events"}, "id"),
            "delivery_id": lambda: str(uuid.uuid4()),
            "job_id": self.exported,
            "evaluation_id": self.evaluated,
            "deployment_id": self.deployed,
            "upload_id": made(uploads, {"path": "p", "size_bytes": 4}, "upload_id"),
            "dataset_id": made("/api/v1/datasets", NEW_DATASET | {"name": self.new_name()}, "id"),
            "training_id": made("/api/v1/training", {"name": self.new_name(), "algorithm": "cnn"}, "id"),
        }


def rules(app: Flask) -> list[tuple[str, str]]:
    """Every method and path of the application, the converters of the path left out."""
    found = []
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"<\1>", rule.rule)
        path = path.replace("/training/<job_id>", "/training/<training_id>")
        found += [(method, path) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}]
    return sorted(found)


EVERYTHING = frozenset(Need)
READS = frozenset({Need.NOTHING, Need.KNOWN, Need.READ, Need.READ_ALL})
IN_NAMESPACE = frozenset({Need.NOTHING, Need.KNOWN, Need.READ})
# Each kind of caller: what it may do with things of the namespace 'vision', and whether only there.
KINDS: dict[str, tuple[frozenset[Need], bool]] = {
    "nobody": (frozenset({Need.NOTHING}), False),
    "expired key": (frozenset({Need.NOTHING}), False),
    "no role": (frozenset({Need.NOTHING, Need.KNOWN}), False),
    "reader": (READS, False),
    "writer": (READS | {Need.WRITE, Need.APPROVE}, False),
    "deployer": (READS | {Need.DEPLOY, Need.APPROVE}, False),
    "admin": (EVERYTHING, False),
    "root": (EVERYTHING, False),
    "namespace writer": (IN_NAMESPACE | {Need.WRITE, Need.APPROVE}, True),
    "namespace admin": (IN_NAMESPACE | {Need.WRITE, Need.DEPLOY, Need.APPROVE, Need.ADMIN_THERE}, True),
    "reading key of an admin": (READS, False),
    "namespace key of an admin": (IN_NAMESPACE | {Need.WRITE, Need.APPROVE}, True),
}


def caller(kind: str, people: People, database: Database) -> Callable[[], Caller]:
    """What makes somebody of this kind, with a new session or key each time: a request may end one."""
    match kind:
        case "nobody":
            return lambda: people.nobody
        case "root":
            return lambda: people.root
        case "expired key":
            key_id, expired = people.key(["admin"])
            past = now() - timedelta(seconds=1)
            database.access_keys.update_one({"_id": key_id}, {"$set": {"expires_at": past}})
            return lambda: expired
        case "reading key of an admin":
            people.user("boss", ["admin"])
            return lambda: people.key(["read"], owner="boss")[1]
        case "namespace key of an admin":
            people.user("boss", ["admin"])
            return lambda: people.key(["write"], owner="boss", namespaces=["vision"])[1]
    fields: dict[str, Any] = {
        "no role": {},
        "namespace writer": {"namespaces": {"vision": ["writer"]}},
        "namespace admin": {"namespaces": {"vision": ["admin"]}},
    }.get(kind, {"roles": [kind]})
    people.user("somebody", **fields)
    return lambda: people.signed_in("somebody")


@pytest.fixture
def app(settings: Settings) -> Flask:
    return create_app(secured(settings))


def test_every_route_is_in_the_table(app: Flask) -> None:
    assert sorted(TABLE) == rules(app)


@pytest.mark.parametrize("kind", KINDS)
def test_who_may_do_what(app: Flask, database: Database, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from model_service.services.access import passwords

    monkeypatch.setattr(passwords, "_N", 2)  # somebody signs in again and again
    people = People(app)
    people.root("POST", "/api/v1/users", json={"name": "all", "password": PASSWORD}, status=201)
    made = caller(kind, people, database)
    somebody = made()
    allowed, only_in_vision = KINDS[kind]
    services = app.extensions["model_service"].services
    wrong = []
    for namespace in ("vision", "audio") if only_in_vision else ("vision",):
        things = Things(services, database, namespace)
        for (method, rule), route in TABLE.items():
            sent = request_of(method, rule, route, things, people.root)
            answer = somebody(*sent[:2], **sent[2])
            elsewhere = only_in_vision and namespace != "vision"
            expected = outcomes(kind, method, rule, route, route.need in allowed, elsewhere)
            # What was refused for another reason (a conflict, a field) had got past the door.
            if answer.status_code not in expected and not (
                "past the door" in expected and answer.status_code not in (401, 403, 405, 500, 503)
            ):
                wrong.append(
                    f"{kind}: {method} {sent[1]} in {namespace}: {answer.status_code} {answer.text[:150]}"
                )
            if method != "GET" and answer.status_code < 400:
                things = Things(services, database, namespace)  # these may be gone
                somebody = made()  # so may their session
    assert wrong == []


def request_of(
    method: str, rule: str, route: Route, things: Things, root: Caller
) -> tuple[str, str, dict[str, Any]]:
    values = things.values(root)
    path = re.sub(r"<(\w+)>", lambda part: values[part[1]](), rule)
    if rule.startswith(("/api/v1/aliases", "/api/v1/gates")):
        path += (
            f"?name={things.model['name']}&alias=best"
            if "history" in rule
            else f"?name={things.model['name']}"
        )
    if route.raw:
        return method, path, {"data": b"1234", "headers": {"X-Content-SHA256": sha256(b"1234").hexdigest()}}
    return method, path, {} if method == "GET" else {"json": route.body(things)}


def outcomes(
    kind: str, method: str, rule: str, route: Route, allowed: bool, elsewhere: bool
) -> set[int | str]:
    """The statuses that are right."""
    if route.need is Need.NOTHING:
        return {"past the door"}
    if kind in ("nobody", "expired key") or route.need is Need.TOKEN:
        return {401}
    if route.need is Need.KNOWN:
        # A key makes no other key, and has neither a session to end nor a password to change.
        return {"past the door"} if method == "GET" else {"past the door", 403}
    if not allowed:
        return {403}
    if elsewhere and route.names_in_body:
        return {403}
    if elsewhere and (OF_A_THING.search(rule) or (method, rule) in IN_THE_BODY):
        return {404}
    return {"past the door"}
