"""A service behind a reverse proxy, under a path: every URL in its answers leads back to it."""

import json
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
import urllib3

from model_service.client import ModelServiceClient
from model_service.config import Settings
from tests.api.people import ROOT_KEY
from tests.factories import new_model
from tests.reverse_proxy import reverse_proxy

from ..conftest import Service

PREFIX = "/lab/models"
A_URL = re.compile(r"(https?://|/api/|/v1/|/docs)")
POOL = urllib3.PoolManager(retries=False)


def urls_in(content: Any) -> Iterator[str]:
    """Every URL in a JSON document; not in the examples of the OpenAPI document."""
    if isinstance(content, dict):
        content = [each for name, each in content.items() if name != "example"]
    if isinstance(content, list):
        for each in content:
            yield from urls_in(each)
    elif isinstance(content, str) and A_URL.match(content):
        yield content


class Caller:
    """Calls a service at its public address, and notes every URL in its answers."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.seen: set[str] = set()

    def __call__(self, method: str, url: str, **given: Any) -> Any:
        """The answer's JSON, or its bytes. ``url`` is a URL, or a path below the public address."""
        headers = {"X-API-Key": ROOT_KEY} | given.pop("headers", {})
        url = url if url.startswith("http") else self.base + url
        answer = POOL.request(method, url, headers=headers, timeout=60, **given)
        assert answer.status < 400, f"{method} {url}: {answer.status} {answer.data[:300]!r}"
        self.seen |= {answer.headers["Location"]} if "Location" in answer.headers else set()
        if answer.headers.get("Content-Type") != "application/json":
            return answer.data
        content = json.loads(answer.data)
        self.seen.update(urls_in(content))
        return content

    def read(self, reference: str) -> bytes:
        """What a URL of an answer leads to, as a browser resolves it."""
        found: bytes = self("GET", urljoin(self.base, reference), headers={}, retries=3)
        return found


def use_everything(call: Caller) -> None:
    """Make, list and show one of each thing whose answer holds a URL."""
    made = call("POST", "/api/v1/models", json=new_model())
    model = f"/api/v1/models/{made['model_id']}"
    call("POST", f"{model}/upload", body=b"weights", headers={"X-Filename": "m.onnx"})
    info = call("GET", f"{model}/info")
    assert call.read(made["download_url"]) == call.read(info["download_url"]) == b"weights"
    assert call("GET", call("POST", f"{model}/download/presign", json={})["url"]) == b"weights"
    upload = call("POST", f"{model}/uploads", json={"path": "big.bin", "size_bytes": 4, "with_urls": True})
    (part,) = upload["missing"]
    digest = sha256(b"1234").hexdigest()
    sent = POOL.request("PUT", part["url"], body=b"1234", headers={"X-Content-SHA256": digest})
    assert sent.status < 300  # signed: without a key
    call("POST", f"/api/v1/uploads/{upload['upload_id']}/complete", json={"sha256": digest})
    dataset = call("POST", "/api/v1/datasets", json={"name": "d", "format": "npz", "purpose": "training"})
    call("POST", f"/api/v1/datasets/{dataset['id']}/upload", body=b"rows", headers={"X-Filename": "d.npz"})
    call("GET", f"/api/v1/datasets/{dataset['id']}/info")
    call("POST", "/api/v1/training", json={"name": "run", "algorithm": "cnn"})
    for path in ("/api/v1/models", "/api/v1/datasets", "/api/v1/training", "/api/v1/deployments", "/health"):
        call("GET", f"{path}?limit=1")


def read_the_reference(call: Caller) -> None:
    """Follow the API reference from the home page as a browser does: every file of it is found."""
    for page in ("/", "/docs", "/docs/", "/docs/scalar", "/docs/scalar/", "/docs//scalar"):
        text = call.read(call.base + page).decode()
        if refresh := re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', text):
            text = call.read(refresh[1]).decode()
        base = re.search(r'<base href="([^"]+)"', text)
        links = re.findall(r'(?:src|data-url|rel="shortcut icon" href)="([^"]+)"', text)
        assert base is not None
        assert len(links) == 3
        for link in links:
            assert call.read(urljoin(base[1], link))
    for path in ("/openapi.json", "/docs/openapi.json"):
        assert call("GET", path)["servers"] == [{"url": call.base}]


@pytest.mark.parametrize("known_by", ["PUBLIC_URL", "headers"])
def test_behind_a_proxy_under_a_path(settings: Settings, tmp_path: Path, known_by: str) -> None:
    with reverse_proxy(PREFIX, tells=known_by == "headers") as proxy:
        known = {"PUBLIC_URL": f"{proxy.url}/"} if known_by == "PUBLIC_URL" else {"TRUSTED_PROXIES": "1"}
        auth = {"ENABLE_AUTH": "true", "API_KEY": ROOT_KEY}
        service = Service(settings, tmp_path / "api.log", **auth, **known)
        proxy.target = service.url
        try:
            service.start()
            call = Caller(proxy.url)
            use_everything(call)
            read_the_reference(call)
            with ModelServiceClient(proxy.url, api_key=ROOT_KEY) as client:
                (model,) = client.list_models().items
                client.download_file(model.id, "big.bin", tmp_path / "big.bin")
        finally:
            service.stop()
    assert (tmp_path / "big.bin").read_bytes() == b"1234"
    assert len(call.seen) > 6
    begins = proxy.url if known_by == "PUBLIC_URL" else (proxy.url, PREFIX)
    assert [url for url in call.seen if not url.startswith(begins)] == []
