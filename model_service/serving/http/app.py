"""The RSGI application of the inference server: its paths, and its error responses.

https://github.com/emmett-framework/granian/blob/master/docs/spec/RSGI.md
"""

import asyncio
import re
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import structlog

from model_service import __version__, tracing
from model_service.errors import (
    BodyTimeout,
    FileTooLarge,
    InvalidRequest,
    ModelServiceError,
    NotFound,
    QuotaExceeded,
    RateLimited,
    ServiceFailure,
    ServiceUnavailable,
    Unauthorized,
)
from model_service.metrics import CONTENT_TYPE, INFERENCES, exposition
from model_service.request_text import check_query, require_text
from model_service.serving.accounting.quotas import Quotas, refusal_headers
from model_service.serving.hosting.deployment_metrics import DeploymentMetrics
from model_service.serving.hosting.host import Host
from model_service.serving.hosting.loaded_deployment import LoadedDeployment
from model_service.serving.http import trace
from model_service.serving.http.adapters import OpenInferenceAdapter, PlatformAdapter
from model_service.serving.http.document import document
from model_service.serving.http.inference_handler import (
    CLIENT_GONE,
    ClientGone,
    InferenceHandler,
    TooManyAtOnce,
)
from model_service.serving.http.rsgi import JSON, Headers, is_read, linger, request_id, send
from model_service.serving.protocols import Answer, oip, tensors
from model_service.serving.protocols.oip import documents
from model_service.tracing import http

log = structlog.get_logger(__name__)

_INFER = re.compile(r"/v1/infer/([^/]{1,255})")
_MODEL = re.compile(r"/v2/models/([^/]{1,255})(?:/versions/([^/]{1,255}))?(?:/(infer|ready|config|stats))?")
# Of the requests that run a model, by ``Target.verb``.
_ROUTES = {"platform": "/v1/infer/{deployment_id}", "infer": "/v2/models/{model_name}/infer"}
_ALL_STATS = "/v2/models/stats"
_LOAD = re.compile(r"/v2/repository/models/([^/]{1,255})/(load|unload)")
_LONGEST_PATH = 600  # no valid path is longer; longer ones from clients are not cached
_NAME = "model-service"
_CLOSE = ("connection", "close")
_POSTED = frozenset({"platform", "infer", "load", "unload"})
_PAGES = frozenset(
    {
        *("/health", "/health/live", "/health/ready", "/metrics", "/openapi.json"),
        *("/v2", "/v2/health/live", "/v2/health/ready", _ALL_STATS),
    }
)
# A request waits for a deployment that is not loaded here up to _PATIENCE_S, and checks every _LOOK_S; if
# more than _MOST_PATIENT requests wait, it does not wait.
_PATIENCE_S, _LOOK_S, _MOST_PATIENT = 3.0, 0.05, 100


class MethodNotAllowed(InvalidRequest):
    code = "method_not_allowed"
    status = 405

    def __init__(self, allowed: tuple[str, ...], method: str) -> None:
        super().__init__(f"This is a {allowed[0]}, not a {method[:20]}.")
        self.allowed = ", ".join(allowed)


class ManagedElsewhere(InvalidRequest):
    """The request would unload a model, which is done through its deployment in the registry."""

    code = "managed_by_the_registry"


class Target(NamedTuple):
    """The meaning of a path. ``verb``: an OIP verb, or ``platform``; empty: no deployment."""

    verb: str
    name: str = ""
    version: str | None = None


def target_of(path: str) -> Target:
    """Parse a path. A trailing slash is ignored."""
    return _target_of(path.rstrip("/")) if len(path) <= _LONGEST_PATH else Target("")


@lru_cache(maxsize=4096)
def _target_of(path: str) -> Target:
    if match := _INFER.fullmatch(path):
        return Target("platform", match[1])
    if path == _ALL_STATS:
        return Target("")
    if match := _MODEL.fullmatch(path):
        return Target(match[3] or "metadata", match[1], match[2])
    if match := _LOAD.fullmatch(path):
        return Target(match[2], match[1])
    return Target("")


class InferenceApp:
    def __init__(
        self,
        host: Host,
        handler: InferenceHandler,
        quotas: Quotas,
        metrics: DeploymentMetrics | None = None,
    ) -> None:
        self._host = host
        self._metrics = metrics
        self._handler = handler
        self._quotas = quotas
        self._platform = PlatformAdapter()
        self._patient = 0

    async def __call__(self, scope: Any, protocol: Any) -> None:
        if scope.proto != "http":
            return
        current_id = request_id(scope)
        target = target_of(scope.path)
        infers = target.verb in _ROUTES
        span = tracing.begin(http.NAME, scope.headers.get("traceparent"), "server", recorded=infers)
        try:
            status, answer = await self._answer(target, scope, protocol, span)
        except ClientGone:
            status, answer = CLIENT_GONE, Answer(JSON, [], b"")
        except ModelServiceError as error:
            status, answer = error.status, _failure(error, current_id, scope.path)
        except Exception:
            trace_id = span.context.trace_id
            log.exception("inference.failed", path=scope.path[:300], request_id=current_id, trace_id=trace_id)
            failure = ServiceFailure(
                "An internal error occurred. The server's log has the cause under the request id."
            )
            status, answer = failure.status, _failure(failure, current_id, scope.path)
        if infers:
            INFERENCES.labels(status).inc()
        closes = status >= 400 and status != CLIENT_GONE and not await is_read(scope, protocol)
        if closes:
            answer.headers.append(_CLOSE)
        send(protocol, status, answer, current_id)
        if infers:
            trace.end(span, scope, _ROUTES[target.verb], status, current_id)
        if closes:
            await linger(protocol)

    async def _answer(
        self, target: Target, scope: Any, protocol: Any, span: tracing.Span
    ) -> tuple[int, Answer]:
        require_text("path", scope.path)
        check_query(scope.query_string)
        verb = target.verb
        if not verb:
            return await self._look(scope)
        _require(scope, _POST if verb in _POSTED else _GET)
        hosted = await self._hosted(target.name, scope.headers)
        if verb == "platform":
            return 200, await self._handler.answer(hosted, self._platform, None, scope, protocol, span)
        if verb == "infer":
            adapter = OpenInferenceAdapter(target.name)
            return 200, await self._handler.answer(hosted, adapter, target.version, scope, protocol, span)
        self._handler.authorize(hosted, scope)
        return 200, self._describe(verb, target, hosted)

    async def _hosted(self, name: str, headers: Any) -> LoadedDeployment:
        """Return the deployment; of several with one name, the one that the key opens."""
        found = self._host.find(name) or await self._awaited(name)
        if len(found) > 1:
            found = [hosted for hosted in found if self._handler.opens(hosted, headers)] or found
        return found[0]

    async def _awaited(self, name: str) -> Sequence[LoadedDeployment]:
        """Like ``Host.find``, after a while: another process may have learned of and loaded it first.

        Raises:
            NotFound: MongoDB has none of this name.
            ServiceUnavailable: its load takes long.
        """
        started = time.monotonic()
        self._patient += 1
        try:
            while self._patient <= _MOST_PATIENT and time.monotonic() < started + _PATIENCE_S:
                await asyncio.sleep(_LOOK_S)
                if found := self._host.find(name):
                    return found
                if self._host.read_at > started and not self._host.expects(name):
                    break
        finally:
            self._patient -= 1
        if self._host.expects(name):
            raise ServiceUnavailable(f"Deployment {name[:100]} is not loaded here yet; try again.")
        raise NotFound("active deployment", name[:100])

    def _describe(self, verb: str, target: Target, hosted: LoadedDeployment) -> Answer:
        """Return a document of the Open Inference Protocol about a model."""
        member = (
            hosted.route.members[0] if target.version is None else hosted.route.choose(target.version, {})
        )
        match verb:
            case "metadata":
                versions = [each.name for each in hosted.route.members]
                inputs = oip.inputs_of(member)
                found = documents.model(target.name, versions, member.format, inputs, member.outputs)
            case "config":
                found = documents.config(
                    target.name,
                    member.format,
                    oip.inputs_of(member),
                    member.outputs,
                    max_batch_size=0 if member.mixes_rows else hosted.batching.max_rows,
                    max_delay_ms=hosted.batching.max_delay_s * 1000,
                )
            case "stats":
                found = documents.statistics(hosted.statistics(target.name))
            case "unload":
                raise ManagedElsewhere(
                    "Models cannot be unloaded here: deactivate or delete the deployment in the registry."
                )
            case "ready":
                found = documents.model_ready(target.name)
            case _:  # a request to load a loaded model
                return Answer(JSON, [], b"")
        return _document(found)

    async def _look(self, scope: Any) -> tuple[int, Answer]:
        is_ready = self._host.ready.is_set()
        ready = 200 if is_ready else 503
        path = scope.path.rstrip("/")
        if path in _PAGES:
            _require(scope, _GET)
        match path:
            case "/openapi.json":
                return 200, Answer(JSON, [], document())
            case "/health" | "/health/live":
                return 200, _document(self._health())
            case "/health/ready":
                return ready, _document(self._health())
            case "/metrics":
                # It reads every process's files, so it runs in a thread and does not delay inference.
                return 200, Answer(CONTENT_TYPE, [], await asyncio.to_thread(self._exposition))
            case "/v2":
                return 200, _document(documents.server(_NAME, __version__))
            case "/v2/health/live":
                return 200, _document(documents.live())
            case "/v2/health/ready":
                return ready, _document(documents.ready(is_ready))
            case "/v2/repository/index":
                _require(scope, _POST)
                index = (
                    (hosted.name, member.name, "READY", "")
                    for hosted in self._opened_by(scope.headers)
                    for member in hosted.route.members
                )
                return 200, _document(documents.repository(index))
            case _ if path == _ALL_STATS:
                opened = self._opened_by(scope.headers)
                all_stats = (each for hosted in opened for each in hosted.statistics(hosted.name))
                return 200, _document(documents.statistics(all_stats))
        raise NotFound("page", scope.path[:200])

    def _opened_by(self, headers: Any) -> list[LoadedDeployment]:
        """Return the deployments that the sent key opens."""
        return [hosted for hosted in self._host.hosted() if self._handler.opens(hosted, headers)]

    def _exposition(self) -> bytes:
        return exposition() if self._metrics is None else exposition(None, self._metrics.collect())

    def _health(self) -> dict[str, Any]:
        quotas = self._quotas.state()
        return {
            "status": "healthy" if self._host.ready.is_set() else "starting",
            "service": "model-service-inference",
            "mongodb_connected": self._host.connected,
            "quotas": {"rates_shared": quotas.rates_shared, "months_current": quotas.months_current},
            "deployments": len(self._host),
            "failing": self._host.failing,
        }


def _document(content: Any) -> Answer:
    return Answer(JSON, [], tensors.dump(content))


_POST = ("POST",)
_GET = ("GET", "HEAD")


def _require(scope: Any, allowed: tuple[str, ...]) -> None:
    if scope.method not in allowed:
        raise MethodNotAllowed(allowed, scope.method)


def _failure(error: ModelServiceError, request_id: str, path: str) -> Answer:
    headers: Headers = ()
    match error:
        case BodyTimeout() | FileTooLarge():
            headers = (_CLOSE,)
        case MethodNotAllowed():
            headers = (("allow", error.allowed),)
        case Unauthorized():
            headers = (("www-authenticate", "Bearer"),)
        case RateLimited() | QuotaExceeded():
            headers = refusal_headers(error)
        case ServiceUnavailable() | TooManyAtOnce():
            headers = (("retry-after", str(error.retry_after_s)),)
    body: dict[str, Any] = {"error": error.message}
    if not path.startswith("/v2"):
        details = {"code": error.code, "message": error.message, "details": error.details}
        body = {"success": False, "error": details, "request_id": request_id}
    return Answer(JSON, list(headers), tensors.dump(body))
