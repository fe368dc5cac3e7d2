"""Which pages browsers let call the service."""

from typing import Any

import pytest

from model_service.app import create_app
from model_service.config import Settings
from tests.api.people import ROOT_KEY, Caller, secured
from tests.factories import new_model

PAGE = "https://models.example.com"
ALLOW = "Access-Control-Allow-Origin"


def test_no_page_may_by_default(settings: Settings) -> None:
    nobody = Caller(create_app(settings))
    assert ALLOW not in nobody("GET", "/api/v1/models", headers={"Origin": PAGE}, status=200).headers


def test_a_named_page_may_and_no_other(settings: Settings) -> None:
    app = create_app(secured(settings, cors_origins=f"http://localhost:3000, {PAGE}"))
    root, nobody = Caller(app, ROOT_KEY), Caller(app)
    answer = root("GET", "/api/v1/models", headers={"Origin": PAGE}, status=200)
    assert answer.headers[ALLOW] == PAGE
    assert "Origin" in answer.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in answer.headers
    exposed = {name.strip() for name in answer.headers["Access-Control-Expose-Headers"].split(",")}
    assert {"ETag", "Content-Range", "X-Request-ID", "X-File-Checksum", "Retry-After"} <= exposed
    assert {"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"} <= exposed
    # A page can read why it failed.
    for path, status in [("/api/v1/models/nothing", 400), ("/nowhere", 404)]:
        assert root("GET", path, headers={"Origin": PAGE}, status=status).headers[ALLOW] == PAGE
    assert nobody("GET", "/api/v1/models", headers={"Origin": PAGE}, status=401).headers[ALLOW] == PAGE
    for other in ("https://models.example.com.evil.org", "https://modelsXexample.com", "null"):
        assert ALLOW not in root("GET", "/api/v1/models", headers={"Origin": other}, status=200).headers


@pytest.mark.parametrize("origins", [PAGE, "*"])
def test_browsers_ask_first_and_send_no_key_then(settings: Settings, origins: str) -> None:
    nobody = Caller(create_app(secured(settings, cors_origins=origins)))
    asked = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization, if-match",
    }
    answer = nobody("OPTIONS", "/api/v1/models/507f1f77bcf86cd799439011", headers=asked, status=200)
    assert answer.headers[ALLOW] == origins
    assert "PATCH" in answer.headers["Access-Control-Allow-Methods"]
    allowed = {name.strip() for name in answer.headers["Access-Control-Allow-Headers"].lower().split(",")}
    assert allowed == {"authorization", "if-match"}
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:3000", "http://localhost.evil.example"]
)
def test_an_open_service_takes_no_changes_from_pages_of_others(settings: Settings, origin: str) -> None:
    """A form or plain text goes out without a question of the browser's."""
    app = create_app(settings)
    anybody = Caller(app)
    made: Any = anybody("POST", "/api/v1/models", json=new_model(), status=201).json
    upload = f"/api/v1/models/{made['model_id']}/upload"
    for path in (upload, "/api/v1/registry/import"):
        sent = {"data": b"bytes", "headers": {"Origin": origin, "Content-Type": "text/plain"}}
        answer = anybody("POST", path, **sent, status=403)  # type: ignore[arg-type]
        assert answer.json["error"]["code"] == "forbidden"  # type: ignore[index]
    for number, own in enumerate(({}, {"Origin": "http://localhost"})):
        anybody("POST", f"{upload}?replace=true", data=b"bytes %d" % number, headers=own, status=201)
    named = Caller(
        create_app(
            settings.model_validate(settings.model_dump() | {"cors_origins": origin.replace("null", "*")})
        )
    )
    named("POST", f"{upload}?replace=true", data=b"bytes", headers={"Origin": origin}, status=201)
    # A key or a token is nothing that a browser adds by itself.
    root = Caller(create_app(secured(settings)), ROOT_KEY)
    root("POST", upload, data=b"bytes", headers={"Origin": origin}, status=200)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8084", "localhost.evil.example", "10.0.0.1"])
def test_a_name_that_came_to_mean_this_machine_opens_nothing(settings: Settings, host: str) -> None:
    anybody = Caller(create_app(settings))
    page = {"Host": host, "Origin": f"http://{host}"}
    for method, path in (
        ("GET", "/api/v1/models"),
        ("POST", "/api/v1/models"),
        ("GET", "/api/v1/registry/export"),
    ):
        anybody(method, path, headers=page, status=403)
    for own in ("localhost", "127.0.0.1:8084", "[::1]:8084", "LOCALHOST"):
        anybody("GET", "/api/v1/models", headers={"Host": own}, status=200)
    anybody("GET", "/health", headers=page, status=200)
    Caller(create_app(settings.model_copy(update={"allow_anonymous": True})))(
        "GET", "/api/v1/models", headers={"Host": host}, status=200
    )
    Caller(create_app(secured(settings)), ROOT_KEY)(
        "GET", "/api/v1/models", headers={"Host": host}, status=200
    )
