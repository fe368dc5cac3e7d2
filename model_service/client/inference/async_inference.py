"""The asyncio client for predictions. Needs aiohttp: pip install "model-service[async]"."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Self, Unpack

from model_service.client.deployment_types import Deployment
from model_service.client.errors import ConnectionFailed, InvalidArgument, InvalidRequest
from model_service.client.inference.open_inference import Signature
from model_service.client.inference.sync_inference import (
    Endpoint,
    Options,
    Prediction,
    Question,
    Request,
    headers_of,
)
from model_service.client.transport.http import address_of, late, no_host, no_tls, nothing_answers
from model_service.client.transport.retries import Failure, Tries, is_repeatable, refused


class AsyncInferenceClient:
    """A client for many concurrent predictions on one thread. Close it, or use it as a context manager.

    async with AsyncInferenceClient(api_key="pk_...") as client:
        answers = await asyncio.gather(*(client.predict(url, images) for images in batches))

    ``timeout`` is in seconds and limits a prediction with its retries. ``connections`` is the largest number
    of open connections; further predictions wait for one.
    """

    def __init__(self, api_key: str | None = None, timeout: float = 30, connections: int = 100) -> None:
        """Raises InvalidArgument if aiohttp is not installed. Sends nothing."""
        try:
            import aiohttp
            from yarl import URL
        except ImportError as exc:
            raise InvalidArgument(
                'AsyncInferenceClient needs aiohttp: pip install "model-service[async]".'
            ) from exc
        self._aiohttp, self._url = aiohttp, URL
        self._api_key, self._timeout_s, self._connections = api_key, timeout, connections
        self._session: aiohttp.ClientSession | None = None
        self._signatures: dict[Endpoint, Signature] = {}
        self._signature_locks: defaultdict[Endpoint, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def predict(
        self, deployment: str | Deployment, inputs: Any = None, **options: Unpack[Options]
    ) -> Prediction:
        """Like ``ModelServiceClient.predict``, for a Deployment or the URL of its endpoint.

        Cancelling it closes its connection, so that the server can cancel the request.
        """
        question = Question.of(inputs, options)
        endpoint = Endpoint.of(deployment).of_model(options.get("model"))
        headers = headers_of(deployment, options, self._api_key)
        deadline = time.monotonic() + (options.get("timeout_s") or self._timeout_s)
        if not question.is_binary:
            # An image may have to be read or compressed first.
            request = await asyncio.to_thread(question.to, endpoint, None)
            return await self._infer(request, headers, deadline)
        known = self._signatures.get(endpoint)
        signature = known or await self._first_signature(endpoint, headers, deadline)
        try:
            return await self._infer(question.to(endpoint, signature), headers, deadline)
        except InvalidRequest:
            if known is None or await self._signature(endpoint, headers, deadline) == known:
                raise
        return await self._infer(question.to(endpoint, self._signatures[endpoint]), headers, deadline)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _first_signature(
        self, endpoint: Endpoint, headers: Mapping[str, str], deadline: float
    ) -> Signature:
        """Read the signature once for concurrent first calls; each waits until its own deadline."""
        try:
            async with asyncio.timeout(deadline - time.monotonic()), self._signature_locks[endpoint]:
                return self._signatures.get(endpoint) or await self._signature(endpoint, headers, deadline)
        except TimeoutError:
            raise late(endpoint.base) from None

    async def _signature(self, endpoint: Endpoint, headers: Mapping[str, str], deadline: float) -> Signature:
        _, body = await self._send("GET", endpoint.protocol, None, headers, deadline)
        self._signatures[endpoint] = signature = Signature.from_body(body)
        return signature

    async def _infer(self, request: Request, headers: Mapping[str, str], deadline: float) -> Prediction:
        sent = {**request.headers, **headers}
        answered, body = await self._send("POST", request.url, request.body, sent, deadline)
        return request.read(answered, body)

    async def _send(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], deadline: float
    ) -> tuple[Mapping[str, str], bytes]:
        """Return the headers and the body of a response below 300, with retries as in ``retries``."""
        tries = Tries(address_of(url), deadline=deadline)
        while True:
            outcome = await self._try(method, url, body, headers, deadline)
            if not isinstance(outcome, Failure):
                return outcome
            await asyncio.sleep(tries.pause_s(outcome))

    async def _try(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], deadline: float
    ) -> tuple[Mapping[str, str], bytes] | Failure:
        try:
            status, answered, content = await self._round_trip(method, url, body, headers, deadline)
        except (self._aiohttp.ClientConnectorDNSError, self._aiohttp.InvalidURL):
            return Failure(no_host(url), again=False)
        except (self._aiohttp.ClientSSLError, self._aiohttp.ClientConnectorCertificateError) as exc:
            return Failure(no_tls(url, str(exc)), again=False)
        except (self._aiohttp.ClientConnectorError, self._aiohttp.ConnectionTimeoutError):
            return Failure(nothing_answers(url), again=True)
        except TimeoutError:
            return Failure(late(url), again=False)
        except self._aiohttp.ClientError as exc:
            broken = ConnectionFailed(f"{address_of(url)} closed the connection during the response.")
            broken.__cause__ = exc
            return Failure(broken, is_repeatable(method, headers))
        if status < 300:
            return answered, content
        return refused(
            method, url, sent=headers, status=status, answered=answered, content=content, deadline=deadline
        )

    async def _round_trip(
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
