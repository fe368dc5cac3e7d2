"""What only the asynchronous client does: many at once, cancelled, and missing its library."""

import asyncio
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler

import numpy as np
import pytest

from model_service.client import AsyncInferenceClient, ConnectionFailed

from ..scripted import Request, Scripted
from ..wire import echoes


def test_many_at_once_get_their_own_answers_over_few_connections(script: Scripted) -> None:
    script.steps = [echoes({"x": "FP32"})]

    async def ask() -> list[float]:
        async with AsyncInferenceClient(connections=4) as client:
            url = f"{script.url}/v1/infer/d1"
            asked = (client.predict(url, np.float32([n])) for n in range(200))
            return [float(answer.outputs["echo_x"][0]) for answer in await asyncio.gather(*asked)]

    assert asyncio.run(ask()) == list(range(200))
    assert len({request.connection for request in script.requests}) <= 4
    assert [request.method for request in script.requests].count("GET") == 1


def test_the_server_is_told_when_nobody_waits_any_more(script: Scripted) -> None:
    asked, told = threading.Event(), threading.Event()

    def patient(handler: BaseHTTPRequestHandler, request: Request) -> None:
        asked.set()
        if handler.connection.recv(1) == b"":
            told.set()
        handler.close_connection = True

    script.steps = [patient]

    async def ask() -> None:
        async with AsyncInferenceClient() as client:
            asking = asyncio.create_task(client.predict(f"{script.url}/v1/infer/d1", [[1.0]]))
            assert await asyncio.to_thread(asked.wait, 20)
            asking.cancel()
            await asyncio.wait([asking])
            assert asking.cancelled()
            assert await asyncio.to_thread(told.wait, 20)

    asyncio.run(ask())


def test_nobody_waits_longer_than_they_said_for_what_another_asks(script: Scripted) -> None:
    asked, over = threading.Event(), threading.Event()

    def silent(handler: BaseHTTPRequestHandler, request: Request) -> None:
        asked.set()
        over.wait(30)
        handler.close_connection = True

    script.steps = [silent]

    async def ask() -> None:
        async with AsyncInferenceClient() as client:
            url = f"{script.url}/v1/infer/d1"
            patient = asyncio.create_task(client.predict(url, np.zeros(1, np.float32), timeout_s=10))
            assert await asyncio.to_thread(asked.wait, 10)
            with pytest.raises(ConnectionFailed, match="did not respond in time"):
                await client.predict(url, np.zeros(1, np.float32), timeout_s=0.1)
            assert not patient.done()
            patient.cancel()
            await asyncio.wait([patient])

    try:
        asyncio.run(ask())
    finally:
        over.set()
    assert len(script.requests) == 1


def test_without_aiohttp_it_says_what_to_install() -> None:
    program = """
import sys
sys.modules["aiohttp"] = None
from model_service.client import AsyncInferenceClient, InvalidArgument
try:
    AsyncInferenceClient()
except InvalidArgument as exc:
    print(exc)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "model-service[async]" in done.stdout, done.stderr
