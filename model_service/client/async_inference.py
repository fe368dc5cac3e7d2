"""Predictions for programs on asyncio. Needs aiohttp: pip install "model-service[async]"."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Self

from model_service.client.deployment_types import Deployment
from model_service.client.errors import (
    ClientError,
    ConnectionFailed,
    InvalidArgument,
    InvalidRequest,
    Unauthorized,
    from_answer,
)
from model_service.client.http import (
    ATTEMPTS,
    address_of,
    backoff_s,
    is_worth,
    no_host,
    nothing_answers,
    redirected,
    retry_after_s,
)
from model_service.client.inference import Endpoint, Prediction, Question, Request, key_headers
from model_service.client.open_inference import JSON_BYTES, Signature


class AsyncInferenceClient:
    """Asks deployments, many at once on one thread. Close it, or use it as an asynchronous context manager.

    async with AsyncInferenceClient(api_key="pk_...") as client:
        answers = await asyncio.gather(*(client.predict(url, images) for images in batches))

    ``timeout`` in seconds bounds a prediction, its retries included; ``connections`` how many are open at
    once, beyond which predictions wait for one.
    """

    def __init__(self, api_key: str | None = None, timeout: float = 30, connections: int = 100) -> None:
        """Raises InvalidArgument when aiohttp is not installed. Nothing is sent yet."""
        try:
            import aiohttp
            from yarl import URL
        except ImportError as exc:
            raise InvalidArgument('This takes aiohttp: pip install "model-service[async]".') from exc
        self._aiohttp, self._url = aiohttp, URL
        self._api_key, self._timeout_s, self._connections = api_key, timeout, connections
        self._session: aiohttp.ClientSession | None = None
        self._signatures: dict[Endpoint, Signature] = {}
        self._asking: defaultdict[Endpoint, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def predict(
        self,
        deployment: str | Deployment,
        inputs: Any = None,
        *,
        image: Any = None,
        text: str | Sequence[str] | None = None,
        model: str | None = None,
        predictions: bool | None = None,
        confidence_threshold: float | None = None,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
        top_k: int | None = None,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Prediction:
        """As ``ModelServiceClient.predict``, of a Deployment or of its endpoint's URL. Cancelling it closes
        its connection, which tells the server."""
        choices = {
            "confidence_threshold": confidence_threshold,
            "iou_threshold": iou_threshold,
            "max_detections": max_detections,
            "top_k": top_k,
        }
        question = Question.of(inputs, image, text, predictions, choices)
        endpoint = Endpoint.of(deployment).of_model(model)
        given = {**key_headers(deployment, api_key or self._api_key), **(headers or {})}
        deadline = time.monotonic() + (timeout_s or self._timeout_s)
        if not question.is_binary:
            # An image may have to be read or compressed first.
            request = await asyncio.to_thread(question.to, endpoint, None)
            return await self._ask(request, given, deadline)
        known = self._signatures.get(endpoint)
        async with self._asking[endpoint]:  # one asks for all that begin at the same time
            signature = self._signatures.get(endpoint) or await self._signature(endpoint, given, deadline)
        try:
            return await self._ask(question.to(endpoint, signature), given, deadline)
        except InvalidRequest:
            if known is None or await self._signature(endpoint, given, deadline) == known:
                raise
        return await self._ask(question.to(endpoint, self._signatures[endpoint]), given, deadline)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _signature(self, endpoint: Endpoint, headers: Mapping[str, str], deadline: float) -> Signature:
        _, body = await self._send("GET", endpoint.protocol, None, headers, deadline)
        self._signatures[endpoint] = signature = Signature.from_body(body)
        return signature

    async def _ask(self, request: Request, headers: Mapping[str, str], deadline: float) -> Prediction:
        sent = {**request.headers, **headers}
        answered, body = await self._send("POST", request.url, request.body, sent, deadline)
        return request.read(answered.get(JSON_BYTES), body)

    async def _send(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], deadline: float
    ) -> tuple[Mapping[str, str], bytes]:
        """The headers and the body of an answer below 300, by the rules of ``model_service.client.http``."""
        attempt = 0
        while True:
            attempt += 1
            failure: ClientError
            again, pause_s = True, backoff_s(attempt)
            try:
                status, answered, content = await self._try(method, url, body, headers, deadline)
            except (self._aiohttp.ClientConnectorDNSError, self._aiohttp.InvalidURL):
                raise no_host(url) from None
            except (self._aiohttp.ClientConnectorError, self._aiohttp.ConnectionTimeoutError):
                failure = nothing_answers(url)
            except TimeoutError:
                raise ConnectionFailed(f"{address_of(url)} gave no answer in time.") from None
            except self._aiohttp.ClientError as exc:
                failure, again = ConnectionFailed(f"{address_of(url)} broke the connection."), method == "GET"
                failure.__cause__ = exc
            else:
                if status < 300:
                    return answered, content
                if status < 400:
                    raise redirected(url, answered.get("Location"))
                failure = from_answer(status, content, answered.get("X-Request-ID"))
                if isinstance(failure, Unauthorized):
                    failure.key_given = not headers.keys().isdisjoint({"X-API-Key", "Authorization"})
                asked_s = retry_after_s(answered.get("Retry-After"))
                again, pause_s = status in {429, 503} and asked_s is not None, asked_s or pause_s
            if not again or attempt == ATTEMPTS or not is_worth(pause_s, deadline):
                raise failure
            await asyncio.sleep(pause_s)

    async def _try(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], deadline: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        if self._session is None:
            self._session = self._aiohttp.ClientSession(
                connector=self._aiohttp.TCPConnector(limit=self._connections),
                cookie_jar=self._aiohttp.DummyCookieJar(),
            )
        timeout = self._aiohttp.ClientTimeout(total=max(deadline - time.monotonic(), 0.001))
        async with self._session.request(
            method,
            self._url(url, encoded=True),
            data=body,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
        ) as response:
            return response.status, response.headers, await response.read()
