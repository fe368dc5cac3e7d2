"""Which pages browsers let call the service."""

import pytest

from model_service.app import create_app
from model_service.config import Settings
from tests.api.people import ROOT_KEY, Caller, secured

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
