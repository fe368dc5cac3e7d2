"""The addresses in the answers: of PUBLIC_URL, of a trusted proxy's headers, or the client's own."""

import re
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

import model_service
from model_service.app import create_app
from model_service.config import Settings
from model_service.storage.common.db import Database
from tests.api.deployed import deploy, exported
from tests.factories import new_model

API = Path(model_service.__file__).parent / "api"


@pytest.mark.parametrize(
    "prefix", ["//another.example", "https://another.example", "/a b", "/<script>", "/.//"]
)
def test_a_prefix_that_is_no_path_is_ignored(settings: Settings, prefix: str) -> None:
    http = create_app(settings.model_copy(update={"trusted_proxies": 1})).test_client()
    answer = http.post("/api/v1/models", json=new_model(), headers={"X-Forwarded-Prefix": prefix})
    assert answer.headers["Location"].startswith("/api/v1/models/")


def test_headers_of_an_untrusted_proxy_change_nothing(http: FlaskClient) -> None:
    told = {"X-Forwarded-Prefix": "/x", "X-Forwarded-Host": "another.example", "X-Forwarded-Proto": "https"}
    made = http.post("/api/v1/models", json=new_model(), headers=told)
    assert made.headers["Location"].startswith("/api/v1/models/")
    assert http.get("/openapi.json", headers=told).json["servers"] == [{"url": "http://localhost"}]  # type: ignore[index]


def test_a_page_at_the_public_address_is_our_own(settings: Settings) -> None:
    http = create_app(settings.model_copy(update={"public_url": "https://models.example/lab"})).test_client()
    for origin, status in (("https://models.example", 201), ("https://another.example", 403)):
        answer = http.post("/api/v1/models", json=new_model(), headers={"Origin": origin})
        assert answer.status_code == status


@pytest.mark.parametrize(
    ("fields", "endpoint"),
    [
        ({}, "http://127.0.0.1:8085"),
        ({"inference_host": "::1"}, "http://[::1]:8085"),
        ({"inference_host": "gpu.example", "inference_port": 9000}, "http://gpu.example:9000"),
        ({"inference_host": "0.0.0.0"}, "http://registry.example:8085"),
        ({"inference_host": "::", "public_url": "https://models.example/lab"}, "http://models.example:8085"),
        ({"inference_host": "::", "public_url": "http://[fd00::7]:8084"}, "http://[fd00::7]:8085"),
        (
            {"inference_host": "0.0.0.0", "inference_url": "https://gpu.example/lab/"},
            "https://gpu.example/lab",
        ),
    ],
)
def test_an_endpoint_is_where_clients_reach_it(
    settings: Settings, database: Database, fields: dict[str, Any], endpoint: str
) -> None:
    app = create_app(settings.model_validate(settings.model_dump() | {"allow_anonymous": True} | fields))
    http = app.test_client()
    made = deploy(http, export_job_id=exported(http, database))
    read: Any = http.get(f"/api/v1/deployments/{made['id']}", base_url="http://registry.example:8084").json
    assert read["endpoint_url"] == f"{endpoint}/v1/infer/{made['id']}"


def test_urls_are_built_in_one_place() -> None:
    """No other module asks where it is, or sends a path of its own as a link."""
    builds = re.compile(
        r"\b(host_url|url_root|base_url|script_root|root_path|url_for)\b"
        r"|Location\"\] = (?!link\()|(?<!-)\burl=(f?\"|')|redirect\((f?\"|')"
    )
    found = {
        f"{path.name}: {line.strip()}"
        for path in API.rglob("*.py")
        for line in path.read_text().splitlines()
        if builds.search(line)
    }
    assert {line for line in found if not line.startswith("urls.py: ")} == set()
    assert found
