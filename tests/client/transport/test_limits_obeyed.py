"""The client waits as long as a limit asks for, and says so; what takes long is visible."""

import asyncio
import json
import logging
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from model_service.client import AsyncInferenceClient, ModelServiceClient, TooManyRequests
from model_service.client.transport.retries import ATTEMPTS

from ..scripted import Request, Scripted, answers

LIMITED = json.dumps(
    {"error": {"code": "rate_limited", "message": "More requests than the limit allows.", "details": {}}}
).encode()
EMPTY = json.dumps({"models": [], "pagination": {"page": 1, "limit": 20, "total": 0, "pages": 0}}).encode()


def refuses(retry_after: str) -> Any:
    return answers(429, LIMITED, Retry_After=retry_after)


def test_a_limit_is_waited_for_more_often_than_a_failure(
    script: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    script.steps = [*[refuses("1")] * (ATTEMPTS + 1), answers(200, EMPTY)]
    began = time.monotonic()
    with caplog.at_level(logging.WARNING, "model_service.client"), ModelServiceClient(script.url) as client:
        assert list(client.list_models().items) == []
    assert time.monotonic() - began >= ATTEMPTS + 1
    assert len(script.requests) == ATTEMPTS + 2
    assert len(caplog.messages) == ATTEMPTS + 1
    assert "Trying again in 1 s" in caplog.text
    assert script.url in caplog.text


@pytest.mark.parametrize("retry_after", ["60", "3600"])
def test_a_longer_wait_than_allowed_is_refused_at_once(script: Scripted, retry_after: str) -> None:
    script.steps = [refuses(retry_after)]
    with ModelServiceClient(script.url, longest_wait=59) as client, pytest.raises(TooManyRequests):
        client.list_models()
    assert len(script.requests) == 1


def test_the_asynchronous_client_waits_too(script: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    outputs = json.dumps({"outputs": {"y": [[1.0]]}, "latency_ms": 1}).encode()
    script.steps = [refuses("1"), answers(200, outputs)]

    async def ask() -> Any:
        async with AsyncInferenceClient() as client:
            return await client.predict(f"{script.url}/v1/infer/d1", {"x": [[1.0]]})

    with caplog.at_level(logging.WARNING, "model_service.client"):
        assert asyncio.run(ask()).outputs == {"y": [[1.0]]}
    assert "Trying again in 1 s" in caplog.text


def run(url: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "model_service.cli", "--url", url, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_command_line_says_that_it_waits_for_a_limit(script: Scripted) -> None:
    script.steps = [refuses("1"), answers(200, EMPTY)]
    done = run(script.url, "models", "list")
    assert done.returncode == 0
    assert f"waiting: {script.url}: More requests than the limit allows. Trying again in 1 s." in done.stderr
    assert "waiting" not in done.stdout


def test_the_command_line_says_that_there_is_no_answer_yet(script: Scripted) -> None:
    def late(handler: BaseHTTPRequestHandler, request: Request) -> None:
        time.sleep(3)
        answers(200, EMPTY)(handler, request)

    script.steps = [late]
    done = run(script.url, "models", "list")
    assert done.returncode == 0
    assert f"waiting: no response to GET {script.url}/api/v1/models for 2 s." in done.stderr


def test_a_read_that_the_database_fails_is_no_change(script: Scripted) -> None:
    """As the service answers while MongoDB is away: slowly, and with 503."""
    body = json.dumps(
        {
            "error": {
                "code": "service_unavailable",
                "message": "The database cannot be reached.",
                "details": {},
            }
        }
    ).encode()

    def away(handler: BaseHTTPRequestHandler, request: Request) -> None:
        time.sleep(0.8)
        answers(503, body, Retry_After="1")(handler, request)

    script.steps = [away]
    done = run(script.url, "models", "list")
    assert done.returncode == 1
    assert "waiting: " in done.stderr
    assert "cannot be reached" in done.stderr
    assert "change" not in done.stderr
